#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Sessions that outlive the tool that started them. tpm2-tools keep a session in a file between two
# tools, as a saved context: the space of the tool that saved it must let go of it when it closes,
# and the space of the next tool must be able to take it in.
# Always holds: exactly as many sessions are saved in the TPM as there are session files, and none
# is loaded after a tool has ended.

set -euo pipefail
# shellcheck source=test/support/tool.sh
. "$(dirname "$0")/../support/tool.sh"

printf 'sealed for these PCRs' >secret

# Seal under a PCR policy: a trial session makes the policy.
session_files=1
tool tpm2_startauthsession -S trial.session
tool tpm2_policypcr -S trial.session -l sha256:0,16 -L pcr.policy
session_files=0
tool tpm2_flushcontext trial.session

tool tpm2_createprimary -C o -G ecc -c primary.ctx
tool tpm2_create -C primary.ctx -i secret -L pcr.policy -u seal.pub -r seal.priv
tool tpm2_load -C primary.ctx -u seal.pub -r seal.priv -c seal.ctx

# Unseal with a policy session that four tools start, use and flush.
session_files=1
tool tpm2_startauthsession --policy-session -S policy.session
tool tpm2_policypcr -S policy.session -l sha256:0,16
tool tpm2_unseal -c seal.ctx -p session:policy.session
same out "$(cat secret)"
session_files=0
tool tpm2_flushcontext policy.session

# After the PCR has moved the policy no longer holds. The session stays, as it would on a TPM of
# its own, until it is flushed.
session_files=1
tool tpm2_startauthsession --policy-session -S policy.session
tool tpm2_pcrextend 16:sha256="$(printf 'x' | sha256sum | cut -d' ' -f1)"
tool tpm2_policypcr -S policy.session -l sha256:0,16
refused 0x99D tpm2_unseal -c seal.ctx -p session:policy.session
session_files=0
tool tpm2_flushcontext policy.session
tool tpm2_pcrreset 16
tool tpm2_unseal -c seal.ctx -p pcr:sha256:0,16
same out "$(cat secret)"

# One HMAC session over several tools: its nonces roll on from process to process.
session_files=1
tool tpm2_startauthsession --hmac-session -S hmac.session
tool tpm2_create -C primary.ctx -P session:hmac.session -G ecc -p pw -u key.pub -r key.priv
tool tpm2_load -C primary.ctx -P session:hmac.session -u key.pub -r key.priv -c key.ctx
tool tpm2_sign -c key.ctx -p session:hmac.session+pw -g sha256 -o sig secret
refused 0x98E tpm2_sign -c key.ctx -p session:hmac.session+wrong -g sha256 -o sig secret
tool tpm2_sign -c key.ctx -p session:hmac.session+pw -g sha256 -f plain -o plain.sig secret
session_files=0
tool tpm2_flushcontext hmac.session
tool tpm2_readpublic -c key.ctx -f pem -o key.pem
openssl dgst -sha256 -verify key.pem -signature plain.sig secret >/dev/null ||
    fail "OpenSSL rejects a signature made under an HMAC session"

# Two sessions alive at once, and parameters encrypted by one that is salted with a key.
session_files=1
tool tpm2_startauthsession --hmac-session -c primary.ctx -S encrypt.session
tool tpm2_sessionconfig encrypt.session --enable-decrypt --enable-encrypt
session_files=2
tool tpm2_startauthsession --policy-session -S policy.session
tool tpm2_policypcr -S policy.session -l sha256:0,16
tool tpm2_unseal -c seal.ctx -p session:policy.session -S encrypt.session
same out "$(cat secret)"
session_files=1
tool tpm2_flushcontext policy.session
session_files=0
tool tpm2_flushcontext encrypt.session

# A policy of several parts, each given by a tool of its own: a password AND a command.
session_files=1
tool tpm2_startauthsession -S trial.session
tool tpm2_policypassword -S trial.session -L step.policy
tool tpm2_policycommandcode -S trial.session -L both.policy TPM2_CC_Unseal
session_files=0
tool tpm2_flushcontext trial.session
tool tpm2_create -C primary.ctx -i secret -p pw -L both.policy -u both.pub -r both.priv -c both.ctx
session_files=1
tool tpm2_startauthsession --policy-session -S policy.session
tool tpm2_policypassword -S policy.session
tool tpm2_policycommandcode -S policy.session TPM2_CC_Unseal
tool tpm2_unseal -c both.ctx -p session:policy.session+pw
same out "$(cat secret)"
session_files=0
tool tpm2_flushcontext policy.session

# Many sessions one after the other: a handle that is not given back would run out at 64.
for _ in {1..70}; do
    run_in_space tpm2_createpolicy --policy-pcr -l sha256:0 -L loop.policy ||
        fail "a policy session could not be started: $(cat err)"
done
expect_nothing_left "70 policies, each made in a space of its own"
echo "ok - 70 policies, each made in a space of its own"
