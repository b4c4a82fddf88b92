// SPDX-License-Identifier: BSD-2-Clause
// Numbers in TPM byte order (big endian), read and written one byte at a time, so that alignment
// and the byte order of the host never matter. Callers check lengths; nothing here does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace spaces::wire {

using Bytes = std::span<const uint8_t>;
using MutableBytes = std::span<uint8_t>;

inline uint16_t get16(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }

inline uint32_t get32(const uint8_t* at) {
    return uint32_t{at[0]} << 24 | uint32_t{at[1]} << 16 | uint32_t{at[2]} << 8 | at[3];
}

inline void put16(uint8_t* at, uint16_t value) {
    at[0] = static_cast<uint8_t>(value >> 8);
    at[1] = static_cast<uint8_t>(value);
}

inline void put32(uint8_t* at, uint32_t value) {
    put16(at, static_cast<uint16_t>(value >> 16));
    put16(at + 2, static_cast<uint16_t>(value));
}

}  // namespace spaces::wire
