// SPDX-License-Identifier: BSD-2-Clause
// The line before the TPM and how it moves; see broker.h.
#include "tpm/broker.h"

#include <unistd.h>

#include <algorithm>
#include <string_view>

#include "log/log.h"

namespace spaces::tpm {
namespace {

using Clock = std::chrono::steady_clock;

/// The end of a wait; none for one that blocks.
class Deadline {
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

/// The children that are resource managers: the kernel's, by its device name, also where the
/// device TCTI chooses it by default, and tpm2-abrmd. A capture in between changes nothing.
bool namesResourceManager(std::string_view child) {
    constexpr std::string_view kPcap = "pcap:";
    while (child.starts_with(kPcap)) child.remove_prefix(kPcap.size());
    const size_t colon = child.find(':');
    const std::string_view name = child.substr(0, colon);
    const std::string_view conf =
        colon == std::string_view::npos ? std::string_view{} : child.substr(colon + 1);
    if (name.find("tabrmd") != std::string_view::npos) return true;
    if (name != "device" && name.find("tcti-device") == std::string_view::npos) return false;
    if (conf.empty()) return access("/dev/tpmrm0", R_OK | W_OK) == 0;
    return conf.starts_with("/dev/tpmrm");
}

}  // namespace

/// One user's place: out of line, in line, running, or over.
class Broker::Place final : public Channel {
  public:
    Place(Broker& broker, User& user) : broker_(broker), user(user) {}
    ~Place() override { withdraw(); }

    void submit() override;
    bool wait(int32_t timeout) override;
    bool withdraw() override;
    TSS2_RC cancel() override;
    TSS2_RC tryLocality(uint8_t locality) override;
    Traffic traffic() const override { return {.commands = sent}; }

  private:
    Broker& broker_;

