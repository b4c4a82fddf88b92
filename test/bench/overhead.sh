#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
#     test/bench/overhead.sh PROGRAM [Google Benchmark's options]
#
# Runs overhead.bench and prints one table of what it measured: time, instructions and heap
# allocations of a command, for the child alone, through a space, and the difference, which is the
# library's own.
#
# What always holds here: times are the medians of runs in random order; a measurement without a
# figure ends the script. Instructions are left out, with a line that says so, where valgrind is
# missing.

set -euo pipefail
export LC_ALL=C

program=$1
shift
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$program" --benchmark_list_tests "$@" >"$scratch/names"
if ! "$program" --benchmark_min_time=0.05 --benchmark_repetitions=15 \
    --benchmark_enable_random_interleaving=true "$@" --benchmark_report_aggregates_only=true \
    --benchmark_format=csv >"$scratch/times" 2>"$scratch/errors"; then
    cat "$scratch/errors" >&2
    exit 1
fi

: >"$scratch/instructions"
if command -v valgrind >/dev/null; then
    mapfile -t names <"$scratch/names"
    bash "$(dirname "$0")/instructions.sh" "$program" "${names[@]}" >"$scratch/instructions"
else
    echo 'valgrind is not installed: instructions are not counted.'
fi

# Reads the names in their order, the instructions, then the times: name, iterations, real time, CPU
# time in ns, ..., allocations.
awk -F '[ ,]' '
    FILENAME ~ /\/names$/ { order[++count] = $1; next }
    FILENAME ~ /\/instructions$/ { instructions[$1] = $2; next }
    /^name,/ { if ($NF != "\"allocations\"") exit 1 }
    /_median"/ {
        name = substr($1, 2, length($1) - length("_median") - 2)
        ns[name] = $4
        allocations[name] = $NF
    }
    function columns(ns, instructions) { printf " %9.1f %9s", ns, instructions }
    END {
        for (name in ns) ++measured
        if (count == 0 || measured != count) exit 1
        printf "%-12s %6s %19s %19s %31s\n", "", "", "the child alone", "through a space",
               "the library alone"
        printf "%-12s %6s %9s %9s %9s %9s %9s %9s %11s\n", "command", "spaces", "ns", "instr.",
               "ns", "instr.", "ns", "instr.", "allocations"
        for (i = 1; i <= count; ++i) {
            name = order[i]
            split(name, part, "/")
            alone = part[1] "/child"
            if (name == alone || !(alone in ns)) continue
            printf "%-12s %6s", part[1], substr(part[2], length("spaces:") + 1)
            counted = name in instructions
            columns(ns[alone], counted ? instructions[alone] : "-")
            columns(ns[name], counted ? instructions[name] : "-")
            columns(ns[name] - ns[alone], counted ? instructions[name] - instructions[alone] : "-")
            printf " %11g\n", allocations[name]
        }
    }' "$scratch/names" "$scratch/instructions" "$scratch/times" ||
    { echo "overhead.sh: cannot read what $program printed: $(cat "$scratch/times")" >&2; exit 1; }
