#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The face of the shared library: its name, its two symbols, what it asks of tpm2-tss, and no flag
# that forbids to unload it.
#
# What always holds here: it looks at the file named by SPACES_LIBRARY, at the loader of tpm2-tss that
# is installed, and at nothing else; a tool that is missing or a file that cannot be read is a failure.

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

# What libtss2-tctildr exports in each version that the library is to run with: what is used has to be
# in all of them, not only where it is built. The installed version, whichever it is, says whether its
# own list is true.
declare -A exported=(
    [3]='Tss2_TctiLdr_Finalize Tss2_TctiLdr_FreeInfo Tss2_TctiLdr_GetInfo Tss2_TctiLdr_Initialize
        Tss2_TctiLdr_Initialize_Ex'
    [4]='Tss2_TctiLdr_Finalize Tss2_TctiLdr_FreeInfo Tss2_TctiLdr_GetInfo Tss2_TctiLdr_Initialize
        Tss2_TctiLdr_Initialize_Ex Tss2_Tcti_Info Tss2_Tcti_TctiLdr_Init'
)
functions() { # nm's option, file: the functions of tpm2-tss, one a line
    ${NM:-nm} -D "$1" "$2" | sed -n 's/.* \(\(Tss2\|Esys\|Fapi\)_[^@]*\).*/\1/p' | sort
}
lacking() { # names, names: those of the first that are not in the second
    comm -23 <(xargs -n 1 <<<"$1" | sort) <(xargs -n 1 <<<"$2" | sort) | xargs
}

used=$(functions --undefined-only "$library")
[[ -n $used ]] || expect 'functions of tpm2-tss' 'some' 'none'
for version in "${!exported[@]}"; do
    expect "functions that tpm2-tss $version does not have" '' "$(lacking "$used" "${exported[$version]}")"
done

# Unquoted on purpose: configure may have put an option into PKG_CONFIG as well.
installed=$(${PKG_CONFIG:-pkg-config} --modversion tss2-tctildr)
loader=$(${PKG_CONFIG:-pkg-config} --variable=libdir tss2-tctildr)/libtss2-tctildr.so
expect "functions in the list of ${installed%%.*} that tpm2-tss $installed does not have" '' \
    "$(lacking "${exported[${installed%%.*}]:-no-list}" "$(functions --defined-only "$loader")")"

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
