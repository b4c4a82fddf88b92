// SPDX-License-Identifier: BSD-2-Clause
// Unit test of tpm/broker: users that do as the test says, over a fake child TCTI.
// Always holds: the fake fails the test for two commands or two calls at once; threads wait for
// each other by events, never by time.
#include <unistd.h>

#include <latch>
#include <thread>

#include "unit/broker_test.h"

namespace spaces::test {
namespace {

TEST_F(BrokerTest, SendsOnSubmitAndReceivesOnWait) {
    expect(1);
    a.submit({numbered(1)});
    EXPECT_EQ(child.commands.size(), 1u);
    EXPECT_EQ(child.receives, 0u);
    EXPECT_TRUE(a.channel->wait(kBlock));
    EXPECT_EQ(a.answers, answers({1}));
    EXPECT_TRUE(a.channel->wait(kBlock)) << "over is over";
    EXPECT_EQ(child.receives, 1u);
}

TEST_F(BrokerTest, OpensTheChildOnce) {
    EXPECT_EQ(child.opens, 0u);
    EXPECT_EQ(broker.connect(), TSS2_RC_SUCCESS);
    EXPECT_EQ(broker.connect(), TSS2_RC_SUCCESS);
    expect(1);
    a.submit({numbered(1)});
    EXPECT_TRUE(a.channel->wait(kBlock));
    EXPECT_EQ(child.opens, 1u);
}

TEST_F(BrokerTest, ConnectSaysWhatTheChildSays) {
    child.openCode = TSS2_TCTI_RC_NOT_PERMITTED;
    EXPECT_EQ(broker.connect(), TSS2_TCTI_RC_NOT_PERMITTED);
    child.openCode = TSS2_RC_SUCCESS;
    EXPECT_EQ(broker.connect(), TSS2_RC_SUCCESS);
}

TEST_F(BrokerTest, ServesInTheOrderOfComing) {
    expect(1);
    expect(2);
    expect(3);
    a.submit({numbered(1)});
    b.submit({numbered(2)});
    c.submit({numbered(3)});
    EXPECT_EQ(child.commands.size(), 1u) << "one command at a time";
    EXPECT_TRUE(c.channel->wait(kBlock));
    EXPECT_EQ(a.answers, answers({1}));
    EXPECT_EQ(b.answers, answers({2}));
    EXPECT_EQ(c.answers, answers({3}));
}

TEST_F(BrokerTest, InterleavedUsersOfOneThreadNeverWaitForEachOther) {
    for (const uint16_t number : {1, 2, 3, 4}) expect(number);
    a.submit({numbered(1)});
    b.submit({numbered(2)});
    EXPECT_TRUE(b.channel->wait(kBlock));
    b.submit({numbered(3)});  // while a's response is still to be fetched
    EXPECT_TRUE(a.channel->wait(kBlock));
    a.submit({numbered(4)});
    EXPECT_TRUE(a.channel->wait(kBlock));
    EXPECT_TRUE(b.channel->wait(kBlock));
    EXPECT_EQ(a.answers, answers({1, 4}));
    EXPECT_EQ(b.answers, answers({2, 3}));
}

TEST_F(BrokerTest, ATurnIsNotInterrupted) {
    for (const uint16_t number : {1, 2, 3, 4}) expect(number);
    a.submit({numbered(1), numbered(2), numbered(3)});
    b.submit({numbered(4)});
    EXPECT_TRUE(b.channel->wait(kBlock));
    EXPECT_EQ(a.answers, answers({1, 2, 3}));
    EXPECT_EQ(a.turns, 1u);
}

TEST_F(BrokerTest, ATurnWithoutACommandIsOverAtOnce) {
    a.submit({});
    EXPECT_EQ(a.turns, 1u);
    EXPECT_TRUE(a.channel->wait(kNone));
    expect(1);
    b.submit({numbered(1)});
    c.submit({});
    EXPECT_TRUE(b.channel->wait(kBlock));
    EXPECT_TRUE(c.channel->wait(kNone));
    EXPECT_TRUE(child.commands.size() == 1);
}

TEST_F(BrokerTest, TimeoutsAreTheChilds) {
    expect(1).tryAgain(1);
    a.submit({numbered(1)});
    EXPECT_FALSE(a.channel->wait(kNone));
    EXPECT_EQ(child.timeouts, std::vector<int32_t>{0});
    EXPECT_TRUE(a.answers.empty());
    EXPECT_TRUE(a.channel->wait(kBlock));
    EXPECT_EQ(child.timeouts.back(), -1);
}

TEST_F(BrokerTest, WhoBlocksAsksAgainUntilTheResponseIsThere) {
    expect(1).tryAgain(20);
    a.submit({numbered(1)});
    EXPECT_TRUE(a.channel->wait(kBlock));
    EXPECT_EQ(child.receives, 21u);
}

TEST_F(BrokerTest, ATimeoutCountsForTheWholeWait) {
    expect(1).tryAgain(1000000);
    a.submit({numbered(1)});
    EXPECT_FALSE(a.channel->wait(1));
    EXPECT_TRUE(std::is_sorted(child.timeouts.rbegin(), child.timeouts.rend()))
        << "what is left becomes less";
    EXPECT_LE(child.timeouts.front(), 1);
    EXPECT_GE(child.timeouts.back(), 0);
    EXPECT_FALSE(a.channel->withdraw());
    child.makeReady();
    EXPECT_TRUE(a.channel->wait(kBlock));
}

TEST_F(BrokerTest, WithoutTimeALineMovesAsFarAsItCan) {
    expect(1);
    expect(2).tryAgain(1);
    a.submit({numbered(1)});
    b.submit({numbered(2)});
    EXPECT_FALSE(b.channel->wait(kNone));
    EXPECT_EQ(a.answers, answers({1}));
    EXPECT_TRUE(b.channel->wait(kNone));
}

TEST_F(BrokerTest, WhoIsInLineCanLeave) {
    expect(1);
    expect(3);
    a.submit({numbered(1)});
    b.submit({numbered(2)});
    c.submit({numbered(3)});
    EXPECT_TRUE(b.channel->withdraw());
    EXPECT_TRUE(b.channel->wait(kNone));
    EXPECT_TRUE(c.channel->wait(kBlock));
    EXPECT_EQ(b.turns, 0u);
    EXPECT_TRUE(c.channel->withdraw()) << "over";
}

TEST_F(BrokerTest, TheEndOfTheLineCanLeaveAndComeBack) {
    for (const uint16_t number : {1, 3, 2}) expect(number);
    a.submit({numbered(1)});
    b.submit({numbered(2)});
    EXPECT_TRUE(b.channel->withdraw());
    c.submit({numbered(3)});
    b.channel->submit();
    EXPECT_TRUE(b.channel->wait(kBlock));
    EXPECT_EQ(b.answers, answers({2}));
    EXPECT_EQ(c.answers, answers({3}));
}

TEST_F(BrokerTest, WhoIsRunningCannotLeave) {
    expect(1);
    a.submit({numbered(1)});
    EXPECT_FALSE(a.channel->withdraw());
    EXPECT_TRUE(a.channel->wait(kBlock));
    EXPECT_EQ(a.answers, answers({1}));
}

TEST_F(BrokerTest, CancelInLineNeverReachesTheChild) {
    expect(1);
    a.submit({numbered(1)});
    b.submit({numbered(2)});
    EXPECT_EQ(b.channel->cancel(), TSS2_RC_SUCCESS);
    EXPECT_EQ(b.canceledTurns, 1u);
    EXPECT_EQ(child.cancels, 0u);
    EXPECT_TRUE(b.channel->wait(kNone));
    EXPECT_EQ(b.turns, 0u);
    EXPECT_TRUE(a.channel->wait(kBlock));
}

TEST_F(BrokerTest, CancelOfARunningCommandIsTheChilds) {
    child.expect(numbered(1), response(TPM2_RC_CANCELED));
    a.submit({numbered(1)});
    b.submit({});
    EXPECT_EQ(a.channel->cancel(), TSS2_RC_SUCCESS);
    EXPECT_EQ(child.cancels, 1u);
    EXPECT_EQ(a.canceledTurns, 0u) << "the response is still owed";
    EXPECT_TRUE(b.channel->wait(kBlock));
    EXPECT_EQ(a.answers, std::vector<Packet>{response(TPM2_RC_CANCELED)});
    EXPECT_EQ(a.channel->cancel(), TSS2_RC_SUCCESS) << "nothing to cancel";
    EXPECT_EQ(child.cancels, 1u);
}

TEST_F(BrokerTest, CancelSaysWhatTheChildSays) {
    expect(1);
    child.cancelCode = TSS2_TCTI_RC_NOT_IMPLEMENTED;
    a.submit({numbered(1)});
    EXPECT_EQ(a.channel->cancel(), TSS2_TCTI_RC_NOT_IMPLEMENTED);
    EXPECT_TRUE(a.channel->wait(kBlock));
    EXPECT_EQ(a.answers, answers({1}));
}

TEST_F(BrokerTest, LocalityIsTheUsersAndSetOnlyWhenItDiffers) {
    b.atLocality = 3;
    expect(1).atLocality(0);
    expect(2).atLocality(3);
    expect(3).atLocality(3);
    expect(4).atLocality(0);
    a.submit({numbered(1)});
    b.submit({numbered(2), numbered(3)});
    c.submit({numbered(4)});
    EXPECT_TRUE(c.channel->wait(kBlock));
    EXPECT_EQ(child.localities, (std::vector<uint8_t>{3, 0}));
}

TEST_F(BrokerTest, ALocalityCanBeTriedWhenTheChildIsFree) {
    EXPECT_EQ(a.channel->tryLocality(2), TSS2_RC_SUCCESS);
    child.localityCode = TSS2_TCTI_RC_NOT_IMPLEMENTED;
    EXPECT_EQ(a.channel->tryLocality(1), TSS2_TCTI_RC_NOT_IMPLEMENTED);
    child.localityCode = TSS2_RC_SUCCESS;
    EXPECT_EQ(child.localities, (std::vector<uint8_t>{2, 1}));
    expect(1).atLocality(0);
    a.submit({numbered(1)});
    EXPECT_EQ(b.channel->tryLocality(1), TSS2_RC_SUCCESS) << "not now";
    EXPECT_EQ(child.localities, (std::vector<uint8_t>{2, 1, 0}));
    EXPECT_TRUE(a.channel->wait(kBlock));
}

TEST_F(BrokerTest, AChildThatWasOpenedAgainIsAtLocality0) {
    a.atLocality = 3;
    expect(1).atLocality(3).receiveFails(TSS2_TCTI_RC_IO_ERROR);
    expect(2).atLocality(3);
    a.submit({numbered(1)});
    EXPECT_TRUE(a.channel->wait(kBlock));
    a.submit({numbered(2)});
    EXPECT_TRUE(a.channel->wait(kBlock));
    EXPECT_EQ(child.localities, (std::vector<uint8_t>{3, 3}));
}

TEST_F(BrokerTest, ALocalityThatTheChildDoesNotHaveFailsItsUserAlone) {
    expect(1);
    expect(3);
    b.atLocality = 4;
    child.localityCode = TSS2_TCTI_RC_NOT_IMPLEMENTED;
    a.submit({numbered(1)});
    b.submit({numbered(2)});
    c.submit({numbered(3)});
    EXPECT_TRUE(c.channel->wait(kBlock));
    EXPECT_EQ(b.failures, std::vector<TSS2_RC>{TSS2_TCTI_RC_NOT_IMPLEMENTED});
    EXPECT_EQ(c.answers, answers({3}));
    EXPECT_EQ(child.closes, 0u) << "the child is as well as before";
}

/// A connection that breaks shows in whatever call comes next, which may be this one.
TEST_F(BrokerTest, AChildThatFailsOverALocalityIsOpenedAgain) {
    b.atLocality = 3;
    ASSERT_EQ(broker.connect(), TSS2_RC_SUCCESS);
    child.localityCode = TSS2_TCTI_RC_IO_ERROR;
    child.whileOpening = [this] { child.localityCode = TSS2_RC_SUCCESS; };
    b.submit({numbered(1)});
    EXPECT_TRUE(b.channel->wait(kBlock));
    EXPECT_EQ(b.failures, std::vector<TSS2_RC>{TSS2_TCTI_RC_IO_ERROR});
    expect(2).atLocality(3);
    b.submit({numbered(2)});
    EXPECT_TRUE(b.channel->wait(kBlock));
    EXPECT_EQ(b.answers, answers({2}));
    EXPECT_EQ(child.opens, 2u);
}

class Failing : public BrokerTest, public testing::WithParamInterface<bool> {
  protected:
    void fail(uint16_t number, TSS2_RC rc) {
        if (GetParam())
            expect(number).transmitFails(rc);
        else
            expect(number).receiveFails(rc);
    }
};

TEST_P(Failing, AChildIsClosedAndOpenedForTheNext) {
    fail(1, TSS2_TCTI_RC_IO_ERROR);
    expect(3);
    a.submit({numbered(1), numbered(2)});
    b.submit({numbered(3)});
    EXPECT_TRUE(a.channel->wait(kBlock));
    EXPECT_EQ(a.failures, std::vector<TSS2_RC>{TSS2_TCTI_RC_IO_ERROR});
    EXPECT_TRUE(b.channel->wait(kBlock));
    EXPECT_EQ(b.answers, answers({3}));
    EXPECT_TRUE(b.failures.empty());
    EXPECT_EQ(child.opens, 2u);
    EXPECT_EQ(child.closes, 1u);
}

TEST_P(Failing, AChildThatStaysAwayFailsEveryCommandUntilItIsBack) {
    fail(1, TSS2_TCTI_RC_NO_CONNECTION);
    expect(4);
    a.submit({numbered(1)});
    child.openCode = TSS2_TCTI_RC_IO_ERROR;
    EXPECT_TRUE(a.channel->wait(kBlock));
    a.submit({numbered(2)});
    EXPECT_TRUE(a.channel->wait(kBlock));
    a.submit({numbered(3)});
    EXPECT_TRUE(a.channel->wait(kBlock));
    EXPECT_EQ(a.failures, (std::vector<TSS2_RC>{TSS2_TCTI_RC_NO_CONNECTION, TSS2_TCTI_RC_IO_ERROR,
                                                TSS2_TCTI_RC_IO_ERROR}));
    child.openCode = TSS2_RC_SUCCESS;
    a.submit({numbered(4)});
    EXPECT_TRUE(a.channel->wait(kBlock));
    EXPECT_EQ(a.answers, answers({4}));
}

INSTANTIATE_TEST_SUITE_P(In, Failing, testing::Bool(),
                         [](const auto& info) { return info.param ? "transmit" : "receive"; });

TEST_F(BrokerTest, AMalformedResponseIsAFailure) {
    child.expect(numbered(1), response().size(11));
    expect(2);
    a.submit({numbered(1)});
    b.submit({numbered(2)});
    EXPECT_TRUE(b.channel->wait(kBlock));
    EXPECT_EQ(a.failures, std::vector<TSS2_RC>{TSS2_TCTI_RC_MALFORMED_RESPONSE});
    EXPECT_EQ(b.answers, answers({2}));
}

TEST_F(BrokerTest, AnOrdinaryChildKeepsWhatIsInTheTpmWhenItIsOpenedAgain) {
    EXPECT_FALSE(broker.isResourceManager());
    expect(1).receiveFails(TSS2_TCTI_RC_IO_ERROR);
    expect(2);
    a.submit({numbered(1)});
    a.channel->wait(kBlock);
    a.submit({numbered(2)});
    a.channel->wait(kBlock);
    EXPECT_EQ(broker.epoch(), 0u);
}

TEST(ResourceManager, IsKnownByItsName) {
    const auto is = [](const char* child) { return tpm::Broker(child).isResourceManager(); };
    for (const char* child :
         {"device:/dev/tpmrm0", "device:/dev/tpmrm1", "libtss2-tcti-device.so.0:/dev/tpmrm0",
          "/usr/lib/libtss2-tcti-device.so:/dev/tpmrm0", "tabrmd", "tabrmd:bus_type=session",
          "libtss2-tcti-tabrmd.so.0", "pcap:device:/dev/tpmrm0", "pcap:pcap:tabrmd"})
        EXPECT_TRUE(is(child)) << child;
    for (const char* child :
         {"device:/dev/tpm0", "swtpm", "swtpm:path=/dev/tpmrm0", "mssim:host=h,port=1",
          "pcap:swtpm", "cmd:cat /dev/tpmrm0", "pcap", "libtss2-tcti-swtpm.so.0"})
        EXPECT_FALSE(is(child)) << child;
    // Its default is the resource manager's device where there is one.
    EXPECT_EQ(is("device"), access("/dev/tpmrm0", R_OK | W_OK) == 0);
}

/// The connection is gone, and with it all that came through it: that must be known before the
/// next turn begins, and stay so afterwards.
TEST(ResourceManager, HasANewEpochBeforeTheTurnAfterAFailure) {
    FakeChild child("device:/dev/tpmrm9");
    tpm::Broker broker("device:/dev/tpmrm9");
    User a(broker);
    ASSERT_EQ(broker.connect(), TSS2_RC_SUCCESS);
    const unsigned before = broker.epoch();
    child.expect(numbered(1), response()).receiveFails(TSS2_TCTI_RC_IO_ERROR);
    a.submit({numbered(1)});
    a.channel->wait(kBlock);
    const unsigned after = broker.epoch();
    EXPECT_NE(after, before) << "the next turn would begin with what is gone";
    child.expect(numbered(2), response());
    a.submit({numbered(2)});
    a.channel->wait(kBlock);
    EXPECT_EQ(broker.epoch(), after) << "what the turn made would be forgotten";
}

// ---- Several threads

TEST_F(BrokerTest, ThreadsShareTheTpmOneCommandAtATime) {
    constexpr int kThreads = 4, kTurns = 300;
    std::atomic<unsigned> count = 0;
    child.serve([](const Packet& command) {
        return response().u16(static_cast<uint16_t>(command.all()[10] << 8 | command.all()[11]));
    });
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t)
        threads.emplace_back([this, t, &count] {
            User user(broker);
            user.atLocality = static_cast<uint8_t>(t % 2);
            for (int i = 0; i < kTurns; ++i) {
                const auto number = static_cast<uint16_t>(t * 1000 + i);
                user.submit({numbered(number), numbered(number)});
                while (!user.channel->wait(i % 3 == 0 ? kNone : i % 3 == 1 ? 1 : kBlock)) {
                }
                ASSERT_EQ(user.answers, answers({number, number}));
                user.answers.clear();
                ++count;
            }
        });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(count, unsigned{kThreads * kTurns});
}

TEST_F(BrokerTest, AThreadThatWaitsInTheChildServesTheOthers) {
    std::latch inChild(1), submitted(1);
    expect(1).whileReceiving([&] {
        inChild.count_down();
        submitted.wait();
    });
    expect(2);
    a.submit({numbered(1)});
    std::thread driver([&] { EXPECT_TRUE(a.channel->wait(kBlock)); });
    inChild.wait();
    b.submit({numbered(2)});  // does not wait for a's response
    EXPECT_FALSE(b.channel->wait(kNone));
    submitted.count_down();
    EXPECT_TRUE(b.channel->wait(kBlock));
    driver.join();
    EXPECT_EQ(a.answers, answers({1}));
    EXPECT_EQ(b.answers, answers({2}));
}

TEST_F(BrokerTest, AThreadInLineCanLeaveWhileAnotherIsInTheChild) {
    std::latch inChild(1), done(1);
    expect(1).whileReceiving([&] {
        inChild.count_down();
        done.wait();
    });
    a.submit({numbered(1)});
    std::thread driver([&] { EXPECT_TRUE(a.channel->wait(kBlock)); });
    inChild.wait();
    b.submit({numbered(2)});
    c.submit({numbered(3)});
    EXPECT_TRUE(b.channel->withdraw());
    EXPECT_EQ(c.channel->cancel(), TSS2_RC_SUCCESS);
    EXPECT_EQ(c.canceledTurns, 1u);
    done.count_down();
    driver.join();
    EXPECT_EQ(child.commands.size(), 1u);
}

TEST_F(BrokerTest, AContextCanBeOpenedWhileAnotherThreadIsInTheChild) {
    std::latch inChild(1), done(1);
    expect(1).whileReceiving([&] {
        inChild.count_down();
        done.wait();
    });
    a.submit({numbered(1)});
    std::thread driver([&] { EXPECT_TRUE(a.channel->wait(kBlock)); });
    inChild.wait();
    EXPECT_EQ(broker.connect(), TSS2_RC_SUCCESS);
    EXPECT_EQ(b.channel->tryLocality(0), TSS2_RC_SUCCESS);
    done.count_down();
    driver.join();
    EXPECT_EQ(child.opens, 1u);
}

TEST_F(BrokerTest, ACommandWaitsWhileAnotherThreadOpensTheChild) {
    std::latch opening(1), submitted(1);
    child.whileOpening = [&] {
        child.whileOpening = nullptr;
        opening.count_down();
        submitted.wait();
    };
    expect(1);
    std::thread opener([&] { EXPECT_EQ(broker.connect(), TSS2_RC_SUCCESS); });
    opening.wait();
    a.submit({numbered(1)});
    submitted.count_down();
    EXPECT_TRUE(a.channel->wait(kBlock));
    opener.join();
    EXPECT_EQ(a.answers, answers({1}));
    EXPECT_EQ(child.opens, 1u);
}

TEST_F(BrokerTest, ThreadsComeAndGoWhileTheChildFailsNowAndThen) {
    constexpr int kThreads = 4, kTurns = 200;
    std::atomic<unsigned> answered = 0, failed = 0, left = 0;
    unsigned served = 0;
    child.serve([&served](const Packet&) {
        // A malformed response, which closes the child.
        return ++served % 17 == 0 ? response().size(11) : response();
    });
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t)
        threads.emplace_back([&] {
            User user(broker);
            for (int i = 0; i < kTurns; ++i) {
                user.submit({numbered(1)});
                if (i % 5 == 0) user.channel->withdraw();
                EXPECT_TRUE(user.channel->wait(kBlock));
            }
            answered += static_cast<unsigned>(user.answers.size());
            failed += static_cast<unsigned>(user.failures.size());
            left += kTurns - user.turns;
        });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(answered + failed, served);
    EXPECT_EQ(failed, served / 17);
    EXPECT_GE(left + answered + failed, unsigned{kThreads * kTurns});
}

}  // namespace
}  // namespace spaces::test
