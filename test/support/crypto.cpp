/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Bytes in hexadecimal, and the client's cryptography.  A failing primitive throws: a test must
 * never go on with a key or an HMAC that was not computed.
 */
#include "crypto.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <cstdio>
#include <memory>
#include <stdexcept>

namespace spaces::test {

std::string hex(const Bytes &data) {
    std::string text;
    for (uint8_t byte : data) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    return text;
}

std::string hex(uint32_t value) {
    char text[16];
    snprintf(text, sizeof text, "0x%x", static_cast<unsigned>(value));
    return text;
}

Bytes sha256(const Bytes &data) {
    Bytes digest(SHA256_DIGEST_LENGTH);
    if (SHA256(data.data(), data.size(), digest.data()) == nullptr)
        throw std::runtime_error("SHA256 failed");
    return digest;
}

Bytes hmacSha256(const Bytes &key, const Bytes &data) {
    static const uint8_t none = 0;  // libcrypto takes a null key for "the key of before"
    Bytes mac(SHA256_DIGEST_LENGTH);
    unsigned size = 0;
    if (HMAC(EVP_sha256(), key.empty() ? &none : key.data(), static_cast<int>(key.size()),
             data.data(), data.size(), mac.data(), &size) == nullptr)
        throw std::runtime_error("HMAC failed");
    return mac;
}

Bytes kdfa(const Bytes &key, const std::string &label, const Bytes &contextU, const Bytes &contextV,
           uint32_t bits) {
    Bytes result;
    for (uint32_t counter = 1; result.size() < bits / 8; counter++) {
        Bytes input;
        append(input, counter, 4);
        append(input, bytes(label));
        input.push_back(0);
        append(input, contextU);
        append(input, contextV);
        append(input, bits, 4);
        append(result, hmacSha256(key, input));
    }
    result.resize(bits / 8);
    return result;
}

Bytes aesCfb(const Bytes &key, const Bytes &iv, const Bytes &data, bool encrypt) {
    std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(),
                                                                            EVP_CIPHER_CTX_free);
    Bytes result(data.size() + 16);
    int size = 0;
    if (!context ||
        !EVP_CipherInit_ex(context.get(), EVP_aes_128_cfb128(), nullptr, key.data(), iv.data(),
                           encrypt) ||
        !EVP_CipherUpdate(context.get(), result.data(), &size, data.data(),
                          static_cast<int>(data.size())))
        throw std::runtime_error("AES-CFB failed");
    result.resize(static_cast<size_t>(size));
    return result;
}

Bytes randomBytes(size_t count) {
    Bytes result(count);
    if (RAND_bytes(result.data(), static_cast<int>(count)) != 1)
        throw std::runtime_error("RAND_bytes failed");
    return result;
}

}  // namespace spaces::test
