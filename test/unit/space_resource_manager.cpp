// SPDX-License-Identifier: BSD-2-Clause
// Unit test of space/space over a child that manages resources itself, as the kernel's /dev/tpmrm0
// does: it refuses, with an error that ends the connection, a handle that it never gave out and a
// command that is shorter than its handles.
// Always holds: the child looks at every command that reaches it in that way, whatever the test is
// about.
#include <random>
#include <set>

#include "unit/space_test.h"
#include "wire/handle.h"

namespace spaces::test {
namespace {

constexpr TPM2_CC kVendor = 0x20000123;

class ResourceManaged : public SpaceTest {
  protected:
    ResourceManaged() : SpaceTest("device:/dev/tpmrm0") {
        child.serve([this](const Packet& command) { return answer(command); });
        EXPECT_TRUE(broker.isResourceManager());
    }

    void TearDown() override {
        child.serve([this](const Packet& command) { return answer(command); });
        a.reset();
        b.reset();
    }

    /// What the kernel checks. False if it would refuse.
    bool acceptable(const Packet& packet) {
        Bytes octets = packet;
        const wire::Command command(octets);
        size_t handles = 0;
        if (const auto known = wire::findCommand(command.code()))
            handles = known->handles;
        else if (command.code() == kVendor)
            handles = 1;
        if (command.code() == TPM2_CC_FlushContext) handles = 1;
        if (command.handlesPresent(handles) < handles) return false;
        for (size_t i = 0; i < handles; ++i)
            if (wire::isTransient(command.handle(i)) && !given.contains(command.handle(i)))
                return false;
        return true;
    }

    Packet answer(const Packet& command) {
        EXPECT_TRUE(acceptable(command)) << "the kernel would refuse: " << command;
        Bytes octets = command;
        const wire::Command read(octets);
        if (!read.hasCommandTag()) return response(read.tag() == 0x00C4 ? 0x01E : 0x084);
        const TPM2_CC code = read.code();
        if (code == kVendor && read.hasSessions()) return response(TPM2_RC_SIZE);  // a probe
        if (code == TPM2_CC_FlushContext) given.erase(read.handle(0));
        // A probe has nothing behind its handles.
        if (wire::findCommand(code) && read.hasSessions() &&
            read.parameters(wire::findCommand(code)->handles).empty() &&
            read.authorizations(wire::findCommand(code)->handles).count == 0)
            return response(verdict != 0 ? verdict : missing(read));
        if (code == TPM2_CC_CreatePrimary) {
            const TPM2_HANDLE handle = 0x80FFFFFF - made++;
            given.insert(handle);
            return response().handle(handle);
        }
        if (code == TPM2_CC_StartAuthSession) return response().handle(kHmac0 + made++ % 60);
        return response();
    }

    /// The TPM's word on the handles of a probe: a persistent object is not there.
    static TPM2_RC missing(const wire::Command& probe) {
        for (size_t i = 0; i < probe.handlesPresent(3); ++i)
            if (wire::isPersistent(probe.handle(i))) return wire::forHandle(TPM2_RC_HANDLE, i);
        return TPM2_RC_INSUFFICIENT;
    }

    TPM2_HANDLE create(Client& client) {
        return wire::get32(&client.send(createPrimary()).all()[10]);
    }

