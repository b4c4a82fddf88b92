#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# By which file names the loader finds the library as `spaces`: those of tpm2-tss 3.2 in every
# version, and those that 4.x has added where it is 4.x. The file is alone in a folder each time, and
# the dynamic linker tells that it is this one that a tool loads.

set -euo pipefail
# shellcheck source=test/support/tool.sh
. "$(dirname "$0")/../support/tool.sh"

[[ $SPACES_LIBRARY != none ]] || fail "there is no name to test without the library"

names=(libtss2-tcti-spaces.so.0 libtss2-tcti-spaces.so)
version=$(pkg-config --modversion tss2-tctildr)
if ((${version%%.*} >= 4)); then names+=(libtss2-spaces.so.0 libtss2-spaces.so); fi

space=spaces:${SPACES_TEST_OPTIONS:+$SPACES_TEST_OPTIONS,}$bare
for name in "${names[@]}"; do
    mkdir "$name"
    cp -L "$SPACES_LIBRARY" "$name/$name"
    tool env LD_LIBRARY_PATH="$PWD/$name" LD_DEBUG=files LD_DEBUG_OUTPUT="$PWD/$name/loaded" \
        tpm2_getrandom --hex 8
    [[ $(cat out) =~ ^[0-9a-f]{16}$ ]] || fail "$name: no random octets: $(cat out)"
    grep -qF "calling init: $PWD/$name/$name" "$name"/loaded.* ||
        fail "$name is not what tpm2-tss $version loads"
done
echo "ok - tpm2-tss $version finds ${names[*]}"
