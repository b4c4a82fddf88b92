/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Many keys of the TPM in one process, as a server or a CMP client of OpenSSL has them: generates
 * some, loads others from files, keeps them all and signs with each in turn, several times.
 * Always holds: libcrypto's own provider, which knows no TPM, verifies each signature; exit status
 * 0 means that all were good.
 *
 *     openssl-keys COUNT FILE...      COUNT keys are generated, the files' keys are loaded
 */

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/store.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST_KEYS 32
#define ROUNDS 3

static OSSL_LIB_CTX* with_tpm;
static OSSL_LIB_CTX* without_tpm;
static OSSL_PROVIDER* providers[3];
static EVP_PKEY *keys[MOST_KEYS], *parts[MOST_KEYS];

/* The provider closes its TCTI only when nothing refers to it any more. */
static void close_all(void) {
    int i;

    for (i = 0; i < MOST_KEYS; i++) {
        EVP_PKEY_free(keys[i]);
        EVP_PKEY_free(parts[i]);
    }
    for (i = 0; i < 3; i++)
        if (providers[i] != NULL) OSSL_PROVIDER_unload(providers[i]);
    OSSL_LIB_CTX_free(with_tpm);
    OSSL_LIB_CTX_free(without_tpm);
}

static void fail(const char* what, int which) {
    fprintf(stderr, "%s, key %d\n", what, which);
    ERR_print_errors_fp(stderr);
    close_all();
    exit(1);
}

static EVP_PKEY* generate(int which) {
    EVP_PKEY* key = EVP_PKEY_Q_keygen(with_tpm, "provider=tpm2", "EC", "P-256");
    if (key == NULL) fail("generating", which);
    return key;
}

static EVP_PKEY* load(const char* file, int which) {
    EVP_PKEY* key = NULL;
    OSSL_STORE_CTX* store =
        OSSL_STORE_open_ex(file, with_tpm, "?provider=tpm2", NULL, NULL, NULL, NULL, NULL);
    while (store != NULL && key == NULL && !OSSL_STORE_eof(store)) {
        OSSL_STORE_INFO* info = OSSL_STORE_load(store);
        if (info != NULL) key = OSSL_STORE_INFO_get1_PKEY(info);
        OSSL_STORE_INFO_free(info);
    }
    OSSL_STORE_close(store);
    if (key == NULL) fail("loading", which);
    return key;
}

/* The same public key for those who know no TPM. */
static EVP_PKEY* public_part(EVP_PKEY* key, int which) {
    unsigned char* der = NULL;
    const unsigned char* at;
    EVP_PKEY* part;
    const int size = i2d_PUBKEY(key, &der);

    at = der;
    part = size > 0 ? d2i_PUBKEY_ex(NULL, &at, size, without_tpm, NULL) : NULL;
    if (part == NULL) fail("taking the public part", which);
    OPENSSL_free(der);
    return part;
}

static void sign_and_verify(EVP_PKEY* key, EVP_PKEY* part, int round, int which) {
    unsigned char signature[512];
    size_t size = sizeof signature;
    char message[64];
    const unsigned char* data = (const unsigned char*)message;
    const size_t length = (size_t)snprintf(message, sizeof message, "%d of %d", round, which);
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    int made, good;

    made = EVP_DigestSignInit_ex(context, NULL, "SHA256", with_tpm, "?provider=tpm2", key, NULL) ==
               1 &&
           EVP_DigestSign(context, signature, &size, data, length) == 1;
    EVP_MD_CTX_reset(context);
    good = made &&
           EVP_DigestVerifyInit_ex(context, NULL, "SHA256", without_tpm, NULL, part, NULL) == 1 &&
           EVP_DigestVerify(context, signature, size, data, length) == 1;
    EVP_MD_CTX_free(context);
    if (!good) fail(made ? "verifying" : "signing", which);
}

int main(int argc, char** argv) {
    const int generated = argc > 1 ? atoi(argv[1]) : 0;
    const int count = generated + argc - 2;
    int i, round;

    if (argc < 2 || generated < 0 || count < 1 || count > MOST_KEYS) {
        fprintf(stderr, "usage: %s COUNT FILE...\n", argv[0]);
        return 2;
    }
    with_tpm = OSSL_LIB_CTX_new();
    without_tpm = OSSL_LIB_CTX_new();
    providers[0] = OSSL_PROVIDER_load(with_tpm, "tpm2");
    providers[1] = OSSL_PROVIDER_load(with_tpm, "default");
    providers[2] = OSSL_PROVIDER_load(without_tpm, "default");
    if (!providers[0] || !providers[1] || !providers[2]) fail("loading the providers", 0);

    for (i = 0; i < count; i++) {
        keys[i] = i < generated ? generate(i) : load(argv[2 + i - generated], i);
        parts[i] = public_part(keys[i], i);
    }
    for (round = 0; round < ROUNDS; round++)
        for (i = 0; i < count; i++) sign_and_verify(keys[i], parts[i], round, i);
    printf("%d signatures by %d keys\n", ROUNDS * count, count);

    close_all();
    return 0;
}
