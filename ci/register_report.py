#!/usr/bin/env python3
"""Prints what ptxas reported for each kernel and architecture; exit code 1 if any kernel spills.

    register_report.py [--library FILE] [--dynamic FILE] [--table FILE] [--json FILE] REPORT...

REPORT is what `nvcc -Xptxas=-v` wrote for one source (the cuda preset keeps them in <build>/ptxas/); the library holds
the same kernels as uncompressed PTX, too, which says the threads of a block (__launch_bounds__).
Columns: registers of one thread, bytes of shared memory of one block, static + dynamic, bytes spilled to local memory,
threads of a block, and the theoretical occupancy: warps of the blocks that fit on one SM, of the most that it runs (0: the
layer's block needs more shared memory than the architecture has, so the plan gives that layer another kernel there).
FILE of --dynamic: kernel, bytes of dynamic shared memory and the layer that asks for them, separated by tabs; it must
have each kernel that reads some, and no other.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys

REGISTER_FILE = 65536  # 32-bit registers of one SM, in four partitions; a warp takes them 256 at a time
# Of one SM: CUDA C++ Programming Guide, technical specifications by compute capability; the toolkit's cuda_occupancy.h.
# A block takes shared memory in pieces of 128 bytes and 1 KB more for the system; barriers in named pieces.
MAX_WARPS = {"sm_80": 64, "sm_90a": 64, "sm_100a": 64, "sm_120a": 48}
MAX_BLOCKS = {"sm_80": 32, "sm_90a": 32, "sm_100a": 32, "sm_120a": 24}
BARRIERS = {"sm_80": 64, "sm_90a": 64, "sm_100a": 64, "sm_120a": 24}
SHARED_KB = {"sm_80": 164, "sm_90a": 228, "sm_100a": 228, "sm_120a": 100}  # of which one block gets all but 1 KB

ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers(?:, used (\d+) barriers)?")
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
            found[-1].update(registers=int(match[1]), barriers=int(match[2] or 0), shared=int(shared[1]) if shared else 0)
    return found


# .entry NAME ( parameters ) bounds { body, up to the next one
PTX_ENTRY = re.compile(rb"\.entry\s+(\w+)\s*\([^)]*\)\s*([^{]*)\{")
PTX_THREADS = re.compile(rb"\.(?:max|req)ntid\s+(\d+)(?:,\s*(\d+))?(?:,\s*(\d+))?")
PTX_DYNAMIC = re.compile(rb"\.extern\s+\.shared\s[^;]*?(\w+)\s*\[\s*\]\s*;")


def parse_ptx(library):
    """By kernel: threads of a block (None: no bound) and whether it reads dynamic shared memory."""
    ptx = library.read_bytes()
    dynamic = [re.escape(name) for name in set(PTX_DYNAMIC.findall(ptx))]
    uses = re.compile(rb"\b(?:" + b"|".join(dynamic) + rb")\b") if dynamic else None
    entries = list(PTX_ENTRY.finditer(ptx))
    found = {}
    for entry, after in zip(entries, entries[1:] + [None]):
        name = entry[1].decode()
        if name in found:
            continue  # again, for another architecture
        threads = 1
        if match := PTX_THREADS.search(entry[2]):
            for size in match.groups():
                threads *= int(size or 1)
        end = ptx.find(b"\0", entry.end())  # of the module
        end = min(end if end >= 0 else len(ptx), after.start() if after else len(ptx))
        found[name] = {"threads": threads if match else None,
                       "dynamic": bool(uses and uses.search(ptx, entry.end(), end))}
    return found


def read_dynamic(file, names, launches):
    """Bytes of dynamic shared memory by kernel; exits unless they are of just the kernels that read some."""
    listed = {}
    for line in file.read_text().splitlines():
        kernel, size, _ = line.split("\t")
        listed[kernel] = int(size)
    used = {names[kernel] for kernel, launch in launches.items() if launch["dynamic"] and kernel in names}
    if missing := sorted(used - set(listed)):
        sys.exit(f"register_report: {file} lacks {', '.join(missing)}, which read dynamic shared memory")
    if unknown := sorted(set(listed) - used):
        sys.exit(f"register_report: {file} has {', '.join(unknown)}, which are no kernels with dynamic shared memory")
    return listed


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


def blocks_that_fit(row):
    architecture, warps = row["architecture"], -(-row["threads"] // 32)
    shared = -(-(row["shared"] + row["dynamic"]) // 128) * 128 + 1024
    fit = [MAX_BLOCKS[architecture], warps_by_registers(row["registers"], architecture) // warps,
           MAX_WARPS[architecture] // warps, SHARED_KB[architecture] * 1024 // shared]
    if row["barriers"]:
        fit.append(BARRIERS[architecture] // row["barriers"])
    return min(fit)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("report", nargs="+", type=pathlib.Path)
    arguments.add_argument("--library", type=pathlib.Path, help="that was built from the same sources")
    arguments.add_argument("--table", type=pathlib.Path, help="write the table here, not to standard output")
    arguments.add_argument("--json", type=pathlib.Path, help="also write the rows here")
    arguments.add_argument("--dynamic", type=pathlib.Path, help="dynamic shared memory by kernel")
    options = arguments.parse_args()

    rows = [row for report in options.report for row in parse(report)]
    if not rows:
        sys.exit("register_report: no kernel in " + ", ".join(map(str, options.report)))
    names = demangle(row["kernel"] for row in rows)
    launches = parse_ptx(options.library) if options.library else {}
    dynamic = read_dynamic(options.dynamic, names, launches) if options.dynamic else {}
    for row in rows:
        row["name"] = names[row["kernel"]]
        row["threads"] = launches.get(row["kernel"], {"threads": None})["threads"]
        row["dynamic"] = dynamic.get(row["name"], 0)
        if row["threads"]:
            row["warps"] = blocks_that_fit(row) * -(-row["threads"] // 32)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")

    architectures = [name for name in MAX_WARPS if any(row["architecture"] == name for row in rows)]
    cells = {(row["kernel"], row["architecture"]): row for row in rows}
    kernels = sorted(names, key=names.get)
    width = max(map(len, names.values()))
    lines = [f"{'':{width}}" + "".join(f"  {name:>37}" for name in architectures),
             f"{'kernel':{width}}" + f"  {'regs      shared  spill threads warps':>37}" * len(architectures)]
    for kernel in kernels:
        line = f"{names[kernel]:{width}}"
        for name in architectures:
            row = cells.get((kernel, name))
            if not row:
                line += f"  {'-':>37}"
                continue
            shared = f"{row['shared']}+{row['dynamic']}" if row["dynamic"] else str(row["shared"])
            warps = f"{row['warps']}/{MAX_WARPS[name]}" if row["threads"] else "-"
            line += f"  {row['registers']:4} {shared:>11} {row['spill']:6} {row['threads'] or '-':>6} {warps:>6}"
        lines.append(line)
    table = "\n".join(line.rstrip() for line in lines) + "\n"
    if options.table:
        options.table.write_text(table)
        print(f"table: {options.table}")
    else:
        print(table, end="")

    bad = [row for row in rows if row["spill"] or row["stack"]]
    for row in bad:
        spilled = f"{row['spill']} bytes spilled, {row['stack']} bytes of stack"
        print(f"SPILL {row['name']} on {row['architecture']}: {spilled}")
    print(f"{len(kernels)} kernels, {len(architectures)} architectures, {len(bad)} with spills or local memory")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
