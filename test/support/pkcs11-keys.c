/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Many keys of a PKCS #11 token in one process, as a server with several identities has them: makes
 * five of RSA and two on an elliptic curve, and signs with all of them by turns, each in a session
 * of its own, so that all seven operations are under way at once.
 * Always holds: libcrypto verifies each signature with what the token says is the public key; exit
 * status 0 means that all were good.
 *
 *     pkcs11-keys MODULE LABEL PIN
 */

#define CRYPTOKI_COMPAT
#include <dlfcn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <p11-kit/pkcs11.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RSA_KEYS 5
#define KEYS 7
#define ROUNDS 3

struct key {
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE private_key;
    EVP_PKEY* public_key;
    int is_rsa;
};

static CK_FUNCTION_LIST* token;
static CK_BBOOL yes = CK_TRUE;

static void fail(const char* what) {
    fprintf(stderr, "%s\n", what);
    token->C_Finalize(NULL);
    exit(1);
}

static void check(CK_RV result, const char* what) {
    char text[100];
    if (result == CKR_OK) return;
    snprintf(text, sizeof text, "%s: 0x%lx", what, (unsigned long)result);
    fail(text);
}

static CK_SLOT_ID find_slot(const char* label) {
    CK_SLOT_ID slots[16];
    CK_ULONG count = 16, i;

    check(token->C_GetSlotList(CK_TRUE, slots, &count), "C_GetSlotList");
    for (i = 0; i < count; i++) {
        CK_TOKEN_INFO info;
        check(token->C_GetTokenInfo(slots[i], &info), "C_GetTokenInfo");
        if (strncmp((char*)info.label, label, strlen(label)) == 0) return slots[i];
    }
    fail("no such token");
    return 0;
}

static CK_ATTRIBUTE attribute(const struct key* key, CK_OBJECT_HANDLE object,
                              CK_ATTRIBUTE_TYPE type, unsigned char* buffer, size_t size) {
    CK_ATTRIBUTE wanted = {type, buffer, size};
    check(token->C_GetAttributeValue(key->session, object, &wanted, 1), "C_GetAttributeValue");
    return wanted;
}

/* What the token says of the public key, in the parameters that libcrypto takes. */
static void describe(const struct key* key, CK_OBJECT_HANDLE object, OSSL_PARAM_BLD* builder) {
    static unsigned char first[600], second[600]; /* the builder refers to them */
    static BIGNUM *modulus, *exponent;
    CK_ATTRIBUTE value;

    if (!key->is_rsa) {
        value = attribute(key, object, CKA_EC_POINT, first, sizeof first);
        /* A DER OCTET STRING of 65 bytes. */
        OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0);
        OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, first + 2,
                                         value.ulValueLen - 2);
        return;
    }
    value = attribute(key, object, CKA_MODULUS, first, sizeof first);
    modulus = BN_bin2bn(first, (int)value.ulValueLen, modulus);
    value = attribute(key, object, CKA_PUBLIC_EXPONENT, second, sizeof second);
    exponent = BN_bin2bn(second, (int)value.ulValueLen, exponent);
    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, modulus);
    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, exponent);
}

static void take_public_key(struct key* key, CK_OBJECT_HANDLE object) {
    EVP_PKEY_CTX* context = EVP_PKEY_CTX_new_from_name(NULL, key->is_rsa ? "RSA" : "EC", NULL);
    OSSL_PARAM_BLD* builder = OSSL_PARAM_BLD_new();
    OSSL_PARAM* parameters;

    describe(key, object, builder);
    parameters = OSSL_PARAM_BLD_to_param(builder);
    if (EVP_PKEY_fromdata_init(context) != 1 ||
        EVP_PKEY_fromdata(context, &key->public_key, EVP_PKEY_PUBLIC_KEY, parameters) != 1)
        fail("libcrypto does not take the public key");
    OSSL_PARAM_free(parameters);
    OSSL_PARAM_BLD_free(builder);
    EVP_PKEY_CTX_free(context);
}

