// SPDX-License-Identifier: BSD-2-Clause
// What the tests of a space share: two spaces, a and b, over one TPM that is a fake child TCTI.
// Always holds: virtual and physical handles differ wherever a test cares, since b makes its
// object first; what is left at the end of a test is flushed without being looked at.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "space/space.h"
#include "tpm/broker.h"
#include "unit/fake_child.h"

namespace spaces::test {

constexpr int32_t kBlock = TSS2_TCTI_TIMEOUT_BLOCK, kNone = TSS2_TCTI_TIMEOUT_NONE;
constexpr TPM2_HANDLE kObject0 = 0x80000000, kObject1 = 0x80000001, kObject2 = 0x80000002,
                      kObject3 = 0x80000003;
constexpr TPM2_HANDLE kHmac0 = 0x02000000, kHmac1 = 0x02000001, kHmac2 = 0x02000002,
                      kPolicy1 = 0x03000001, kPolicy2 = 0x03000002;
constexpr TPM2_HANDLE kPersistent = 0x81000001;
constexpr TPM2_HANDLE kPoison = 0x80FFFFFE, kPoisonHmac = 0x02FFFFFE, kPoisonPolicy = 0x03FFFFFE;

class Client {
  public:
    Client(tpm::Tpm& tpm, space::Ownership& ownership) : space(tpm, ownership) {}

    void start(const Packet& command) { space.start(command.all()); }
    Packet response() { return Packet(Bytes(space.response().begin(), space.response().end())); }
    Packet finish() {
        EXPECT_TRUE(space.wait(kBlock));
        space.fetched();
        return response();
    }
    Packet send(const Packet& command) {
        start(command);
        return finish();
    }

    space::Space space;
};

class SpaceTest : public testing::Test {
  protected:
    explicit SpaceTest(const std::string& name = "fake")
        : child(name),
          broker(name),
          a(std::make_unique<Client>(broker, ownership)),
          b(std::make_unique<Client>(broker, ownership)) {}

    void TearDown() override {
        EXPECT_TRUE(child.done());
        child.acceptFlushes();
        a.reset();
        b.reset();
    }

    /// Sends what the child gets as it is, and gives what the child answers as it is.
    void pass(Client& client, const Packet& command, const Packet& answer = response()) {
        child.expect(command, answer);
        EXPECT_EQ(client.send(command), answer);
    }

    /// What the client gets for a command that reaches the child as `sent`.
    Packet exchange(Client& client, const Packet& command, const Packet& sent,
                    const Packet& answer = response()) {
        child.expect(sent, answer);
        return client.send(command);
    }

    /// Makes an object that the TPM calls `physical`. Returns what the client calls it.
    TPM2_HANDLE object(Client& client, TPM2_HANDLE physical, TPM2_HANDLE hierarchy = TPM2_RH_NULL) {
        const Packet answer = exchange(client, createPrimary(hierarchy), createPrimary(hierarchy),
                                       response().handle(physical).tpm2b());
        EXPECT_EQ(answer.length(), 16u);
        return wire::get32(&answer.all()[10]);
    }

    void session(Client& client, TPM2_HANDLE handle) {
        pass(client, startAuthSession(), response().handle(handle).tpm2b(Bytes(16)));
    }

    /// True if the space knows the handle: ContextSave of it reaches the child, which refuses.
    bool owns(Client& client, TPM2_HANDLE handle, TPM2_HANDLE physical) {
        const Packet refusal = response(TPM2_RC_CONTEXT_GAP);
        child.serve([&](const Packet& command) {
            return command == contextSave(physical) ? refusal : acceptable();
        });
        const bool reached = client.send(contextSave(handle)) == refusal;
        child.serve(nullptr);
        return reached;
    }

    FakeChild child;
    tpm::Broker broker;
    space::Ownership ownership;
    std::unique_ptr<Client> a, b;
};

}  // namespace spaces::test
