#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The documents: every block of commands or of a program in README.md, CONTRIBUTING.md, doc/*.md and
# the manual pages is run as it stands, over a software TPM in place of the device that it names. The
# name `spaces` finds the library under test, and no variable names a TCTI but those that a block
# sets itself.
#
# What always holds here: each block is in the list below, by its document and heading, and each
# line of the list is a block, so that neither a new block nor a removed one goes unnoticed; what is
# not run says why; after each that is run the TPM itself is asked whether anything is left in it.
# Blocks of one document run in one folder, one after the other, each in a shell of its own. What
# stands inside a sentence is not run: make targets and switches of configure, which CI uses, and
# pieces of what a block shows.

set -euo pipefail
# shellcheck source=test/support/tool.sh
. "$(dirname "$0")/../support/tool.sh"

# DOCUMENT: HEADING [NUMBER IN IT] = how
#
#   shell    commands          esapi    statements in C with `esys`       python   a program
#   fapi     a line of FAPI's configuration       conf   a shell's assignment of a TCTI
#   no ...   not run, because ...
list='
README.md: spaces = shell
README.md: See it = no a whole build each; script/check is what CI runs, script/check demo the other
README.md: Build and install = no installs on the machine; make distcheck does the same in a folder
README.md: Build and install 2 = no builds packages; script/package-test does and installs them
README.md: tpm2-tools = shell
README.md: tpm2-tools 2 = shell
README.md: ESAPI = esapi
README.md: Python = python
README.md: OpenSSL = shell
README.md: PKCS #11 = shell
README.md: FAPI = fapi
README.md: systemd, and early boot = no enrols a disk
README.md: The conf string = no a grammar
README.md: The child = no a rule for udev
CONTRIBUTING.md: Build = no a whole build; CI does the same
CONTRIBUTING.md: Build 2 = shell
CONTRIBUTING.md: Before you send a change = no a whole build; CI runs it
CONTRIBUTING.md: Before you send a change 2 = no needs a kernel; script/check kernel has one
architecture.md: Layers = no a picture
architecture.md: The way of a command = no commands in hexadecimal
architecture.md: The way of a command 2 = no commands in hexadecimal
architecture.md: The way of a command 3 = no commands in hexadecimal
performance.md: What was measured = no a table
performance.md: As what there is grows = no a table
performance.md: How to repeat it = no benchmarks, which take minutes; by hand
performance.md: How to repeat it 2 = no a benchmark; by hand
performance.md: How to repeat it 3 = no needs Valgrind
performance.md: How to repeat it 4 = no benchmarks, which take minutes; by hand
performance.md: How to repeat it 5 = no a benchmark that needs a kernel; by hand
Tss2_Tcti_Spaces_Init.3.in: EXAMPLES = esapi
tss2-tcti-spaces.7.in: DESCRIPTION = conf
tss2-tcti-spaces.7.in: EXAMPLES = shell
tss2-tcti-spaces.7.in: EXAMPLES 2 = conf
'

