// SPDX-License-Identifier: BSD-2-Clause
// The swapping layer as a whole against the simulator that its victim rule was judged by: the same
// traces, through the library's C functions, over a TPM with three slots of each kind.
// Always holds: no figure here depends on chance or time; each answer is checked by the replay, so
// what is counted is work that was done.
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <utility>

#include "bench/rules.h"
#include "bench/swapping_space.h"
#include "bench/traces.h"

namespace spaces::bench {
namespace {

constexpr unsigned kSlots = ModelTpm::kObjectSlots;
constexpr size_t kCommands = 5000;
static_assert(ModelTpm::kSessionSlots == kSlots);

/// `trace` on objects and `other` on sessions, in turn: neither may take slots from the other.
Trace interleaved(const Trace& trace, const Trace& other) {
    Trace both = trace;
    both.steps.clear();
    const auto offset = static_cast<int>(trace.items.size());
    both.items.insert(both.items.end(), other.items.begin(), other.items.end());
    for (size_t i = 0; i < trace.steps.size(); i++) {
        both.steps.push_back(trace.steps[i]);
        Step step = other.steps[i];
        step.item += offset;
        both.steps.push_back(step);
    }
    return both;
}

Trace traceNamed(const std::string& name) {
    for (Trace& trace : allTraces(1, kCommands))
        if (trace.name == name) return std::move(trace);
    throw std::invalid_argument("no trace is named " + name);
}

TEST(Replay, CostsWhatTheSimulatorSaysOnEveryTrace) {
    for (const Trace& trace : allTraces(1, kCommands)) {
        SCOPED_TRACE(trace.name);
        const double simulated = costOf<PolicyRule>(trace, kSlots);
        EXPECT_NEAR(static_cast<double>(replay(trace)), simulated, 0.05 * simulated);
    }
}

TEST(Replay, WhatFitsCostsNoCommandMore) {
    size_t fitting = 0;
    for (const Trace& trace : allTraces(1, kCommands)) {
        if (!peakOf(trace).fits(kSlots)) continue;
        SCOPED_TRACE(trace.name);
        ++fitting;
        EXPECT_EQ(replay(trace), trace.steps.size());
    }
    EXPECT_EQ(fitting, 7u);  // one to three objects or sessions, and load, use, flush in a space
}

TEST(Replay, ThreeObjectsAndThreeSessionsFitTogether) {
    const Trace both =
        interleaved(traceNamed("3 objects in turn"), traceNamed("3 sessions in turn"));
    ASSERT_EQ(both.steps.size(), 2 * kCommands);
    EXPECT_EQ(replay(both), both.steps.size());
}

}  // namespace
}  // namespace spaces::bench
