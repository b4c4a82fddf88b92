#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Makes the corpora in the source tree anew: test/fuzz/pack.sh FOLDER TARGET..., as
# `make fuzz-corpus` does. FOLDER/corpus/TARGET is what `make fuzz` has gathered; what record.py
# wrote may be put there before.
#
# What always holds here: of what was gathered, as little and as short as reaches the same places is
# kept; the same inputs give the same archive.

set -euo pipefail
export LC_ALL=C

source_dir=$(cd "$(dirname "$0")" && pwd)
folder=$1
shift
mkdir -p "$source_dir/corpus"
for target in "$@"; do
    least=$folder/least/$target
    rm -rf "$least"
    mkdir -p "$least" "$folder/corpus/$target"
    # Each place once: how often it is passed does not matter here.
    "$folder/$target" -merge=1 -use_counters=0 -max_len=2048 "$least" "$folder/corpus/$target" \
        >"$folder/$target.log" 2>&1
    (cd "$least" && tar -c --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -- *) |
        gzip -9n >"$source_dir/corpus/$target.tar.gz"
    echo "$target: $(find "$least" -type f | wc -l) inputs," \
        "$(stat -c %s "$source_dir/corpus/$target.tar.gz") octets"
done
