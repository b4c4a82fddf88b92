#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Hashes and HMACs with tpm2-tools, of messages that fit in one command and of files that do not:
# those go through a sequence object, which the TPM itself flushes when the sequence completes.
# Every digest is compared with one computed outside of the TPM.

set -euo pipefail
# shellcheck source=test/support/tool.sh
. "$(dirname "$0")/../support/tool.sh"

# digest_of FILE: by coreutils. hmac_of FILE: by OpenSSL, with the same key.
digest_of() { sha256sum "$1" | cut -d' ' -f1; }
hmac_of() { openssl dgst -sha256 -mac HMAC -macopt key:spaces -r "$1" | cut -d' ' -f1; }

# TPM2B_MAX_BUFFER holds 1024 bytes: below it, at it, above it, and many times it.
: >empty
printf 'a short message' >short
head -c 1024 /dev/urandom >full
head -c 1025 /dev/urandom >above
head -c 10000 /dev/urandom >long

printf 'spaces' >hmac.key
tool tpm2_createprimary -C o -G ecc -c primary.ctx
tool tpm2_import -C primary.ctx -G hmac -i hmac.key -u hmac.pub -r hmac.priv
tool tpm2_load -C primary.ctx -u hmac.pub -r hmac.priv -c hmac.ctx

for file in empty short full above long; do
    tool tpm2_hash -C o -g sha256 -o digest -t ticket "$file"
    [[ $(hex digest) == "$(digest_of "$file")" ]] || fail "tpm2_hash of $file: $(hex digest)"
    tool tpm2_hmac -c hmac.ctx -o mac "$file"
    [[ $(hex mac) == "$(hmac_of "$file")" ]] || fail "tpm2_hmac of $file: $(hex mac)"
done

# The ticket of a hashed file lets a restricted key sign it.
tool tpm2_createprimary -C o -G ecc -c sign.ctx \
    -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign' -c sign.ctx \
    -G ecc:ecdsa-sha256:null
tool tpm2_hash -C o -g sha256 -o digest -t ticket long
tool tpm2_sign -c sign.ctx -g sha256 -d -t ticket -f plain -o sig digest
tool tpm2_readpublic -c sign.ctx -f pem -o sign.pem
openssl dgst -sha256 -verify sign.pem -signature sig long >/dev/null ||
    fail "OpenSSL rejects the signature over the hashed file"

# An event sequence extends a PCR and completes by itself.
tool tpm2_pcrreset 16
tool tpm2_pcrevent 16 long
tool tpm2_pcrread sha256:16 -o pcr
expected=$( { head -c 32 /dev/zero; sha256sum long | cut -d' ' -f1 | sed 's/../\\x&/g' |
    xargs -0 printf '%b' | head -c 32; } | sha256sum | cut -d' ' -f1)
[[ $(hex pcr) == "$expected" ]] || fail "PCR 16 is $(hex pcr), not $expected"
echo "ok - the PCR holds the digest of the file"
