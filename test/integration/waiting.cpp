// SPDX-License-Identifier: BSD-2-Clause
//
// Waiting for a TPM that others use, too: transmit never waits, receive waits as long as it was
// told and loses nothing, and commands reach the TPM in the order in which they were transmitted,
// so that nobody waits for more than one command of each other context.

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <random>
#include <thread>
#include <vector>

#include "behind_a_gate.h"

namespace spaces::test {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// ---- Asynchrony

class Waiting : public OverEachChild {
  protected:
    void TearDown() override { EXPECT_EQ(residue(sim), ""); }
};

TEST_P(Waiting, TransmitDoesNotWaitForTheTpm) {
    Client a = space(), b = space(), c = space();
    start(a, createPrimary());
    ASSERT_EQ(b.transmit(createPrimary(TPM2_RH_NULL)), TSS2_RC_SUCCESS);
    ASSERT_EQ(c.transmit(getRandom(10)), TSS2_RC_SUCCESS);
    gate.open();
    EXPECT_EQ(octets(answer(c)), 10u);
    EXPECT_EQ(hex(handle(answer(b))), hex(kFirst));
    EXPECT_EQ(hex(handle(answer(a))), hex(kFirst));
}

/// Nor does it when another thread waits for the TPM.
TEST_P(Waiting, TransmitDoesNotWaitForWhoWaits) {
    Client a = space(), b = space(), c = space();
    start(a, createPrimary());
    ASSERT_EQ(b.transmit(getRandom(9)), TSS2_RC_SUCCESS);
    std::thread waiting = waitingThread([&] { EXPECT_EQ(octets(answer(b)), 9u); });
    for (int i = 0; i < 3; ++i) {
        ASSERT_EQ(c.transmit(getRandom(10)), TSS2_RC_SUCCESS);
        EXPECT_EQ(c.cancel(), TSS2_RC_SUCCESS);
        EXPECT_EQ(hex(rc(answer(c, kNone))), hex(TPM2_RC_CANCELED));
    }
    gate.open();
    waiting.join();
    EXPECT_EQ(hex(handle(answer(a))), hex(kFirst));
}

/// A response that is there is to be had at once, whoever uses the TPM meanwhile.
TEST_P(Waiting, ReceiveDoesNotWaitForTheNextCommand) {
    Client a = space(), b = space();
    ASSERT_EQ(a.transmit(createPrimary()), TSS2_RC_SUCCESS);
    ASSERT_EQ(b.transmit(getRandom(9)), TSS2_RC_SUCCESS);
    EXPECT_EQ(octets(answer(b)), 9u);
    start(b, getRandom(10));
    EXPECT_EQ(hex(handle(answer(a, kBlock))), hex(kFirst));
    ASSERT_EQ(a.transmit(readPublic(kFirst)), TSS2_RC_SUCCESS);
    gate.open();
    EXPECT_EQ(octets(answer(b)), 10u);
    EXPECT_EQ(rc(answer(a)), TPM2_RC_SUCCESS);
}

/// Where the child keeps its timeouts; swtpm's does not.
class Timeout : public Waiting {
  protected:
    /** Nothing is there yet, and that is said at the right time. */
    static void expectNothing(Client& client) {
        Bytes response;
        size_t size = 0;
        for (const int32_t timeout : {0, 1, 10}) {
            const auto before = Clock::now();
            EXPECT_EQ(hex(client.receive(response, timeout)), hex(TSS2_TCTI_RC_TRY_AGAIN));
            EXPECT_GE(Clock::now() - before, milliseconds(timeout));
            EXPECT_EQ(hex(client.receiveSize(size, timeout)), hex(TSS2_TCTI_RC_TRY_AGAIN));
        }
    }
};

TEST_P(Timeout, IsKeptAndLosesNothing) {
    Client a = space(), b = space(), c = space();
    start(a, createPrimary());
    ASSERT_EQ(b.transmit(getRandom(9)), TSS2_RC_SUCCESS);
    for (Client* each : {&a, &b, &a}) expectNothing(*each);
    gate.passOne();
    EXPECT_EQ(hex(handle(answer(a))), hex(kFirst));
    ASSERT_EQ(c.transmit(getRandom(10)), TSS2_RC_SUCCESS);
    for (Client* each : {&c, &b, &c}) expectNothing(*each);
    gate.open();
    EXPECT_EQ(octets(answer(c, 100000)), 10u);
    EXPECT_EQ(octets(answer(b, kNone)), 9u);
    EXPECT_EQ(rc(a.send(readPublic(kFirst))), TPM2_RC_SUCCESS);
}

TEST_P(Timeout, IsKeptWhileAnotherThreadWaits) {
    Client a = space(), b = space(), c = space();
    start(a, createPrimary());
    ASSERT_EQ(b.transmit(getRandom(9)), TSS2_RC_SUCCESS);
    ASSERT_EQ(c.transmit(getRandom(10)), TSS2_RC_SUCCESS);
    std::thread waiting = waitingThread([&] { EXPECT_EQ(hex(handle(answer(a))), hex(kFirst)); });
    for (Client* each : {&b, &c}) expectNothing(*each);
    gate.open();
    EXPECT_EQ(octets(answer(c)), 10u);
    EXPECT_EQ(octets(answer(b)), 9u);
    waiting.join();
}

/// One thread, which has more to do than to wait: here, to empty a pipe that it fills itself.
TEST_P(Timeout, OfALongCommandLeavesAnEventLoopRunning) {
    Client a = space(), b = space();
    Bytes keyOfA, random;
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    const Descriptor in(pipe[0]), out(pipe[1]);
    ASSERT_EQ(::write(out.get(), "x", 1), 1);

    start(a, createPrimary(TPM2_RH_NULL, rsaStorage()));
    ASSERT_EQ(b.transmit(getRandom(9)), TSS2_RC_SUCCESS);
    size_t turns = 0;
    while (keyOfA.empty() || random.empty()) {
        pollfd ready{in.get(), POLLIN, 0};
        ASSERT_EQ(::poll(&ready, 1, -1), 1);
        char c;
        ASSERT_EQ(::read(in.get(), &c, 1), 1);
        ASSERT_EQ(::write(out.get(), &c, 1), 1);
        if (keyOfA.empty()) a.receive(keyOfA, kNone);
        if (random.empty()) b.receive(random, kNone);
        // As long as the gate is closed this goes on, or it never will again.
        if (++turns == 1000) {
            EXPECT_TRUE(keyOfA.empty() && random.empty());
            gate.open();
        }
    }
    EXPECT_EQ(rc(keyOfA), TPM2_RC_SUCCESS);
    EXPECT_EQ(octets(random), 9u);
    EXPECT_GT(turns, 1000u) << "it went on while the TPM made the key";
}

// ---- First come, first served

/** A command that tells which one it is. */
Command numbered(uint32_t number) {
    Bytes text;
    append(text, number, 4);
    return Command(TPM2_CC_Hash).tpm2b(text).u16(TPM2_ALG_SHA256).u32(TPM2_RH_NULL);
}

class Order : public Waiting {
  protected:
    static constexpr size_t kClients = 8;

