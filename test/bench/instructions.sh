#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
#     test/bench/instructions.sh PROGRAM [NAME...]
#
# How many instructions a command takes: a line "NAME INSTRUCTIONS" for each measurement of a
# benchmark program that knows `--run NAME COUNT`, or for those named. Valgrind's callgrind counts
# one run of COUNT commands and one of twice as many; the difference is what COUNT commands took,
# and start, preparation and end are not in it.
#
# What always holds here: unlike time, the figures do not depend on what else the machine does; a
# run that fails ends the script.

set -euo pipefail
export LC_ALL=C

count=1000

fail() {
    echo "instructions.sh: $*" >&2
    exit 1
}

# collected NAME COUNT: the instructions of a whole run.
collected() {
    local said
    said=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" --run "$1" "$2" 2>&1) ||
        fail "$program --run $1 $2 failed: $said"
    sed -n 's/.*Collected *: *\([0-9]*\).*/\1/p' <<<"$said" | grep . ||
        fail "callgrind counted nothing: $said"
}

[[ $# -ge 1 ]] || fail 'which program?'
command -v valgrind >/dev/null || fail 'valgrind is not installed, and nothing else here counts instructions'
program=$1
shift
if [[ $# -eq 0 ]]; then
    names=$("$program" --benchmark_list_tests)
    mapfile -t names <<<"$names"
    set -- "${names[@]}"
fi
for name in "$@"; do
    once=$(collected "$name" "$count")
    twice=$(collected "$name" $((2 * count)))
    echo "$name $(((twice - once) / count))"
done
