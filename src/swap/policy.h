// SPDX-License-Identifier: BSD-2-Clause
// PLACEHOLDER (plain LRU) until the real policy is here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace spaces::swap {

class Policy {
  public:
    struct Use {
        uint64_t last = 0;
    };
    struct Candidate {
        const Use* use;
        unsigned cost;
    };
    void used(Use& use) { use.last = ++now_; }
    size_t victim(std::span<const Candidate> candidates) {
        size_t best = 0;
        for (size_t i = 1; i < candidates.size(); ++i)
            if (candidates[i].use->last < candidates[best].use->last) best = i;
        return best;
    }

  private:
    uint64_t now_ = 0;
};

}  // namespace spaces::swap
