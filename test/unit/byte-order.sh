#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The byte order of src/: what comes from a client or a TPM is big endian and lies at any address, so
# it is read and written by src/wire/bytes.h, one octet at a time, and in no other way.
#
# What always holds here: everything but src/log, which knows nothing of commands, is looked at, with
# comments left out; before the check judges the real tree it has to find each of the faults that it
# knows in a line that has it, and must not object to what is allowed.

set -euo pipefail
export LC_ALL=C

# A pointer may be taken for one to octets, to characters, or to our own context, never to numbers or
# structures of the TPM; nor may the octets of one of our variables be taken as they lie in memory.
ways=(
    'reinterpret_cast<(const )?(std::)?(u?int(16|32|64)_t|UINT|INT|BYTE|TPM|TSS2_TPM|unsigned|size_t|long|short|int\b)'
    '\((const )?(std::)?(u?int(16|32|64)_t|UINT(16|32|64)|TPM[2IALSTU]_?[A-Z0-9_]*|unsigned( int| long| short)?|long|short|int) ?\*+ ?\)'
    '\b(__builtin_)?(w?mem(p?cpy|move)|bcopy|bit_cast|byteswap|start_lifetime_as)\b'
    '\bas_(writable_)?bytes\b|reinterpret_cast<(const )?(std::)?[a-z0-9_ ]+\*>\(&|\bpacked\b'
    '\b[nh]to[nh](s|l|ll)\b|\bhto[bl]e(16|32|64)\b|\b[bl]e(16|32|64)toh\b|\b(__builtin_)?bswap_?(16|32|64)\b'
    '^ *union\b'
    '\b(std::endian|__BYTE_ORDER)|<(endian|byteswap|bit|arpa/inet)(\.h)?>'
    '\bTss2_MU_'
)
pattern=$(IFS='|'; echo "${ways[*]}")

# The faults of the tree $1, one a line; nothing when it is sound.
faults() {
    local file files
    files=$(cd "$1" && find . -type f \( -name '*.h' -o -name '*.cpp' \) | sort)
    [[ -n "$files" ]] || echo "$1: no sources"
    while read -r file; do
        file=${file#./}
        [[ $file != log/* && $file != wire/bytes.h ]] || continue
        sed 's,//.*,,' "$1/$file" | grep -nE "$pattern" | sed "s,^,$file:," || true
    done < <(sed '/^$/d' <<<"$files")
}

number=0
# $1: a line of source, $2: yes when that must be found faulty, $3: its file
control() {
    local tree="$scratch/$((++number))" found
    mkdir -p "$tree/$(dirname "${3:-wire/a.cpp}")"
    printf '%s\n' "$1" >"$tree/${3:-wire/a.cpp}"
    found=$(faults "$tree")
    if [[ "$2" == yes && -z "$found" ]]; then
        echo "FAILED: the check does not see: $1"
        exit 1
    elif [[ "$2" == no && -n "$found" ]]; then
        echo "FAILED: the check objects to what is allowed: $found"
        exit 1
    fi
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

control 'x = *reinterpret_cast<const uint16_t*>(at);' yes
control 'x = *reinterpret_cast<TPM2_HANDLE*>(at);' yes
control 'x = *(const uint32_t*)at;' yes
control 'x = ((TPM2_HANDLE *)at)[1];' yes
control 'memcpy(&handle, at, sizeof(handle));' yes
control 'std::memmove(at, &handle, 4);' yes
control '__builtin_memcpy(&handle, at, 4);' yes
control 'append(reinterpret_cast<const uint8_t*>(&handle), 4);' yes
control 'append(std::as_bytes(std::span(&handle, 1)));' yes
control 'struct [[gnu::packed]] Header {' yes
control 'x = std::bit_cast<uint32_t>(octets);' yes
control 'x = ntohl(y);' yes
control 'x = htobe32(y);' yes
control 'x = be16toh(y);' yes
control 'x = __builtin_bswap32(y);' yes
control '    union {' yes
control 'if constexpr (std::endian::native == std::endian::big)' yes
control '#include <endian.h>' yes
control 'Tss2_MU_UINT32_Unmarshal(at, size, nullptr, &x);' yes
control 'memcpy(&handle, at, 4);' no wire/bytes.h
control 'memcpy(text, "x", 1);' no log/trace.cpp
control 'x = get32(at);  // not ntohl' no
control 'x = *reinterpret_cast<Context*>(pointer);' no
control 'x = reinterpret_cast<const uint8_t*>(text);' no
control 'Union of(const Spaces& spaces);' no

tree=${1:-${top_srcdir:?is the top of the source tree}/src}
found=$(faults "$tree")
if [[ -n "$found" ]]; then
    printf 'FAILED: numbers of the TPM by another way than wire/bytes.h:\n%s\n' "$found"
    exit 1
fi
echo "$tree does not depend on the byte order of the host"
