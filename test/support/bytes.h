/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Byte strings as every part of the test support passes them around.  Integers are always written
 * big-endian, as the TPM wants them; the one place that does so is here.
 */
#ifndef SPACES_TEST_SUPPORT_BYTES_H
#define SPACES_TEST_SUPPORT_BYTES_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace spaces::test {

using Bytes = std::vector<uint8_t>;

/** Appends the low `width` bytes of `value`, most significant first. */
inline void append(Bytes& to, uint64_t value, int width) {
    for (int shift = 8 * (width - 1); shift >= 0; shift -= 8)
        to.push_back(static_cast<uint8_t>(value >> shift));
}

inline void append(Bytes& to, const Bytes& more) { to.insert(to.end(), more.begin(), more.end()); }

/** Appends a TPM2B: a 16-bit size, then the bytes. */
inline void appendTpm2b(Bytes& to, const Bytes& buffer) {
    append(to, buffer.size(), 2);
    append(to, buffer);
}

/** The characters of `text` as bytes. */
inline Bytes bytes(const std::string& text) { return Bytes(text.begin(), text.end()); }

/** "80010000000a..." for messages. */
std::string hex(const Bytes& data);

/** "0x184" for messages. */
std::string hex(uint32_t value);

}  // namespace spaces::test

#endif
