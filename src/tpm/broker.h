// SPDX-License-Identifier: BSD-2-Clause
// The one TPM behind: a child TCTI and the line before it (in the terms of the TCG's TAB and
// Resource Manager specification, the access broker).
//
// How it moves: nothing happens in the background. Whoever submits a command to a free TPM sends
// it; whoever waits drives the TPM: takes the running command's response, whosever it is, and
// sends the next in line, until its own turn is over. So two users interleaved in one thread
// never wait for each other, and in several threads one drives while the others sleep.
//
// Always holds:
// - `mutex_` guards everything here and all calls to users; it is let go around every call into
//   the child TCTI, which may take long. `driven_` says that a thread is in such a call, and only
//   the thread that set it touches `child_`.
// - `running_` has a command with the child, or one that waits for a busy child (`!sent_`); it is
//   in no line. When nobody drives and somebody is in line, somebody is running.
// - A child TCTI that failed is closed: what state it is in cannot be known. The next command
//   opens it again.
#pragma once

#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>

#include "log/trace.h"
#include "tpm/child.h"
#include "tpm/diagnosis.h"
#include "tpm/readiness.h"
#include "tpm/tpm.h"

namespace spaces::tpm {

class Broker final : public Tpm {
  public:
    /// `patience`: how long a child that is busy is tried again before that is an error. `trace`,
    /// if there is one, outlives the broker.
    explicit Broker(std::string child, std::chrono::seconds patience = {},
                    log::Trace* trace = nullptr);
    ~Broker() override;

    /// Opens the child TCTI, unless it is open. Returns what it says; why it does not open goes to
    /// `advice` if that is given, to the log otherwise.
    TSS2_RC connect(std::string* advice = nullptr);

    std::unique_ptr<Channel> open(User& user) override;
    bool isResourceManager() const override { return isResourceManager_; }
    unsigned epoch() const override { return epoch_; }

    const std::string& childName() const { return child_.nameAndConf(); }

    // Around fork(), so that the forked process finds everything in a state in which it can at
    // least be destroyed.
    void beforeFork();
    void afterForkInParent();
    /// Here the child TCTI is the parent's: nothing of it is called any more.
    void afterForkInChild();

  private:
    class Place;
    class Driving;
    class Deadline;
    using Lock = std::unique_lock<std::mutex>;
    using Clock = std::chrono::steady_clock;

    void enqueue(Place& place);
    void remove(Place& place);

    /// All need the lock and `driven_`; they let the lock go around calls into the child.
    void advance(Lock& lock);
    void send(Lock& lock, const Exchange& exchange);
    void trySending(Lock& lock);
    void answerTooLarge(Lock& lock);
    TSS2_RC prepareChild(Lock& lock);
    TSS2_RC transmit(Lock& lock);
    bool move(Lock& lock, const Deadline& deadline);
    bool retry(Lock& lock, const Deadline& deadline);
    bool receive(Lock& lock, int32_t timeout);
    TSS2_RC openChild(Lock& lock, Clock::time_point giveUpAt, std::string* advice = nullptr);
    void childOpened();
    void childNotOpened(TSS2_RC rc, Clock::time_point giveUpAt, std::string* advice);
    void closeChild(Lock& lock);
    TSS2_RC useLocality(Lock& lock, uint8_t locality);
    TSS2_RC cancelInChild(Lock& lock);
    void addToTrace(size_t responseSize) const;
    void breakConnection(Lock& lock, TSS2_RC rc);
    void fail(TSS2_RC rc);
    void endTurn();

    /// These need the lock alone.
    TSS2_RC cancelRunning(Lock& lock);
    void takeBack(Lock& lock);
    TSS2_RC watchProgress();

    template <class Call>
    TSS2_RC call(Lock& lock, Call intoTheChild);

    /// Waits for the condition, or until the deadline. False at the deadline.
    template <class Condition>
    bool sleepUntil(Lock& lock, std::optional<Clock::time_point> deadline, Condition condition);

    const bool isResourceManager_;
    const std::chrono::seconds patience_;
    log::Trace* const trace_;
    std::mutex mutex_;
    std::condition_variable changed_;
    Child child_;
    Progress progress_;
    bool driven_ = false;
    bool calling_ = false;  // `caller_` is in the child at this moment
    pthread_t caller_{};
    bool forking_ = false;  // a thread waits to fork: nobody goes into the child
    bool everOpened_ = false;
    unsigned epoch_ = 0;
    uint8_t locality_ = 0;  // the last one set; a child TCTI starts at 0
    Place* first_ = nullptr;
    Place* last_ = nullptr;
    Place* running_ = nullptr;
    Exchange exchange_;         // what the child has now, or is to have
    bool sent_ = false;         // it has
    bool heldBack_ = false;     // it is busy, and has not
    Clock::time_point sentAt_;  // for the trace

    bool tells_ = false;      // the child has poll handles,
    bool watchable_ = false;  // and is neither closed, nor about to open or close
    Descriptor interruption_;

    // A child in somebody else's hands.
    std::optional<Diagnosis> busy_;  // since it was first found so
    bool triedAgain_ = false;        // it is, at
    Clock::time_point retryAt_;
    Clock::time_point giveUpAt_;  // for the running command

    bool abandoned_ = false;  // this is a forked process

    unsigned canceling_ = 0;  // cancels that wait until it is one or the other

    // A cancel that the thread in the child is asked to pass on.
    bool cancelWanted_ = false;
    TSS2_RC cancelAnswer_ = TSS2_RC_SUCCESS;
};

}  // namespace spaces::tpm
