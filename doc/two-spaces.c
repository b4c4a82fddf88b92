/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Two ESAPI contexts in one program, side by side on one TPM. Nothing in it knows of spaces but the
 * TCTI string it is given; through spaces each context has a TPM of its own:
 *
 *     cc -o two-spaces two-spaces.c $(pkg-config --cflags --libs tss2-esys tss2-tctildr)
 *     ./two-spaces spaces:swtpm
 *
 * Exit status: 0 when neither context sees the other's keys, 1 when one does, 2 for any failure.
 */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tss2/tss2_esys.h>
#include <tss2/tss2_tctildr.h>

static void say(const char* who, const char* what, const char* format, ...) {
    va_list arguments;
    printf("  %s  %-30s  ", who, what);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

static void check(TSS2_RC rc, const char* what) {
    if (rc != TSS2_RC_SUCCESS) {
        fprintf(stderr, "%s: 0x%x\n", what, rc);
        exit(2);
    }
}

static ESYS_CONTEXT* open_space(const char* conf) {
    TSS2_TCTI_CONTEXT* tcti;
    ESYS_CONTEXT* esys;

    check(Tss2_TctiLdr_Initialize(conf, &tcti), conf);
    check(Esys_Initialize(&esys, tcti, NULL), "Esys_Initialize");
    return esys;
}

/* Whatever the space still holds goes with it: there is nothing to flush before. */
static void close_space(ESYS_CONTEXT* esys) {
    TSS2_TCTI_CONTEXT* tcti;

    check(Esys_GetTcti(esys, &tcti), "Esys_GetTcti");
    Esys_Finalize(&esys);
    Tss2_TctiLdr_Finalize(&tcti);
}

/* A P-256 storage key. What is in "unique" makes one key differ from another. */
static ESYS_TR create_key(ESYS_CONTEXT* esys, const char* unique) {
    const TPM2B_SENSITIVE_CREATE sensitive = {0};
    const TPM2B_DATA outside = {0};
    const TPML_PCR_SELECTION pcrs = {0};
    TPM2B_PUBLIC template = {
        .publicArea =
            {
                .type = TPM2_ALG_ECC,
                .nameAlg = TPM2_ALG_SHA256,
                .objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                                    TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_USERWITHAUTH |
                                    TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT,
                .parameters.eccDetail =
                    {
                        .symmetric = {.algorithm = TPM2_ALG_AES,
                                      .keyBits.aes = 128,
                                      .mode.aes = TPM2_ALG_CFB},
                        .scheme.scheme = TPM2_ALG_NULL,
                        .curveID = TPM2_ECC_NIST_P256,
                        .kdf.scheme = TPM2_ALG_NULL,
                    },
            },
    };
    ESYS_TR key;

    template.publicArea.unique.ecc.x.size = (UINT16)strlen(unique);
    memcpy(template.publicArea.unique.ecc.x.buffer, unique, strlen(unique));
    check(Esys_CreatePrimary(esys, ESYS_TR_RH_OWNER, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                             &sensitive, &template, &outside, &pcrs, &key, NULL, NULL, NULL, NULL),
          "Esys_CreatePrimary");
    return key;
}

static TPM2_HANDLE handle_of(ESYS_CONTEXT* esys, ESYS_TR key) {
    TPM2_HANDLE handle;

    check(Esys_TR_GetTpmHandle(esys, key, &handle), "Esys_TR_GetTpmHandle");
    return handle;
}

/* Prints and counts the transient objects that the TPM, as this context sees it, says it holds. */
static unsigned list_objects(ESYS_CONTEXT* esys, const char* who) {
    TPMS_CAPABILITY_DATA* data;
    TPMI_YES_NO more;
    char line[128] = "";
    unsigned count;

    check(Esys_GetCapability(esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, TPM2_CAP_HANDLES,
                             TPM2_TRANSIENT_FIRST, 8, &more, &data),
          "Esys_GetCapability");
    count = data->data.handles.count;
    for (unsigned i = 0; i < count; i++) {
        size_t used = strlen(line);
        snprintf(line + used, sizeof line - used, "0x%08x ", data->data.handles.handle[i]);
    }
    say(who, "lists the objects in its TPM:", "%s", count ? line : "none");
    Esys_Free(data);
    return count;
}

int main(int argc, char** argv) {
    ESYS_CONTEXT *a, *b;
    ESYS_TR key, foreign;
    TPM2_HANDLE target;
    TSS2_RC rc;
    int mixed;

    if (argc != 2) {
        fprintf(stderr, "usage: %s TCTI\n", argv[0]);
        return 2;
    }
    a = open_space(argv[1]);
    b = open_space(argv[1]);

    key = create_key(a, "A1");
    target = handle_of(a, key);
    say("A", "creates a key:", "0x%08x", target);
    say("A", "creates another:", "0x%08x", handle_of(a, create_key(a, "A2")));
    mixed = list_objects(b, "B") != 0;

    rc = Esys_TR_FromTPMPublic(b, target, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &foreign);
    mixed |= rc == TSS2_RC_SUCCESS;
    say("B", "reads A's first key:", rc ? "refused, 0x%x: nothing there" : "it can", rc);

    say("B", "creates a key of its own:", "0x%08x", handle_of(b, create_key(b, "B")));
    mixed |= list_objects(a, "A") != 2;
    mixed |= list_objects(b, "B") != 1;

    close_space(a);
    close_space(b);
    return mixed;
}
