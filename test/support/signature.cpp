/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ECDSA signatures over libcrypto: see signature.h.
 */
#include "signature.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/params.h>

#include <stdexcept>

namespace spaces::test {

std::shared_ptr<EVP_PKEY> publicKey(const Bytes& publicArea) {
    Cursor cursor(publicArea);
    cursor.bytes(8);
    cursor.tpm2b();
    cursor.bytes(10);  // symmetric NULL, scheme and hash, curve, kdf NULL
    Bytes point{4};
    for (int coordinate = 0; coordinate < 2; ++coordinate) {
        const Bytes value = cursor.tpm2b();
        point.resize(point.size() + 32 - value.size());
        append(point, value);
    }
    char group[] = "P-256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()),
        OSSL_PARAM_construct_end()};
    const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(
        EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr), EVP_PKEY_CTX_free);
    EVP_PKEY* key = nullptr;
    if (!context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
        EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY,
                          const_cast<OSSL_PARAM*>(parameters)) != 1)
        throw std::runtime_error("libcrypto does not take the public key");
    return {key, EVP_PKEY_free};
}

Bytes derSignature(Cursor& cursor) {
    if (cursor.u16() != TPM2_ALG_ECDSA || cursor.u16() != TPM2_ALG_SHA256)
        throw std::runtime_error("a signature of another kind");
    const Bytes r = cursor.tpm2b(), s = cursor.tpm2b();
    const std::unique_ptr<ECDSA_SIG, decltype(&ECDSA_SIG_free)> signature(ECDSA_SIG_new(),
                                                                          ECDSA_SIG_free);
    ECDSA_SIG_set0(signature.get(), BN_bin2bn(r.data(), static_cast<int>(r.size()), nullptr),
                   BN_bin2bn(s.data(), static_cast<int>(s.size()), nullptr));
    Bytes der(static_cast<size_t>(i2d_ECDSA_SIG(signature.get(), nullptr)));
    uint8_t* end = der.data();
    i2d_ECDSA_SIG(signature.get(), &end);
    return der;
}

void verify(EVP_PKEY* key, const Bytes& digest, const Bytes& signature) {
    const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(
        EVP_PKEY_CTX_new(key, nullptr), EVP_PKEY_CTX_free);
    if (!context || EVP_PKEY_verify_init(context.get()) != 1 ||
        EVP_PKEY_verify(context.get(), signature.data(), signature.size(), digest.data(),
                        digest.size()) != 1)
        throw std::runtime_error("libcrypto rejects the signature");
}

}  // namespace spaces::test
