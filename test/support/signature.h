/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Verifying what a key from the template eccSigning() signed.  Whatever is not as it should be
 * throws.
 */
#ifndef SPACES_TEST_SUPPORT_SIGNATURE_H
#define SPACES_TEST_SUPPORT_SIGNATURE_H

#include <openssl/evp.h>

#include <memory>

#include "bytes.h"
#include "response.h"

namespace spaces::test {

/** The P-256 key of a TPMT_PUBLIC that eccSigning() is the template of. */
std::shared_ptr<EVP_PKEY> publicKey(const Bytes& publicArea);

/** Reads a TPMT_SIGNATURE by ECDSA; returns it as DER. */
Bytes derSignature(Cursor& cursor);

void verify(EVP_PKEY* key, const Bytes& digest, const Bytes& signature);

}  // namespace spaces::test

#endif
