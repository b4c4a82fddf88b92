#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Runs fuzz targets: test/fuzz/run.sh FOLDER SECONDS TARGET..., as `make fuzz` does, which has built
# FOLDER/TARGET.
#
# What always holds here: at most two run at a time; what a target learned stays in
# FOLDER/corpus/TARGET, to begin with the next time; an input that ends a target is kept as
# FOLDER/findings/TARGET-..., and then this fails, also for one that was found before.

set -euo pipefail
export LC_ALL=C

source_dir=$(cd "$(dirname "$0")" && pwd)
folder=$1 seconds=$2
shift 2
findings=$folder/findings
mkdir -p "$findings"

# Leaks are found at the end of an input, and what takes ten seconds will not end.
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1
arguments=(-max_total_time="$seconds" -timeout=10 -max_len=2048 -print_final_stats=1
    -dict="$source_dir/words.dict")

# fuzz TARGET
fuzz() {
    local corpus=$folder/corpus/$1 log=$folder/$1.log
    mkdir -p "$corpus"
    tar -xzf "$source_dir/corpus/$1.tar.gz" -C "$corpus" --skip-old-files
    if "$folder/$1" "${arguments[@]}" -artifact_prefix="$findings/$1-" "$corpus" >"$log" 2>&1; then
        awk -v target="$1" '/cov: / { cov = $4; features = $6 }
            /number_of_executed_units/ { runs = $2 }
            END { printf "%s: %d inputs, %d edges, %d features\n", target, runs, cov, features }' "$log"
    else
        echo "$1: FAILED; the end of $log:"
        grep -vE '^#[0-9]+' "$log" | tail -n 40
        return 1
    fi
}

status=0
running=()
wait_for_one() {
    wait "${running[0]}" || status=1
    running=("${running[@]:1}")
}
for target in "$@"; do
    if ((${#running[@]} == 2)); then wait_for_one; fi
    fuzz "$target" &
    running+=($!)
done
while ((${#running[@]} > 0)); do wait_for_one; done

for found in "$findings"/*; do
    [[ -e $found ]] || continue
    target=${found##*/}
    echo "kept: $found; to see it again: $folder/${target%%-*} $found"
    status=1
done
exit $status
