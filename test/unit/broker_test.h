// SPDX-License-Identifier: BSD-2-Clause
// What the tests of the broker share: users whose turns are what a test says, over a fake child.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <memory>
#include <vector>

#include "tpm/broker.h"
#include "unit/fake_child.h"
#include "unit/packets.h"
#include "wire/response.h"

namespace spaces::test {

constexpr int32_t kBlock = TSS2_TCTI_TIMEOUT_BLOCK, kNone = TSS2_TCTI_TIMEOUT_NONE;

inline Packet numbered(uint16_t number) { return command(TPM2_CC_GetRandom).u16(number); }

/// A user whose turns are lists of commands.
class User : public tpm::User {
  public:
    explicit User(tpm::Broker& broker) : channel(broker.open(*this)) {}

    /// What it will send in its next turn.
    void plan(std::vector<Packet> commands) {
        for (Packet& each : commands) toSend.push_back(std::move(each));
    }
    void submit(std::vector<Packet> commands) {
        plan(std::move(commands));
        channel->submit();
    }

    tpm::Exchange begin() override {
        ++turns;
        return next();
    }
    tpm::Exchange answered(size_t size) override {
        answers.emplace_back(Bytes(buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(size)));
        return next();
    }
    void failed(TSS2_RC rc) override {
        failures.push_back(rc);
        toSend.clear();
    }
    void canceled() override { ++canceledTurns; }
    bool cancels() override { return cancelable; }
    uint8_t locality() const override { return atLocality; }

    unsigned turns = 0;
    std::vector<Packet> answers;
    std::vector<TSS2_RC> failures;
    unsigned canceledTurns = 0;
    bool cancelable = true;
    uint8_t atLocality = 0;
    std::unique_ptr<tpm::Channel> channel;

  private:
    tpm::Exchange next() {
        if (toSend.empty()) return tpm::Exchange::none();
        sending = toSend.front();
        toSend.pop_front();
        tpm::Exchange exchange;
        exchange.command = sending;
        exchange.response = buffer.data();
        return exchange;
    }

    std::deque<Packet> toSend;
    Bytes sending;
    std::array<uint8_t, wire::kMaxResponseSize> buffer{};
};

class BrokerTest : public testing::Test {
  protected:
    FakeChild::Step& expect(uint16_t number) {
        return child.expect(numbered(number), response().u16(number));
    }
    std::vector<Packet> answers(std::initializer_list<int> numbers) {
        std::vector<Packet> list;
        for (const int number : numbers)
            list.push_back(response().u16(static_cast<uint16_t>(number)));
        return list;
    }

    FakeChild child{"fake"};
    tpm::Broker broker{"fake"};
    User a{broker}, b{broker}, c{broker};
};

}  // namespace spaces::test
