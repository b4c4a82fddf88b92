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

std::string hex(const Bytes& data) {
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

Bytes sha256(const Bytes& data) {
    Bytes digest(SHA256_DIGEST_LENGTH);
    if (SHA256(data.data(), data.size(), digest.data()) == nullptr)
        throw std::runtime_error("SHA256 failed");
    return digest;
}

Bytes hmacSha256(const Bytes& key, const Bytes& data) {
    static const uint8_t none = 0;  // libcrypto takes a null key for "the key of before"
    Bytes mac(SHA256_DIGEST_LENGTH);
    unsigned size = 0;
    if (HMAC(EVP_sha256(), key.empty() ? &none : key.data(), static_cast<int>(key.size()),
             data.data(), data.size(), mac.data(), &size) == nullptr)
        throw std::runtime_error("HMAC failed");
    return mac;
}

Bytes kdfa(const Bytes& key, const std::string& label, const Bytes& contextU, const Bytes& contextV,
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

Bytes aesCfb(const Bytes& key, const Bytes& iv, const Bytes& data, bool encrypt) {
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

Bytes p256GeneratorX() {
    return {0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6,
            0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb,
            0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96};
}

Bytes p256GeneratorY() {
    return {0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb,
            0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31,
            0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5};
}

}  // namespace spaces::test
