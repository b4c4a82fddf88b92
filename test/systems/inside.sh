#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# What script/other-systems does in a fresh system, as root: builds the source that this file is in
# and runs its tests, test/systems/inside.sh SYSTEM
#
# What always holds here: the library is built with the flags of a release of the project, the tests
# quickly; /root/numbers tells how many tests passed, failed and were skipped, and is not written
# when there is no library; what failed is shown.

set -euo pipefail

source_dir=$(cd "$(dirname "$0")/../.." && pwd)
jobs=$(nproc)

# test_build CONFIGURE-ARGUMENT... [-- MAKE-ARGUMENT...]: the library, and then its tests.
test_build() {
    local configure=() status=0 p f s
    while (($#)) && [[ $1 != -- ]]; do
        configure+=("$1")
        shift
    done
    mkdir /root/build
    cd /root/build
    "$source_dir/configure" "${configure[@]}"
    make -j "$jobs"
    make -j "$jobs" check VERBOSE=1 CPPFLAGS=-U_FORTIFY_SOURCE CFLAGS=-O0 CXXFLAGS=-O0 \
        "${@:2}" || status=1
    read -r p f s < <("$source_dir/script/count-tests" .)
    ((status == 0 || f > 0)) || f=1
    ((p + f > 0)) || f=1
    echo "$p $f $s" >/root/numbers
}

# What depends on the TPM, on the loader and on the tools, of all that there is.
with_swtpm() {
    local names=(isolation swapping unloading children tcti-contract) programs tests
    programs="${names[*]/#/test/integration/}"
    programs=${programs// /.int }.int
    tests="$programs test/integration/names.sh test/integration/tpm2-tools-isolation.sh"
    test_build --disable-unit -- check_PROGRAMS="$programs" TESTS="$tests"
}

case $1 in
    trixie | i386)
        test_build --disable-integration
        ;;
    trixie-clang | clang)
        test_build --disable-integration CC=clang CXX=clang++
        ;;
    trixie-swtpm)
        with_swtpm
        ;;
    s390x)
        export PKG_CONFIG_LIBDIR=/usr/lib/s390x-linux-gnu/pkgconfig:/usr/share/pkgconfig
        test_build --disable-integration --host=s390x-linux-gnu -- \
            UNIT_LOG_FLAGS=qemu-s390x FUZZ_LOG_FLAGS=qemu-s390x
        ;;
esac
