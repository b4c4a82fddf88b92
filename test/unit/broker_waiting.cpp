// SPDX-License-Identifier: BSD-2-Clause
// Unit test of tpm/broker over a child that tells when it has something to give: poll handles,
// cancels that reach a waiting thread, signals; and over one that is busy.
// Always holds: threads wait for each other by events, never by time.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <latch>
#include <thread>

#include "unit/broker_test.h"

namespace spaces::test {
namespace {

class TellingChild : public BrokerTest {
  protected:
    void SetUp() override {
        child.tell();
        ASSERT_EQ(broker.connect(), TSS2_RC_SUCCESS);
    }

    FakeChild::Step& expectSlow(uint16_t number) { return expect(number).isSlow(); }

    static int handleOf(User& user) {
        int handle = -1;
        EXPECT_EQ(user.channel->pollHandle(handle), TSS2_RC_SUCCESS);
        return handle;
    }
    static bool readable(User& user) {
        pollfd watched{handleOf(user), POLLIN, 0};
        return poll(&watched, 1, 0) == 1;
    }
};

// ---- Poll handles

TEST_F(BrokerTest, AChildWithoutPollHandlesLeavesUsWithout) {
    ASSERT_EQ(broker.connect(), TSS2_RC_SUCCESS);
    int handle = -1;
    EXPECT_EQ(a.channel->pollHandle(handle), TSS2_TCTI_RC_NOT_IMPLEMENTED);
}

TEST_F(TellingChild, AHandleIsReadableFromTheResponseUntilItIsTaken) {
    expectSlow(1);
    EXPECT_FALSE(readable(a));
    a.submit({numbered(1)});
    EXPECT_FALSE(readable(a));
    EXPECT_FALSE(a.channel->wait(kNone));
    child.makeReady();
    EXPECT_TRUE(readable(a)) << "in the child";
    EXPECT_TRUE(a.channel->wait(kNone));
    EXPECT_TRUE(readable(a)) << "in our buffer";
    a.channel->taken();
    EXPECT_FALSE(readable(a));
    EXPECT_EQ(a.answers, answers({1}));
}

TEST_F(TellingChild, AHandleStaysTheSame) {
    const int first = handleOf(a);
    expect(1), expect(2).receiveFails(TSS2_TCTI_RC_IO_ERROR), expect(3);
    for (const uint16_t number : {1, 2, 3}) {
        a.submit({numbered(number)});
        EXPECT_TRUE(a.channel->wait(kBlock));
        EXPECT_EQ(handleOf(a), first);
        a.channel->taken();
    }
    EXPECT_NE(handleOf(b), first);
    EXPECT_EQ(child.opens, 2u);
}

TEST_F(TellingChild, WhoIsInLineIsWokenToTakeTheOthersResponse) {
    expectSlow(1), expectSlow(2);
    a.submit({numbered(1)}), b.submit({numbered(2)});
    EXPECT_FALSE(readable(b));
    child.makeReady();
    EXPECT_TRUE(readable(b)) << "its receive moves the line";
    EXPECT_FALSE(b.channel->wait(kNone));
    EXPECT_FALSE(readable(b));
    EXPECT_TRUE(readable(a)) << "another's receive took it from the child";
    EXPECT_TRUE(a.channel->wait(kNone));
    child.makeReady();
    EXPECT_TRUE(readable(b));
    EXPECT_TRUE(b.channel->wait(kNone));
    EXPECT_EQ(a.answers, answers({1}));
    EXPECT_EQ(b.answers, answers({2}));
}

TEST_F(TellingChild, WhoHasNothingToReceiveIsNotWoken) {
    expect(1);
    EXPECT_FALSE(readable(c));
    a.submit({numbered(1)});
    EXPECT_TRUE(readable(a));
    EXPECT_FALSE(readable(c));
    EXPECT_TRUE(a.channel->wait(kNone));
    EXPECT_FALSE(readable(c));
}

TEST_F(TellingChild, ATurnWithoutCommandsIsReadableAtOnce) {
    EXPECT_FALSE(readable(a));
    a.submit({});
    EXPECT_TRUE(readable(a));
}

TEST_F(TellingChild, ACanceledPlaceInLineIsReadable) {
    expectSlow(1);
    a.submit({numbered(1)}), b.submit({numbered(2)});
    EXPECT_FALSE(readable(b));
    EXPECT_EQ(b.channel->cancel(), TSS2_RC_SUCCESS);
    EXPECT_TRUE(readable(b));
    child.makeReady();
    EXPECT_TRUE(a.channel->wait(kBlock));
}

TEST_F(TellingChild, AHandleMayBeAskedForAtAnyTime) {
    expectSlow(1), expect(2);
    a.submit({numbered(1)});
    EXPECT_FALSE(readable(a)) << "asked for in the middle of a turn";
    child.makeReady();
    EXPECT_TRUE(readable(a));
    EXPECT_TRUE(a.channel->wait(kNone));
    b.submit({numbered(2)});
    EXPECT_TRUE(b.channel->wait(kNone));
    EXPECT_TRUE(readable(b)) << "asked for when it was over";
}

TEST_F(TellingChild, AHandleFollowsAChildThatIsOpenedAgain) {
    expect(1).receiveFails(TSS2_TCTI_RC_IO_ERROR), expectSlow(2);
    EXPECT_FALSE(readable(a));
    a.submit({numbered(1)}), b.submit({numbered(2)});
    EXPECT_TRUE(readable(a));
    EXPECT_TRUE(a.channel->wait(kNone));
    EXPECT_EQ(a.failures, std::vector{TSS2_RC{TSS2_TCTI_RC_IO_ERROR}});
    EXPECT_EQ(child.opens, 2u);
    EXPECT_FALSE(readable(b));
    child.makeReady();
    EXPECT_TRUE(readable(b));
    EXPECT_TRUE(b.channel->wait(kNone));
}

TEST_F(TellingChild, AHandleWorksInsideAnEventLoopOfEpoll) {
    const int loop = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{};
    event.events = EPOLLIN;
    ASSERT_EQ(epoll_ctl(loop, EPOLL_CTL_ADD, handleOf(a), &event), 0);
    expectSlow(1);
    a.submit({numbered(1)});
    EXPECT_EQ(epoll_wait(loop, &event, 1, 0), 0);
    child.makeReady();
    EXPECT_EQ(epoll_wait(loop, &event, 1, 0), 1);
    EXPECT_TRUE(a.channel->wait(kNone));
    a.channel->taken();
    EXPECT_EQ(epoll_wait(loop, &event, 1, 0), 0);
    close(loop);
}

/// A command that comes while a thread is in the child for another reason than a command is sent
/// by that thread: nobody's receive is needed to get it on its way.
TEST_F(TellingChild, ACommandThatComesInBetweenIsSentByWhoIsInTheChild) {
    std::latch asking(1), submitted(1);
    child.whileSettingLocality = [&] {
        child.whileSettingLocality = nullptr;
        asking.count_down();
        submitted.wait();
    };
    expect(1);
    std::thread other([&] { EXPECT_EQ(b.channel->tryLocality(0), TSS2_RC_SUCCESS); });
    asking.wait();
    a.submit({numbered(1)});
    submitted.count_down();
    other.join();
    EXPECT_EQ(child.commands.size(), 1u);
    EXPECT_TRUE(readable(a));
    EXPECT_TRUE(a.channel->wait(kNone));
}

/// The descriptor behind it is shared by both processes.
TEST_F(TellingChild, AForkedProcessLeavesThePollHandleAlone) {
    expectSlow(1), expect(2);
    a.submit({numbered(1)}), b.submit({numbered(2)});
    EXPECT_FALSE(readable(b));
    broker.beforeFork();
    const pid_t pid = fork();
    if (pid == 0) {
        broker.afterForkInChild();
        b.channel.reset();
        _exit(0);
    }
    broker.afterForkInParent();
    ASSERT_EQ(waitpid(pid, nullptr, 0), pid);
    EXPECT_FALSE(readable(b));
    child.makeReady();
    EXPECT_TRUE(readable(b));
    EXPECT_TRUE(b.channel->wait(kBlock));
}

// ---- Waiting

TEST_F(TellingChild, IsAskedOnlyWhenItHasSomethingAndThenMayTakeItsTime) {
    expectSlow(1);
    a.submit({numbered(1)});
    EXPECT_FALSE(a.channel->wait(kNone));
    EXPECT_FALSE(a.channel->wait(20));
    EXPECT_EQ(child.receives, 0u);
    child.makeReady();
    EXPECT_TRUE(a.channel->wait(kNone));
    EXPECT_EQ(child.timeouts, std::vector<int32_t>{kBlock});
}

void ignore(int) {}

TEST_F(TellingChild, ASignalInterruptsNothing) {
    struct sigaction action {
    }, before{};
    action.sa_handler = ignore;  // without SA_RESTART
    sigaction(SIGUSR1, &action, &before);
    expectSlow(1);
    a.submit({numbered(1)});
    const pthread_t waiting = pthread_self();
    std::thread other([&] {
        for (int i = 0; i < 50; ++i) {
            pthread_kill(waiting, SIGUSR1);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        child.makeReady();
    });
    EXPECT_TRUE(a.channel->wait(kBlock));
    other.join();
    EXPECT_EQ(a.answers, answers({1}));
    EXPECT_TRUE(a.failures.empty());
    sigaction(SIGUSR1, &before, nullptr);
}

// ---- Cancel

TEST_F(TellingChild, ACancelReachesTheThreadThatWaitsInTheChild) {
    expectSlow(1), expect(2);
    std::atomic<std::thread::id> canceledIn;
    child.whileCanceling = [&] {
        canceledIn = std::this_thread::get_id();
        child.makeReady();
    };
    a.submit({numbered(1)});
    b.submit({numbered(2)});
    std::thread driver([&] { EXPECT_TRUE(b.channel->wait(kBlock)); });
    const std::thread::id drivers = driver.get_id();
    EXPECT_EQ(a.channel->cancel(), TSS2_RC_SUCCESS);
    EXPECT_TRUE(a.channel->wait(kBlock)) << "the response is still owed";
    driver.join();
    EXPECT_EQ(child.cancels, 1u);
    EXPECT_EQ(a.answers, answers({1}));
    EXPECT_EQ(b.answers, answers({2}));
    // Whichever of the two was in the child first: both orders are right.
    EXPECT_TRUE(canceledIn == drivers || canceledIn == std::this_thread::get_id());
}

TEST_F(TellingChild, ACancelOfWhatIsOverByThenSucceeds) {
    std::latch receiving(1), canceling(1);
    expect(1).whileReceiving([&] {
        receiving.count_down();
        canceling.wait();
    });
    expect(2);
    a.submit({numbered(1)}), b.submit({numbered(2)});
    std::thread driver([&] { EXPECT_TRUE(b.channel->wait(kBlock)); });
    receiving.wait();
    std::thread canceler([&] {
        canceling.count_down();
        EXPECT_EQ(a.channel->cancel(), TSS2_RC_SUCCESS);
    });
    canceler.join();
    driver.join();
    EXPECT_EQ(a.answers, answers({1}));
    EXPECT_EQ(b.answers, answers({2}));
}

/// Whose first command alone is the client's.
class Probing : public User {
  public:
    using User::User;
    bool cancels() override {
        if (!answers.empty()) return false;
        asked.count_down();
        return true;
    }
    std::latch asked{1};
};

/// The response may be there before whoever waits for it learns of the cancel, and the turn go on.
TEST_F(TellingChild, ACancelDoesNotHitWhatTheTurnSendsNext) {
    Probing user(broker);
    std::thread canceler;
    expect(1).whileReceiving([&] {
        canceler = std::thread([&] { EXPECT_EQ(user.channel->cancel(), TSS2_RC_SUCCESS); });
        user.asked.wait();  // the canceler has the lock, and the response is past asking
    });
    expect(2);
    user.submit({numbered(1), numbered(2)});
    EXPECT_TRUE(user.channel->wait(kBlock));
    canceler.join();
    EXPECT_EQ(child.cancels, 0u);
    EXPECT_EQ(user.answers, answers({1, 2}));
}

TEST_F(BrokerTest, AChildThatCannotBeInterruptedCannotBeAskedToCancelMeanwhile) {
    std::latch receiving(1), canceled(1);
    expect(1).whileReceiving([&] {
        receiving.count_down();
        canceled.wait();
    });
    expect(2);
    a.submit({numbered(1)}), b.submit({numbered(2)});
    std::thread driver([&] { EXPECT_TRUE(b.channel->wait(kBlock)); });
    receiving.wait();
    EXPECT_EQ(a.channel->cancel(), TSS2_TCTI_RC_NOT_IMPLEMENTED);
    canceled.count_down();
    driver.join();
    EXPECT_EQ(child.cancels, 0u);
    EXPECT_EQ(a.answers, answers({1}));
}

TEST_F(BrokerTest, AResponseThatTheChildForgotIsTaken) {
    child.forgetsOnCancel = true;
    expect(1), expect(2);
    a.submit({numbered(1)}), b.submit({numbered(2)});
    EXPECT_EQ(a.channel->cancel(), TSS2_RC_SUCCESS);
    EXPECT_TRUE(a.channel->wait(kBlock));
    EXPECT_EQ(a.answers, answers({1}));
    EXPECT_TRUE(b.channel->wait(kBlock));
    EXPECT_EQ(b.answers, answers({2}));
    EXPECT_TRUE(a.failures.empty() && b.failures.empty());
    ASSERT_EQ(child.commands.size(), 3u);
    EXPECT_EQ(child.commands[1].length(), wire::kHeaderSize) << "refused for its tag";
    EXPECT_EQ(wire::get16(child.commands[1].all().data()), 0);
    EXPECT_EQ(child.opens, 2u) << "what was sent to get it must not be answered to anybody";
}

TEST(Capture, OfAResourceManagerDoesNotPassACancelOn) {
    FakeChild child("pcap:device:/dev/tpmrm0");
    tpm::Broker broker("pcap:device:/dev/tpmrm0");
    User a{broker};
    child.expect(numbered(1), response());
    a.submit({numbered(1)});
    EXPECT_EQ(a.channel->cancel(), TSS2_TCTI_RC_NOT_IMPLEMENTED);
    EXPECT_TRUE(a.channel->wait(kBlock));
    EXPECT_EQ(child.cancels, 0u);
}

TEST_F(BrokerTest, AUserThatSeesToACancelItselfKeepsItFromTheChild) {
    a.cancelable = false;
    expect(1);
    a.submit({numbered(1)});
    EXPECT_EQ(a.channel->cancel(), TSS2_RC_SUCCESS);
    EXPECT_TRUE(a.channel->wait(kBlock));
    EXPECT_EQ(child.cancels, 0u);
    EXPECT_EQ(a.canceledTurns, 0u);
}

// ---- A busy child

class BusyChild : public testing::Test {
  protected:
    /// From now on it does not open, until it was tried so often.
    void beBusy(int times) {
        child.openCode = TSS2_TCTI_RC_IO_ERROR;
        left = times;
        child.whileOpening = [this] {
            if (left-- == 0) child.openCode = TSS2_RC_SUCCESS;
        };
    }

    int left = 0;
    FakeChild child{"fake"};
    tpm::Broker broker{"fake", std::chrono::seconds(1000)};
    User a{broker}, b{broker};
};

TEST_F(BusyChild, IsTriedUntilItOpens) {
    beBusy(3);
    EXPECT_EQ(broker.connect(), TSS2_RC_SUCCESS);
    EXPECT_EQ(child.opens, 1u);
}

TEST_F(BrokerTest, WithoutPatienceABusyChildIsAnErrorAtOnce) {
    child.openCode = TSS2_TCTI_RC_IO_ERROR;
    int tried = 0;
    child.whileOpening = [&] { ++tried; };
    EXPECT_EQ(broker.connect(), TSS2_TCTI_RC_IO_ERROR);
    EXPECT_EQ(tried, 1);
}

TEST_F(BusyChild, WhoseLibraryIsNotThereIsAnErrorAtOnce) {
    child.openCode = TSS2_TCTI_RC_NOT_SUPPORTED;
    EXPECT_EQ(broker.connect(), TSS2_TCTI_RC_NOT_SUPPORTED);
}

TEST_F(BusyChild, HoldsACommandBackAndKeepsTimeouts) {
    child.expect(numbered(1), response().u16(1));
    beBusy(1000000);
    a.submit({numbered(1)});
    EXPECT_FALSE(a.channel->wait(kNone));
    EXPECT_FALSE(a.channel->wait(120));
    EXPECT_TRUE(child.commands.empty());
    beBusy(0);
    EXPECT_TRUE(a.channel->wait(kBlock));
    EXPECT_EQ(a.answers.size(), 1u);
}

TEST_F(BusyChild, ACommandThatWasHeldBackCanBeCanceled) {
    child.expect(numbered(2), response().u16(2));
    beBusy(1000000);
    a.submit({numbered(1)}), b.submit({numbered(2)});
    EXPECT_EQ(a.channel->cancel(), TSS2_RC_SUCCESS);
    EXPECT_EQ(a.canceledTurns, 1u);
    EXPECT_TRUE(a.channel->wait(kNone));
    beBusy(0);
    EXPECT_TRUE(b.channel->wait(kBlock));
    EXPECT_EQ(child.commands.size(), 1u) << "the other one's";
}

TEST_F(BusyChild, ACommandThatWasHeldBackCanLeave) {
    beBusy(1000000);
    a.submit({numbered(1)});
    EXPECT_TRUE(a.channel->withdraw());
    EXPECT_TRUE(a.channel->wait(kNone));
    beBusy(0);
    EXPECT_TRUE(child.commands.empty());
}

/// Asked for when the command is already held back, as ESAPI does; and tried once more by another.
TEST_F(BusyChild, WakesAnEventLoopThatComesLateOrToWhatAnotherOpened) {
    child.tell();
    ASSERT_EQ(broker.connect(), TSS2_RC_SUCCESS);
    for (const bool openedByAnother : {false, true}) {
        child.expect(numbered(1), response()).receiveFails(TSS2_TCTI_RC_IO_ERROR);
        child.expect(numbered(2), response());
        a.submit({numbered(1)});
        EXPECT_TRUE(a.channel->wait(kBlock));  // the connection is gone
        a.channel->taken();
        beBusy(openedByAnother ? 1 : 2);
        a.submit({numbered(2)});
        int handle = -1;
        ASSERT_EQ(a.channel->pollHandle(handle), TSS2_RC_SUCCESS);
        if (openedByAnother) {
            EXPECT_EQ(broker.connect(), TSS2_RC_SUCCESS);
            EXPECT_EQ(child.commands.back(), numbered(2)) << "sent by who opened it";
        }
        pollfd watched{handle, POLLIN, 0};
        do ASSERT_EQ(poll(&watched, 1, 10000), 1);
        while (!a.channel->wait(kNone));
        a.channel->taken();
    }
    EXPECT_EQ(a.answers.size(), 2u);
}

/// The time counts from the command, not from when the child was first found busy.
TEST_F(BrokerTest, PatienceIsForEachCommandAnew) {
    tpm::Broker patient("fake", std::chrono::seconds(1));
    User user{patient};
    child.openCode = TSS2_TCTI_RC_IO_ERROR;
    user.submit({numbered(1)});
    EXPECT_EQ(user.channel->cancel(), TSS2_RC_SUCCESS);
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));
    expect(2);
    user.submit({numbered(2)});
    EXPECT_FALSE(user.channel->wait(kNone)) << "it is held back, and not refused";
    child.openCode = TSS2_RC_SUCCESS;
    EXPECT_TRUE(user.channel->wait(kBlock));
    EXPECT_EQ(user.answers, answers({2}));
}

TEST_F(BusyChild, IsTriedAgainByAnEventLoop) {
    child.tell();
    ASSERT_EQ(broker.connect(), TSS2_RC_SUCCESS);
    int handle = -1;
    ASSERT_EQ(a.channel->pollHandle(handle), TSS2_RC_SUCCESS);
    child.expect(numbered(1), response()).receiveFails(TSS2_TCTI_RC_IO_ERROR);
    child.expect(numbered(2), response());
    a.submit({numbered(1)});
    EXPECT_TRUE(a.channel->wait(kBlock));  // the connection is gone
    a.channel->taken();
    beBusy(2);
    a.submit({numbered(2)});
    pollfd watched{handle, POLLIN, 0};
    while (!a.channel->wait(kNone)) ASSERT_EQ(poll(&watched, 1, -1), 1);
    EXPECT_EQ(a.answers.size(), 1u);
    a.channel->taken();
    EXPECT_EQ(poll(&watched, 1, 0), 0) << "no alarm is left";
}

TEST(ImpatientBroker, GivesUpAtItsTime) {
    FakeChild child("fake");
    tpm::Broker broker("fake", std::chrono::seconds(1));
    User a{broker};
    child.openCode = TSS2_TCTI_RC_IO_ERROR;
    a.submit({numbered(1)});
    EXPECT_TRUE(a.channel->wait(kBlock));
    EXPECT_EQ(a.failures, std::vector{TSS2_RC{TSS2_TCTI_RC_IO_ERROR}});
}

}  // namespace
}  // namespace spaces::test
