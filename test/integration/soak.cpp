// SPDX-License-Identifier: BSD-2-Clause
// The soak: eight spaces on one TPM with three slots, thirty objects and six sessions in each,
// random commands, every response checked against a model.
// Always holds: it runs for SPACES_SOAK_SECONDS (default 5), half of them with all spaces in one
// thread and half with a thread for each, and for no less than a number of steps, however slow the
// machine; the TPM is empty afterwards; a failure prints the seed, which SPACES_SOAK_SEED takes.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "soak_space.h"
#include "support/simulator.h"

using namespace spaces::test;

namespace {

constexpr unsigned kSpaces = 8;
constexpr size_t kLeastSteps = 50;  // for each space

uint64_t fromEnvironment(const char* name, uint64_t otherwise) {
    const char* value = std::getenv(name);
    return value == nullptr || *value == '\0' ? otherwise : std::stoull(value);
}

class Soak : public testing::Test {
  protected:
    Soak() {
        for (unsigned i = 0; i < kSpaces; ++i) spaces_.emplace_back(sim_, seed_ + i);
        std::cout << "seed " << seed_ << std::endl;
    }

    bool timeIsUp() const { return std::chrono::steady_clock::now() >= end_; }

    /// Does something with a space; says what it was if it fails, and stops the others.
    template <class Work>
    bool check(unsigned number, Work work) {
        try {
            work(spaces_[number]);
            return true;
        } catch (const std::exception& error) {
            failed_ = true;
            ADD_FAILURE() << "seed " << seed_ << ", space " << number << ", step " << steps_ << ", "
                          << spaces_[number].doing() << ": " << error.what();
            return false;
        }
    }

    void finishAll() {
        for (unsigned i = 0; i < kSpaces && !failed_; ++i)
            check(i, [&](SoakSpace& space) { space.finish(i % 2 == 0); });
        std::cout << steps_ << " steps, " << spaces_.back().sessionsSaved() << " sessions saved"
                  << std::endl;
        spaces_.clear();
        if (!failed_) {
            EXPECT_EQ(residue(sim_), "") << "seed " << seed_;
        }
    }

    const uint64_t seed_ = fromEnvironment("SPACES_SOAK_SEED", std::random_device()());
    Simulator sim_{Record::nothing};
    std::deque<SoakSpace> spaces_;
    std::atomic<bool> failed_ = false;
    std::atomic<size_t> steps_ = 0;
    const std::chrono::steady_clock::time_point end_ =
        std::chrono::steady_clock::now() +
        std::chrono::milliseconds(500 * fromEnvironment("SPACES_SOAK_SECONDS", 5));
};

TEST_F(Soak, InOneThread) {
    for (unsigned i = 0; i < kSpaces && !failed_; ++i)
        check(i, [](SoakSpace& space) { space.fill(); });
    std::mt19937_64 random(seed_);
    std::vector<unsigned> order(kSpaces);
    std::iota(order.begin(), order.end(), 0);
    for (; !failed_ && (steps_ < kSpaces * kLeastSteps || !timeIsUp()); ++steps_) {
        check(static_cast<unsigned>(random() % kSpaces), [](SoakSpace& space) { space.step(); });
        if (steps_ % 20 != 0) continue;
        // All of them wait for a response at once, and take it in another order than they asked.
        std::shuffle(order.begin(), order.end(), random);
        for (const unsigned i : order) check(i, [](SoakSpace& space) { space.transmit(); });
        std::shuffle(order.begin(), order.end(), random);
        for (const unsigned i : order) check(i, [](SoakSpace& space) { space.receive(); });
    }
    finishAll();
}

TEST_F(Soak, InAThreadEach) {
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < kSpaces; ++i) {
        threads.emplace_back([this, i] {
            check(i, [&](SoakSpace& space) {
                space.fill();
                for (size_t step = 0; !failed_ && (step < kLeastSteps || !timeIsUp()); ++step) {
                    space.step();
                    ++steps_;
                }
            });
        });
    }
    for (std::thread& thread : threads) thread.join();
    finishAll();
}

}  // namespace
