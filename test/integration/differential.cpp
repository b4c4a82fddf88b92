// SPDX-License-Identifier: BSD-2-Clause
// Differential test: random commands to several spaces on one TPM, and the same to a private TPM
// for each of them; see differential_world.h, and differential_compare.cpp for all that may differ.
//
// Always holds: what is done follows from a seed; a difference is shrunk to a short script, which
// is written to a file and can be run again:
//
//     SPACES_DIFFERENTIAL_REPLAY=FILE test/integration/differential.int
//
// SPACES_DIFFERENTIAL_SEED and SPACES_DIFFERENTIAL_COMMANDS (in each mode) say otherwise for a
// longer run; `make check-differential` is one. SPACES_DIFFERENTIAL_OUTPUT is the folder for
// scripts.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "config.h"
#include "differential_generator.h"

namespace spaces::test {
namespace {

constexpr Mode kModes[] = {
    {"isolation", "", false},
#if SPACES_SWAPPING
    {"swapping", "swap=on", true},
    {"swapping1", "swap=on,objects=1,sessions=1", true},
    {"swapping2", "swap=on,objects=2,sessions=2", true},
    {"swapping3", "swap=on,objects=3,sessions=3", true},
#endif
};

/// So many commands, then new TPMs: what Clear and its like have changed stays changed.
constexpr size_t kCommandsInOneWorld = 1000;

/// After this, a script is short enough.
constexpr std::chrono::seconds kTimeToShrink{60};

std::string fromEnvironment(const char* name, const std::string& otherwise) {
    const char* value = std::getenv(name);
    return value == nullptr || *value == '\0' ? otherwise : value;
}

/// Runs the script; what went wrong, or nothing.
std::string fault(const Mode& mode, const Simulator& original, const Script& script) {
    try {
        World world(mode, original);
        Script batch;
        for (const Operation& operation : script) {
            batch.push_back(operation);
            if (operation.has("later") && &operation != &script.back()) continue;
            world.run(batch);
            batch.clear();
        }
        world.finish();
        return "";
    } catch (const std::exception& problem) {
        return problem.what();
    }
}

/// What a fault is, without the bytes: shrinking must not stray to another one.
std::string kind(const std::string& fault) { return fault.substr(0, fault.find('\n')); }

void report(const Mode& mode, const Simulator& original, const Script& script,
            const std::string& first) {
    const std::string wanted = kind(first);
    std::string last = first;
    const auto end = std::chrono::steady_clock::now() + kTimeToShrink;
    const Script shortest = shrink(script, [&](const Script& candidate) {
        if (std::chrono::steady_clock::now() > end) return false;
        const std::string now = fault(mode, original, candidate);
        if (now.empty() || kind(now) != wanted) return false;
        last = now;
        return true;
    });
    const std::string folder = fromEnvironment("SPACES_DIFFERENTIAL_OUTPUT", ".");
    const std::string file =
        folder + "/differential-" + mode.name + "-" + std::to_string(getpid()) + ".script";
    std::ofstream out(file);
    write(out, mode.name, shortest);
    std::ostringstream text;
    write(text, mode.name, shortest);
    ADD_FAILURE() << last << "\n\nThe shortest script, SPACES_DIFFERENTIAL_REPLAY=" << file << "\n"
                  << text.str();
}

class Differential : public testing::TestWithParam<Mode> {
  protected:
    /// Where each change of NV need not reach a disk.
    Differential() {
        if (access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 0);
        original_.emplace(Record::nothing);
    }

    /// Commands until there were so many, in one world. False if something was wrong.
    bool oneWorld(uint64_t seed, size_t number, size_t commands) {
        Script script;
        std::string wrong;
        try {
            World world(GetParam(), *original_);
            const std::string mode = GetParam().name;
            std::seed_seq mixed{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                                static_cast<uint32_t>(number),
                                static_cast<uint32_t>(std::hash<std::string>()(mode))};
            Generator generator(mixed);
            while (world.commands() < commands) {
                const Script batch = generator.next(world);
                script.insert(script.end(), batch.begin(), batch.end());
                world.run(batch);
            }
            world.finish();
            tally_ += world.tally();
            commands_ += world.commands();
            succeeded_ += world.succeeded();
        } catch (const std::exception& problem) {
            wrong = problem.what();
        }
        if (!wrong.empty()) report(GetParam(), *original_, script, wrong);
        return wrong.empty();
    }

    std::optional<Simulator> original_;
    Tally tally_;
    size_t commands_ = 0, succeeded_ = 0;
};

TEST_P(Differential, RandomCommands) {
    const uint64_t seed = std::stoull(fromEnvironment("SPACES_DIFFERENTIAL_SEED", "2017"));
    const size_t wanted = std::stoull(fromEnvironment("SPACES_DIFFERENTIAL_COMMANDS", "4000"));
    const auto start = std::chrono::steady_clock::now();
    std::cout << "SPACES_DIFFERENTIAL_SEED=" << seed << " SPACES_DIFFERENTIAL_COMMANDS=" << wanted
              << "\n";
    for (size_t world = 0; commands_ < wanted; ++world)
        if (!oneWorld(seed, world, std::min(kCommandsInOneWorld, wanted - commands_))) return;
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::cout << commands_ << " commands, " << succeeded_ << " successful, in " << seconds.count()
              << " s\n"
              << tally_.table();
    EXPECT_GT(succeeded_, commands_ / 4);
}

INSTANTIATE_TEST_SUITE_P(In, Differential, testing::ValuesIn(kModes),
                         [](const auto& info) { return std::string(info.param.name); });

int replay(const std::string& file) {
    std::ifstream in(file);
    Script script;
    const std::string name = read(in, script);
    for (const Mode& mode : kModes) {
        if (name != mode.name) continue;
        const Simulator original(Record::nothing);
        const std::string wrong = fault(mode, original, script);
        std::cout << (wrong.empty() ? "no difference" : wrong) << "\n";
        return wrong.empty() ? 0 : 1;
    }
    std::cerr << file << ": no script\n";
    return 2;
}

}  // namespace
}  // namespace spaces::test

int main(int argc, char** argv) {
    // The modes say which options there are.
    unsetenv("SPACES_TEST_OPTIONS");
    testing::InitGoogleTest(&argc, argv);
    const std::string file = spaces::test::fromEnvironment("SPACES_DIFFERENTIAL_REPLAY", "");
    return file.empty() ? RUN_ALL_TESTS() : spaces::test::replay(file);
}