  public:
    // The broker's, under its lock.
    User& user;
    Place* next = nullptr;
    bool inLine = false;
    bool over = true;
    uint64_t sent = 0;
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

Broker::Broker(std::string child)
    : isResourceManager_(namesResourceManager(child)), child_(std::move(child)) {}

std::unique_ptr<Channel> Broker::open(User& user) { return std::make_unique<Place>(*this, user); }

template <class Condition>
bool Broker::sleepUntil(Lock& lock, std::optional<Clock::time_point> deadline,
                        Condition condition) {
    if (!deadline) {
        changed_.wait(lock, condition);
        return true;
    }
    return changed_.wait_until(lock, *deadline, condition);
}

TSS2_RC Broker::connect() {
    Lock lock(mutex_);
    // A child in use may be busy for long; it is open, or opened again by whoever uses it.
    if (driven_ && everOpened_) return TSS2_RC_SUCCESS;
    sleepUntil(lock, std::nullopt, [this] { return !driven_; });
    const Driving driving(*this);
    return openChild(lock);
}

void Broker::enqueue(Place& place) {
    place.next = nullptr;
    place.inLine = true;
    place.over = false;
    (first_ == nullptr ? first_ : last_->next) = &place;
    last_ = &place;
}

void Broker::remove(Place& place) {
    Place* before = nullptr;
    for (Place* at = first_; at != &place; at = at->next) before = at;
    (before == nullptr ? first_ : before->next) = place.next;
    if (last_ == &place) last_ = before;
    place.inLine = false;
}

void Broker::advance(Lock& lock) {
    while (running_ == nullptr && first_ != nullptr) {
        running_ = first_;
        remove(*running_);
        send(lock, running_->user.begin());
    }
}

void Broker::send(Lock& lock, const Exchange& exchange) {
    if (exchange.nothing()) return endTurn();
    exchange_ = exchange;
    const TSS2_RC rc = prepareChild(lock);
    // A child that does not have the locality is as well as before.
    if (rc == TSS2_TCTI_RC_NOT_IMPLEMENTED || rc == TSS2_TCTI_RC_BAD_VALUE) return fail(rc);
    if (rc != TSS2_RC_SUCCESS) return breakConnection(lock, rc);
    const TSS2_RC sent = transmit(lock);
    if (sent != TSS2_RC_SUCCESS) breakConnection(lock, sent);
}

/// Makes the child ready for the running user's command.
TSS2_RC Broker::prepareChild(Lock& lock) {
    const TSS2_RC rc = openChild(lock);
    return rc != TSS2_RC_SUCCESS ? rc : useLocality(lock, running_->user.locality());
}

TSS2_RC Broker::transmit(Lock& lock) {
    ++running_->sent;
    lock.unlock();
    const TSS2_RC rc = child_.transmit(exchange_.command);
    lock.lock();
    return rc;
}

bool Broker::receive(Lock& lock, int32_t timeout) {
    size_t size = 0;
    lock.unlock();
    const wire::ResponseBuffer buffer(exchange_.response, wire::kMaxResponseSize);
    const TSS2_RC rc = child_.receive(buffer, size, timeout);
    lock.lock();
    if (rc == TSS2_TCTI_RC_TRY_AGAIN) return false;
    if (rc == TSS2_RC_SUCCESS) {
        send(lock, running_->user.answered(size));
    } else {
        breakConnection(lock, rc);
    }
    advance(lock);
    return true;
}

TSS2_RC Broker::openChild(Lock& lock) {
    if (child_.isOpen()) return TSS2_RC_SUCCESS;
    lock.unlock();
    const TSS2_RC rc = child_.open();
    lock.lock();
    if (rc != TSS2_RC_SUCCESS) {
        LOG_ERROR("The child TCTI '%s' cannot be opened: 0x%x", child_.nameAndConf().c_str(), rc);
        return rc;
    }
    everOpened_ = true;
    locality_ = 0;
    return rc;
}

TSS2_RC Broker::useLocality(Lock& lock, uint8_t locality) {
    if (locality == locality_) return TSS2_RC_SUCCESS;
    lock.unlock();
    const TSS2_RC rc = child_.setLocality(locality);
    lock.lock();
    if (rc == TSS2_RC_SUCCESS) locality_ = locality;
    return rc;
}

/// The child failed in the middle of an exchange: what state it is in cannot be known.
void Broker::breakConnection(Lock& lock, TSS2_RC rc) {
    lock.unlock();
    child_.close();
    lock.lock();
    // A resource manager flushes what came through a connection when the connection closes.
    if (isResourceManager_) ++epoch_;
    fail(rc);
}

void Broker::fail(TSS2_RC rc) {
    LOG_ERROR("The child TCTI '%s' failed: 0x%x", child_.nameAndConf().c_str(), rc);
    running_->user.failed(rc);
    endTurn();
}

void Broker::endTurn() {
    running_->over = true;
    running_ = nullptr;
    exchange_ = Exchange::none();
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
    if (over) return true;
    const Deadline deadline(timeout);
    while (!over) {
        const auto turn = [this] { return over || !broker_.driven_; };
        if (!broker_.sleepUntil(lock, deadline.at(), turn)) return false;
        if (over) break;
        const Driving driving(broker_);
        // Nobody running means that the thread that drove last left between two turns.
        if (broker_.running_ == nullptr) broker_.advance(lock);
        const bool waitingForChild = !over && broker_.running_ != nullptr;
        if (waitingForChild && !broker_.receive(lock, deadline.remaining()) && deadline.passed())
            return false;
    }
    return true;
}

bool Broker::Place::withdraw() {
    const Lock lock(broker_.mutex_);
    if (inLine) {
        broker_.remove(*this);
        over = true;
    }
    return over;
}

TSS2_RC Broker::Place::cancel() {
    Lock lock(broker_.mutex_);
    if (inLine) {
        broker_.remove(*this);
        user.canceled();
        over = true;
        return TSS2_RC_SUCCESS;
    }
    // Another thread may be waiting in the child for this very command: the child is its alone.
    broker_.sleepUntil(lock, std::nullopt, [this] { return over || !broker_.driven_; });
    if (over) return TSS2_RC_SUCCESS;
    const Driving driving(broker_);
    lock.unlock();
    const TSS2_RC rc = broker_.child_.cancel();
    lock.lock();
    return rc;
}

TSS2_RC Broker::Place::tryLocality(uint8_t locality) {
    Lock lock(broker_.mutex_);
    if (broker_.driven_ || broker_.running_ != nullptr) return TSS2_RC_SUCCESS;
    const Driving driving(broker_);
    const TSS2_RC rc = broker_.openChild(lock);
    if (rc != TSS2_RC_SUCCESS) return rc;
    lock.unlock();
    const TSS2_RC said = broker_.child_.setLocality(locality);
    lock.lock();
    if (said == TSS2_RC_SUCCESS) broker_.locality_ = locality;
    return said;
}

}  // namespace spaces::tpm
