// SPDX-License-Identifier: BSD-2-Clause
// Unit test of space/holding.
// Always holds: physical handles differ from virtual ones, so that no mix-up stays unseen.
#include "space/holding.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace spaces::space {
namespace {

constexpr TPM2_HANDLE kFirst = 0x80000000;

Object object(uint32_t number) { return {0x80000100 + number, TPM2_RH_OWNER}; }

TEST(Holding, StartsEmpty) {
    const Holding holding;
    EXPECT_EQ(holding.count(), 0u);
    EXPECT_EQ(holding.everUsed(), 0u);
    EXPECT_EQ(holding.find(kFirst), nullptr);
    EXPECT_EQ(holding.next(kFirst), 0u);
}

TEST(Holding, GivesTheLowestFreeHandle) {
    Holding holding;
    for (uint32_t i = 0; i < 4; ++i) EXPECT_EQ(holding.add(object(i)), kFirst + i);
    holding.remove(kFirst + 2);
    holding.remove(kFirst + 1);
    EXPECT_EQ(holding.add(object(5)), kFirst + 1);
    EXPECT_EQ(holding.add(object(6)), kFirst + 2);
    EXPECT_EQ(holding.add(object(7)), kFirst + 4);
    holding.remove(kFirst);
    EXPECT_EQ(holding.add(object(8)), kFirst);
}

/// As a TPM that has put a command's persistent objects into its lowest free slots meanwhile.
TEST(Holding, PassesOverFreeHandles) {
    Holding holding;
    EXPECT_EQ(holding.add(object(0), 2), kFirst + 2);
    EXPECT_EQ(holding.everUsed(), 3u);
    EXPECT_EQ(holding.count(), 1u);
    EXPECT_EQ(holding.add(object(1), 1), kFirst + 1);
    EXPECT_EQ(holding.add(object(2), 1), kFirst + 3) << "0 is passed over, 1 and 2 are taken";
    EXPECT_EQ(holding.add(object(3)), kFirst);
    EXPECT_EQ(holding.next(kFirst), kFirst);
    EXPECT_EQ(holding.count(), 4u);
    EXPECT_EQ(holding.add(object(4)), kFirst + 4);
}

TEST(Holding, FindsWhatItHasAndNothingElse) {
    Holding holding;
    holding.add(object(0));
    holding.add({0x80000101, TPM2_RH_NULL});
    ASSERT_NE(holding.find(kFirst + 1), nullptr);
    EXPECT_EQ(holding.find(kFirst + 1)->physical, 0x80000101u);
    EXPECT_EQ(holding.find(kFirst + 1)->hierarchy, TPM2_RH_NULL);
    EXPECT_EQ(holding.find(kFirst + 2), nullptr);
    EXPECT_EQ(holding.find(0x80000101), nullptr) << "a physical handle";
    for (const TPM2_HANDLE other : {0x00000000u, 0x81000000u, 0x02000000u, 0x03000001u})
        EXPECT_EQ(holding.find(other), nullptr) << "the same index of another type";
    holding.remove(kFirst);
    EXPECT_EQ(holding.find(kFirst), nullptr);
}

TEST(Holding, RemembersHowFarItEverCounted) {
    Holding holding;
    for (uint32_t i = 0; i < 5; ++i) holding.add(object(i));
    for (uint32_t i = 0; i < 5; ++i) holding.remove(kFirst + i);
    EXPECT_EQ(holding.count(), 0u);
    EXPECT_EQ(holding.everUsed(), 5u);
}

TEST(Holding, WalksItsObjectsInOrder) {
    Holding holding;
    for (uint32_t i = 0; i < 5; ++i) holding.add(object(i));
    holding.remove(kFirst + 1);
    holding.remove(kFirst + 4);
    EXPECT_EQ(holding.next(kFirst), kFirst);
    EXPECT_EQ(holding.next(kFirst + 1), kFirst + 2);
    EXPECT_EQ(holding.next(kFirst + 3), kFirst + 3);
    EXPECT_EQ(holding.next(kFirst + 4), 0u);
    EXPECT_EQ(holding.next(kFirst + 0xFFFFFF), 0u);
}

/// Against a map that does the same slowly.
TEST(Holding, CountsAsAMapWould) {
    std::mt19937 random(1);
    Holding holding;
    std::map<TPM2_HANDLE, uint32_t> model;
    for (uint32_t round = 0; round < 5000; ++round) {
        const TPM2_HANDLE at = kFirst + random() % 20;
        if (random() % 2 == 0) {
            TPM2_HANDLE lowest = kFirst;
            while (model.contains(lowest)) ++lowest;
            ASSERT_EQ(holding.add(object(round)), lowest);
            model[lowest] = round;
        } else if (model.contains(at)) {
            holding.remove(at);
            model.erase(at);
        }
        ASSERT_EQ(holding.count(), model.size());
        const auto next = model.lower_bound(at);
        ASSERT_EQ(holding.next(at), next == model.end() ? 0 : next->first);
        for (const auto& [handle, number] : model)
            ASSERT_EQ(holding.find(handle)->physical, object(number).physical);
    }
}

}  // namespace
}  // namespace spaces::space
