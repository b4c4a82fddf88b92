#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
#     initramfs.sh OUTPUT LIBRARY PROGRAM
#
# Makes the guest's file system, all of which is in memory: /init, a shell, tpm2-tools, the library
# under test where an installed one would be, the program of the suite, and of this machine's
# libraries those that ldd finds for them.
#
# What always holds here: OUTPUT is a cpio archive that is complete or not there.

set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
output=$1 library=$2 program=$3

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{proc,sys,dev,tmp,root,spaces,etc}

# add FILE [PATH]: with all libraries that it needs, at the places where they are here.
add() {
    local path=${2:-$1} needed
    install -D "$1" "$root$path"
    # A static program has none, which ldd takes for an error.
    for needed in $({ ldd "$1" || true; } 2>/dev/null | sed -n 's,^[^/]*\(/[^ ]*\).*,\1,p'); do
        [[ -e $root$needed ]] || install -D "$needed" "$root$needed"
    done
}

folder_of() {
    dirname "$(ldconfig -p | awk -v name="$1" '$1 == name { print $NF; exit }')"
}

add "$(command -v bash)" /bin/bash
add "$(command -v busybox)" /bin/busybox
for name in cat cut grep mktemp readlink sed sha256sum tail wc xargs; do
    ln -s busybox "$root/bin/$name"
done
tools=$(command -v tpm2)
add "$tools" /usr/bin/tpm2
for name in $(sed -n 's/.*\(tpm2_[a-z]*\).*/\1/p' "$here/tools.sh" | sort -u); do
    ln -s tpm2 "$root/usr/bin/$name"
done
folder=$(folder_of libtss2-tcti-device.so.0)
add "$folder/libtss2-tcti-device.so.0"
add "$library" "$folder/libtss2-tcti-spaces.so.0"
add "$program" /spaces/program
install "$here/init" "$root/init"
install -m 644 "$here/tools.sh" "$root/spaces/tools.sh"

(cd "$root" && find . | cpio --quiet -o -H newc) >"$output.part"
mv "$output.part" "$output"
