// SPDX-License-Identifier: BSD-2-Clause
// How many slots of one kind the TPM has for us, learned from its answers alone.
// Always holds: what never failed is believed to have room, so nothing is moved before the TPM has
// once said that it is full; a limit of the user's is never exceeded for convenience.
#pragma once

#include <algorithm>
#include <limits>

namespace spaces::swap {

class Slots {
  public:
    static constexpr unsigned kUnlimited = std::numeric_limits<unsigned>::max();

    explicit Slots(unsigned limit = kUnlimited) : limit_(limit), believed_(limit) {}

    bool roomFor(size_t used, size_t more) const {
        return used + more <= std::min(believed_, wanted_);
    }

    /// For now it is not worth while to use more.
    void want(unsigned count) { wanted_ = count; }

    /// So many were in use at once.
    void worked(size_t used) {
        if (used < believed_) return;
        believed_ = std::min(static_cast<unsigned>(used), limit_);
        if (trying_) interval_ = kShortest;
        trying_ = false;
    }

    /// The TPM had no room for `more` beside `used`.
    void failed(size_t used, size_t more) {
        if (more == 0) return;
        believed_ = std::min(believed_, static_cast<unsigned>(used + more - 1));
        if (trying_) interval_ = std::min(interval_ * 2, kLongest);
        trying_ = false;
    }

    /// Something had to leave. Slots that others have taken may be free again: from time to time
    /// one more is tried, the less often the more often in vain.
    void evicted() {
        if (believed_ >= limit_ || ++evictions_ < interval_) return;
        evictions_ = 0;
        ++believed_;
        trying_ = true;
    }

    /// There is room as on the first day: others were flushed, or the TPM was restarted.
    void reset() { *this = Slots(limit_); }

  private:
    static constexpr unsigned kShortest = 64, kLongest = 1024;  // evictions

    unsigned limit_;
    unsigned believed_;
    unsigned wanted_ = kUnlimited;
    unsigned evictions_ = 0;
    unsigned interval_ = kShortest;
    bool trying_ = false;
};

}  // namespace spaces::swap
