// SPDX-License-Identifier: BSD-2-Clause
// The line before the TPM and how it moves; see broker.h.
#include "tpm/broker.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <new>

#include "log/log.h"
#include "tpm/child_name.h"
#include "wire/command.h"

namespace spaces::tpm {
namespace {

/// The kernel's resource manager says so itself of a command that the TPM does not have.
constexpr TPM2_RC kUnknownToManager = TSS2_RESMGR_RC_LAYER | TPM2_RC_COMMAND_CODE;

constexpr auto kRetryInterval = std::chrono::milliseconds(50);

/// The children that are resource managers: the kernel's, by its device name, also where the
/// device TCTI chooses it by default, and tpm2-abrmd.
bool isManager(const ChildName& child) {
    if (child.is("tabrmd")) return true;
    if (!child.is("device")) return false;
    if (child.conf().empty()) return access("/dev/tpmrm0", R_OK | W_OK) == 0;
    return child.conf().starts_with("/dev/tpmrm");
}

}  // namespace

/// The end of a wait; none for one that blocks.
class Broker::Deadline {
  public:
    explicit Deadline(int32_t timeout) {
        if (timeout > 0) at_ = Clock::now() + std::chrono::milliseconds(timeout);
        expired_ = timeout == TSS2_TCTI_TIMEOUT_NONE;
        if (expired_) at_ = Clock::time_point{};
    }

    std::optional<Clock::time_point> at() const { return at_; }

    bool passed() const { return expired_ || (at_ && Clock::now() >= *at_); }

    /// What is left, as a timeout for the child TCTI.
    int32_t remaining() const {
        if (expired_) return TSS2_TCTI_TIMEOUT_NONE;
        if (!at_) return TSS2_TCTI_TIMEOUT_BLOCK;
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(*at_ - Clock::now());
        return static_cast<int32_t>(std::max<int64_t>(left.count(), 0));
    }

  private:
    std::optional<Clock::time_point> at_;
    bool expired_ = false;
};

/// One user's place.
class Broker::Place final : public Channel {
  public:
    Place(Broker& broker, User& user) : broker_(broker), user(user) {}
    ~Place() override {
        Place::withdraw();
        if (broker_.abandoned_) readiness_.abandon();
    }

    void submit() override;
    bool wait(int32_t timeout) override;
    void taken() override;
    bool withdraw() override;
    TSS2_RC cancel() override;
    TSS2_RC pollHandle(int& descriptor) override;
    TSS2_RC tryLocality(uint8_t locality) override;
    Traffic traffic() const override { return {.commands = sent}; }

  private:
    Broker& broker_;
    Readiness readiness_;

  public:
    // The broker's, under its lock.
    enum class State { Idle, InLine, Running, Over };

    void become(State next);
    bool isDue() const { return state == State::InLine || state == State::Running; }

    User& user;
    State state = State::Idle;
    Place* next = nullptr;
    uint64_t sent = 0;
    unsigned row = 0;  // in the trace
};

/// While it lives, its thread is the one that may use the child.
class Broker::Driving {
  public:
    explicit Driving(Broker& broker) : broker_(broker) { broker_.driven_ = true; }
    ~Driving() {
        broker_.driven_ = false;
        broker_.changed_.notify_all();
    }
    Driving(const Driving&) = delete;
    Driving& operator=(const Driving&) = delete;

