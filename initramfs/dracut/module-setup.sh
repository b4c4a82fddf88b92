#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# dracut module tss2-tcti-spaces: the library in the initramfs, for a TCTI such as
# spaces:device:/dev/tpmrm0. Its place is /usr/lib/dracut/modules.d/91tss2-tcti-spaces.
#
# What always holds here: nothing happens unless the module is asked for
# (add_dracutmodules+=" tss2-tcti-spaces "); it adds what the library loads and nothing else. The
# driver of the TPM comes with whoever uses it, such as the modules tpm2-tss and clevis-pin-tpm2.

check() {
    return 255
}

# With what they need in turn: dracut itself looks into executables only, which libraries are not on
# Debian. One by one, since inst_libdir_file is content when it finds any of several.
install() {
    local library
    for library in libtss2-tcti-spaces.so.0 libtss2-tctildr.so.0 \
        libtss2-tcti-device.so.0 libtss2-mu.so.0 \
        libstdc++.so.6 libgcc_s.so.1 libm.so.6; do
        inst_libdir_file "$library" || {
            dfatal "tss2-tcti-spaces: there is no $library to install"
            return 1
        }
    done
}
