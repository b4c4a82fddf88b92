// SPDX-License-Identifier: BSD-2-Clause
// Unit test of space/space: whose handle is it? What reaches the TPM of a command, and what its
// client gets.
// Always holds: codes are written as numbers, as the reference TPM gives them.
#include "unit/space_test.h"

namespace spaces::test {
namespace {

class Isolation : public SpaceTest {
  protected:
    Isolation() {
        // a's first object is the TPM's second, and the other way round.
        object(*b, kObject0);
        object(*a, kObject1);
        session(*a, kHmac0);
        session(*b, kPolicy1);
        session(*a, kPolicy2);
    }

    /// The handle probe that takes the place of the command, and the code that comes of it.
    void refuse(const Packet& command, const Packet& probe, TPM2_RC answer, TPM2_RC expected) {
        EXPECT_EQ(exchange(*a, command, probe, response(answer)), response(expected)) << command;
    }

    /// As the command reaches the TPM, the TPM's code, and the code that the client gets.
    void forward(const Packet& command, const Packet& sent, TPM2_RC answer, TPM2_RC expected) {
        EXPECT_EQ(exchange(*a, command, sent, response(answer)), response(expected)) << command;
    }
};

// ---- What is the space's own, or nobody's

TEST_F(Isolation, CommandsWithoutHandlesAreLeftAlone) {
    pass(*a, getRandom(), response().tpm2b(Bytes(8, 1)));
    pass(*a, getRandom(), response(TPM2_RC_RETRY));
    pass(*a, command(TPM2_CC_GetRandom).auth({{kHmac0, TPMA_SESSION_AUDIT | 1}}).u16(8),
         response().tag(TPM2_ST_SESSIONS).u32(2).u16(0).tpm2b().u8(1).tpm2b());
}

TEST_F(Isolation, OtherHandlesAreLeftAlone) {
    for (const TPM2_HANDLE handle :
         {kPersistent, TPM2_RH_OWNER, TPM2_RH_NULL, 0x01000001u, 0x00000010u, 0x82000000u})
        pass(*a, readPublic(handle), response(0x184));
}

TEST_F(Isolation, ObjectsHaveHandlesOfTheirOwn) {
    EXPECT_EQ(object(*a, kObject2), kObject1);
    EXPECT_EQ(exchange(*a, readPublic(kObject0), readPublic(kObject1)), response());
    EXPECT_EQ(exchange(*b, readPublic(kObject0), readPublic(kObject0)), response());
    EXPECT_EQ(exchange(*a, certify(kObject0, kObject1), certify(kObject1, kObject2)), response());
    EXPECT_EQ(exchange(*a, certify(kObject0, kObject0), certify(kObject1, kObject1)), response());
}

TEST_F(Isolation, ANewHandleIsReplacedUnderSessionsToo) {
    const Packet command = createPrimary(TPM2_RH_OWNER, {kHmac0});
    const auto answer = [](TPM2_HANDLE handle) {
        return response().handle(handle).u32(2).u16(0).tpm2b().u8(1).tpm2b().tag(TPM2_ST_SESSIONS);
    };
    EXPECT_EQ(exchange(*a, command, command, answer(kObject2)), answer(kObject1));
}

TEST_F(Isolation, SessionsKeepTheirHandles) {
    pass(*a, command(TPM2_CC_PolicyGetDigest).handle(kPolicy2), response().tpm2b(Bytes(32)));
    pass(*a, command(TPM2_CC_PolicySecret).handle(TPM2_RH_OWNER).handle(kPolicy2).auth({{kHmac0}}));
    EXPECT_EQ(exchange(*a, unseal(kObject0, {{kPolicy2}, {kHmac0}, password("x")}),
                       unseal(kObject1, {{kPolicy2}, {kHmac0}, password("x")})),
              response());
}

TEST_F(Isolation, AnOwnSessionWithAnotherTypeIsForTheTpmToRefuse) {
    forward(command(TPM2_CC_PolicyRestart).handle(0x03000000),
            command(TPM2_CC_PolicyRestart).handle(0x03000000), 0x18B, 0x18B);
    forward(unseal(kObject0, {{kHmac2}}), unseal(kObject1, {{kHmac2}}), 0x98B, 0x98B);
}

TEST_F(Isolation, TheClientsBytesAreNotTouched) {
    const Packet original = readPublic(kObject0);
    const Packet copy = original;
    child.expect(readPublic(kObject1), response());
    a->send(copy);
    EXPECT_EQ(copy, original);
}

// ---- The handle area

TEST_F(Isolation, AnObjectOfAnotherSpaceIsAbsent) {
    // kObject1 is a number of the TPM's, and of an object: of a's own, under another name.
    refuse(readPublic(kObject1), probe(TPM2_CC_ReadPublic, {kObject0}), 0x09A, 0x910);
    refuse(readPublic(kObject2), probe(TPM2_CC_ReadPublic, {kObject0}), 0x910, 0x910);
    refuse(contextSave(kObject1), probe(TPM2_CC_ContextSave, {kObject0}), 0x09A, 0x910);
}

TEST_F(Isolation, AbsenceHasTheHandlesPosition) {
    refuse(certify(kObject1, kObject0), probe(TPM2_CC_Certify, {kObject0, kObject0}), 0x09A, 0x910);
    refuse(certify(kObject0, kObject1), probe(TPM2_CC_Certify, {kObject1, kObject0}), 0x09A, 0x911);
    refuse(certify(kObject1, kObject2), probe(TPM2_CC_Certify, {kObject0, kObject0}), 0x09A, 0x910);
    const Packet three = command(TPM2_CC_NV_Certify).handle(kPersistent).handle(0x40000001);
    refuse(Packet(three).handle(kObject1),
           probe(TPM2_CC_NV_Certify, {kPersistent, 0x40000001, kObject0}), 0x145, 0x912);
}

TEST_F(Isolation, AnotherErrorOfTheHandlesMayComeFirst) {
    const Packet command = certify(kPersistent, kObject1);
    const Packet sent = probe(TPM2_CC_Certify, {kPersistent, kObject0});
    refuse(command, sent, 0x18B, 0x18B);
    refuse(command, sent, 0x902, 0x902);
    refuse(command, sent, 0x284, 0x284);
    refuse(command, sent, 0x911, 0x911);
    refuse(command, sent, 0x100, 0x100);
}

TEST_F(Isolation, ACutHandleComesBeforeAnAbsentOne) {
    refuse(certify(kObject1, kObject0).cut(15), probe(TPM2_CC_Certify, {kObject0}).u8(0x80), 0x29A,
           0x29A);
    refuse(certify(kObject1, kObject0).cut(14), probe(TPM2_CC_Certify, {kObject0}), 0x29A, 0x29A);
    forward(readPublic(kObject1).cut(13), readPublic(kObject1).cut(13), 0x19A, 0x19A);
    forward(readPublic(kObject1).cut(10), readPublic(kObject1).cut(10), 0x19A, 0x19A);
}

TEST_F(Isolation, ASessionOfAnotherSpaceIsAbsent) {
    refuse(command(TPM2_CC_PolicyRestart).handle(kPolicy1),
           probe(TPM2_CC_PolicyRestart, {kPolicy1}), 0x09A, 0x910);
    refuse(command(TPM2_CC_PolicyRestart).handle(0x03000005),
           probe(TPM2_CC_PolicyRestart, {0x03000005}), 0x910, 0x910);
    refuse(contextSave(kPolicy1), probe(TPM2_CC_ContextSave, {kPolicy1}), 0x09A, 0x910);
    refuse(contextSave(kHmac1), probe(TPM2_CC_ContextSave, {kHmac1}), 0x18B, 0x910);
    refuse(command(TPM2_CC_PolicySecret).handle(TPM2_RH_OWNER).handle(kPolicy1).auth({password()}),
           probe(TPM2_CC_PolicySecret, {TPM2_RH_OWNER, kPolicy1}), 0x09A, 0x911);
}

TEST_F(Isolation, WhatIsOutOfRangeIsForTheTpmToRefuse) {
    forward(readPublic(kObject3), readPublic(kPoison), 0x184, 0x184);
    forward(readPublic(0x80FFFFFF), readPublic(kPoison), 0x184, 0x184);
    forward(certify(kObject0, kObject3), certify(kObject1, kPoison), 0x284, 0x284);
    const Packet restart = command(TPM2_CC_PolicyRestart);
    forward(Packet(restart).handle(0x03000040), Packet(restart).handle(kPoisonPolicy), 0x184,
            0x184);
    refuse(certify(kObject1, kObject3), probe(TPM2_CC_Certify, {kObject0, kPoison}), 0x284, 0x284);
}

TEST_F(Isolation, AHandleThatWasEverGivenOutStaysInRange) {
    for (const TPM2_HANDLE physical : {kObject2, kObject3, 0x80000004u, 0x80000005u})
        object(*a, physical);
    ASSERT_EQ(exchange(*a, flushContext(0x80000004), flushContext(0x80000005)), response());
    refuse(readPublic(0x80000004), probe(TPM2_CC_ReadPublic, {kObject0}), 0x09A, 0x910);
    forward(readPublic(0x80000005), readPublic(kPoison), 0x184, 0x184);
}

// ---- The authorisation area

TEST_F(Isolation, ASessionOfAnotherSpaceIsAbsentForAuthorisation) {
    const Packet sent = unseal(kObject1, {{kPoisonPolicy}});
    forward(unseal(kObject0, {{kPolicy1}}), sent, 0x984, 0x918);
    forward(unseal(kObject0, {password(), {kPolicy1}}),
            unseal(kObject1, {password(), {kPoisonPolicy}}), 0xA84, 0x919);
    forward(unseal(kObject0, {{kHmac0}, {kPolicy2}, {0x02000005}}),
            unseal(kObject1, {{kHmac0}, {kPolicy2}, {kPoisonHmac}}), 0xB84, 0x91A);
}

TEST_F(Isolation, OnlyTheCodeOfThatSessionIsTranslated) {
    const Packet command = unseal(kObject0, {password(), {kPolicy1}});
    const Packet sent = unseal(kObject1, {password(), {kPoisonPolicy}});
    for (const TPM2_RC code : {0x984u, 0xB84u, 0x184u, 0x995u, 0x145u, 0x902u, 0x922u})
        forward(command, sent, code, code);
    // Nothing is translated when no handle was replaced.
    forward(unseal(kObject0, {{kHmac0}}), unseal(kObject1, {{kHmac0}}), 0x984, 0x984);
}

TEST_F(Isolation, AMalformedAuthorizationIsNoticedBeforeItsSession) {
    const auto entry = [](TPM2_HANDLE handle) {
        return std::vector<Auth>{password(), {handle, 0x19}};
    };
    forward(unseal(kObject0, entry(kPolicy1)), unseal(kObject1, entry(kPoisonPolicy)), 0xA84,
            0xAA1);
    const auto large = [](TPM2_HANDLE handle) {
        return std::vector<Auth>{{handle, 1, Bytes(65), {}}};
    };
    forward(unseal(kObject0, large(kPolicy1)), unseal(kObject1, large(kPoisonPolicy)), 0x984,
            0x995);
    const auto cut = [](TPM2_HANDLE object, TPM2_HANDLE handle) {
        return unseal(object, {password(), {handle}}).cut(14 + 4 + 9 + 6).putHandle(14, 15);
    };
    forward(cut(kObject0, kPolicy1), cut(kObject1, kPoisonPolicy), 0xA84, 0xA9A);
}

TEST_F(Isolation, BehindTheFirstForeignSessionNothingMatters) {
    forward(unseal(kObject0, {{kPolicy1, 0}, {kHmac1, 0}, {kHmac0, 0}}),
            unseal(kObject1, {{kPoisonPolicy, 0}, {kHmac1, 0}, {kHmac0, 0}}), 0x984, 0x918);
    EXPECT_TRUE(owns(*a, kHmac0, kHmac0));
}

TEST_F(Isolation, ASessionOutOfRangeIsForTheTpmToRefuse) {
    forward(unseal(kObject0, {{0x02000040}}), unseal(kObject1, {{kPoisonHmac}}), 0x984, 0x984);
    forward(unseal(kObject0, {{0x03FFFFFF}}), unseal(kObject1, {{kPoisonPolicy}}), 0x984, 0x984);
}

TEST_F(Isolation, OtherHandlesForAuthorisationAreLeftAlone) {
    for (const TPM2_HANDLE handle : {TPM2_RS_PW, TPM2_RH_NULL, 0u, kObject0, kPersistent})
        forward(unseal(kObject0, {{handle}}), unseal(kObject1, {{handle}}), 0x984, 0x984);
}

// ---- FlushContext

TEST_F(Isolation, FlushContextOfTheOwn) {
    EXPECT_EQ(exchange(*a, flushContext(kObject0), flushContext(kObject1)), response());
    refuse(readPublic(kObject0), probe(TPM2_CC_ReadPublic, {kObject0}), 0x09A, 0x910);
    pass(*a, flushContext(kHmac0));
    EXPECT_EQ(exchange(*a, unseal(kPersistent, {{kHmac0}}), unseal(kPersistent, {{kPoisonHmac}}),
                       response(0x984)),
              response(0x918));
    pass(*a, flushContext(kHmac2));  // by index, whatever the type
    EXPECT_EQ(ownership.sessions().size(), 1u);
}

TEST_F(Isolation, FlushContextThatFailsChangesNothing) {
    forward(flushContext(kObject0), flushContext(kObject1), 0x922, 0x922);
    forward(flushContext(kHmac0), flushContext(kHmac0), 0x922, 0x922);
    EXPECT_TRUE(owns(*a, kObject0, kObject1));
    EXPECT_TRUE(owns(*a, kHmac0, kHmac0));
}

TEST_F(Isolation, FlushContextOfAnothers) {
    forward(flushContext(kObject1), flushContext(kPoison), 0x1C4, 0x1CB);
    forward(flushContext(kPolicy1), flushContext(kPoisonPolicy), 0x1C4, 0x1CB);
    forward(flushContext(kHmac1), flushContext(kPoisonHmac), 0x1C4, 0x1CB);
    forward(flushContext(kPolicy1), flushContext(kPoisonPolicy), 0x922, 0x922);
    EXPECT_TRUE(owns(*b, kPolicy1, kPolicy1));
}

TEST_F(Isolation, FlushContextOutOfRange) {
    forward(flushContext(kObject3), flushContext(kPoison), 0x1C4, 0x1C4);
    forward(flushContext(0x02000040), flushContext(kPoisonHmac), 0x1C4, 0x1C4);
    forward(flushContext(kPersistent), flushContext(kPersistent), 0x1C4, 0x1C4);
    forward(flushContext(TPM2_RH_OWNER), flushContext(TPM2_RH_OWNER), 0x1C4, 0x1C4);
}

TEST_F(Isolation, FlushContextThatIsMalformed) {
    forward(flushContext(kObject1).cut(13), flushContext(kObject1).cut(13), 0x1DA, 0x1DA);
    forward(flushContext(kObject1).u8(0), flushContext(kPoison).u8(0), 0x1C4, 0x095);
    forward(flushContext(kObject0).u8(0), flushContext(kObject1).u8(0), 0x095, 0x095);
    const Packet authorized = command(TPM2_CC_FlushContext).auth({password()}).u32(kObject1);
    forward(authorized, authorized, 0x145, 0x145);
    EXPECT_TRUE(owns(*a, kObject0, kObject1));
}

// ---- What is no command

TEST_F(Isolation, AnotherTagIsForTheTpmToRefuse) {
    // Nothing behind the tag may do any harm on its way there.
    const Packet wild = unseal(kObject1).tag(0x1234);
    forward(wild, Packet(wild).cut(10), 0x084, 0x084);
    const Packet known = readPublic(kObject1).tag(TPM2_ST_RSP_COMMAND);
    forward(known, Packet(known).cut(10), 0x01E, 0x01E);
}

TEST_F(Isolation, ACommandLargerThanAnyIsRefused) {
    const size_t before = child.commands.size();
    EXPECT_EQ(a->send(getRandom().raw(Bytes(4085))), response(0x142));
    EXPECT_EQ(a->send(unseal(kObject0).raw(Bytes(70000))), response(0x142));
    EXPECT_EQ(child.commands.size(), before);
    const Packet wild = getRandom().raw(Bytes(5000)).tag(0x1234);
    forward(wild, Packet(wild).cut(10), 0x084, 0x084);
    const Packet largest = getRandom().raw(Bytes(4084));
    ASSERT_EQ(largest.length(), 4096u);
    forward(largest, largest, 0x095, 0x095);
}

// ---- Handle lists

TEST_F(Isolation, HandleListsAreTheSpacesOwn) {
    const auto list = [&](Client& client, TPM2_HANDLE first) {
        const Packet query = getCapability(TPM2_CAP_HANDLES, first, 99);
        return exchange(client, query, query, handleList({first, first + 1, first + 2}, true));
    };
    EXPECT_EQ(list(*a, kObject0), handleList({kObject0}));
    EXPECT_EQ(list(*b, kObject0), handleList({kObject0}));
    EXPECT_EQ(list(*a, 0x02000000), handleList({kHmac0, kPolicy2}));
    EXPECT_EQ(list(*b, 0x02000000), handleList({kPolicy1}));
    EXPECT_EQ(list(*a, 0x03000000), handleList({}));
    EXPECT_EQ(list(*a, 0x81000000), handleList({0x81000000, 0x81000001, 0x81000002}, true));
}

TEST_F(Isolation, AHandleListUnderAnHmacIsLeftAlone) {
    const Packet query = command(TPM2_CC_GetCapability)
                             .auth({{kHmac0, TPMA_SESSION_AUDIT | 1}})
                             .u32(TPM2_CAP_HANDLES)
                             .u32(kObject0)
                             .u32(99);
    pass(*a, query, handleList({kObject0, kObject1}).tag(TPM2_ST_SESSIONS));
}

TEST_F(Isolation, AFailedGetCapabilityIsLeftAlone) {
    pass(*a, getCapability(TPM2_CAP_HANDLES, 0x04000000, 1), response(0x2CB));
    pass(*a, getCapability(TPM2_CAP_HANDLES, kObject0, 1).cut(20), response(0x3DA));
    pass(*a, getCapability(TPM2_CAP_HANDLES, kObject0, 1), response(0x100));
}

}  // namespace
}  // namespace spaces::test
