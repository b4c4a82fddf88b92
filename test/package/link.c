/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A program that links with libtss2-tcti-spaces: asks the TPM for random octets in a space on the
 * child that argv[1] names. It takes nothing but the public header and what pkg-config says.
 *
 * Exit status: 0 when the TPM answered with success, else 1.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tss2/tss2_tcti_spaces.h>

/* TPM2_GetRandom of eight octets, without sessions. */
static const uint8_t command[] = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7b, 0, 8};

static void check(TSS2_RC rc, const char* what) {
    if (rc != TSS2_RC_SUCCESS) {
        fprintf(stderr, "%s: 0x%x\n", what, rc);
        exit(1);
    }
}

int main(int argc, char** argv) {
    uint8_t response[64] = {0};
    size_t size = 0;
    size_t received = sizeof response;
    TSS2_TCTI_CONTEXT* space;

    check(Tss2_Tcti_Spaces_Init(NULL, &size, NULL), "the size of a context");
    space = calloc(1, size);
    if (argc != 2 || space == NULL) return 1;
    check(Tss2_Tcti_Spaces_Init(space, &size, argv[1]), argv[1]);
    check(Tss2_Tcti_Transmit(space, sizeof command, command), "transmit");
    check(Tss2_Tcti_Receive(space, &received, response, TSS2_TCTI_TIMEOUT_BLOCK), "receive");
    Tss2_Tcti_Finalize(space);
    free(space);
    return received == 20 && memcmp(response + 6, "\0\0\0", 4) == 0 ? 0 : 1;
}
