#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# tpm2-pkcs11 over spaces: a token, and a process that makes seven keys in it and uses them by turns
# (test/support/pkcs11-keys.c), four more than the TPM has slots for.
# Always holds: each step is a process and a space of its own, and the TPM is empty after it, but
# for the token's persistent primary key; without swapping the same runs out of the TPM's memory.

set -euo pipefail
# shellcheck source=test/support/tool.sh
. "$(dirname "$0")/../support/tool.sh"

module=$(pkg-config --variable=libdir libcrypto)/pkcs11/libtpm2_pkcs11.so
[[ -e $module ]] || fail "no $module: install libtpm2-pkcs11-1"
isolating=$space
swapping=$space
if [[ $SPACES_LIBRARY != none ]]; then swapping=$SPACES_LIBRARY:swap=on,$bare; fi
export TPM2_PKCS11_STORE=$PWD/store TPM2_PKCS11_TCTI=$swapping
mkdir store
# The tools leak, and in a build with a sanitizer that would be held against them.
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0

# shellcheck disable=SC2046 # pkg-config prints words
cc -o pkcs11-keys "$source_dir/test/support/pkcs11-keys.c" \
    $(pkg-config --cflags --libs libcrypto) $(pkg-config --cflags p11-kit-1) -ldl

tool tpm2_ptool init --path "$TPM2_PKCS11_STORE"
for label in one two; do
    tool tpm2_ptool addtoken --path "$TPM2_PKCS11_STORE" --pid 1 --label "$label" \
        --sopin sopin --userpin userpin
done

tool ./pkcs11-keys "$module" one userpin
grep -qx '21 signatures by 7 keys' out || fail "the program said: $(cat out)"

# Another process finds them all, and signs with one.
tool pkcs11-tool --module "$module" --token-label one --login --pin userpin --list-objects \
    --type privkey
kinds=$(sed -n 's/^Private Key Object; \(RSA\|EC\).*/\1/p' out | sort | uniq -c | xargs)
[[ $kinds == '2 EC 5 RSA' ]] || fail "other keys than were made: $(cat out)"
printf 'The quick brown fox jumps over the lazy dog' >message
tool pkcs11-tool --module "$module" --token-label one --login --pin userpin --sign --id 00 \
    --mechanism SHA256-RSA-PKCS --input-file message --output-file signature
tool pkcs11-tool --module "$module" --token-label one --read-object --type pubkey --id 00 \
    --output-file public.der
openssl dgst -sha256 -verify public.der -keyform DER -signature signature message >/dev/null ||
    fail "the signature of another process"

TPM2_PKCS11_TCTI=$isolating \
    refused 'out of memory for object contexts|0x0*902' ./pkcs11-keys "$module" two userpin