    std::set<TPM2_HANDLE> given;
    uint32_t made = 0;
    TPM2_RC verdict = 0;  // what the TPM says to a probe; 0: what is true
};

TEST_F(ResourceManaged, ObjectsAreMappedAsEver) {
    EXPECT_EQ(create(*b), kObject0);
    EXPECT_EQ(create(*a), kObject0);
    EXPECT_EQ(a->send(readPublic(kObject0)), response());
    EXPECT_EQ(child.commands.back(), readPublic(0x80FFFFFE));
    EXPECT_EQ(a->send(flushContext(kObject0)), response());
    EXPECT_EQ(child.commands.back(), flushContext(0x80FFFFFE));
}

TEST_F(ResourceManaged, AnAbsentHandleNeverReachesTheChild) {
    create(*b);
    create(*a);
    EXPECT_EQ(a->send(readPublic(kObject1)), response(0x910));
    EXPECT_EQ(a->send(certify(kObject1, kObject0)), response(0x910));
    EXPECT_EQ(a->send(certify(kObject0, kObject1)), response(0x911));
    EXPECT_EQ(a->send(contextSave(kObject1)), response(0x910));
    EXPECT_EQ(a->send(readPublic(0x80FFFFFF)), response(0x184)) << "b's, by its physical name";
    EXPECT_EQ(a->send(readPublic(0x80FFFFFE)), response(0x184)) << "its own, by that name";
    verdict = 0x284;
    EXPECT_EQ(a->send(certify(kObject1, kHmac0)), response(0x284)) << "the TPM's own word first";
}

TEST_F(ResourceManaged, ACommandShorterThanItsHandlesNeverReachesTheChild) {
    create(*a);
    const size_t before = child.commands.size();
    EXPECT_EQ(a->send(readPublic(kObject0).cut(10)), response(0x19A));
    EXPECT_EQ(a->send(readPublic(kObject0).cut(13)), response(0x19A));
    EXPECT_EQ(a->send(certify(kObject0, kObject0).cut(14)), response(0x29A));
    EXPECT_EQ(a->send(flushContext(kObject0).cut(10)), response(0x1DA));
    EXPECT_EQ(a->send(flushContext(kObject0).cut(13)), response(0x1DA));
    EXPECT_EQ(child.commands.size(), before);
}

TEST_F(ResourceManaged, FlushContextIsItsOwnHandlesOnly) {
    create(*b);
    EXPECT_EQ(a->send(flushContext(kObject0)), response(0x1CB));
    EXPECT_EQ(a->send(flushContext(kObject0).u8(0)), response(0x095));
    EXPECT_EQ(a->send(flushContext(0x80FFFFFF)), response(0x1C4));
    const Packet authorized = command(TPM2_CC_FlushContext).auth({password()}).u32(kObject0);
    EXPECT_EQ(a->send(authorized), response(0x145));
    EXPECT_EQ(b->send(flushContext(kObject0)), response());
}

/// The tag is all that the TPM reads, but the child in between looks further.
TEST_F(ResourceManaged, AnotherTagIsForTheTpmToRefuse) {
    create(*b);
    EXPECT_EQ(a->send(readPublic(kObject0).tag(0x1234)), response(0x084));
    EXPECT_EQ(a->send(readPublic(kObject0).tag(0x00C4)), response(0x01E));
    EXPECT_EQ(a->send(readPublic(kObject0).tag(0x1234).cut(10)), response(0x084));
    EXPECT_EQ(a->send(flushContext(kObject0).tag(0x1234)), response(0x084));
}

/// A probe of the code alone would be shorter than its handles, if the command has any.
TEST_F(ResourceManaged, AProbeOfACodeIsAsLongAsAnyCommandsHandles) {
    create(*a);
    const auto attributes = [](uint32_t handles) {
        return response()
            .u8(0)
            .u32(TPM2_CAP_COMMANDS)
            .u32(1)
            .u32(TPMA_CC_V | 0x123 | handles << 25);
    };
    child.serve([&](const Packet& command) {
        if (command == getCapability(TPM2_CAP_COMMANDS, kVendor, 1)) return attributes(1);
        return answer(command);
    });
    EXPECT_EQ(a->send(command(kVendor).handle(kObject0)), response());
    EXPECT_EQ(child.commands.back(), command(kVendor).handle(0x80FFFFFF));
    EXPECT_EQ(a->send(command(kVendor)), response(0x19A));
    EXPECT_EQ(a->send(command(kVendor).handle(kObject1)), response(0x910));
}

/// The kernel answers for codes that its TPM does not have, and marks the answer as its own.
TEST_F(ResourceManaged, ACodeThatDoesNotExistHasTheTpmsOwnCode) {
    child.serve([&](const Packet& packet) {
        EXPECT_TRUE(acceptable(packet)) << "the kernel would refuse: " << packet;
        Bytes octets = packet;
        const bool known = wire::findCommand(wire::Command(octets).code()).has_value();
        return known ? response().u8(0).u32(TPM2_CAP_COMMANDS).u32(0) : response(0xB0143);
    });
    EXPECT_EQ(a->send(command(0x20000999)), response(0x143));
}

/// The connection is gone, and with it all that came through it.
/// The kernel answers itself where the table has a command that the TPM does not have.
TEST_F(ResourceManaged, ACommandThatTheTpmDoesNotHaveHasTheTpmsOwnCode) {
    child.serve([](const Packet&) { return response(0xB0143); });
    EXPECT_EQ(a->send(command(TPM2_CC_FirmwareRead).u32(0)), response(TPM2_RC_COMMAND_CODE));
}

TEST_F(ResourceManaged, WhatItHadIsGoneWithTheConnection) {
    create(*b);
    create(*a);
    session(*a, kHmac2);
    child.expect(getRandom(), response()).receiveFails(TSS2_TCTI_RC_IO_ERROR);
    EXPECT_EQ(b->send(getRandom()), response(0xB0101));
    given.clear();
    EXPECT_EQ(a->send(readPublic(kObject0)), response(0x910));
    EXPECT_EQ(a->send(flushContext(kHmac2)), response());  // poisoned: the model accepts all
    EXPECT_EQ(child.commands.back(), flushContext(kPoisonHmac));
}

TEST_F(ResourceManaged, WhatIsMadeOverTheNextConnectionStays) {
    create(*a);
    child.expect(getRandom(), response()).receiveFails(TSS2_TCTI_RC_IO_ERROR);
    a->send(getRandom());
    given.clear();
    EXPECT_EQ(create(*a), kObject0);
    EXPECT_EQ(a->send(readPublic(kObject0)), response());
    EXPECT_EQ(b->send(getRandom()), response());
    EXPECT_EQ(a->send(readPublic(kObject0)), response());
    EXPECT_EQ(child.opens, 2u);
}

TEST_F(ResourceManaged, NothingIsAskedForBehindItsBack) {
    create(*a);
    create(*b);
    child.expect(readPublic(0x80FFFFFF), response(0x910));
    EXPECT_EQ(a->send(readPublic(kObject0)), response(0x910));
    EXPECT_EQ(child.commands.size(), 3u);
    EXPECT_EQ(b->send(readPublic(kObject0)), response());
}

/// Whatever two clients send, nothing reaches the child that it would refuse.
TEST_F(ResourceManaged, NoCommandEndsTheConnection) {
    std::mt19937 random(42);
    const auto below = [&random](uint32_t limit) { return random() % limit; };
    const auto handle = [&]() -> TPM2_HANDLE {
        switch (below(6)) {
            case 0:
                return kObject0 + below(5);
            case 1:
                return 0x80FFFFFF - below(8);
            case 2:
                return (below(2) ? kHmac0 : 0x03000000) + below(70);
            case 3:
                return kPersistent;
            case 4:
                return TPM2_RH_NULL;
            default:
                return random();
        }
    };
    for (int round = 0; round < 20000; ++round) {
        Client& client = below(2) ? *a : *b;
        if (below(8) == 0) create(client);
        if (below(20) == 0) client.send(startAuthSession());
        Packet packet = command(below(30) ? 0x11F + below(0x84) : random());
        for (uint32_t i = below(4); i > 0; --i) packet.handle(handle());
        if (below(2)) packet.auth({{handle(), static_cast<uint8_t>(random())}});
        packet.raw(Bytes(below(5)));
        if (below(20) == 0) packet.tag(static_cast<TPM2_ST>(below(2) ? random() : 0x00C4));
        if (below(5) == 0) packet.cut(10 + below(static_cast<uint32_t>(packet.length()) - 9));
        client.send(packet);
        ASSERT_FALSE(HasFailure()) << "after " << packet;
    }
    EXPECT_EQ(child.opens, 1u);
}

}  // namespace
}  // namespace spaces::test
