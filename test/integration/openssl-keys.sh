#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# OpenSSL with the tpm2 provider and more keys in one process than the TPM has slots: a program that
# keeps seven, a CMP exchange with three, a TLS server with three.
# Always holds: each works through spaces with swap=on, is verified by someone who knows no TPM, and
# leaves the TPM empty; without swapping the same runs out of the TPM's memory.

set -euo pipefail
# shellcheck source=test/support/tool.sh
. "$(dirname "$0")/../support/tool.sh"

isolating=$space
if [[ $SPACES_LIBRARY != none ]]; then space=$SPACES_LIBRARY:swap=on,$bare; fi
tpm=(-provider tpm2 -provider default -propquery '?provider=tpm2')
printf '[req]\ndistinguished_name = dn\n[dn]\n' >req.cnf

# out_of_memory PROGRAM ARGUMENT...: without swapping the TPM has too few slots for it.
out_of_memory() {
    local swapping=$space
    space=$isolating
    refused 'out of memory for object contexts|0x0*902' "$@"
    space=$swapping
}

# shellcheck disable=SC2046 # pkg-config prints words
cc -o openssl-keys "$source_dir/test/support/openssl-keys.c" \
    $(pkg-config --cflags --libs libcrypto)

for name in server client new tls; do
    tool openssl genpkey "${tpm[@]}" -algorithm EC -pkeyopt group:P-256 -out "$name.key"
done
for name in rsa tls-rsa; do
    tool openssl genpkey "${tpm[@]}" -algorithm RSA -pkeyopt bits:2048 -out "$name.key"
done
for name in server client new tls tls-rsa; do
    tool openssl req "${tpm[@]}" -config req.cnf -new -x509 -days 1 -key "$name.key" \
        -subj "/CN=$name" -out "$name.crt"
done

# Seven keys alive in one process, four of them made in it, by turns.
tool ./openssl-keys 4 rsa.key server.key tls-rsa.key
grep -qx '21 signatures by 7 keys' out || fail "the program said: $(cat out)"
out_of_memory ./openssl-keys 4 rsa.key server.key tls-rsa.key

# CMP: the client's key, the key to be certified and the key of the server, all in one process.
cmp=(openssl cmp "${tpm[@]}" -config '' -use_mock_srv -srv_cert server.crt -srv_key server.key
    -srv_trusted client.crt -rsp_cert new.crt -cmd ir -newkey new.key -subject /CN=new
    -cert client.crt -key client.key -trusted server.crt -certout issued.crt)
tool "${cmp[@]}"
same issued.crt "$(cat new.crt)"
out_of_memory "${cmp[@]}"

# TLS: a server with three certificates, the key of each in the TPM.
server=(openssl s_server "${tpm[@]}" -accept 127.0.0.1:0 -naccept 3 -www
    -cert tls.crt -key tls.key -dcert tls-rsa.crt -dkey tls-rsa.key
    -servername other -cert2 new.crt -key2 new.key)
out_of_memory timeout 60 "${server[@]}"  # it does not get as far as to listen

server_pid=
stop_server() {
    [[ -z $server_pid ]] || kill "$server_pid" 2>/dev/null || true
    simulator_stop
}
trap stop_server EXIT
TPM2OPENSSL_TCTI=$space LD_PRELOAD=${SPACES_PRELOAD:-} "${server[@]}" \
    >server.out 2>server.err </dev/null &
server_pid=$!
# It says which port it got; the loop ends when it has said so, or is gone.
until port=$(sed -n 's/^ACCEPT 127.0.0.1:\([0-9]*\)$/\1/p' server.out) && [[ -n $port ]]; do
    kill -0 "$server_pid" 2>/dev/null || fail "the TLS server: $(cat server.err)"
    sleep 0.05
done

# connect NAME CERTIFICATE ALGORITHM: the server proves that it has the key of this certificate.
connect() {
    printf 'GET / HTTP/1.0\r\n\r\n' |
        openssl s_client -connect "127.0.0.1:$port" -tls1_3 -servername "$1" -CAfile "$2" \
            -sigalgs "$3" -verify_return_error -ign_eof >client.out 2>&1 ||
        fail "TLS with $2: $(cat client.out)"
    grep -q 'Verify return code: 0 (ok)' client.out || fail "TLS with $2: $(cat client.out)"
    echo "ok - TLS with $2"
}
connect default tls.crt ECDSA+SHA256
connect default tls-rsa.crt RSA-PSS+SHA256
connect other new.crt ECDSA+SHA256
wait "$server_pid" || fail "the TLS server: $(cat server.err)"
server_pid=
expect_nothing_left 'the TLS server'
