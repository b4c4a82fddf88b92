#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The example doc/two-spaces.c, built the way it says itself: through spaces its two contexts do not
# see each other's keys, and leave nothing. On the bare TPM they do, so its exit status means
# something.

set -euo pipefail
# shellcheck source=test/support/tool.sh
. "$(dirname "$0")/../support/tool.sh"

# shellcheck disable=SC2046 # pkg-config prints words
cc -o two-spaces "$source_dir/doc/two-spaces.c" \
    $(pkg-config --cflags --libs tss2-esys tss2-tctildr)

tool ./two-spaces "$space"
status=0
./two-spaces "$bare" >out 2>err || status=$?
[[ $status -eq 1 ]] || fail "on the bare TPM: exit status $status, not 1: $(cat err)"
echo "ok - on the bare TPM the two contexts see each other"
