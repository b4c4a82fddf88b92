#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
#     test/bench/swapping.sh PROGRAM [Google Benchmark's options]
#
# Runs swapping.bench and prints what it measured: the table of TPM commands, the memory of an
# object that is swapped out, and time and instructions of a command as what there is grows.
#
# What always holds here: instructions are the library's alone, without the benchmark's TPM; times
# are the medians of runs in random order, with it. Only figures that do not depend on the machine
# can end the script with an error. Instructions are left out, with a line that says so, where
# valgrind is missing.

set -euo pipefail
export LC_ALL=C

program=$1
shift
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo 'TPM commands for one client command, 3 slots:'
"$program" --traces
echo
"$program" --memory
echo

"$program" --benchmark_list_tests "$@" >"$scratch/names"
if [[ ! -s $scratch/names ]]; then
    echo "No time is measured: nothing here is called as $* wants it."
    exit 0
fi
if ! "$program" --benchmark_min_time=0.05 --benchmark_repetitions=9 \
    --benchmark_enable_random_interleaving=true "$@" --benchmark_report_aggregates_only=true \
    --benchmark_format=csv >"$scratch/times" 2>"$scratch/errors"; then
    cat "$scratch/errors" >&2
    exit 1
fi

: >"$scratch/instructions"
if command -v valgrind >/dev/null; then
    mapfile -t names <"$scratch/names"
    # On at the library's door, off while the TPM works.
    export VALGRIND_OPTS="${VALGRIND_OPTS:-}
        --toggle-collect=spaces::bench::SwappingSpace::exchange*
        --toggle-collect=spaces::bench::ModelTpm::transmit*
        --toggle-collect=spaces::bench::ModelTpm::receive*"
    bash "$(dirname "$0")/instructions.sh" "$program" "${names[@]}" >"$scratch/instructions"
else
    echo 'valgrind is not installed: instructions are not counted.'
fi

# Reads the names in their order, the instructions, then the times: name, iterations, real time, CPU
# time in ns, ..., TPM commands. A ratio is to the line above with the same ending.
awk -F '[ ,]' '
    FILENAME ~ /\/names$/ { order[++count] = $1; next }
    FILENAME ~ /\/instructions$/ { instructions[$1] = $2; next }
    /^name,/ { if ($NF != "\"tpm\"") exit 1 }
    /_median"/ {
        name = substr($1, 2, length($1) - length("_median") - 2)
        ns[name] = $4
        tpm[name] = $NF
    }
    END {
        for (name in ns) ++measured
        if (count == 0 || measured != count) exit 1
        print "One client command: the library alone, and in time with the TPM of the benchmark."
        printf "%-15s %-5s %12s %9s %8s %9s\n", "", "", "TPM commands", "instr.", "ratio", "ns"
        for (i = 1; i <= count; ++i) {
            name = order[i]
            split(name, part, "[:/]")
            kind = part[1] "/" part[3]
            ratio = "-"
            if (kind in first && name in instructions)
                ratio = sprintf("%.2f", instructions[name] / first[kind])
            if (name in instructions && !(kind in first)) first[kind] = instructions[name]
            printf "%-15s %-5s %12.2f %9s %8s %9.0f\n", part[2] " " part[1], part[3], tpm[name],
                   name in instructions ? instructions[name] : "-", ratio, ns[name]
        }
    }' "$scratch/names" "$scratch/instructions" "$scratch/times" ||
    { echo "swapping.sh: cannot read what $program printed: $(cat "$scratch/times")" >&2; exit 1; }
