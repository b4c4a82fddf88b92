// SPDX-License-Identifier: BSD-2-Clause
// operator new of a whole test program (counted_new.cpp): counted where the test says so, and made
// to fail. Without that file it is the usual one, and nothing is counted.
//
//     Counting counting(3);                      // the third one fails
//     ... what is tested ...
//     EXPECT_TRUE(counting.failed());
#pragma once

#include <cstddef>

namespace spaces::test {

struct Allocations {
    static inline bool counted = false;
    static inline size_t count = 0;
    static inline size_t failAt = 0;           // counted from 1; 0: none
    static inline bool failFromThen = false;   // and all after it
    static inline bool (*exempt)() = nullptr;  // true while what is allocated is not the library's

    static bool failed() { return failAt != 0 && count >= failAt; }
};

/// Counts allocations from its beginning to its end, and lets one fail, or all from that one on.
class Counting {
  public:
    explicit Counting(size_t failing = 0, bool fromThen = false) {
        Allocations::count = 0;
        Allocations::failAt = failing;
        Allocations::failFromThen = fromThen;
        Allocations::counted = true;
    }
    ~Counting() {
        Allocations::counted = false;
        Allocations::failAt = 0;
    }
    Counting(const Counting&) = delete;
    Counting& operator=(const Counting&) = delete;

    bool failed() const { return Allocations::failed(); }
};

/// Goes on counting, for as long as it lives.
class Counted {
  public:
    Counted() { Allocations::counted = true; }
    ~Counted() { Allocations::counted = false; }
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;
};

}  // namespace spaces::test
