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
        const auto count = static_cast<unsigned>(used);
        proven_ = std::max(proven_, count);
        believed_ = std::max(believed_, std::min(count, limit_));
    }

    /// The TPM had no room for `more` beside `used`.
    void failed(size_t used, size_t more) {
        if (more == 0) return;
        believed_ = std::min(believed_, static_cast<unsigned>(used + more - 1));
    }

    /// Something had to leave. Slots that were once there may have been taken by others and be
    /// free again: from time to time one is tried.
    void evicted() {
        constexpr unsigned kTryEvery = 64;
        if (believed_ < std::min(proven_, limit_) && ++evictions_ % kTryEvery == 0) ++believed_;
    }

  private:
    unsigned limit_;
    unsigned believed_;
    unsigned wanted_ = kUnlimited;
    unsigned proven_ = 0;
    unsigned evictions_ = 0;
};

}  // namespace spaces::swap
