#!/usr/bin/env python3
"""Prints what ptxas reported for each kernel and architecture; exit code 1 if any kernel spills.

    register_report.py [--json FILE] REPORT...

REPORT is what `nvcc -Xptxas=-v` wrote for one source (the cuda preset keeps them in <build>/ptxas/).
Columns: registers of one thread, bytes of static shared memory of one block, bytes spilled to local memory, and the
warps that the registers of one SM can hold at once, of the most that the SM runs: an upper bound of the occupancy,
before block size and shared memory.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys

REGISTER_FILE = 65536  # 32-bit registers of one SM, in four partitions; a warp takes them 256 at a time
# CUDA C++ Programming Guide, technical specifications by compute capability
MAX_WARPS = {"sm_80": 64, "sm_90a": 64, "sm_100a": 64, "sm_120a": 48}

ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def parse(report):
    """The kernels of one report: dicts of kernel, architecture, registers, stack, spill, shared."""
    found = []
    for line in report.read_text().splitlines():
        if match := ENTRY.search(line):
            found.append({"kernel": match[1], "architecture": match[2], "stack": 0, "spill": 0, "shared": 0})
        elif match := SPILLS.search(line):
            if found and "registers" not in found[-1]:
                found[-1].update(stack=int(match[1]), spill=int(match[2]) + int(match[3]))
        elif match := USED.search(line):
            shared = SHARED.search(line)
            found[-1].update(registers=int(match[1]), shared=int(shared[1]) if shared else 0)
    return found


def demangle(names):
    names = sorted(set(names))
    command = ["c++filt", "-p"]
    text = subprocess.run(command, input="\n".join(names), capture_output=True, text=True, check=True).stdout
    plain = [re.sub(r"\(anonymous namespace\)::|\bassay::gpu::", "", name).replace("__nv_bfloat16", "bf16")
             for name in text.splitlines()]
    return dict(zip(names, plain))


def warps_by_registers(registers, architecture):
    a_warp = -(-registers * 32 // 256) * 256
    return min(MAX_WARPS[architecture], REGISTER_FILE // 4 // a_warp * 4)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("report", nargs="+", type=pathlib.Path)
    arguments.add_argument("--json", type=pathlib.Path, help="also write the rows here")
    options = arguments.parse_args()

    rows = [row for report in options.report for row in parse(report)]
    if not rows:
        sys.exit("register_report: no kernel in " + ", ".join(map(str, options.report)))
    names = demangle(row["kernel"] for row in rows)
    for row in rows:
        row["name"] = names[row["kernel"]]
        row["warps"] = warps_by_registers(row["registers"], row["architecture"])
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")

    architectures = [name for name in MAX_WARPS if any(row["architecture"] == name for row in rows)]
    cells = {(row["kernel"], row["architecture"]): row for row in rows}
    kernels = sorted(names, key=names.get)
    width = max(map(len, names.values()))
    print(f"{'':{width}}" + "".join(f"  {name:>24}" for name in architectures))
    print(f"{'kernel':{width}}" + f"  {'regs shared  spill  warps':>24}" * len(architectures))
    for kernel in kernels:
        line = f"{names[kernel]:{width}}"
        for name in architectures:
            row = cells.get((kernel, name))
            warps = f"{row['warps']}/{MAX_WARPS[name]}" if row else ""
            line += f"  {row['registers']:4} {row['shared']:6} {row['spill']:6} {warps:>6}" if row else f"  {'-':>24}"
        print(line)

    bad = [row for row in rows if row["spill"] or row["stack"]]
    for row in bad:
        spilled = f"{row['spill']} bytes spilled, {row['stack']} bytes of stack"
        print(f"SPILL {row['name']} on {row['architecture']}: {spilled}")
    print(f"{len(kernels)} kernels, {len(architectures)} architectures, {len(bad)} with spills or local memory")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
