#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
#     tools.sh --list       the names of the cases, one a line
#     tools.sh CASE         runs one of them, in the guest
#
# tpm2-tools over the kernel's devices. Each tool is a process that opens the device and closes it.
#
# What always holds here: a case is a function with the name case_NAME that runs in a shell and a
# folder of its own; its status says whether it passed, and its output, the commands included, why
# not; it starts and ends with nothing in the TPM.

set -euo pipefail

devices=(tpm0 tpmrm0)
swaps=(off on)

# over DEVICE SWAP FUNCTION: with a space there as the tools' TPM.
over() {
    export TPM2TOOLS_TCTI=spaces:swap=$2,device:/dev/$1
    "$3"
}

# refused TEXT COMMAND...: it fails, with this in its messages.
refused() {
    local text=$1
    shift
    if "$@" 2>messages; then
        echo "$* succeeded"
        return 1
    fi
    grep -qiF -- "$text" messages || {
        echo "$* failed without saying '$text': $(cat messages)"
        return 1
    }
}

keys_and_sessions() {
    tpm2_createprimary -Q -G ecc -c primary
    tpm2_create -Q -C primary -G ecc -u public -r private
    tpm2_load -Q -C primary -u public -r private -c key
    echo 'a message' >message
    tpm2_sign -Q -c key -g sha256 -o signature message
    tpm2_verifysignature -c key -g sha256 -m message -s signature
    echo 'another' >message
    refused 'signature' tpm2_verifysignature -c key -g sha256 -m message -s signature

    tpm2_startauthsession -S session --policy-session
    tpm2_policycommandcode -Q -S session -L policy TPM2_CC_Sign
    tpm2_flushcontext session
    tpm2_create -Q -C primary -G ecc -u public -r private -L policy \
        -a 'fixedtpm|fixedparent|sensitivedataorigin|sign'
    tpm2_load -Q -C primary -u public -r private -c guarded
    tpm2_startauthsession -S session --policy-session
    tpm2_policycommandcode -Q -S session TPM2_CC_Sign
    tpm2_sign -Q -c guarded -p session:session -g sha256 -o signature message
    tpm2_flushcontext session
    tpm2_verifysignature -c guarded -g sha256 -m message -s signature
}

sealing() {
    tpm2_createprimary -Q -G ecc -c primary
    echo secret | tpm2_create -Q -C primary -i - -u public -r private
    tpm2_load -Q -C primary -u public -r private -c sealed
    [[ $(tpm2_unseal -c sealed) == secret ]]
    [[ $(tpm2_hash -g sha256 --hex <<<text) == "$(sha256sum <<<text | cut -d ' ' -f 1)" ]]
}

# All that there is room for is free: one look instead of three lists, since a tool takes long here.
nothing_left() {
    tpm2_getcap -T device:/dev/tpm0 properties-variable >properties
    local slots
    slots=$(sed -n '/HR_LOADED:\|HR_ACTIVE:\|HR_TRANSIENT_AVAIL:/s/.*: //p' properties | xargs)
    [[ $slots == '0x0 0x0 0x3' ]] || {
        echo "left in the TPM: $(grep HR_ properties)"
        return 1
    }
}

define_cases() {
    local device swap
    for device in "${devices[@]}"; do
        for swap in "${swaps[@]}"; do
            eval "case_keys_${device}_swap_$swap() { over $device $swap keys_and_sessions; }"
        done
        eval "case_sealing_$device() { over $device on sealing; }"
    done
}
define_cases

# No child is named: the kernel's resource manager comes first.
case_no_child_is_named() {
    TPM2TOOLS_TCTI=spaces TSS2_LOG=tcti+debug tpm2_getrandom --hex 4 >random 2>messages
    grep -q '^[0-9a-f]\{8\}$' random
    [[ $(wc -l <messages) -gt 0 ]]
}

case_a_device_that_is_not_there() {
    export TPM2TOOLS_TCTI=spaces:device:/dev/tpm7
    refused 'No such file or directory' tpm2_getrandom 4
    refused "'device:/dev/tpm7' cannot be opened" tpm2_getrandom 4
}

if [[ $1 == --list ]]; then
    declare -F | sed -n 's/^declare -f case_/tools./p'
    exit 0
fi
folder=$(mktemp -d)
cd "$folder"
set -x
"case_${1#tools.}"
nothing_left
