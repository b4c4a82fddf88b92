#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# OpenSSL with the tpm2 provider over spaces: keys, certificates, signatures, decryption. What the
# TPM signs is verified by OpenSSL's own provider, in another process that knows no TPM.
# Always holds: each openssl is a process and a space of its own, and the TPM is empty after it.

set -euo pipefail
# shellcheck source=test/support/tool.sh
. "$(dirname "$0")/../support/tool.sh"

printf 'The quick brown fox jumps over the lazy dog' >message
tpm=(-provider tpm2 -provider default -propquery '?provider=tpm2')
cat >req.cnf <<'END'
[req]
distinguished_name = dn
x509_extensions = ca
[dn]
[ca]
basicConstraints = critical,CA:true
END

# Proof that the provider is there and talks to this TPM.
before=$(simulator_commands)
tool openssl rand -provider tpm2 -hex 16
[[ $(simulator_commands) -gt $before ]] || fail "the provider did not use the TPM"

# key_pair NAME GENPKEY-OPTION...: a key in the TPM; certificates; signatures, both ways.
key_pair() {
    local name=$1
    shift
    tool openssl genpkey "${tpm[@]}" "$@" -out "$name.key"
    grep -q 'BEGIN TSS2 PRIVATE KEY' "$name.key" || fail "$name.key is not a key of the TPM"
    tool openssl pkey "${tpm[@]}" -in "$name.key" -pubout -out "$name.pub"

    tool openssl req "${tpm[@]}" -config req.cnf -new -key "$name.key" -subj "/CN=$name" \
        -out "$name.csr"
    openssl req -in "$name.csr" -verify -noout 2>/dev/null || fail "the request of $name"
    tool openssl req "${tpm[@]}" -config req.cnf -new -x509 -key "$name.key" -subj "/CN=$name" \
        -days 1 -out "$name.crt"
    openssl verify -CAfile "$name.crt" "$name.crt" >/dev/null || fail "the certificate of $name"

    tool openssl dgst "${tpm[@]}" -sha256 -sign "$name.key" -out "$name.sig" message
    openssl dgst -sha256 -verify "$name.pub" -signature "$name.sig" message >/dev/null ||
        fail "the signature of $name"
    tool openssl dgst "${tpm[@]}" -sha256 -prverify "$name.key" -signature "$name.sig" message
    refused 0x2DB \
        openssl dgst "${tpm[@]}" -sha256 -prverify "$name.key" -signature "$name.sig" req.cnf

    openssl dgst -sha256 -binary -out digest message
    tool openssl pkeyutl "${tpm[@]}" -sign -inkey "$name.key" -in digest -out "$name.raw" \
        -pkeyopt digest:sha256
    openssl pkeyutl -verify -pubin -inkey "$name.pub" -in digest -sigfile "$name.raw" \
        -pkeyopt digest:sha256 >/dev/null || fail "the raw signature of $name"
}

key_pair ec -algorithm EC -pkeyopt group:P-256
key_pair rsa -algorithm RSA -pkeyopt bits:2048

# The RSA key decrypts in the TPM what anyone encrypts.
openssl pkeyutl -encrypt -pubin -inkey rsa.pub -in message -out cipher
tool openssl pkeyutl "${tpm[@]}" -decrypt -inkey rsa.key -in cipher -out plain
cmp message plain || fail "decryption"

# One key as an authority over the other.
tool openssl x509 "${tpm[@]}" -req -in rsa.csr -CA ec.crt -CAkey ec.key -CAcreateserial -days 1 \
    -out issued.crt
openssl verify -CAfile ec.crt issued.crt >/dev/null || fail "the certificate issued by the TPM's key"

# Someone else's key, loaded past every space: on the bare TPM OpenSSL reaches it by its handle,
# through a space there is nothing at that handle. So it is through spaces that all this went.
tpm2_createprimary -T "$bare" -C o -G ecc -c theirs.ctx >/dev/null
theirs=(openssl pkey "${tpm[@]}" -in handle:0x80000000 -pubout)
TPM2OPENSSL_TCTI=$bare "${theirs[@]}" >out 2>err || fail "the foreign key is not there: $(cat err)"
if run_in_space "${theirs[@]}"; then fail "OpenSSL reached a foreign key"; fi
grep -qi '0x0*910' err || fail "not the refusal that was expected: $(cat err)"
echo "ok - OpenSSL does not reach a foreign key"
