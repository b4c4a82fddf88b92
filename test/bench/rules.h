// SPDX-License-Identifier: BSD-2-Clause
// The library's victim rule and plain least recently used, as the simulator of traces.h drives
// them.
// Always holds: a rule starts knowing nothing; its Rule must not outlive it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bench/traces.h"
#include "swap/policy.h"

namespace spaces::bench {

class PolicyRule {
  public:
    explicit PolicyRule(const Trace& trace) : uses_(trace.items.size()) {}

    Rule rule() {
        return {[this](int item) { policy_.used(uses_[item]); },
                [this](std::span<const Resident> residents) {
                    std::vector<swap::Policy::Candidate> candidates;
                    for (auto [item, cost] : residents) candidates.push_back({&uses_[item], cost});
                    return policy_.victim(candidates);
                }};
    }

  private:
    swap::Policy policy_;
    std::vector<swap::Policy::Use> uses_;
};

class LeastRecentlyUsed {
  public:
    explicit LeastRecentlyUsed(const Trace& trace) : last_(trace.items.size()) {}

    Rule rule() {
        return {[this](int item) { last_[item] = ++now_; },
                [this](std::span<const Resident> residents) {
                    size_t oldest = 0;
                    for (size_t i = 1; i < residents.size(); i++)
                        if (last_[residents[i].item] < last_[residents[oldest].item]) oldest = i;
                    return oldest;
                }};
    }

  private:
    uint64_t now_ = 0;
    std::vector<uint64_t> last_;
};

/// TPM commands for the whole trace under a fresh rule of that type.
template <class Type>
double costOf(const Trace& trace, unsigned slots) {
    Type type(trace);
    return static_cast<double>(simulate(trace, slots, type.rule()));
}

}  // namespace spaces::bench
