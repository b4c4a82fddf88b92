#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
#     fetch-kernel.sh FOLDER
#
# Gets Debian's kernel image for check-kernel and prints where it is: the newest in /boot, or else
# the one of the package, unpacked into FOLDER. It is not installed: that would make an initramfs
# for this machine, which takes longer than all the rest. The drivers of the TPM are in the image.
#
# What always holds here: nothing outside FOLDER is written; what is printed is a file that can be
# read, or the status is not 0 and the last line says why.

set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)

fail() {
    echo "fetch-kernel: $*" >&2
    exit 1
}

newest_in() {
    find "$1" -maxdepth 1 -name 'vmlinuz-*' -readable 2>/dev/null | sort -V | tail -n 1
}

kernel=$(newest_in /boot)
if [[ -z $kernel ]]; then
    mkdir -p "$1"
    cd "$1"
    # A package without files, which depends on the one of the current version.
    current=$("$here/../../script/install-dependencies" --list kernel-image)
    package=$(apt-cache depends "$current" | awk '/Depends: linux-image-/ && !n++ { print $2 }')
    [[ -n $package ]] || fail "$current is not to be had: apt-get update?"
    # As root, apt would download as another user, who may not write here.
    apt-get -q -o Acquire::Retries=3 -o APT::Sandbox::User=root \
        download "$package" >&2 </dev/null ||
        fail "$package cannot be downloaded"
    dpkg-deb --fsys-tarfile "$package"_*.deb | tar -x --wildcards './boot/vmlinuz-*'
    kernel=$(newest_in "$PWD/boot")
    [[ -n $kernel ]] || fail "$package has no kernel in it"
fi
echo "$kernel"