    void SetUp() override {
        for (size_t i = 0; i < kClients; ++i) clients.push_back(space());
    }
    void TearDown() override {
        clients.clear();
        Waiting::TearDown();
    }

    /** The numbers of the commands in the order in which they have reached the TPM. */
    std::vector<uint32_t> order() {
        std::vector<uint32_t> numbers;
        for (const Bytes& each : gate.commands())
            if (rc(each) == TPM2_CC_Hash) numbers.push_back(readU32(each, 12));
        return numbers;
    }

    std::vector<Client> clients;
};

/// Each has a command under way at any time, and sends the next when it has the response.
TEST_P(Order, IsRoundRobinWhenAllAlwaysWant) {
    constexpr uint32_t kRounds = 20;
    for (uint32_t i = 0; i < kClients; ++i) clients[i].transmit(numbered(i));
    for (uint32_t round = 1; round <= kRounds; ++round)
        for (uint32_t i = 0; i < kClients; ++i) {
            EXPECT_EQ(rc(answer(clients[i])), TPM2_RC_SUCCESS);
            if (round < kRounds) clients[i].transmit(numbered(round * kClients + i));
        }
    std::vector<uint32_t> expected(kRounds * kClients);
    for (uint32_t i = 0; i < expected.size(); ++i) expected[i] = i;
    EXPECT_EQ(order(), expected);
}

/// Whoever receives, and in whatever order, those go first who transmitted first.
TEST_P(Order, IsThatOfTransmitWhoeverReceives) {
    std::mt19937 random(1);
    std::vector<uint32_t> transmitted;
    std::vector<size_t> idle(kClients), waiting;
    for (size_t i = 0; i < kClients; ++i) idle[i] = i;
    const auto take = [&random](std::vector<size_t>& from) {
        std::swap(from[random() % from.size()], from.back());
        const size_t taken = from.back();
        from.pop_back();
        return taken;
    };
    while (transmitted.size() < 300 || !waiting.empty()) {
        const bool more = transmitted.size() < 300;
        if (more && !idle.empty() && (waiting.empty() || random() % 2 == 0)) {
            const size_t client = take(idle);
            transmitted.push_back(static_cast<uint32_t>(transmitted.size()));
            ASSERT_EQ(clients[client].transmit(numbered(transmitted.back())), TSS2_RC_SUCCESS);
            waiting.push_back(client);
            continue;
        }
        const size_t client = take(waiting);
        Bytes response;
        const TSS2_RC result =
            clients[client].receive(response, random() % 2 == 0 ? kBlock : kNone);
        (result == TSS2_RC_SUCCESS ? idle : waiting).push_back(client);
    }
    EXPECT_EQ(order(), transmitted);
}

/// The same of threads, where only this can be said: a command that was in line before another's
/// transmit began goes before it.
TEST_P(Order, IsThatOfTransmitInManyThreads) {
    constexpr uint32_t kRounds = 30;
    std::atomic<uint64_t> clock = 0;
    struct Stamps {
        uint64_t began = 0, inLine = 0;
    };
    std::vector<Stamps> stamps(kClients * kRounds);
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < kClients; ++i)
        threads.emplace_back([&, i] {
            for (uint32_t round = 0; round < kRounds; ++round) {
                const uint32_t number = round * kClients + i;
                stamps[number].began = ++clock;
                EXPECT_EQ(clients[i].transmit(numbered(number)), TSS2_RC_SUCCESS);
                stamps[number].inLine = ++clock;
                Bytes response;
                EXPECT_EQ(clients[i].receive(response), TSS2_RC_SUCCESS);
                EXPECT_EQ(rc(response), TPM2_RC_SUCCESS);
            }
        });
    for (std::thread& each : threads) each.join();
    const std::vector<uint32_t> numbers = order();
    EXPECT_EQ(numbers.size(), stamps.size());
    uint64_t latest = 0;
    for (const uint32_t number : numbers) {
        EXPECT_GT(stamps[number].inLine, latest) << "number " << number << " was overtaken";
        latest = std::max(latest, stamps[number].began);
    }
}

constexpr const char* kAll[] = {"swtpm", "device", "mssim"};

INSTANTIATE_TEST_SUITE_P(Over, Waiting, testing::ValuesIn(kAll), kindOf);
INSTANTIATE_TEST_SUITE_P(Over, Timeout, testing::Values("device", "mssim", "pcap_mssim"), kindOf);
INSTANTIATE_TEST_SUITE_P(Over, Order, testing::ValuesIn(kAll), kindOf);

}  // namespace
}  // namespace spaces::test
