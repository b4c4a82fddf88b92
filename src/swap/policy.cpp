// SPDX-License-Identifier: BSD-2-Clause
// The victim rule of swapping; see policy.h.
// Always holds: an age or an interval is at most kLongest, so no product here overflows.
#include "swap/policy.h"

#include <algorithm>

namespace spaces::swap {
namespace {

constexpr uint64_t kFraction = 16;  // of a use, the unit of intervals
constexpr uint64_t kLongest = (uint64_t{1} << 24) * kFraction;
constexpr int64_t kGain = 8;        // a new interval counts for an eighth
constexpr uint64_t kOutlier = 4;    // and for at most so many mean ones
constexpr uint64_t kBetLasts = 64;  // uses; then both may well be dead
constexpr int kMostLost = 16;       // so that a change of habit is soon seen

/// A step of an eighth of the way to the new value.
uint32_t towards(uint32_t mean, uint64_t value) {
    int64_t step = (static_cast<int64_t>(value) - mean) / kGain;
    return static_cast<uint32_t>(mean + step);
}

}  // namespace

uint64_t Policy::ageOf(const Use& use) const {
    return std::min((now_ + 1 - use.last_) * kFraction, kLongest);
}

void Policy::used(Use& use) {
    settle(use);
    if (use.last_ != 0) {
        uint64_t interval = ageOf(use);
        if (use.interval_ == 0) {
            use.interval_ = static_cast<uint32_t>(interval);
            use.deviation_ = use.interval_ / 2;
        } else {
            interval = std::min(interval, kOutlier * use.interval_);
            uint64_t deviation = std::max<uint64_t>(interval, use.interval_) -
                                 std::min<uint64_t>(interval, use.interval_);
            use.interval_ = towards(use.interval_, interval);
            use.deviation_ = towards(use.deviation_, deviation);
        }
    }
    use.last_ = ++now_;
}

/// How long until the next use. With r = deviation / interval, 0 for an item used in turn and
/// about 1 for one used at random: interval - (1 - r) age. An item may be dead, the more likely
/// the longer it rests, so it is never foreseen sooner than half its age.
uint64_t Policy::remaining(const Use& use) const {
    uint64_t age = ageOf(use);
    if (use.interval_ == 0) return age;
    uint64_t later = use.interval_ + age * use.deviation_ / use.interval_;
    return std::max(later > age ? later - age : 0, age / 2);
}

/// More uses to come without it for each TPM command that its leaving costs.
bool Policy::needsLater(const Candidate& one, const Candidate& other) const {
    return remaining(*one.use) * other.cost > remaining(*other.use) * one.cost;
}

size_t Policy::victim(std::span<const Candidate> candidates) {
    size_t foreseen = 0, least_recent = 0;
    for (size_t i = 1; i < candidates.size(); i++) {
        if (needsLater(candidates[i], candidates[foreseen])) foreseen = i;
        if (candidates[i].use->last_ < candidates[least_recent].use->last_) least_recent = i;
    }
    bool open = bet_.made != 0 && now_ - bet_.made <= kBetLasts;
    if (foreseen != least_recent && !open)
        bet_ = {candidates[foreseen].use->last_, candidates[least_recent].use->last_, now_};
    return lost_ > 0 ? least_recent : foreseen;
}

/// The one of the two victims that is used first should have stayed.
void Policy::settle(const Use& use) {
    if (bet_.made == 0 || use.last_ == 0) return;
    if (use.last_ == bet_.foreseen)
        lost_ = std::min(lost_ + 1, kMostLost);
    else if (use.last_ == bet_.least_recent)
        lost_ = std::max(lost_ - 1, -kMostLost);
    else
        return;
    bet_ = {};
}

}  // namespace spaces::swap
