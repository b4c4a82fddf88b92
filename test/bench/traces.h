// SPDX-License-Identifier: BSD-2-Clause
// Traces of client commands for judging the victim rule of the swapping layer, what a rule makes
// of a trace, and what the best possible rule would have made of it.
// Always holds: a trace is a function of its seed alone; costs are TPM commands, counted as the
// swapping layer sends them; optimum() is never above what any rule can reach.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace spaces::bench {

/// An object is saved once in its life; a sequence changes with each use, so it is saved each time
/// it leaves; saving a session is its eviction.
enum class Kind : uint8_t { Object, Sequence, Session };

struct Item {
    Kind kind;
    unsigned space;
};

enum class Act : uint8_t { Create, Use, Flush };

constexpr int kNone = -1;

/// One client command: the item it creates, uses or flushes, and a second item that it names too.
struct Step {
    Act act;
    int item;
    int second = kNone;
};

struct Trace {
    std::string name;
    std::vector<Item> items;
    std::vector<Step> steps;
    /// Every living item is as likely to be next as any other: there is nothing to foresee, and
    /// all rules that do not know the future expect to pay the same.
    bool alike = false;
};

/// Every trace of the table, `commands` client commands each; random ones differ by the seed.
std::vector<Trace> allTraces(unsigned seed, size_t commands);

/// The most objects (sequences too) and sessions that live at a time.
struct Peak {
    size_t objects = 0;
    size_t sessions = 0;
    bool fits(size_t slots) const { return objects <= slots && sessions <= slots; }
};

/// Of all spaces together.
Peak peakOf(const Trace& trace);
/// Of whichever space has the most of a kind.
Peak peakOfOneSpace(const Trace& trace);

/// A resident that may leave, and the TPM commands that its leaving and coming back take, a first
/// save not counted.
struct Resident {
    int item;
    unsigned cost;
};

/// A rule as the simulator drives it. `used` is told of each successful use (the first one is the
/// creation), `victim` chooses an index into what may leave.
struct Rule {
    std::function<void(int item)> used;
    std::function<size_t(std::span<const Resident>)> victim;
};

/// TPM commands for the whole trace under a rule.
uint64_t simulate(const Trace& trace, unsigned slots, const Rule& rule);

/// TPM commands for the whole trace that no rule can go below, even one that knows the future.
double optimum(const Trace& trace, unsigned slots);

/// TPM commands for the whole trace by the ways of tpm2-abrmd and of the kernel's /dev/tpmrm0.
uint64_t costOfAbrmd(const Trace& trace);
uint64_t costOfKernel(const Trace& trace);

}  // namespace spaces::bench
