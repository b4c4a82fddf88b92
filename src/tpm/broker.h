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
// - `running_` has a command with the child; it is in no line.
// - A child TCTI that failed is closed: what state it is in cannot be known. The next command
//   opens it again.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>

#include "tpm/child.h"
#include "tpm/tpm.h"

namespace spaces::tpm {

class Broker final : public Tpm {
  public:
    explicit Broker(std::string child);

    /// Opens the child TCTI, unless it is open. Returns what it says.
    TSS2_RC connect();

    std::unique_ptr<Channel> open(User& user) override;
    bool isResourceManager() const override { return isResourceManager_; }
    unsigned epoch() const override { return epoch_; }

    const std::string& childName() const { return child_.nameAndConf(); }

  private:
    class Place;
    class Driving;
    using Lock = std::unique_lock<std::mutex>;

    void enqueue(Place& place);
    void remove(Place& place);

    /// All need the lock and `driven_`; they let the lock go around calls into the child.
    void advance(Lock& lock);
    void send(Lock& lock, const Exchange& exchange);
    TSS2_RC prepareChild(Lock& lock);
    TSS2_RC transmit(Lock& lock);
    bool receive(Lock& lock, int32_t timeout);
    TSS2_RC openChild(Lock& lock);
    TSS2_RC useLocality(Lock& lock, uint8_t locality);
    void breakConnection(Lock& lock, TSS2_RC rc);
    void fail(TSS2_RC rc);
    void endTurn();

    /// Waits until no thread is in the child, or until the deadline. False at the deadline.
    template <class Condition>
    bool sleepUntil(Lock& lock, std::optional<std::chrono::steady_clock::time_point> deadline,
                    Condition condition);

    const bool isResourceManager_;
    std::mutex mutex_;
    std::condition_variable changed_;
    Child child_;
    bool driven_ = false;
    bool everOpened_ = false;
    unsigned epoch_ = 0;
    uint8_t locality_ = 0;  // the last one set; a child TCTI starts at 0
    Place* first_ = nullptr;
    Place* last_ = nullptr;
    Place* running_ = nullptr;
    Exchange exchange_;  // what the child has now
};

}  // namespace spaces::tpm
