// SPDX-License-Identifier: BSD-2-Clause
// The victim rule of swapping: how it judges single items, and what it makes of whole traces.
// Always holds: no figure here depends on chance or time, so a failure can be repeated.
#include "swap/policy.h"

#include <gtest/gtest.h>

#include <array>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "bench/rules.h"
#include "bench/traces.h"

namespace spaces::swap {
namespace {

using bench::Trace;
using Use = Policy::Use;

constexpr unsigned kSlots = 3;
constexpr size_t kCommands = 5000;

Trace traceNamed(const std::string& name) {
    for (Trace& trace : bench::allTraces(1, kCommands))
        if (trace.name == name) return std::move(trace);
    ADD_FAILURE() << "no trace is named " << name;
    return {};
}

/// One trace after the other: everything of the first is flushed, the second has its own items.
Trace joined(Trace first, const Trace& second) {
    auto offset = static_cast<int>(first.items.size());
    for (int item = 0; item < offset; item++) first.steps.push_back({bench::Act::Flush, item});
    first.items.insert(first.items.end(), second.items.begin(), second.items.end());
    for (bench::Step step : second.steps) {
        step.item += offset;
        if (step.second != bench::kNone) step.second += offset;
        first.steps.push_back(step);
    }
    return first;
}

/// The index of the one that leaves, all at the price of a clean object.
size_t victimOf(Policy& policy, std::initializer_list<const Use*> uses) {
    std::vector<Policy::Candidate> candidates;
    for (const Use* use : uses) candidates.push_back({use, 2});
    return policy.victim(candidates);
}

/// Five items of which one is used in every other use, by a fixed but irregular pattern.
struct HotAndCold {
    Policy policy;
    Use hot;
    std::array<Use, 4> cold;

    HotAndCold() {
        for (int i = 0; i < 200; i++) {
            if (i % 3 != 2) policy.used(hot);
            policy.used(cold[(i * 7 / 3) % 4]);
        }
    }
};

TEST(Policy, WithoutAHabitTheLeastRecentlyUsedLeaves) {
    Policy policy;
    Use first, second, third;
    policy.used(second);
    policy.used(first);
    policy.used(third);
    EXPECT_EQ(victimOf(policy, {&first, &second, &third}), 1u);
}

TEST(Policy, AmongItemsUsedInTurnTheOneJustUsedLeaves) {
    Policy policy;
    std::array<Use, 4> items;
    for (int i = 0; i < 40; i++) policy.used(items[i % 4]);
    EXPECT_EQ(victimOf(policy, {&items[1], &items[3], &items[2]}), 1u);
}

TEST(Policy, AnOftenUsedItemOutlastsOneThatWasJustUsed) {
    HotAndCold items;
    items.policy.used(items.hot);
    items.policy.used(items.cold[0]);
    EXPECT_EQ(victimOf(items.policy, {&items.hot, &items.cold[0]}), 1u);
}

TEST(Policy, AnItemLongOverdueIsGivenUp) {
    HotAndCold items;
    for (int i = 0; i < 100; i++) items.policy.used(items.cold[i % 4]);
    EXPECT_EQ(victimOf(items.policy, {&items.cold[3], &items.hot}), 1u);
}

TEST(Policy, OneLongRestDoesNotSpoilAHabit) {
    HotAndCold items;
    for (int i = 0; i < 3000; i++) items.policy.used(items.cold[i % 4]);
    for (int i = 0; i < 30; i++) items.policy.used(i % 3 ? items.hot : items.cold[i % 4]);
    EXPECT_EQ(victimOf(items.policy, {&items.hot, &items.cold[3]}), 1u);
}

// The just used one would leave, but for its price.
TEST(Policy, AmongEqualHabitsTheCheaperLeaves) {
    Policy policy;
    std::array<Use, 6> items;
    for (int i = 0; i < 60; i++) policy.used(items[i % 6]);
    EXPECT_EQ(victimOf(policy, {&items[5], &items[4]}), 0u);
    EXPECT_EQ(policy.victim(std::array<Policy::Candidate, 2>{{{&items[5], 3}, {&items[4], 2}}}),
              1u);
}

TEST(Policy, TheChoiceDoesNotDependOnWhereItemsAre) {
    Trace trace = traceNamed("16 objects, Zipf");
    Trace turned = trace;
    auto last = static_cast<int>(trace.items.size()) - 1;
    for (bench::Step& step : turned.steps) step.item = last - step.item;
    EXPECT_EQ(bench::costOf<bench::PolicyRule>(trace, kSlots),
              bench::costOf<bench::PolicyRule>(turned, kSlots));
}

// One interval alone says little: a habit is a mean of many.
TEST(Policy, OfItemsUsedAtRandomTheMostUsedStay) {
    Trace trace = traceNamed("16 objects, Zipf");
    EXPECT_LE(bench::costOf<bench::PolicyRule>(trace, kSlots), 1.1 * bench::optimum(trace, kSlots));
}

// Foreseeing alone pays some 9 % more than least recently used here.
TEST(Policy, LeastRecentlyUsedDecidesWhereItForeseesBetter) {
    Trace trace = traceNamed("recency, 70 % go deeper");
    EXPECT_LE(bench::costOf<bench::PolicyRule>(trace, kSlots),
              1.01 * bench::costOf<bench::LeastRecentlyUsed>(trace, kSlots));
}

// Neither what it won long ago nor a bet on the dead keeps it from learning that it now loses; at
// one of these ends a bet is open.
TEST(Policy, AChangeOfHabitIsSeenSoon) {
    Trace before = traceNamed("4 objects in turn");
    Trace after = traceNamed("recency, 70 % go deeper");
    double recent = bench::costOf<bench::LeastRecentlyUsed>(after, kSlots);
    for (int end = 0; end < 4; end++, before.steps.pop_back()) {
        Trace both = joined(before, after);
        EXPECT_LE(bench::costOf<bench::PolicyRule>(both, kSlots) -
                      bench::costOf<bench::PolicyRule>(before, kSlots),
                  1.02 * recent);
    }
}

// No more than fits: no move at all. Else at most 1.2 times the optimum, unless there is nothing
// to foresee, and never 5 % more than least recently used.
TEST(Policy, ComesNearTheOptimumOnEveryTrace) {
    for (const Trace& trace : bench::allTraces(1, kCommands)) {
        SCOPED_TRACE(trace.name);
        double ours = bench::costOf<bench::PolicyRule>(trace, kSlots);
        double best = bench::optimum(trace, kSlots);
        EXPECT_GE(ours, best);
        if (trace.items.size() <= kSlots) {
            EXPECT_EQ(ours, trace.steps.size());
        }
        if (!trace.alike) {
            EXPECT_LE(ours, 1.2 * best);
        }
        EXPECT_LE(ours, 1.05 * bench::costOf<bench::LeastRecentlyUsed>(trace, kSlots));
    }
}

// Over n sessions in turn, k slots keep k - 1 of the n - 1 others until they are needed again.
TEST(Optimum, IsTheKnownOneForItemsInTurn) {
    for (double n : {4, 5, 8, 16}) {
        Trace trace = traceNamed(std::to_string(static_cast<int>(n)) + " sessions in turn");
        EXPECT_NEAR(bench::optimum(trace, kSlots) / kCommands, 1 + 2 * (n - 3) / (n - 1), 0.01);
    }
}

}  // namespace
}  // namespace spaces::swap
