#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Keys with tpm2-tools: create, load, sign, verify, certify, persist. Each tool is a process and a
# space of its own; keys go from tool to tool as saved contexts (-c FILE). What the TPM signed is
# verified outside of it, by OpenSSL. After each step the TPM is empty.

set -euo pipefail
# shellcheck source=test/support/tool.sh
. "$(dirname "$0")/../support/tool.sh"

printf 'The quick brown fox jumps over the lazy dog' >message

# signed_by PEM-FILE SIGNATURE-FILE: OpenSSL must agree with the TPM.
signed_by() {
    openssl dgst -sha256 -verify "$1" -signature "$2" message >/dev/null ||
        fail "OpenSSL rejects the signature in $2"
    echo "ok - OpenSSL verifies $2"
}

# A storage key and an elliptic curve key below it.
tool tpm2_createprimary -C o -G ecc -c primary.ctx
tool tpm2_create -C primary.ctx -G ecc -p secret -u key.pub -r key.priv
tool tpm2_load -C primary.ctx -u key.pub -r key.priv -c key.ctx -n key.name
tool tpm2_readpublic -c key.ctx -f pem -o key.pem -n read.name
[[ $(hex read.name) == "$(hex key.name)" ]] || fail "two Names for one key"
tool tpm2_sign -c key.ctx -p secret -g sha256 -f plain -o ecc.sig message
signed_by key.pem ecc.sig
tool tpm2_sign -c key.ctx -p secret -g sha256 -o ecc.tss message
tool tpm2_verifysignature -c key.ctx -g sha256 -m message -s ecc.tss

# A wrong password is the key's own refusal and leaves nothing either.
refused 0x98E tpm2_sign -c key.ctx -p wrong -g sha256 -o wrong.sig message

# A signature over another message is refused.
printf 'something else' >other
refused 0x2DB tpm2_verifysignature -c key.ctx -g sha256 -m other -s ecc.tss

# RSA, with the key made and loaded in one step; encryption as well.
tool tpm2_create -C primary.ctx -G rsa2048 -u rsa.pub -r rsa.priv -c rsa.ctx
tool tpm2_readpublic -c rsa.ctx -f pem -o rsa.pem
tool tpm2_sign -c rsa.ctx -g sha256 -f plain -o rsa.sig message
signed_by rsa.pem rsa.sig
tool tpm2_rsaencrypt -c rsa.ctx -o cipher message
tool tpm2_rsadecrypt -c rsa.ctx -o plain cipher
same plain "$(cat message)"

# One key certifies another: two objects, besides the parent, in one command.
tool tpm2_createprimary -C e -G ecc -c other-primary.ctx
tool tpm2_certify -c other-primary.ctx -C key.ctx -p secret -g sha256 -o attest -s certify.sig \
    -f plain
openssl dgst -sha256 -verify key.pem -signature certify.sig attest >/dev/null ||
    fail "OpenSSL rejects the certification"

# A public key brought in from outside, and its use in the TPM.
openssl ecparam -name prime256v1 -genkey -noout -out outside.pem
openssl ec -in outside.pem -pubout -out outside.pub 2>/dev/null
openssl dgst -sha256 -sign outside.pem -out outside.sig message
tool tpm2_loadexternal -C o -G ecc -u outside.pub -c outside.ctx
tool tpm2_verifysignature -c outside.ctx -g sha256 -m message -s outside.sig -f ecdsa

# A persistent key belongs to everyone: it is used by later tools, until it is removed.
tool tpm2_evictcontrol -C o -c key.ctx 0x81000042
tool tpm2_getcap handles-persistent
same out "- 0x81000042"
tool tpm2_sign -c 0x81000042 -p secret -g sha256 -f plain -o persistent.sig message
signed_by key.pem persistent.sig
tool tpm2_evictcontrol -C o -c 0x81000042
tool tpm2_getcap handles-persistent
same out ""

# Diffie-Hellman: the TPM's half against OpenSSL's.
tool tpm2_create -C primary.ctx -G ecc -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|decrypt' \
    -u dh.pub -r dh.priv -c dh.ctx
tool tpm2_readpublic -c dh.ctx -f pem -o dh.pem
tool tpm2_ecdhkeygen -c dh.ctx -u ephemeral.pub -o ours
tool tpm2_ecdhzgen -c dh.ctx -u ephemeral.pub -o theirs
[[ $(hex ours) == "$(hex theirs)" ]] || fail "the two halves of ECDH differ"
