// SPDX-License-Identifier: BSD-2-Clause
// Unit test of tpm/child over a fake child TCTI.
// Always holds: the fake itself fails the test for a size query, for too small a buffer, and when
// it is not closed as often as it was opened.
#include "tpm/child.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit/fake_child.h"

namespace spaces::test {
namespace {

class ChildTest : public testing::Test {
  protected:
    /// What receive answers to the response of one command; the response is in `buffer`.
    TSS2_RC exchange(const Packet& answer) {
        fake.expect(getRandom(), answer);
        EXPECT_EQ(child.transmit(getRandom().all()), TSS2_RC_SUCCESS);
        return child.receive(buffer, size, TSS2_TCTI_TIMEOUT_BLOCK);
    }

    FakeChild fake{"fake:conf"};
    tpm::Child child{"fake:conf"};
    std::array<uint8_t, wire::kMaxResponseSize> buffer{};
    size_t size = 0;
};

TEST_F(ChildTest, OpensOnceAndClosesOnce) {
    EXPECT_FALSE(child.isOpen());
    EXPECT_EQ(child.open(), TSS2_RC_SUCCESS);
    EXPECT_EQ(child.open(), TSS2_RC_SUCCESS);
    EXPECT_TRUE(child.isOpen());
    EXPECT_EQ(fake.opens, 1u);
    child.close();
    child.close();
    EXPECT_FALSE(child.isOpen());
    EXPECT_EQ(fake.closes, 1u);
    EXPECT_EQ(child.open(), TSS2_RC_SUCCESS);
    EXPECT_EQ(fake.opens, 2u);
}

TEST_F(ChildTest, SaysWhatTheLoaderSays) {
    fake.openCode = TSS2_TCTI_RC_NO_CONNECTION;
    EXPECT_EQ(child.open(), TSS2_TCTI_RC_NO_CONNECTION);
    EXPECT_FALSE(child.isOpen());
    EXPECT_EQ(tpm::Child("nobody").open(), TSS2_TCTI_RC_NOT_SUPPORTED);
    EXPECT_EQ(child.nameAndConf(), "fake:conf");
}

TEST_F(ChildTest, IsClosedWithTheObject) {
    {
        tpm::Child other("fake:conf");
        ASSERT_EQ(other.open(), TSS2_RC_SUCCESS);
    }
    EXPECT_EQ(fake.closes, 1u);
}

TEST_F(ChildTest, ReceivesOnceWithRoomForTheLargestResponse) {
    ASSERT_EQ(child.open(), TSS2_RC_SUCCESS);
    const Packet answer = response().raw(Bytes(4086, 7));
    ASSERT_EQ(exchange(answer), TSS2_RC_SUCCESS);
    EXPECT_EQ(fake.receives, 1u);
    EXPECT_EQ(Packet(Bytes(buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(size))), answer);
}

TEST_F(ChildTest, PassesTimeoutsOn) {
    ASSERT_EQ(child.open(), TSS2_RC_SUCCESS);
    fake.expect(getRandom(), response()).tryAgain(2);
    ASSERT_EQ(child.transmit(getRandom().all()), TSS2_RC_SUCCESS);
    EXPECT_EQ(child.receive(buffer, size, 0), TSS2_TCTI_RC_TRY_AGAIN);
    EXPECT_EQ(child.receive(buffer, size, 123), TSS2_TCTI_RC_TRY_AGAIN);
    EXPECT_EQ(child.receive(buffer, size, -1), TSS2_RC_SUCCESS);
    EXPECT_EQ(fake.timeouts, (std::vector<int32_t>{0, 123, -1}));
}

TEST_F(ChildTest, PassesFailuresOn) {
    ASSERT_EQ(child.open(), TSS2_RC_SUCCESS);
    fake.expect(getRandom(), response()).transmitFails(TSS2_TCTI_RC_IO_ERROR);
    EXPECT_EQ(child.transmit(getRandom().all()), TSS2_TCTI_RC_IO_ERROR);
    fake.expect(getRandom(), response()).receiveFails(TSS2_TCTI_RC_NO_CONNECTION);
    ASSERT_EQ(child.transmit(getRandom().all()), TSS2_RC_SUCCESS);
    EXPECT_EQ(child.receive(buffer, size, -1), TSS2_TCTI_RC_NO_CONNECTION);
}

TEST_F(ChildTest, WhatIsNoResponseIsMalformed) {
    ASSERT_EQ(child.open(), TSS2_RC_SUCCESS);
    const std::pair<const char*, Packet> cases[] = {
        {"nothing", Packet(Bytes())},
        {"less than a header", response().cut(9)},
        {"another tag", response().tag(0x1234)},
        {"size larger than what came", response().size(11)},
        {"size smaller than what came", response().u32(0).size(10)},
        {"larger than any response", response().raw(Bytes(5000))},
    };
    for (const auto& [what, answer] : cases)
        EXPECT_EQ(exchange(answer), TSS2_TCTI_RC_MALFORMED_RESPONSE) << what;
    EXPECT_EQ(exchange(response(0x1E).tag(TPM2_ST_RSP_COMMAND)), TSS2_RC_SUCCESS);
}

TEST_F(ChildTest, CancelsAndSetsLocalities) {
    ASSERT_EQ(child.open(), TSS2_RC_SUCCESS);
    fake.cancelCode = TSS2_TCTI_RC_NOT_IMPLEMENTED;
    EXPECT_EQ(child.cancel(), TSS2_TCTI_RC_NOT_IMPLEMENTED);
    fake.cancelCode = TSS2_RC_SUCCESS;
    EXPECT_EQ(child.cancel(), TSS2_RC_SUCCESS);
    EXPECT_EQ(child.cancel(), TSS2_RC_SUCCESS);
    EXPECT_EQ(fake.cancels, 2u) << "what has been canceled is not canceled again";
    EXPECT_EQ(child.setLocality(3), TSS2_RC_SUCCESS);
    fake.localityCode = TSS2_TCTI_RC_BAD_VALUE;
    EXPECT_EQ(child.setLocality(4), TSS2_TCTI_RC_BAD_VALUE);
    EXPECT_EQ(fake.localities, (std::vector<uint8_t>{3, 4}));
}

/// A device that a forked process had open still could not be opened by anybody else. The copy of
/// a connection is left alone.
TEST(ForkedChildTest, ClosesItsCopyOfADevice) {
    for (const auto& [name, closed] : {std::pair("device:conf", true), std::pair("fake", false)}) {
        FakeChild fake(name);
        fake.tell();
        tpm::Child child(name);
        ASSERT_EQ(child.open(), TSS2_RC_SUCCESS);
        const auto isThere = [&] { return fcntl(fake.pollHandle(), F_GETFD) >= 0; };
        const pid_t pid = fork();
        ASSERT_GE(pid, 0);
        if (pid == 0) {
            child.abandon();
            _exit(isThere() == closed || child.isOpen() ? 1 : 0);
        }
        int status = -1;
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        EXPECT_EQ(status, 0) << name;
        EXPECT_TRUE(isThere()) << "the parent's own";
    }
}

}  // namespace
}  // namespace spaces::test
