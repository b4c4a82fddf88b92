// SPDX-License-Identifier: BSD-2-Clause
// What swapping costs: TPM commands on the traces of traces.h beside what others pay, the library's
// own work for a command as spaces and what they hold grow, and memory.
//
//     swapping.bench [Google Benchmark's options]
//     swapping.bench --run NAME COUNT      COUNT commands and nothing else, for a profiler
//     swapping.bench --traces [COMMANDS]   the table of TPM commands (20000 client commands each)
//     swapping.bench --memory              octets for an object that is swapped out
//
// NAME is THING:N/hit or THING:N/miss: a command that uses something that is in the TPM, or that
// has to be brought back first, in one space with N objects or N sessions, or with N spaces that
// have an object each.
//
// Always holds: the TPM is a ModelTpm, and every answer is checked. Figures that do not depend on
// the machine have limits, and the program fails beyond them: a trace that costs 5 % more or less
// than simulated, one that fits and costs a command more, an object that takes more than 200 octets
// beside its context. Times have none.
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bench/rules.h"
#include "bench/swapping_space.h"
#include "bench/traces.h"

namespace spaces::bench {
namespace {

constexpr unsigned kSlots = ModelTpm::kObjectSlots;

// ---- TPM commands -------------------------------------------------------------------------------

/// A line of the table; false if the library's figure is not what it should be. What does not fit
/// fails on a TPM alone, more than three of a kind in one space fail with the kernel, and more than
/// 28 objects or 4 sessions with tpm2-abrmd as it comes.
bool printTrace(const Trace& trace) {
    const auto steps = static_cast<double>(trace.steps.size());
    const auto library = static_cast<double>(replay(trace));
    const double simulated = costOf<PolicyRule>(trace, kSlots);
    const bool fits = peakOf(trace).fits(kSlots);
    const Peak one = peakOfOneSpace(trace);
    const auto print = [&](double commands, bool possible = true) {
        std::printf(possible ? " %.2f |" : " fails |", commands / steps);
    };
    std::printf("| %s |", trace.name.c_str());
    print(steps, fits);
    print(optimum(trace, kSlots));
    print(library);
    print(simulated);
    print(costOf<LeastRecentlyUsed>(trace, kSlots));
    print(static_cast<double>(costOfAbrmd(trace)), one.objects <= 28 && one.sessions <= 4);
    print(static_cast<double>(costOfKernel(trace)), one.fits(kSlots));
    std::puts("");
    const bool asSimulated = library <= 1.05 * simulated && library >= 0.95 * simulated;
    if (!asSimulated)
        std::fprintf(stderr, "swapping.bench: %s: not as simulated\n", trace.name.c_str());
    if (fits && library != steps)
        std::fprintf(stderr, "swapping.bench: %s: fits, but costs more\n", trace.name.c_str());
    return asSimulated && (!fits || library == steps);
}

int printTraces(size_t commands) {
    std::puts("| trace | bare | optimum | this library | simulated | LRU | abrmd | kernel |");
    std::puts("|---|---|---|---|---|---|---|---|");
    bool good = true;
    for (const Trace& trace : allTraces(1, commands)) good &= printTrace(trace);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

// ---- Memory -------------------------------------------------------------------------------------

/// What the C library has taken for what is in use, its own words included.
size_t inUse() {
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/// The tables grow in steps, so the figure is the worst on the way from 1,000 objects to 10,000.
int printMemory() {
    constexpr size_t kObjects = 10000, kFrom = 1000, kLimit = 200;
    constexpr size_t kContext = ModelTpm::kContextHead + ModelTpm::kObjectBlob;
    ModelTpm tpm;
    SwappingSpace space(tpm);
    const size_t before = inUse();
    size_t worst = 0, at = 0, average = 0;
    for (size_t count = 1; count <= kObjects; count++) {
        space.make(Kind::Object);
        if (count < kFrom) continue;
        const size_t out = count - kSlots;
        average = (inUse() - before - out * kContext) / out;
        if (average > worst) {
            worst = average;
            at = count;
        }
    }
    std::printf(
        "An object that is swapped out takes %zu octets beside its context with %zu objects, "
        "%zu at most (with %zu, of %zu and more).\n",
        average, kObjects, worst, at, kFrom);
    if (worst <= kLimit) return EXIT_SUCCESS;
    std::fprintf(stderr, "swapping.bench: more than %zu octets\n", kLimit);
    return EXIT_FAILURE;
}

// ---- The library's own work ---------------------------------------------------------------------

enum class Of { Objects, Spaces, Sessions };

struct Scale {
    const char* name;
    Of of;
    size_t count;
};

constexpr Scale kScales[] = {
    {"objects", Of::Objects, 10}, {"objects", Of::Objects, 10000}, {"spaces", Of::Spaces, 10},
    {"spaces", Of::Spaces, 1000}, {"sessions", Of::Sessions, 10},  {"sessions", Of::Sessions, 64},
};

std::string nameOf(const Scale& scale, bool misses) {
    return std::string(scale.name) + ":" + std::to_string(scale.count) +
           (misses ? "/miss" : "/hit");
}

/// Everything that one measurement needs, ready to go.
class Setting {
  public:
    Setting(const Scale& scale, bool misses) : misses_(misses) {
        const size_t spaces = scale.of == Of::Spaces ? scale.count : 1;
        const Kind kind = scale.of == Of::Sessions ? Kind::Session : Kind::Object;
        for (size_t i = 0; i < spaces; i++)
            spaces_.push_back(std::make_unique<SwappingSpace>(tpm_));
        for (size_t i = 0; i < scale.count; i++) owned_.push_back(spaces_[i % spaces]->make(kind));
    }

    /// One command, on the next in turn that is in the TPM, or that is not.
    void step() {
        if (misses_) {
            do advance();
            while (tpm_.isLoaded(owned_[at_].serial));
        } else {
            at_ = nextLoaded();
        }
        spaces_[at_ % spaces_.size()]->use(owned_[at_]);
    }
    uint64_t commands() const { return tpm_.commands(); }

  private:
    void advance() { at_ = at_ + 1 == owned_.size() ? 0 : at_ + 1; }

    /// Hits move nothing, so what is in the TPM is looked for once.
    size_t nextLoaded() {
        if (loaded_.empty())
            for (size_t i = 0; i < owned_.size(); i++)
                if (tpm_.isLoaded(owned_[i].serial)) loaded_.push_back(i);
        return loaded_[turn_++ % loaded_.size()];
    }

    ModelTpm tpm_;
    std::vector<std::unique_ptr<SwappingSpace>> spaces_;
    std::vector<Owned> owned_;
    std::vector<size_t> loaded_;
    const bool misses_;
    size_t at_ = 0;
    size_t turn_ = 0;
};

void measure(benchmark::State& state, const Scale& scale, bool misses) {
    Setting setting(scale, misses);
    const uint64_t before = setting.commands();
    for (const auto& unused [[maybe_unused]] : state) setting.step();
    state.counters["tpm"] =
        static_cast<double>(setting.commands() - before) / static_cast<double>(state.iterations());
}

/// `--run NAME COUNT`
int run(const std::string& name, unsigned long count) {
    for (const Scale& scale : kScales) {
        for (const bool misses : {false, true}) {
            if (nameOf(scale, misses) != name) continue;
            Setting setting(scale, misses);
            for (unsigned long i = 0; i < count; ++i) setting.step();
            std::_Exit(EXIT_SUCCESS);  // to flush ten thousand objects is no part of it
        }
    }
    std::fprintf(stderr, "swapping.bench: no measurement is called %s\n", name.c_str());
    return EXIT_FAILURE;
}

int measureAll(int argc, char** argv) {
    for (const Scale& scale : kScales)
        for (const bool misses : {false, true})
            benchmark::RegisterBenchmark(
                nameOf(scale, misses).c_str(),
                [&scale, misses](benchmark::State& state) { measure(state, scale, misses); });
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return EXIT_FAILURE;
    benchmark::RunSpecifiedBenchmarks();
    return EXIT_SUCCESS;
}

}  // namespace
}  // namespace spaces::bench

int main(int argc, char** argv) {
    unsetenv("TSS2_LOG");  // what the caller logs is no part of what is measured
    // The C library's locks are cheaper in a process that never had a second thread. Most have.
    std::thread([] {}).join();
    const auto number = [&](int at, unsigned long otherwise) {
        return at < argc ? strtoul(argv[at], nullptr, 10) : otherwise;
    };
    if (argc == 4 && strcmp(argv[1], "--run") == 0)
        return spaces::bench::run(argv[2], number(3, 0));
    if (argc >= 2 && strcmp(argv[1], "--traces") == 0)
        return spaces::bench::printTraces(number(2, 20000));
    if (argc == 2 && strcmp(argv[1], "--memory") == 0) return spaces::bench::printMemory();
    return spaces::bench::measureAll(argc, argv);
}
