#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# What script/package-test does in the fresh system, as root: installs the packages, uses them, puts
# the library into an initramfs, removes the packages. All files are beside this one.
#
# What always holds here: before the packages come, what they depend on is installed, and what the
# test needs itself, but neither more nor by the packages' name; the first thing that goes wrong
# ends it with a line that says what.

set -euo pipefail
cd "$(dirname "$0")"

# shellcheck source=test/support/simulator.sh
. ./simulator.sh

library=(libtss2-tcti-spaces0_*.deb)
development=(libtss2-tcti-spaces-dev_*.deb)
module=/usr/lib/dracut/modules.d/91tss2-tcti-spaces
hook=/usr/share/doc/libtss2-tcti-spaces0/examples/initramfs-tools/tss2-tcti-spaces
# What a program finds in the initramfs, and the only libraries there; libc.so because dracut takes
# other names of a library along.
needed='ld-linux* libc.so* libgcc_s.so.* libm.so.* libstdc++.so.* libtss2-mu.so.*
    libtss2-tcti-device.so.* libtss2-tcti-spaces.so.* libtss2-tctildr.so.*'

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# Depends of the package file $1, without our own.
dependencies() {
    dpkg-deb -f "$1" Depends | sed 's/libtss2-tcti-spaces[^,]*,\? *//; s/, *$//'
}

install_dependencies() {
    apt-get satisfy -y -qq --no-install-recommends \
        "$(dependencies "${library[0]}")" "$(dependencies "${development[0]}")" >/dev/null ||
        fail 'what the packages depend on cannot be installed'
}

# Everything but what the kernel shows, what this test writes and the logs.
list_files() {
    find / -xdev \( -path "$PWD" -o -path /tmp -o -path /var/log \) -prune -o -print | sort
}

use_by_name() {
    [[ $(tpm2_getrandom -T "spaces:$simulator_tcti" --hex 8) =~ ^[0-9a-f]{16}$ ]] ||
        fail 'tpm2_getrandom through spaces gave no random octets'
    echo 'ok - tpm2_getrandom -T spaces:swtpm'
}

use_by_link() {
    # shellcheck disable=SC2046 # pkg-config prints words
    gcc -o link link.c $(pkg-config --cflags --libs tss2-tcti-spaces)
    ./link "$simulator_tcti" || fail 'a program that links with the library does not work'
    echo 'ok - a program linked by pkg-config'
}

read_manual() {
    local page
    for page in man3/Tss2_Tcti_Spaces_Init.3 man7/tss2-tcti-spaces.7; do
        zgrep -q '^\.TH' "/usr/share/man/$page.gz" || fail "there is no $page"
    done
    echo 'ok - manual pages'
}

# expect_initramfs TREE: the libraries are those that are needed, and enough to get as far as the
# device, which is not there. 0xa000a is TSS2_TCTI_RC_IO_ERROR; without the library of the child it
# would be another code.
expect_initramfs() {
    local file name code
    while read -r file; do
        name=${file##*/}
        # shellcheck disable=SC2254 # they are patterns
        for pattern in $needed; do
            case $name in $pattern) continue 2 ;; esac
        done
        fail "$1: $file is not needed"
    done < <(find "$1" -name '*.so*' ! -name 'ld.so.*')
    cp load "$1/"
    code=$(TSS2_LOG=all+none chroot "$1" /load device:/dev/tpmrm0) || fail "$1: the library cannot be loaded"
    [[ $code == 0xa000a ]] || fail "$1: opening the device gave $code"
}

# The tree begins with the links that mkinitramfs makes.
initramfs_tools() {
    local folder
    for folder in bin lib lib64 sbin; do
        mkdir -p "initramfs-tools/usr/$folder"
        ln -s "usr/$folder" initramfs-tools/
    done
    cp "$hook" /etc/initramfs-tools/hooks/
    [[ -z $(/etc/initramfs-tools/hooks/tss2-tcti-spaces prereqs) ]] || fail 'the hook has prerequisites'
    DESTDIR=$PWD/initramfs-tools verbose=n /etc/initramfs-tools/hooks/tss2-tcti-spaces ||
        fail 'the hook of initramfs-tools failed'
    rm /etc/initramfs-tools/hooks/tss2-tcti-spaces
    expect_initramfs initramfs-tools
    echo 'ok - the hook of initramfs-tools'
}

# A whole image, which dracut makes with this module and a program.
dracut_module() {
    # shellcheck source=/dev/null
    ! (. "$module/module-setup.sh" && check) || fail 'the dracut module is there unasked'
    dracut --quiet --force --no-kernel --no-hostonly --no-early-microcode --no-compress \
        --kver none --modules tss2-tcti-spaces --install "$PWD/load" dracut.img || fail 'dracut failed'
    mkdir dracut
    (cd dracut && cpio --extract --quiet --make-directories) <dracut.img
    expect_initramfs dracut
    echo 'ok - the module of dracut'
}

# When the library is gone, a hook that was left behind must not make an initramfs without it.
missing_library() {
    cp "$hook" hook
    dpkg --purge libtss2-tcti-spaces-dev libtss2-tcti-spaces0 >/dev/null
    ! DESTDIR=$PWD/missing verbose=n ./hook 2>/dev/null || fail 'the hook does not miss the library'
    echo 'ok - the hook without the library'
}

install_dependencies
gcc -o load load.c
list_files >before
dpkg --install "${library[0]}" "${development[0]}" >/dev/null
simulator_start
use_by_name
use_by_link
read_manual
initramfs_tools
dracut_module
missing_library
list_files >after
diff before after || fail 'this was left behind, or taken away, by the packages'
echo 'ok - nothing is left'
