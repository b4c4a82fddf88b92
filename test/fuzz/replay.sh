#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Runs test/fuzz/NAME.fuzz, a fuzz target without a fuzzer, once over each input of its corpus and
# over what was found once: test/fuzz/replay.sh [EMULATOR] test/fuzz/NAME.fuzz
#
# What always holds here: no input at all is a failure.

set -euo pipefail

program=${*: -1}
name=${program##*/}
name=${name%.fuzz}
source_dir=$(cd "$(dirname "$0")" && pwd)
inputs=$(mktemp -d "${TMPDIR:-/tmp}/spaces.XXXXXX")
trap 'rm -rf "$inputs"' EXIT
tar -xzf "$source_dir/corpus/$name.tar.gz" -C "$inputs"
for found in "$source_dir/found/$name"-*; do
    if [[ -e $found ]]; then cp "$found" "$inputs"; fi
done
"$@" "$inputs"/*
