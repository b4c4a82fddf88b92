/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The few primitives a TPM client needs, over libcrypto.  SHA-256 is the only hash of the test
 * support: every session and every Name it makes uses it.
 */
#ifndef SPACES_TEST_SUPPORT_CRYPTO_H
#define SPACES_TEST_SUPPORT_CRYPTO_H

#include "bytes.h"

namespace spaces::test {

Bytes sha256(const Bytes& data);
Bytes hmacSha256(const Bytes& key, const Bytes& data);

/** KDFa of TPM 2.0 Part 1; `bits` is a multiple of 8. */
Bytes kdfa(const Bytes& key, const std::string& label, const Bytes& contextU, const Bytes& contextV,
           uint32_t bits);

/** AES-128-CFB with a 16-byte key and IV. */
Bytes aesCfb(const Bytes& key, const Bytes& iv, const Bytes& data, bool encrypt);

Bytes randomBytes(size_t count);

/** The generator of NIST P-256: a public key to be had without any computing. */
Bytes p256GeneratorX();
Bytes p256GeneratorY();

}  // namespace spaces::test

#endif
