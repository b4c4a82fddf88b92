/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A program that loads libtss2-tcti-spaces as systemd does, by its name and without the loader of
 * tpm2-tss: all that it brings itself is the C library. It opens a space on the child that argv[1]
 * names and prints the return code.
 *
 * Exit status: 0 when the library could be loaded, whatever the code.
 */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <tss2/tss2_tcti.h>

int main(int argc, char** argv) {
    size_t size = 0;
    TSS2_TCTI_INFO_FUNC information = NULL;
    TSS2_TCTI_CONTEXT* space;
    void* library = dlopen("libtss2-tcti-spaces.so.0", RTLD_NOW);

    if (library != NULL) *(void**)&information = dlsym(library, TSS2_TCTI_INFO_SYMBOL);
    if (information == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    if (argc != 2 || information()->init(NULL, &size, NULL) != TSS2_RC_SUCCESS) return 1;
    space = calloc(1, size);
    if (space == NULL) return 1;
    printf("0x%x\n", information()->init(space, &size, argv[1]));
    return 0;
}