# blocks DOCUMENT FOLDER: writes each block to a file of its own, FOLDER/NAME with / for no character
# that a heading has. Of a Markdown file: what is fenced or indented by four, after an empty line.
# Of a manual page: what stands between .EX and .EE.
blocks() {
    awk -v document="$(basename "$1")" -v folder="$2" '
        function open_block() {
            count[heading]++
            name = document ": " heading (count[heading] > 1 ? " " count[heading] : "")
            file = folder "/" name
            printf "" >file
            inside = 1
        }
        function close_block() { if (inside) close(file); inside = fenced = 0 }
        BEGIN { page = document ~ /\.in$/; empty = 1 }
        page && /^\.S[HS] / { heading = substr($0, 5) }
        page && /^\.EX/ { open_block(); next }
        page && /^\.EE/ { close_block() }
        page && inside { gsub(/\\-/, "-"); print >file }
        page { next }
        /^```/ { if (fenced) close_block(); else { open_block(); fenced = 1 }; next }
        fenced { print >file; next }
        /^#+ / { sub(/^#+ /, ""); heading = $0 }
        /^    / { if (!inside && empty) open_block(); if (inside) print substr($0, 5) >file }
        inside && /^$/ { print "" >file; held = 1 }
        inside && !/^    / && !/^$/ { close_block() }
        { empty = /^$/ }' "$1"
}

# The block $1 with this TPM for every one that it names.
on_simulator() {
    sed -E -e "s#device:/dev/tpm(rm)?0#$bare#g" -e 's#swtpm:(host=localhost,)?port=2321#'"$bare#g" "$1"
}

# As `tool`, in the environment of a user who has named no TCTI yet.
block() {
    tool env -u TPM2TOOLS_TCTI -u TPM2OPENSSL_TCTI "$@"
}

# Statements become a program: every call that gives a TSS2_RC has to succeed, and where the text
# says "..." the space is left with a key to flush.
esapi() {
    {
        cat <<'C'
#include <stdlib.h>
#include <tss2/tss2_esys.h>
#include <tss2/tss2_tctildr.h>
#include <tss2/tss2_tcti_spaces.h>
static void must(TSS2_RC rc) { if (rc != TSS2_RC_SUCCESS) exit(1); }
#define Tss2_TctiLdr_Initialize(...) must(Tss2_TctiLdr_Initialize(__VA_ARGS__))
#define Tss2_Tcti_Spaces_Init(...) must(Tss2_Tcti_Spaces_Init(__VA_ARGS__))
#define Esys_Initialize(...) must(Esys_Initialize(__VA_ARGS__))
static void use(ESYS_CONTEXT* esys) {
    ESYS_TR key;
    TPM2B_SENSITIVE_CREATE sensitive = {0};
    TPM2B_PUBLIC template = {.publicArea = {.type = TPM2_ALG_KEYEDHASH,
        .nameAlg = TPM2_ALG_SHA256,
        .objectAttributes = TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_SIGN_ENCRYPT |
            TPMA_OBJECT_SENSITIVEDATAORIGIN,
        .parameters.keyedHashDetail.scheme = {.scheme = TPM2_ALG_HMAC,
            .details.hmac.hashAlg = TPM2_ALG_SHA256}}};
    TPM2B_DATA outside = {0};
    TPML_PCR_SELECTION pcrs = {0};
    must(Esys_CreatePrimary(esys, ESYS_TR_RH_NULL, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
        &sensitive, &template, &outside, &pcrs, &key, NULL, NULL, NULL, NULL));
}
int main(void) {
C
        on_simulator "$1" | sed 's#/\* \.\.\..*\*/#use(esys);#'
        echo '}'
    } >program.c
    grep -q '^ *use(esys);' program.c || fail "$1: nothing in it says where the space is used"
    # shellcheck disable=SC2046 # pkg-config prints words
    cc -I"$source_dir/include" -o program program.c -Wl,--allow-shlib-undefined \
        -L"$(dirname "$SPACES_LIBRARY")" -ltss2-tcti-spaces \
        $(pkg-config --cflags --libs tss2-esys tss2-tctildr)
    block ./program
}

# A configuration of our own, with the document's line in it: keys are made and used.
fapi() {
    tpm2_clear -T "$bare" # FAPI wants the place of the key that PKCS #11 has made persistent
    mkdir -p fapi/{user,system,log}
    {
        echo '{ "profile_name": "P_ECCP256SHA256", "profile_dir": "/etc/tpm2-tss/fapi-profiles/",'
        on_simulator "$1"
        printf '"user_dir": "%s/user", "system_dir": "%s/system", "log_dir": "%s/log",\n' \
            "$PWD/fapi" "$PWD/fapi" "$PWD/fapi"
        echo '"system_pcrs": [], "ek_cert_less": "yes" }'
    } >fapi/config.json
    export TSS2_FAPICONF=$PWD/fapi/config.json
    block tss2_provision
    block tss2_createkey --path HS/SRK/key --type 'sign, noDa' --authValue ''
    printf '%032d' 1 >digest
    block tss2_sign --keyPath HS/SRK/key --digest digest --signature fapi/signature
}

# A TCTI in the environment, as it is given: a tool finds a TPM there.
conf() {
    on_simulator "$1" >conf.sh
    echo 'tpm2_getrandom --hex 8' >>conf.sh
    block bash -euo pipefail conf.sh
}

run() { # how, block
    case $1 in
        shell) on_simulator "$2" >block.sh && block bash -euo pipefail block.sh ;;
        python) on_simulator "$2" >block.py && block /usr/bin/python3 block.py ;;
        esapi | fapi | conf) "$1" "$2" ;;
        no\ *) echo "not run: $(basename "$2"), $(wc -l <"$2") lines: ${1#no }" ;;
        *) fail "$(basename "$2"): nothing is known of '$1'" ;;
    esac
}

# The library by its short name, for the loader and for systemd's way of loading alike.
[[ $SPACES_LIBRARY != none ]] || fail 'these need the library'
export LD_LIBRARY_PATH=${SPACES_LIBRARY%/*}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export HOME=$PWD
# The tools leak, and in a build with a sanitizer that would be held against them.
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0

mkdir blocks work
ln -s "${SPACES_LIBRARY%/*}" work/.libs  # as in the folder of a build
for document in "$source_dir"/{README,CONTRIBUTING}.md "$source_dir"/doc/*.md "$source_dir"/man/*.in; do
    blocks "$document" "$PWD/blocks"
done
found=$(ls blocks | LC_ALL=C sort)
listed=$(sed -n 's/ = .*//p' <<<"$list" | LC_ALL=C sort)
[[ $found == "$listed" ]] ||
    fail "blocks that are not listed (<) or not there (>): $(diff <(echo "$found") <(echo "$listed"))"

cd work
while IFS= read -r line; do
    [[ -n $line ]] || continue
    echo "-- ${line%% = *}"
    run "${line#* = }" "../blocks/${line%% = *}"
done <<<"$list"