  private:
    Broker& broker_;
};

Broker::Broker(std::string child, std::chrono::seconds patience, log::Trace* trace)
    : isResourceManager_(isManager(ChildName(child))),
      patience_(patience),
      trace_(trace),
      child_(std::move(child)) {}

Broker::~Broker() {
    if (!abandoned_) return;
    progress_.abandon();
    interruption_.abandon();
}

std::unique_ptr<Channel> Broker::open(User& user) {
    auto place = std::make_unique<Place>(*this, user);
    if (trace_ != nullptr) place->row = trace_->addSpace();
    return place;
}

template <class Condition>
bool Broker::sleepUntil(Lock& lock, std::optional<Clock::time_point> deadline,
                        Condition condition) {
    if (!deadline) {
        changed_.wait(lock, condition);
        return true;
    }
    return changed_.wait_until(lock, *deadline, condition);
}

/// Every call into the child: without the lock, so that the others can come and go meanwhile.
template <class Call>
TSS2_RC Broker::call(Lock& lock, Call intoTheChild) {
    changed_.wait(lock, [this] { return !forking_; });
    caller_ = pthread_self();
    calling_ = true;
    lock.unlock();
    const TSS2_RC rc = intoTheChild();
    lock.lock();
    calling_ = false;
    if (forking_) changed_.notify_all();
    return rc;
}

// ---- The line -----------------------------------------------------------------------------------

void Broker::enqueue(Place& place) {
    place.next = nullptr;
    place.become(Place::State::InLine);
    (first_ == nullptr ? first_ : last_->next) = &place;
    last_ = &place;
}

/// The place is in line no more; what it is instead is the caller's to say.
void Broker::remove(Place& place) {
    Place* before = nullptr;
    for (Place* at = first_; at != &place; at = at->next) before = at;
    (before == nullptr ? first_ : before->next) = place.next;
    if (last_ == &place) last_ = before;
}

void Broker::advance(Lock& lock) {
    while (running_ == nullptr && first_ != nullptr) {
        running_ = first_;
        remove(*running_);
        running_->become(Place::State::Running);
        send(lock, running_->user.begin());
    }
}

void Broker::endTurn() {
    running_->become(Place::State::Over);
    running_ = nullptr;
    exchange_ = Exchange::none();
    sent_ = heldBack_ = cancelWanted_ = false;
}

// ---- Commands on their way to the child ---------------------------------------------------------

void Broker::send(Lock& lock, const Exchange& exchange) {
    exchange_ = exchange;
    sent_ = false;
    if (exchange.nothing()) return endTurn();
    trySending(lock);
}

void Broker::trySending(Lock& lock) {
    if (!heldBack_) giveUpAt_ = Clock::now() + patience_;
    heldBack_ = false;
    const TSS2_RC rc = prepareChild(lock);
    if (rc == TSS2_RC_SUCCESS) {
        const TSS2_RC transmitted = transmit(lock);
        sent_ = true;
        if (canceling_ > 0) changed_.notify_all();
        if (transmitted == Child::kTooLarge) return answerTooLarge(lock);
        if (transmitted != TSS2_RC_SUCCESS) breakConnection(lock, transmitted);
        return;
    }
    heldBack_ = !child_.isOpen() && triedAgain_;
    if (canceling_ > 0) changed_.notify_all();
    if (heldBack_) return;  // it is tried again
    // A child that does not have the locality is as well as before.
    const bool refused = rc == TSS2_TCTI_RC_NOT_IMPLEMENTED || rc == TSS2_TCTI_RC_BAD_VALUE;
    if (child_.isOpen() && !refused) return breakConnection(lock, rc);
    fail(rc);
}

/// What a TPM answers to a command that it has no room for.
void Broker::answerTooLarge(Lock& lock) {
    const wire::ResponseBuffer buffer(exchange_.response, wire::kMaxResponseSize);
    send(lock, running_->user.answered(wire::putCode(buffer, TPM2_RC_COMMAND_SIZE)));
}

/// Makes the child ready for the running user's command.
TSS2_RC Broker::prepareChild(Lock& lock) {
    const TSS2_RC rc = openChild(lock, giveUpAt_);
    return rc != TSS2_RC_SUCCESS ? rc : useLocality(lock, running_->user.locality());
}

TSS2_RC Broker::transmit(Lock& lock) {
    ++running_->sent;
    if (trace_ != nullptr) sentAt_ = Clock::now();
    return call(lock, [this] { return child_.transmit(exchange_.command); });
}

TSS2_RC Broker::useLocality(Lock& lock, uint8_t locality) {
    if (locality == locality_) return TSS2_RC_SUCCESS;
    const TSS2_RC rc = call(lock, [&] { return child_.setLocality(locality); });
    if (rc == TSS2_RC_SUCCESS)
        locality_ = locality;
    else
        LOG_ERROR("The child TCTI '%s' refuses locality %u: 0x%x", child_.nameAndConf().c_str(),
                  unsigned{locality}, rc);
    return rc;
}

// ---- Responses ----------------------------------------------------------------------------------

/// One step of the running user's turn. False if there was none before the deadline.
bool Broker::move(Lock& lock, const Deadline& deadline) {
    const bool moved = sent_ ? receive(lock, deadline.remaining()) : retry(lock, deadline);
    advance(lock);
    return moved;
}

bool Broker::receive(Lock& lock, int32_t timeout) {
    size_t size = 0;
    const wire::ResponseBuffer buffer(exchange_.response, wire::kMaxResponseSize);
    const TSS2_RC rc =
        call(lock, [&] { return child_.receive(buffer, size, timeout, interruption_.number()); });
    if (rc == TSS2_TCTI_RC_TRY_AGAIN) {
        if (cancelWanted_) cancelAnswer_ = cancelInChild(lock);
        cancelWanted_ = false;
        return false;
    }
    if (rc == TSS2_RC_SUCCESS) {
        cancelWanted_ = false;  // too late: the turn may go on with something else
        if (isResourceManager_ && wire::Response(buffer.first(size)).code() == kUnknownToManager)
            size = wire::putCode(buffer, TPM2_RC_COMMAND_CODE);
        if (trace_ != nullptr) addToTrace(size);
        if (child_.isSpent()) closeChild(lock);
        send(lock, running_->user.answered(size));
    } else {
        breakConnection(lock, rc);
    }
    return true;
}

/// Sends what could not be sent because the child was busy.
bool Broker::retry(Lock& lock, const Deadline& deadline) {
    const auto until = deadline.at() ? std::min(retryAt_, *deadline.at()) : retryAt_;
    sleepUntil(lock, until, [this] { return running_ == nullptr; });
    if (running_ == nullptr) return true;  // it was canceled meanwhile
    if (Clock::now() < retryAt_) return false;
    trySending(lock);
    return running_ == nullptr || sent_;
}

void Broker::addToTrace(size_t responseSize) const {
    constexpr const char* kKinds[] = {"client", "question", "question", "move", "flush"};
    const wire::Command command(exchange_.command);
    const wire::Response response({exchange_.response, responseSize});
    trace_->addSpan(running_->row, wire::nameOf(command.code()),
                    kKinds[static_cast<size_t>(exchange_.purpose)], sentAt_, Clock::now(),
                    response.code());
}

TSS2_RC Broker::cancelInChild(Lock& lock) {
    return call(lock, [this] { return child_.cancel(); });
}

// ---- The child, coming and going ----------------------------------------------------------------

TSS2_RC Broker::connect(std::string* advice) {
    Lock lock(mutex_);
    // A child in use may be busy for long; it is open, or opened again by whoever uses it.
    if (driven_ && everOpened_) return TSS2_RC_SUCCESS;
    sleepUntil(lock, std::nullopt, [this] { return !driven_; });
    const Driving driving(*this);
    const auto giveUpAt = Clock::now() + patience_;
    TSS2_RC rc = openChild(lock, giveUpAt, advice);
    while (rc != TSS2_RC_SUCCESS && triedAgain_) {
        sleepUntil(lock, retryAt_, [] { return false; });
        rc = openChild(lock, giveUpAt, advice);
    }
    if (heldBack_) trySending(lock);
    advance(lock);
    return rc;
}

/// Not opened, and `triedAgain_`: `retryAt_` is the time for it.
TSS2_RC Broker::openChild(Lock& lock, Clock::time_point giveUpAt, std::string* advice) {
    triedAgain_ = false;
    if (child_.isOpen()) return TSS2_RC_SUCCESS;
    const TSS2_RC rc = call(lock, [this] {
        const bool isHeld = busy_ && !busy_->device.empty() && !isFree(busy_->device);
        return isHeld ? TSS2_TCTI_RC_IO_ERROR : child_.open();
    });
    if (rc == TSS2_RC_SUCCESS)
        childOpened();
    else
        childNotOpened(rc, giveUpAt, advice);
    return rc;
}

void Broker::childOpened() {
    everOpened_ = true;
    locality_ = 0;
    busy_.reset();
    progress_.clearAlarm();
    tells_ = watchable_ = !child_.descriptors().empty();
    if (!tells_) return;
    if (!interruption_.isOpen()) interruption_ = Descriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (progress_.isOpen() && !progress_.watch(child_.descriptors()))
        LOG_WARNING("The poll handles of '%s' cannot be watched", child_.nameAndConf().c_str());
}

void Broker::childNotOpened(TSS2_RC rc, Clock::time_point giveUpAt, std::string* advice) {
    const bool first = !busy_;
    if (first) busy_ = diagnose(child_.nameAndConf(), rc);
    triedAgain_ = busy_->busy && Clock::now() < giveUpAt;
    if (triedAgain_) {
        if (first)
            LOG_WARNING("Waiting for at most %lld s: %s", static_cast<long long>(patience_.count()),
                        busy_->advice.c_str());
        retryAt_ = Clock::now() + kRetryInterval;
        return progress_.setAlarm(retryAt_);
    }
    progress_.clearAlarm();
    if (advice != nullptr)
        *advice = std::move(busy_->advice);
    else
        LOG_ERROR("The child TCTI '%s' cannot be opened (0x%x): %s", child_.nameAndConf().c_str(),
                  rc, busy_->advice.c_str());
    busy_.reset();
}

void Broker::closeChild(Lock& lock) {
    watchable_ = false;
    progress_.unwatch(child_.descriptors());
    call(lock, [this] {
        child_.close();
        return TSS2_RC_SUCCESS;
    });
}

/// The child failed in the middle of an exchange: what state it is in cannot be known.
void Broker::breakConnection(Lock& lock, TSS2_RC rc) {
    LOG_ERROR("The child TCTI '%s' failed (0x%x): the next command opens it again",
              child_.nameAndConf().c_str(), rc);
    closeChild(lock);
    // A resource manager flushes what came through a connection when the connection closes.
    if (isResourceManager_) ++epoch_;
    fail(rc);
}

void Broker::fail(TSS2_RC rc) {
    running_->user.failed(rc);
    endTurn();
}

/// A connection that another thread is making or closing at this moment would be in the forked
/// process without a trace in its memory; so that thread is waited for.
void Broker::beforeFork() {
    Lock lock(mutex_);
    forking_ = true;
    const auto elsewhere = [this] { return !calling_ || pthread_equal(caller_, pthread_self()); };
    if (child_.connectsForEachCommand()) sleepUntil(lock, std::nullopt, elsewhere);
    lock.release();
}

void Broker::afterForkInParent() {
    forking_ = false;
    changed_.notify_all();
    mutex_.unlock();
}

void Broker::afterForkInChild() {
    new (&mutex_) std::mutex;
    // Destroying the old one would wait for threads that are not here.
    new (&changed_) std::condition_variable;
    forking_ = calling_ = false;
    child_.abandon();
    abandoned_ = true;
}

// ---- A user's place -----------------------------------------------------------------------------

void Broker::Place::become(State next) {
    state = next;
    if (broker_.abandoned_) return;  // its handle is the parent's
    readiness_.become(isDue()                ? Readiness::Of::Progress
                      : state == State::Over ? Readiness::Of::Always
                                             : Readiness::Of::Nothing);
}

void Broker::Place::submit() {
    Lock lock(broker_.mutex_);
    broker_.enqueue(*this);
    if (broker_.driven_ || broker_.running_ != nullptr) return;  // whoever drives it comes to us
    const Driving driving(broker_);
    broker_.advance(lock);
}

bool Broker::Place::wait(int32_t timeout) {
    Lock lock(broker_.mutex_);
    const Deadline deadline(timeout);
    while (isDue()) {
        const auto turn = [this] { return !isDue() || !broker_.driven_; };
        if (!broker_.sleepUntil(lock, deadline.at(), turn)) return false;
        if (!isDue()) break;
        const Driving driving(broker_);
        if (!broker_.move(lock, deadline) && deadline.passed()) return !isDue();
    }
    return true;
}

void Broker::Place::taken() {
    const Lock lock(broker_.mutex_);
    become(State::Idle);
}

bool Broker::Place::withdraw() {
    Lock lock(broker_.mutex_);
    if (state == State::InLine) {
        broker_.remove(*this);
        become(State::Over);
    } else if (state == State::Running && broker_.heldBack_ && !broker_.abandoned_) {
        broker_.takeBack(lock);
    }
    return !isDue();
}

TSS2_RC Broker::Place::cancel() {
    Lock lock(broker_.mutex_);
    if (state == State::InLine) {
        broker_.remove(*this);
        user.canceled();
        become(State::Over);
        return TSS2_RC_SUCCESS;
    }
    if (!isDue()) return TSS2_RC_SUCCESS;
    // While a busy child is tried once more, nobody knows where the command is.
    ++broker_.canceling_;
    broker_.sleepUntil(lock, std::nullopt,
                       [this] { return !isDue() || broker_.sent_ || broker_.heldBack_; });
    --broker_.canceling_;
    return isDue() ? broker_.cancelRunning(lock) : TSS2_RC_SUCCESS;
}

/// Takes back the running command, which a busy child has not got.
void Broker::takeBack(Lock& lock) {
    running_->user.canceled();
    endTurn();
    changed_.notify_all();
    if (driven_) return;  // whoever drives goes on with the next
    const Driving driving(*this);
    advance(lock);
}

TSS2_RC Broker::cancelRunning(Lock& lock) {
    if (heldBack_) {
        takeBack(lock);
        return TSS2_RC_SUCCESS;
    }
    if (!running_->user.cancels()) return TSS2_RC_SUCCESS;
    // What follows a cancel through a capture costs the connection, and with it everything.
    if (isResourceManager_ && ChildName(childName()).isCaptured())
        return TSS2_TCTI_RC_NOT_IMPLEMENTED;
    if (driven_) {
        if (!interruption_.isOpen()) return TSS2_TCTI_RC_NOT_IMPLEMENTED;
        cancelWanted_ = true;
        cancelAnswer_ = TSS2_RC_SUCCESS;
        eventfd_write(interruption_.number(), 1);
        sleepUntil(lock, std::nullopt, [this] { return !cancelWanted_ || !driven_; });
        if (!cancelWanted_) return cancelAnswer_;
        cancelWanted_ = false;
    }
    const Driving driving(*this);
    return cancelInChild(lock);
}

TSS2_RC Broker::Place::pollHandle(int& descriptor) {
    const Lock lock(broker_.mutex_);
    if (!readiness_.isOpen()) {
        const TSS2_RC rc = broker_.watchProgress();
        if (rc != TSS2_RC_SUCCESS) return rc;
        if (!readiness_.open(broker_.progress_)) return TSS2_TCTI_RC_GENERAL_FAILURE;
        become(state);
    }
    descriptor = readiness_.descriptor();
    return TSS2_RC_SUCCESS;
}

TSS2_RC Broker::watchProgress() {
    if (!tells_) return TSS2_TCTI_RC_NOT_IMPLEMENTED;
    if (progress_.isOpen()) return TSS2_RC_SUCCESS;
    Progress progress;
    if (!progress.open()) return TSS2_TCTI_RC_GENERAL_FAILURE;
    if (watchable_ && !progress.watch(child_.descriptors())) return TSS2_TCTI_RC_NOT_IMPLEMENTED;
    progress_ = std::move(progress);
    if (heldBack_) progress_.setAlarm(retryAt_);
    return TSS2_RC_SUCCESS;
}

TSS2_RC Broker::Place::tryLocality(uint8_t locality) {
    Lock lock(broker_.mutex_);
    if (broker_.driven_ || broker_.running_ != nullptr) return TSS2_RC_SUCCESS;
    const Driving driving(broker_);
    TSS2_RC rc = broker_.openChild(lock, Clock::now());
    if (rc == TSS2_RC_SUCCESS) {
        rc = broker_.call(lock, [&] { return broker_.child_.setLocality(locality); });
        if (rc == TSS2_RC_SUCCESS) broker_.locality_ = locality;
    }
    broker_.advance(lock);
    return rc;
}

}  // namespace spaces::tpm
