#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The layering of src/: an #include never runs upward.
#
# From bottom to top: log, wire, tpm, swap, space, tcti. A file includes its own layer and those
# below it, with one exception: isolation stands without swapping, so space does not include swap.
#
# What always holds here: a layer that is not in the table, a file outside every layer and a way
# around the table (../) are failures; and before it judges the real tree, the check has to find
# the fault in small trees that have one.

set -euo pipefail
export LC_ALL=C

declare -A may_include=(
    [log]='log'
    [wire]='log wire'
    [tpm]='log wire tpm'
    [swap]='log wire tpm swap'
    [space]='log wire tpm space'
    [tcti]='log wire tpm swap space tcti'
)

# The faults of the tree $1, one a line; nothing when it is sound.
faults() {
    local file layer line included target files
    files=$(cd "$1" && find . -type f \( -name '*.h' -o -name '*.cpp' \) | sort)
    [[ -n "$files" ]] || echo "$1: no sources"
    while read -r file; do
        file=${file#./}
        layer=${file%%/*}
        if [[ -z "${may_include[$layer]:-}" ]]; then
            echo "$file: belongs to no layer"
            continue
        fi
        while IFS=: read -r line included; do
            target=${included%%/*}
            if [[ "$target" == .* ]]; then
                echo "$file:$line: \"$included\": name the layer, not the way to it"
            elif [[ -d "$1/$target" || -n "${may_include[$target]:-}" ]] &&
                [[ " ${may_include[$layer]} " != *" $target "* ]]; then
                echo "$file:$line: \"$included\": $layer may include ${may_include[$layer]}"
            fi
        done < <(sed -nE '/^[[:space:]]*#[[:space:]]*include/ {
                     s/^[^<"]*[<"]([^>"]*\/[^>"]*)[>"].*/\1/; T; =; p; }' "$1/$file" |
                 paste -d : - -)
    done < <(sed '/^$/d' <<<"$files")
}

# $1: a name, $2: a file, $3: its text, $4: yes when that must be found faulty
control() {
    local tree="$scratch/$1" found
    mkdir -p "$tree/$(dirname "$2")"
    printf '%s\n' "$3" >"$tree/$2"
    found=$(faults "$tree")
    if [[ "$4" == yes && -z "$found" ]]; then
        echo "FAILED: the check does not see: $2 with $3"
        exit 1
    elif [[ "$4" == no && -n "$found" ]]; then
        echo "FAILED: the check objects to what is allowed: $found"
        exit 1
    fi
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

control upward      wire/a.h    '#include "tpm/tpm.h"'       yes
control brackets    log/a.cpp   '  #  include <wire/b.h>'    yes
control swapping    space/a.cpp '#include "swap/swap.h"'     yes
control around      wire/a.cpp  '#include "../space/s.h"'    yes
control no-layer    util/a.h    ''                           yes
control no-folder   a.cpp       ''                           yes
control empty       wire/a.txt  ''                           yes
control downward    swap/a.cpp  '#include "tpm/tpm.h"'       no
control on-top      tcti/a.cpp  '#include "swap/swap.h"'     no
control others      log/a.h     '#include <tss2/tss2_tcti.h>' no

tree=${1:-${top_srcdir:?is the top of the source tree}/src}
found=$(faults "$tree")
if [[ -n "$found" ]]; then
    printf 'FAILED: these break the layering of %s:\n%s\n' "$tree" "$found"
    exit 1
fi
echo "the layering of $tree holds"
