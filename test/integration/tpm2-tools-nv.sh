#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# NV indices with tpm2-tools. NV belongs to the TPM and not to a space: what one tool defines, the
# next one reads. What the tools use to get at it, objects and sessions, is gone with the tool.

set -euo pipefail
# shellcheck source=test/support/tool.sh
. "$(dirname "$0")/../support/tool.sh"

# Ordinary: define, write, read, undefine; larger than one NV buffer.
head -c 2000 /dev/urandom >data
tool tpm2_nvdefine -C o -s 2000 -a 'ownerread|ownerwrite|authread|authwrite' -p pw 0x01500020
tool tpm2_nvwrite -C 0x01500020 -P pw -i data 0x01500020
tool tpm2_nvread -C 0x01500020 -P pw -s 2000 -o read 0x01500020
cmp data read || fail "NV holds something else than was written"
refused 0x98E tpm2_nvread -C 0x01500020 -P wrong -s 2000 -o read 0x01500020
tool tpm2_nvreadpublic 0x01500020
grep -q 'size: 2000' out || fail "tpm2_nvreadpublic: $(cat out)"

# Certified by a key: an object and an NV index in one command.
tool tpm2_createprimary -C o -G ecc -c sign.ctx \
    -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign'
tool tpm2_readpublic -c sign.ctx -f pem -o sign.pem
tool tpm2_nvcertify -C sign.ctx -g sha256 -f plain -o sig --attestation attest --size 100 -c o \
    0x01500020
openssl dgst -sha256 -verify sign.pem -signature sig attest >/dev/null ||
    fail "OpenSSL rejects the certified NV content"

# A counter, an authorisation session kept in a file across tools, and a policy over NV.
tool tpm2_nvdefine -C o -a 'nt=counter|ownerread|ownerwrite|authread|authwrite' 0x01500021
session_files=1
tool tpm2_startauthsession --hmac-session -S hmac.session
tool tpm2_nvincrement -C o -P session:hmac.session 0x01500021
tool tpm2_nvread -C o -P session:hmac.session -o count1 0x01500021
tool tpm2_nvincrement -C o -P session:hmac.session 0x01500021
tool tpm2_nvread -C o -P session:hmac.session -o count2 0x01500021
[[ $((16#$(hex count1) + 1)) -eq $((16#$(hex count2))) ]] || fail "the counter did not count"
session_files=2
tool tpm2_startauthsession -S trial.session
tool tpm2_policynv -S trial.session -C o -i count2 0x01500021 eq
session_files=1
tool tpm2_flushcontext trial.session
session_files=0
tool tpm2_flushcontext hmac.session

tool tpm2_nvundefine -C o 0x01500021
tool tpm2_nvundefine -C o 0x01500020
tool tpm2_getcap handles-nv-index
same out ""
