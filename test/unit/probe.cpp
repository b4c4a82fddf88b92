// SPDX-License-Identifier: BSD-2-Clause
// Unit test of space/probe.
// Always holds: codes are written as numbers, as the reference TPM gives them.
#include "space/probe.h"

#include <gtest/gtest.h>

#include "unit/packets.h"

namespace spaces::test {
namespace {

using space::Probe;

Packet made(Probe& probe) { return Packet(Bytes(probe.bytes().begin(), probe.bytes().end())); }

TEST(Probe, OfACodeIsAHeader) {
    Probe under;
    under.ofCode(0x20000123);
    EXPECT_EQ(made(under), probe(0x20000123));
}

TEST(Probe, OfPresenceNamesOneHandle) {
    Probe under;
    under.ofPresence(0x80000002);
    EXPECT_EQ(made(under), probe(TPM2_CC_ContextSave, {0x80000002}));
}

TEST(Probe, OfHandlesTakesThemAsTheyAre) {
    Probe under;
    const auto of = [&under](Packet packet, size_t handles) {
        Bytes octets = packet;
        under.ofHandles(wire::Command(octets), handles);
        return made(under);
    };
    const TPM2_HANDLE first = 0x80000001, second = 0x02000000;
    EXPECT_EQ(of(certify(first, second), 2), probe(TPM2_CC_Certify, {first, second}));
    EXPECT_EQ(of(certify(first, second).tag(TPM2_ST_NO_SESSIONS), 2),
              probe(TPM2_CC_Certify, {first, second}));
    EXPECT_EQ(of(certify(first, second).cut(15), 2), probe(TPM2_CC_Certify, {first}).u8(2))
        << "a cut handle stays cut";
    EXPECT_EQ(of(certify(first, second).cut(10), 2), probe(TPM2_CC_Certify));
    EXPECT_EQ(of(certify(first, second), 1), probe(TPM2_CC_Certify, {first}))
        << "a shorter probe after a longer one";
    const Packet three = command(TPM2_CC_NV_Certify).handle(1).handle(2).handle(3);
    EXPECT_EQ(of(three, 3), probe(TPM2_CC_NV_Certify, {1, 2, 3}));
}

TEST(Probe, HandlesCanBeReplaced) {
    Probe under;
    Bytes octets = certify(0x80000001, 0x80000002);
    under.ofHandles(wire::Command(octets), 2);
    under.setHandle(1, 0x80FFFFFE);
    EXPECT_EQ(made(under), probe(TPM2_CC_Certify, {0x80000001, 0x80FFFFFE}));
    EXPECT_EQ(Packet(octets), certify(0x80000001, 0x80000002)) << "the command stays as it is";
}

TEST(Probe, SaysHowManyHandlesItHas) {
    Probe under;
    under.ofCode(0x20000123);
    EXPECT_EQ(under.attributes().handles, 0);
    under.ofPresence(0x80000000);
    EXPECT_EQ(under.attributes().handles, 1);
    Bytes octets = certify(0x80000001, 0x80000002).cut(17);
    under.ofHandles(wire::Command(octets), 2);
    EXPECT_EQ(under.attributes().handles, 1) << "the last one is cut";
}

TEST(Probe, AcceptableHandlesAreTold) {
    for (const TPM2_RC code : {0x09Au, 0x095u, 0x144u, 0x145u, 0x142u})
        EXPECT_TRUE(space::handlesAcceptable(code)) << std::hex << code;
    for (const TPM2_RC code :
         {0x000u, 0x100u, 0x101u, 0x12Du, 0x143u, 0x184u, 0x19Au, 0x195u, 0x902u, 0x910u, 0x918u})
        EXPECT_FALSE(space::handlesAcceptable(code)) << std::hex << code;
}

/// [handle, absent handle, handle] of NV_Certify, or [persistent, absent, persistent].
TPM2_RC meaning(TPM2_RC answer, TPM2_HANDLE first = 0x80000000) {
    Bytes octets = command(TPM2_CC_NV_Certify).handle(first).handle(0x80000001).handle(0x81000001);
    return space::precedence(answer, wire::Command(octets), 1, 0x911);
}

TEST(Precedence, AbsenceCountsWhenAllElseIsAcceptable) {
    EXPECT_EQ(meaning(0x09A), 0x911u);
    EXPECT_EQ(meaning(0x095), 0x911u);
    EXPECT_EQ(meaning(0x145), 0x911u);
}

TEST(Precedence, WrongTypesComeFirstWhereverTheyAre) {
    for (const TPM2_RC code : {0x184u, 0x284u, 0x384u, 0x19Au, 0x29Au, 0x39Au})
        EXPECT_EQ(meaning(code), code) << std::hex << code;
}

TEST(Precedence, AbsenceBeforeComesFirst) {
    for (const TPM2_RC code : {0x910u, 0x18Bu, 0x185u})
        EXPECT_EQ(meaning(code), code) << std::hex << code;
}

TEST(Precedence, AbsenceThereOrBehindIsTheVerdict) {
    for (const TPM2_RC code : {0x911u, 0x912u, 0x28Bu, 0x38Bu, 0x285u, 0x385u})
        EXPECT_EQ(meaning(code), 0x911u) << std::hex << code;
}

TEST(Precedence, NoSlotForAPersistentObjectCountsOnlyBefore) {
    EXPECT_EQ(meaning(0x902, 0x81000002), 0x902u);
    EXPECT_EQ(meaning(0x902, 0x80000000), 0x911u) << "the persistent one is behind";
}

TEST(Precedence, WhatIsNotAboutHandlesComesFirstOfAll) {
    for (const TPM2_RC code : {0x100u, 0x101u, 0x143u, 0x12Du, 0x922u, 0x90Au, 0x908u, 0x909u})
        EXPECT_EQ(meaning(code), code) << std::hex << code;
}

}  // namespace
}  // namespace spaces::test
