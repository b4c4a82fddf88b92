#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The face of the shared library: its name, its two symbols, what it asks of tpm2-tss, and no flag
# that forbids to unload it.
#
# What always holds here: it looks at the file named by SPACES_LIBRARY and at nothing else; a tool
# that is missing or a file that cannot be read is a failure.

set -euo pipefail
export LC_ALL=C

library=${SPACES_LIBRARY:?names the library under test}
failed=0

expect() { # what, wanted, found
    if [[ "$2" != "$3" ]]; then
        printf 'FAILED: %s\n  wanted: %s\n  found:  %s\n' "$1" "${2//$'\n'/ }" "${3//$'\n'/ }"
        failed=1
    fi
}

# Unquoted on purpose: configure may have put an option into NM.
symbols=$(${NM:-nm} -D --defined-only "$library" | sort -k 3)
expect 'exported symbols' \
    $'T Tss2_Tcti_Info\nT Tss2_Tcti_Spaces_Init' \
    "$(awk '{ print $(NF - 1), $NF }' <<<"$symbols")"

# What tpm2-tss 3.2 and 4.x both have, by the same names. A function that is to be added here has to
# be in the oldest version that the library is to run with, not only where it is built.
both_have='Tss2_TctiLdr_Finalize Tss2_TctiLdr_Initialize'
expect 'functions of tpm2-tss' "$both_have" \
    "$(${NM:-nm} -D --undefined-only "$library" |
        sed -n 's/.* \(\(Tss2_\|Esys_\|Fapi_\)[^@]*\).*/\1/p' | sort | xargs)"

dynamic=$(readelf --dynamic --wide "$library")
expect 'SONAME' 'libtss2-tcti-spaces.so.0' \
    "$(sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p' <<<"$dynamic")"
expect 'name for the linker' 'libtss2-tcti-spaces.so.0' \
    "$(basename "$(readlink -e "$(dirname "$library")/libtss2-tcti-spaces.so")" .0.0)"

expect 'libraries of tpm2-tss' 'libtss2-tctildr.so.0' \
    "$(sed -n 's/.*(NEEDED).*\[\(libtss2-.*\)\]/\1/p' <<<"$dynamic")"

# It would keep the library, and all its state, in the process after the last dlclose.
expect 'no-delete flag' '' "$(grep -o NODELETE <<<"$dynamic" || true)"

exit "$failed"
