#!/usr/bin/env python3
"""Shows that the self-test leaves no wrapper of cuda/simt out.

usage: coverage.py SIMT_DIRECTORY SELFTEST_PROGRAM

Collects what the headers offer to kernels: CUDA's functions that the CPU target defines, functions and types of
namespace simt, macros. Each must be named by a test that the program lists (group.name or group.name/variant), and
whatever a test is named after must be used in the self-test's sources. Exit code 1 and the names that are not.
"""
import pathlib
import re
import subprocess
import sys

LAUNCH_PARAMETERS = "Launch"  # the argument of launch(), no wrapper of its own

# Of CUDA's functions, at namespace scope or in the macro that makes them for two types; of namespace simt, not in
# the part that is for the CPU alone.
GLOBAL = [r"(?:\[\[noreturn\]\] )?inline .*?(\w+)\(", r"  inline \w+ (\w+)\("]
SIMT = [r"SIMT_DEV .*?(\w+)\(", r"SIMT_MMA\((\w+),"]
SIMT_BOTH_TARGETS = [r"void (\w+)\(", r"(?:class|struct) (?:alignas\(.*\) )?(\w+) \{"]
MACRO = r"#define (SIMT_SHARED|SIMT_DYN_SMEM)\b"


def public_names(header):
    names, namespaces, conditions = set(), [], []
    for line in header.read_text().splitlines():
        if opened := re.match(r"namespace ([\w:]+) \{", line):
            namespaces.append(opened[1])
        elif line.startswith("}  // namespace"):
            namespaces.pop()
        elif condition := re.match(r"#if\w* (.*)", line):
            conditions.append(condition[1])
        elif line.startswith("#el"):
            conditions[-1] = "else"
        elif line.startswith("#endif"):
            conditions.pop()
        patterns = [MACRO]
        if not namespaces:
            patterns += GLOBAL
        elif namespaces == ["simt"]:
            patterns += SIMT if "SIMT_HOST" in conditions else SIMT + SIMT_BOTH_TARGETS
        names.update(found[1] for pattern in patterns if (found := re.match(pattern, line)))
    return names


def used_names(source):
    text = re.sub(r'//[^\n]*|"(?:[^"\\]|\\.)*"', "", source.read_text())
    return set(re.findall(r"\w+", text))


def main():
    directory, program = pathlib.Path(sys.argv[1]), sys.argv[2]
    headers = [h for h in sorted(directory.glob("*.cuh")) if not h.name.startswith("test_")]
    offered = set().union(*map(public_names, headers)) - {LAUNCH_PARAMETERS}
    used = set().union(*map(used_names, (directory / "selftest").glob("*.cu")))
    tests = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split()
    named = {test.split(".", 1)[1].split("/")[0] for test in tests}

    for name in sorted(offered - named):
        print(f"no test: {name}")
    for name in sorted(named - used):
        print(f"named by a test and never used: {name}")
    print(f"{len(offered)} names in {len(headers)} headers, {len(tests)} tests")
    if len(offered) < 100 or offered - named or named - used:
        sys.exit(1)


if __name__ == "__main__":
    main()
