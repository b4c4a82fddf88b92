#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# What the library tells whom: nothing by default, one line for each space at `info`, and its
# numbers are those of the TPM. No secret is in a log that one turns on to look at the numbers.

set -euo pipefail
# shellcheck source=test/support/tool.sh
. "$(dirname "$0")/../support/tool.sh"

[[ $SPACES_LIBRARY != none ]] || fail "there is no log to test without the library"

# By default: silence on standard error, tools with and without a key alike.
tool tpm2_createprimary -C o -G ecc -c primary.ctx
[[ ! -s err ]] || fail "not silent: $(cat err)"
tool tpm2_getrandom 8
[[ ! -s err ]] || fail "not silent: $(cat err)"

# At info: one line a space, in the file asked for.
export TSS2_LOG=tcti+info TSS2_LOGFILE=$PWD/log
before=$(simulator_commands)
run_in_space tpm2_create -C primary.ctx -G ecc -u key.pub -r key.priv -p open-sesame ||
    fail "tpm2_create: $(cat err)"
counted=$(($(simulator_commands) - before))
unset TSS2_LOG TSS2_LOGFILE
expect_nothing_left "tpm2_create"
line=$(grep 'client commands' log) || fail "no line about the space: $(cat log)"
[[ $line == *" $((counted - 1)) client commands, $counted TPM commands, "*" 1 flushes, "* ]] ||
    fail "the TPM counted $counted commands, one of them the flush of the parent key; log: $line"
[[ $line =~ ^info:tcti:.*tcti_spaces\.cpp:[0-9]+:[a-zA-Z]+\(\)\ .*\ $ ]] ||
    fail "not in the line format of tpm2-tss: $line"
echo "ok - at info: $line"

# octets FILE: all that the library dumped there, in hex, rows joined. (The child may dump as well.)
octets() {
    awk '/^[a-zA-Z]+:tcti:/ { ours = /src\/(log|wire|tpm|space|tcti)\// }
         ours && /^[0-9a-f][0-9a-f][0-9a-f][0-9a-f]: / { printf "%s", $2 }' "$1"
}

# What goes into NV passes in the clear: at debug it can be seen, at info it must not be.
tool tpm2_nvdefine -C o -s 8 -a 'ownerread|ownerwrite' 0x01500020
printf 'a secret' >data
for level in info debug; do
    export TSS2_LOG=tcti+$level TSS2_LOGFILE=$PWD/log.$level
    run_in_space tpm2_nvwrite -C o -i data 0x01500020 || fail "tpm2_nvwrite: $(cat err)"
    unset TSS2_LOG TSS2_LOGFILE
done
expect_nothing_left "tpm2_nvwrite"
if grep -qE "$(hex data)|a secret" log.info; then fail "data is in the log at level info"; fi
[[ -z $(octets log.info) ]] || fail "octets are in the log at level info"
[[ $(octets log.debug) == *$(hex data)* ]] ||
    fail "the data is not in the log at debug: to look for it at info proves nothing"
echo "ok - data is in the log at debug, not at info"
