#!/usr/bin/env python3
"""Runs the must-fail suite of one build and checks it against table.txt.

  mustfail.py PROGRAM plain|asan|tsan|msan [--only NAME] [--plant good-as-bad|bad-as-good] [--write]

The good twin of every pair must run clean under all four schedules, and give the same results under each. The bad twin
must do what the table says for this build: plain runs it under all four schedules, a sanitizer under the first.
A report counts as one only if it names a line that the source marks with `// reported`.

--plant runs one twin in the place of the other: a check of this check, which must then fail.
--write puts what was seen into the table, to be read before it is committed.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
SCHEDULES = ["ascending", "skew", "descending", "random"]
COLUMNS = SCHEDULES + ["asan", "tsan", "msan"]
SANITIZER_REPORT = re.compile(r"ERROR: AddressSanitizer|WARNING: ThreadSanitizer|WARNING: MemorySanitizer|"
                              r"runtime error: ")
SECONDS = 120  # the longest case needs a few; a case that runs into this is a failure of the suite


class Source:
    """Which lines of a case a report may name, and in how many its twins differ."""

    def __init__(self, name):
        for path in sorted(HERE.glob("*.cu")):
            lines = path.read_text().splitlines()
            for start, line in enumerate(lines):
                if not re.search(rf"void {name}\(Memory m\)", line):
                    continue
                body = range(start, lines.index("}", start))
                self.differing = sum("kBad" in lines[i] for i in body)
                self.marks = [f"{path.name}:{i + 1}" for i in body if lines[i].endswith("// reported")]
                return
        sys.exit(f"mustfail.py: no source has the case {name}")


def read_table():
    """{name: {column: mark}} in the order of the file, and the file's lines."""
    lines = (HERE / "table.txt").read_text().splitlines()
    table = {}
    for line in lines:
        if not line or line.startswith("#") or line.startswith("["):
            continue
        name, *marks = line.split()
        table[name] = dict(zip(COLUMNS, marks))
    return table, lines


def run(program, *arguments):
    """What a run did: (exit code, standard output, standard error)."""
    environment = dict(os.environ,
                       ASAN_OPTIONS="detect_leaks=0",  # a launch that fails abandons the stacks of its threads
                       TSAN_OPTIONS="atexit_sleep_ms=0",
                       MSAN_OPTIONS="allow_addr2line=1")
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, errors="replace", timeout=SECONDS,
                              env=environment)
    except subprocess.TimeoutExpired:
        return "timeout", "", ""
    return done.returncode, done.stdout, done.stderr


def judge(source, expected_result, outcome):
    """The mark of the table for a run of the bad twin."""
    code, out, err = outcome

    def named_in(text):
        return any(re.search(re.escape(mark) + r"\b", text) for mark in source.marks)

    if code == "timeout":
        return "timeout"
    if SANITIZER_REPORT.search(err):
        return "line" if named_in(err) else "elsewhere"
    if " error\n" in out:
        return "line" if named_in(out) else "late"
    if code != 0:
        return "crash"
    return "-" if out.split()[-1] == expected_result else "differs"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("mode", choices=["plain", "asan", "tsan", "msan"])
    parser.add_argument("--only", metavar="NAME")
    parser.add_argument("--plant", choices=["good-as-bad", "bad-as-good"])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="print what the bad twins say")
    a = parser.parse_args()

    table, lines = read_table()
    names = [name for name in table if a.only in (None, name)]
    if not names:
        sys.exit(f"mustfail.py: the table has no case {a.only}")
    sources = {name: Source(name) for name in names}
    good = "bad" if a.plant == "bad-as-good" else "good"
    bad = "good" if a.plant == "good-as-bad" else "bad"
    columns = SCHEDULES if a.mode == "plain" else [a.mode]
    problems = []

    # ---- the good twins: one process, unless a single case is asked for
    if a.only is None and a.plant is None:
        outcomes = [run(a.program, "good")]
    else:
        outcomes = [run(a.program, name, good, str(i)) for name in names for i in range(len(SCHEDULES))]
    results = {}
    for code, out, err in outcomes:
        if code != 0 or SANITIZER_REPORT.search(err):
            problems.append(f"good twin: exit code {code}\n{out[-2000:]}{err[-6000:]}")
        for name, result in re.findall(r"^(\w+) \S+ result (\w+)$", out, re.MULTILINE):
            if results.setdefault(name, result) != result:
                problems.append(f"{name}: the good twin's results depend on the schedule")
    for name in names:
        if name not in results:
            problems.append(f"{name}: the good twin gave no result")
        if "line" not in table[name].values() and not a.write:
            problems.append(f"{name}: no build reports it")
        if sources[name].differing != 1:
            problems.append(f"{name}: the twins differ in {sources[name].differing} lines; want 1")
        if not sources[name].marks:
            problems.append(f"{name}: the source marks no line as reported")

    # ---- the bad twins: a process each
    runs = [(name, column, i) for name in names for i, column in enumerate(columns)]
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("JOBS", os.cpu_count() or 1))) as pool:
        outcomes = list(pool.map(lambda r: run(a.program, r[0], bad, str(r[2])), runs))
    seen = {name: {} for name in names}
    for (name, column, _), outcome in zip(runs, outcomes):
        mark = judge(sources[name], results.get(name), outcome)
        seen[name][column] = mark
        wanted = table[name].get(column, "nothing")
        if a.verbose:
            print(f"==== {name} {column}: {mark}\n{outcome[1]}{outcome[2]}")
        # ? in the table: what an uninitialised or misaligned access does here is the compiler's choice
        if mark in ("timeout", "elsewhere") or (wanted != "?" and mark != wanted):
            problems.append(f"{name}: {column}: {mark}; the table says {wanted}\n"
                            f"  may name {', '.join(sources[name].marks)}\n{outcome[1][-1500:]}{outcome[2][-3000:]}")

    if a.write:
        write_table(lines, table, seen)
        print_summary(table, seen, columns)
        return 0
    print_table(lines, table, seen, columns)
    print_summary(table, seen, columns)
    for problem in problems:
        print(f"FAILED {problem}")
    return 1 if problems else 0


def format_row(name, marks):
    return f"{name:<40}" + "".join(f"{mark:<11}" for mark in marks).rstrip()


def write_table(lines, table, seen):
    """The columns in their order: plain before asan, and so on. What is not to be checked stays so."""
    out = []
    for line in lines:
        name = line.split()[0] if line else ""
        if name in seen:
            unchecked = {column: mark for column, mark in table[name].items() if mark == "?"}
            row = {**table[name], **seen[name], **unchecked}
            line = format_row(name, [row[column] for column in COLUMNS if column in row])
        out.append(line)
    (HERE / "table.txt").write_text("\n".join(out) + "\n")


def print_table(lines, table, seen, columns):
    print(format_row("bug", columns))
    for line in lines:
        if line.startswith("["):
            print(line)
        elif line and line.split()[0] in seen:
            name = line.split()[0]
            print(format_row(name, [seen[name][column] for column in columns]))


def print_summary(table, seen, columns):
    due = [name for name in seen if "line" in [table[name].get(column) for column in columns]]
    caught = sum("line" in seen[name].values() for name in due)
    by_any = sum("line" in table[name].values() for name in seen)
    print(f"{caught} of {len(due)} caught by this build; by all builds of the table {by_any} of {len(seen)}")


if __name__ == "__main__":
    sys.exit(main())
