// SPDX-License-Identifier: BSD-2-Clause
// What a fuzzer's octets are read as: one number after the other, and what to do when something
// does not hold.
// Always holds: reading behind the end gives zeros, and zero is everywhere the harmless choice, so
// any input means something and a shorter one means less.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

#include "support/bytes.h"
#include "wire/bytes.h"

namespace spaces::fuzz {

using test::Bytes;

/// Ends the program, in a way that the fuzzer keeps the input for.
[[noreturn]] inline void fail(const char* what, uint64_t value = 0) {
    fprintf(stderr, "does not hold: %s (0x%llx)\n", what, static_cast<unsigned long long>(value));
    abort();
}

/// `value` is printed if it does not hold.
inline void require(bool holds, const char* what, uint64_t value = 0) {
    if (!holds) fail(what, value);
}

class Input {
  public:
    explicit Input(std::span<const uint8_t> octets) : rest_(octets) {}

    bool atEnd() const { return rest_.empty(); }
    std::span<const uint8_t> rest() const { return rest_; }

    uint8_t u8() {
        const Bytes octets = take(1);
        return octets.empty() ? 0 : octets[0];
    }
    uint16_t u16() {
        const uint8_t high = u8();
        return static_cast<uint16_t>(high << 8 | u8());
    }
    uint32_t u32() {
        const uint32_t high = u16();
        return high << 16 | u16();
    }
    /// As many as there are, up to `count`.
    Bytes take(size_t count) {
        const auto front = rest_.first(std::min(count, rest_.size()));
        rest_ = rest_.subspan(front.size());
        return Bytes(front.begin(), front.end());
    }

  private:
    std::span<const uint8_t> rest_;
};

}  // namespace spaces::fuzz
