#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Attestation with tpm2-tools: quotes, credentials and audited sessions. These use several objects
# and sessions in one command, and what is attested is checked by other means than the TPM's.

set -euo pipefail
# shellcheck source=test/support/tool.sh
. "$(dirname "$0")/../support/tool.sh"

# A quote by a restricted key: a nonce, two PCRs, and checkquote, which needs no TPM.
tool tpm2_createek -G ecc -c ek.ctx -u ek.pub
tool tpm2_createak -C ek.ctx -G ecc -g sha256 -s ecdsa -c ak.ctx -u ak.pem -f pem -n ak.name
tool tpm2_pcrextend 16:sha256="$(printf 'event' | sha256sum | cut -d' ' -f1)"
tool tpm2_quote -c ak.ctx -l sha256:7,16 -q c0ffee -m quote.msg -s quote.sig -o quote.pcrs -g sha256
tool tpm2_checkquote -u ak.pem -m quote.msg -s quote.sig -f quote.pcrs -q c0ffee -g sha256
refused "nonce" tpm2_checkquote -u ak.pem -m quote.msg -s quote.sig -f quote.pcrs -q badbad \
    -g sha256
tool tpm2_quote -c ak.ctx -l sha256:16 -m plain.msg -s plain.sig -f plain -g sha256
openssl dgst -sha256 -verify ak.pem -signature plain.sig plain.msg >/dev/null ||
    fail "OpenSSL rejects the quote"

# A credential, made without a TPM for exactly this key, opens with it: two objects and a policy
# session in one command.
printf '0123456789abcdef' >credential
tool tpm2_makecredential -u ek.pub -s credential -n "$(hex ak.name)" -o blob
session_files=1
tool tpm2_startauthsession --policy-session -S ek.session
tool tpm2_policysecret -S ek.session -c e
tool tpm2_activatecredential -c ak.ctx -C ek.ctx -i blob -o opened -P session:ek.session
same opened "$(cat credential)"
session_files=0
tool tpm2_flushcontext ek.session

# An audit session shared by tools: its digest is that of the commands the tools sent, in order.
tool tpm2_createprimary -C e -G ecc -c sign.ctx \
    -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign'
tool tpm2_readpublic -c sign.ctx -f pem -o sign.pem
session_files=1
tool tpm2_startauthsession --audit-session -S audit.session
tool tpm2_getrandom 8 -S audit.session --cphash cp.hash --rphash rp.hash
tool tpm2_sessionconfig audit.session
tool tpm2_getsessionauditdigest -c sign.ctx -m audit.msg -s audit.sig -f plain -g sha256 \
    -S audit.session
session_files=0
tool tpm2_flushcontext audit.session
openssl dgst -sha256 -verify sign.pem -signature audit.sig audit.msg >/dev/null ||
    fail "OpenSSL rejects the audit digest"

# The digest is SHA256(zeros || cpHash || rpHash); it ends the attestation.
digest=$( { head -c 32 /dev/zero; tail -c 32 cp.hash; tail -c 32 rp.hash; } |
    sha256sum | cut -d' ' -f1)
[[ $(hex audit.msg) == *"0020$digest" ]] || fail "the audit digest is not that of the command sent"
echo "ok - the audit digest is that of the command sent"

# Time: the clock is shared, the signature is the key's.
tool tpm2_gettime -c sign.ctx -g sha256 -o time.sig -f plain --attestation time.msg -q abcd
openssl dgst -sha256 -verify sign.pem -signature time.sig time.msg >/dev/null ||
    fail "OpenSSL rejects the time"
