// SPDX-License-Identifier: BSD-2-Clause
// Unit test of wire/handle.
// Always holds: handles are written as numbers, as the specification's tables give them.
#include "wire/handle.h"

#include <gtest/gtest.h>

namespace spaces::wire {
namespace {

TEST(Handle, HasATypeAndAnIndex) {
    EXPECT_EQ(typeOf(0x81ABCDEF), 0x81000000u);
    EXPECT_EQ(indexOf(0x81ABCDEF), 0xABCDEFu);
}

TEST(Handle, TypesAreTold) {
    struct {
        TPM2_HANDLE handle;
        bool transient, persistent, session;
    } const cases[] = {
        {0x80000000, true, false, false},  {0x80FFFFFF, true, false, false},
        {0x81000000, false, true, false},  {0x81FFFFFF, false, true, false},
        {0x02000000, false, false, true},  {0x02FFFFFF, false, false, true},
        {0x03000000, false, false, true},  {0x03FFFFFF, false, false, true},
        {0x00000010, false, false, false}, {0x01000000, false, false, false},
        {0x04000000, false, false, false}, {0x40000001, false, false, false},
        {0x40000009, false, false, false}, {0x7FFFFFFF, false, false, false},
        {0x82000000, false, false, false}, {0xFFFFFFFF, false, false, false},
    };
    for (const auto& each : cases) {
        EXPECT_EQ(isTransient(each.handle), each.transient) << std::hex << each.handle;
        EXPECT_EQ(isPersistent(each.handle), each.persistent) << std::hex << each.handle;
        EXPECT_EQ(isSession(each.handle), each.session) << std::hex << each.handle;
    }
}

/// The last transient handle that a TPM may give out is 0x80FFFFFE, which none has slots for.
TEST(Handle, PoisonIsOfTheSameTypeAndNeverLive) {
    EXPECT_EQ(poisonOf(0x80000000), 0x80FFFFFEu);
    EXPECT_EQ(poisonOf(0x80FFFFFF), 0x80FFFFFEu);
    EXPECT_EQ(poisonOf(0x02000001), 0x02FFFFFEu);
    EXPECT_EQ(poisonOf(0x03000001), 0x03FFFFFEu);
}

TEST(Handle, BaseHierarchyOfEveryHierarchy) {
    struct {
        TPM2_HANDLE handle, base;
    } const cases[] = {
        {0x40000001, TPM2_RH_OWNER},
        {0x40000007, TPM2_RH_NULL},
        {0x4000000B, TPM2_RH_ENDORSEMENT},
        {0x4000000C, TPM2_RH_PLATFORM},
        {0x40000140, TPM2_RH_OWNER},
        {0x40000141, TPM2_RH_ENDORSEMENT},
        {0x40000142, TPM2_RH_PLATFORM},
        {0x40000143, TPM2_RH_NULL},
        {0x40010000, TPM2_RH_OWNER},
        {0x4001FFFF, TPM2_RH_OWNER},
        {0x40020007, TPM2_RH_ENDORSEMENT},
        {0x40030000, TPM2_RH_PLATFORM},
        {0x4004FFFF, TPM2_RH_NULL},
        // None: lockout, platform NV, password, PCR, objects, the numbers beside the ranges.
        {0x4000000A, 0},
        {0x4000000D, 0},
        {0x40000009, 0},
        {0x00000000, 0},
        {0x80000000, 0},
        {0x81000000, 0},
        {0x4000013F, 0},
        {0x40000144, 0},
        {0x40050000, 0},
        {0x40000000, 0},
    };
    for (const auto& each : cases)
        EXPECT_EQ(baseHierarchy(each.handle), each.base) << std::hex << each.handle;
}

}  // namespace
}  // namespace spaces::wire