static void generate(struct key* key, unsigned char id) {
    static unsigned char p256[] = {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7};
    static unsigned char exponent[] = {1, 0, 1};
    CK_ULONG bits = 2048;
    CK_MECHANISM mechanism = {key->is_rsa ? CKM_RSA_PKCS_KEY_PAIR_GEN : CKM_EC_KEY_PAIR_GEN, NULL,
                              0};
    CK_ATTRIBUTE rsa[] = {{CKA_ID, &id, 1},
                          {CKA_TOKEN, &yes, sizeof yes},
                          {CKA_VERIFY, &yes, sizeof yes},
                          {CKA_MODULUS_BITS, &bits, sizeof bits},
                          {CKA_PUBLIC_EXPONENT, exponent, sizeof exponent}};
    CK_ATTRIBUTE ec[] = {{CKA_ID, &id, 1},
                         {CKA_TOKEN, &yes, sizeof yes},
                         {CKA_VERIFY, &yes, sizeof yes},
                         {CKA_EC_PARAMS, p256, sizeof p256}};
    CK_ATTRIBUTE private_key[] = {{CKA_ID, &id, 1},
                                  {CKA_TOKEN, &yes, sizeof yes},
                                  {CKA_PRIVATE, &yes, sizeof yes},
                                  {CKA_SENSITIVE, &yes, sizeof yes},
                                  {CKA_SIGN, &yes, sizeof yes}};
    CK_OBJECT_HANDLE public_key;

    check(token->C_GenerateKeyPair(key->session, &mechanism, key->is_rsa ? rsa : ec,
                                   key->is_rsa ? 5 : 4, private_key, 5, &public_key,
                                   &key->private_key),
          "C_GenerateKeyPair");
    take_public_key(key, public_key);
}

static void begin(const struct key* key) {
    CK_MECHANISM mechanism = {key->is_rsa ? CKM_SHA256_RSA_PKCS : CKM_ECDSA, NULL, 0};
    check(token->C_SignInit(key->session, &mechanism, key->private_key), "C_SignInit");
}

/* PKCS #11 has r and s one after the other; libcrypto wants DER. */
static int to_der(const unsigned char* raw, CK_ULONG size, unsigned char* der) {
    ECDSA_SIG* signature = ECDSA_SIG_new();
    int length;

    ECDSA_SIG_set0(signature, BN_bin2bn(raw, (int)size / 2, NULL),
                   BN_bin2bn(raw + size / 2, (int)size / 2, NULL));
    length = i2d_ECDSA_SIG(signature, &der);
    ECDSA_SIG_free(signature);
    return length;
}

static void sign_and_verify(const struct key* key, int round, int which) {
    char message[64];
    const int length = snprintf(message, sizeof message, "%d of %d", round, which);
    unsigned char digest[32], signature[512], der[512];
    CK_ULONG size = sizeof signature;
    EVP_MD_CTX* context = EVP_MD_CTX_new();

    EVP_Digest(message, (size_t)length, digest, NULL, EVP_sha256(), NULL);
    check(token->C_Sign(key->session, key->is_rsa ? (CK_BYTE_PTR)message : digest,
                        key->is_rsa ? (CK_ULONG)length : sizeof digest, signature, &size),
          "C_Sign");
    if (!key->is_rsa) {
        size = (CK_ULONG)to_der(signature, size, der);
        memcpy(signature, der, size);
    }
    if (EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, key->public_key) != 1 ||
        EVP_DigestVerify(context, signature, size, (unsigned char*)message, (size_t)length) != 1)
        fail("libcrypto rejects the signature");
    EVP_MD_CTX_free(context);
}

int main(int argc, char** argv) {
    static struct key keys[KEYS];
    CK_C_GetFunctionList get_functions;
    CK_SLOT_ID slot;
    void* module;
    int i, round;

    module = argc == 4 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (module == NULL) {
        fprintf(stderr, "usage: %s MODULE LABEL PIN (%s)\n", argv[0], argc == 4 ? dlerror() : "");
        return 2;
    }
    *(void**)&get_functions = dlsym(module, "C_GetFunctionList");
    if (get_functions == NULL || get_functions(&token) != CKR_OK) return 2;

    check(token->C_Initialize(NULL), "C_Initialize");
    slot = find_slot(argv[2]);
    for (i = 0; i < KEYS; i++)
        check(token->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL,
                                   &keys[i].session),
              "C_OpenSession");
    check(token->C_Login(keys[0].session, CKU_USER, (CK_UTF8CHAR_PTR)argv[3], strlen(argv[3])),
          "C_Login");
    for (i = 0; i < KEYS; i++) {
        keys[i].is_rsa = i < RSA_KEYS;
        generate(&keys[i], (unsigned char)i);
    }
    for (round = 0; round < ROUNDS; round++) {
        for (i = 0; i < KEYS; i++) begin(&keys[i]);
        for (i = KEYS - 1; i >= 0; i--) sign_and_verify(&keys[i], round, i);
    }
    printf("%d signatures by %d keys\n", ROUNDS * KEYS, KEYS);
    for (i = 0; i < KEYS; i++) EVP_PKEY_free(keys[i].public_key);
    check(token->C_Finalize(NULL), "C_Finalize");
    return 0;
}
