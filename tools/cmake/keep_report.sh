#!/bin/sh
# Runs a compiler and keeps what it says on standard error in a file: keep_report.sh REPORT COMMAND...
# ptxas reports registers, spills and shared memory there. Shown only when the command fails.
report=$1
shift
"$@" 2>"$report" && exit 0
status=$?
cat "$report" >&2
exit "$status"
