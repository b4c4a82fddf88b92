// SPDX-License-Identifier: BSD-2-Clause
// Unit test of swap/slots: what is believed of the TPM's slots, and when it is tried anew.
#include "swap/slots.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace spaces::test {
namespace {

using swap::Slots;

/// How many can be in use at once, as far as is believed; at most ten.
size_t believed(const Slots& slots) {
    size_t count = 0;
    while (count < 10 && slots.roomFor(count, 1)) ++count;
    return count;
}

/// How many have to leave until one more is tried than `from`.
unsigned evictionsUntilTry(Slots& slots, size_t from) {
    unsigned count = 0;
    while (believed(slots) == from && count < 10000) slots.evicted(), ++count;
    EXPECT_EQ(believed(slots), from + 1);
    return count;
}

TEST(SlotsTest, ThereIsRoomUntilTheTpmSaysOtherwise) {
    Slots slots;
    EXPECT_TRUE(slots.roomFor(1000, 1));
    slots.failed(3, 0);
    EXPECT_TRUE(slots.roomFor(1000, 1)) << "no slot was asked for";
    slots.failed(3, 1);
    EXPECT_EQ(believed(slots), 3u);
    slots.failed(1, 2);
    EXPECT_EQ(believed(slots), 2u);
    EXPECT_FALSE(slots.roomFor(1, 2));
    slots.worked(4);
    EXPECT_EQ(believed(slots), 4u) << "there they were";
    slots.worked(1);
    EXPECT_EQ(believed(slots), 4u) << "fewer say nothing";
}

TEST(SlotsTest, ALimitIsNeitherExceededNorTriedAt) {
    Slots slots(2);
    EXPECT_EQ(believed(slots), 2u);
    slots.worked(3);
    for (int i = 0; i < 10000; ++i) slots.evicted();
    EXPECT_EQ(believed(slots), 2u);
    slots.failed(1, 1);
    evictionsUntilTry(slots, 1);
    slots.worked(2);
    for (int i = 0; i < 10000; ++i) slots.evicted();
    EXPECT_EQ(believed(slots), 2u);
}

TEST(SlotsTest, OneMoreIsTriedTheMoreSeldomTheMoreOftenInVain) {
    Slots slots;
    slots.failed(3, 1);
    for (const unsigned interval : {64u, 128u, 256u, 512u, 1024u, 1024u, 1024u}) {
        EXPECT_EQ(evictionsUntilTry(slots, 3), interval);
        slots.failed(3, 1);
        EXPECT_EQ(believed(slots), 3u);
    }
}

TEST(SlotsTest, WhereOneWasFreeTheNextIsTriedSoon) {
    Slots slots;
    slots.failed(1, 1);
    evictionsUntilTry(slots, 1);
    slots.failed(1, 1);
    evictionsUntilTry(slots, 1);
    slots.failed(1, 1);
    EXPECT_EQ(evictionsUntilTry(slots, 1), 256u);
    slots.worked(2);
    EXPECT_EQ(evictionsUntilTry(slots, 2), 64u);
    slots.failed(2, 1);
    EXPECT_EQ(evictionsUntilTry(slots, 2), 128u);
}

/// It failed for want of more than one slot: nothing was tried.
TEST(SlotsTest, AFailureThatWasNoTryDoesNotDelayTheNext) {
    Slots slots;
    for (int i = 0; i < 5; ++i) slots.failed(3, 1);
    EXPECT_EQ(evictionsUntilTry(slots, 3), 64u);
}

TEST(SlotsTest, AfterAResetAllIsAsOnTheFirstDay) {
    for (const unsigned limit : {Slots::kUnlimited, 5u}) {
        Slots slots(limit);
        for (int i = 0; i < 3; ++i) {
            slots.failed(2, 1);
            evictionsUntilTry(slots, 2);
        }
        slots.failed(2, 1);
        slots.reset();
        EXPECT_EQ(believed(slots), std::min(limit, 10u));
        slots.failed(2, 1);
        EXPECT_EQ(evictionsUntilTry(slots, 2), 64u);
    }
}

}  // namespace
}  // namespace spaces::test
