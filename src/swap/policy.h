// SPDX-License-Identifier: BSD-2-Clause
// Who leaves when a slot of the TPM is needed: the victim rule of swapping, for one kind of slot
// (objects and sessions have a Policy each).
//
// The best victim is the one that is needed again last. Each item's next use is foreseen from its
// own habit, the mean of its intervals between uses and the mean deviation from it: an item used
// in strict turn is due one interval after its last use, one used at random is always a whole
// interval away, one used in bursts moves away as it rests, and one that is overdue is given up
// little by little. Where that and "least recently used" name different victims, the two have a
// bet: whose victim is used again first was wrong. As long as the foreseeing loses more bets than
// it wins, least recently used decides.
//
// Always holds: the choice is a function of the uses so far alone (no clock, no chance, no
// addresses); a use costs O(1), a choice O(candidates), nothing is allocated; a Policy keeps no
// pointer to an item, so an item may die or move at any time without a word.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace spaces::swap {

class Policy {
  public:
    /// What is known of one item's habit. The caller keeps it as long as the item lives, also
    /// while it is swapped out. Times are counted in uses, intervals in sixteenths of a use.
    class Use {
        friend Policy;
        uint64_t last_ = 0;
        uint32_t interval_ = 0;
        uint32_t deviation_ = 0;
    };

    /// A resident that may leave; cost is the number of TPM commands to let it leave and bring it
    /// back: 3 for a sequence, 2 for any other object and for a session. A first save does not
    /// count: it is paid once in a life, whenever that is.
    struct Candidate {
        const Use* use;
        unsigned cost;
    };

    /// The item was created, or a successful command named it.
    void used(Use& use);

    /// The index of the one that should leave; there must be a candidate.
    size_t victim(std::span<const Candidate> candidates);

  private:
    /// The last uses of the two victims named, which no two items share; 0 is no item's.
    struct Bet {
        uint64_t foreseen = 0;
        uint64_t least_recent = 0;
        uint64_t made = 0;
    };

    uint64_t ageOf(const Use& use) const;
    uint64_t remaining(const Use& use) const;
    bool needsLater(const Candidate& one, const Candidate& other) const;
    void settle(const Use& use);

    uint64_t now_ = 0;
    Bet bet_;
    int lost_ = 0;  // bets lost by the foreseeing, less those it won
};

static_assert(sizeof(Policy::Use) <= 32);

}  // namespace spaces::swap
