// SPDX-License-Identifier: BSD-2-Clause
// The scripted child TCTI, and the two functions of the loader that lead to it; see fake_child.h.
// Always holds: its members are touched by one thread at a time only if its user keeps calls
// apart, so a thread sanitizer sees when the user does not.
#include "unit/fake_child.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <tss2/tss2_tctildr.h>
#include <unistd.h>

#include <algorithm>
#include <map>

namespace spaces::test {
namespace {

constexpr size_t kMaxResponse = TPM2_MAX_RESPONSE_SIZE;

std::map<std::string, FakeChild*>& children() {
    static std::map<std::string, FakeChild*> all;
    return all;
}

}  // namespace

/// While a call is in the child.
class FakeChild::Inside {
  public:
    explicit Inside(FakeChild& child) : child_(child) {
        if (child_.inside_++ != 0) ADD_FAILURE() << "two calls at once in the child";
        EXPECT_TRUE(child_.open_) << "a call into a child that is closed";
    }
    ~Inside() { --child_.inside_; }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;

  private:
    FakeChild& child_;
};

FakeChild::FakeChild(std::string nameAndConf) : nameAndConf_(std::move(nameAndConf)) {
    EXPECT_TRUE(children().emplace(nameAndConf_, this).second);
}

FakeChild::~FakeChild() {
    if (handle_ >= 0) ::close(handle_);
    for (const Step& step : steps_) ADD_FAILURE() << "never came: " << step.command;
    EXPECT_FALSE(pending_) << "nobody took the response to " << commands.back();
    EXPECT_EQ(opens, closes) << "the child was not closed as often as it was opened";
    children().erase(nameAndConf_);
}

FakeChild::Step& FakeChild::expect(const Packet& command, const Packet& response) {
    return steps_.emplace_back(command, response);
}

void FakeChild::acceptFlushes() {
    serve([](const Packet& command) {
        // Whatever it flushes.
        if (command.length() == 14 && Packet(command).putHandle(10, 0) == flushContext(0))
            return response();
        ADD_FAILURE() << "not expected: " << command;
        return response(TPM2_RC_FAILURE);
    });
}

TSS2_RC FakeChild::load(const char* nameAndConf, TSS2_TCTI_CONTEXT** context) {
    const auto found = children().find(nameAndConf);
    if (found == children().end()) return TSS2_TCTI_RC_NOT_SUPPORTED;
    FakeChild& child = *found->second;
    if (const auto action = child.whileOpening) action();
    if (child.openCode != TSS2_RC_SUCCESS) return child.openCode;
    EXPECT_FALSE(child.open_) << "opened twice";
    child.open_ = true;
    child.locality_ = 0;
    ++child.opens;
    child.context_.common = {
        {0, 2, transmit, receive, finalize, cancel, getPollHandles, setLocality}, nullptr};
    child.context_.child = &child;
    *context = reinterpret_cast<TSS2_TCTI_CONTEXT*>(&child.context_);
    return TSS2_RC_SUCCESS;
}

void FakeChild::unload(TSS2_TCTI_CONTEXT** context) {
    FakeChild& child = of(*context);
    EXPECT_TRUE(child.open_) << "closed twice";
    child.open_ = false;
    child.pending_ = child.forgotten_ = false;
    child.running_.clear();
    child.setReadable(false);
    ++child.closes;
    *context = nullptr;
}

FakeChild& FakeChild::of(TSS2_TCTI_CONTEXT* context) {
    return *reinterpret_cast<Context*>(context)->child;
}

void FakeChild::take(const Packet& command) {
    commands.push_back(command);
    if (!steps_.empty()) {
        EXPECT_EQ(command, steps_.front().command) << "another command was expected";
        running_.push_back(std::move(steps_.front()));
        steps_.pop_front();
    } else if (server_) {
        running_.emplace_back(command, server_(command));
    } else {
        ADD_FAILURE() << "not expected: " << command;
        running_.emplace_back(command, response(TPM2_RC_FAILURE));
    }
}

TSS2_RC FakeChild::transmit(TSS2_TCTI_CONTEXT* context, size_t size, const uint8_t* bytes) {
    FakeChild& child = of(context);
    const Inside inside(child);
    const Packet command(Bytes(bytes, bytes + size));
    if (child.forgotten_) {  // and it is owed all the same
        child.commands.push_back(command);
        child.forgotten_ = false;
        child.pending_ = true;
        return TSS2_RC_SUCCESS;
    }
    if (child.pending_) {
        ADD_FAILURE() << "a second command: " << command;
        return TSS2_TCTI_RC_BAD_SEQUENCE;
    }
    child.take(command);
    const Step& step = child.running_.front();
    if (step.onTransmit) step.onTransmit();
    EXPECT_TRUE(step.locality < 0 || step.locality == child.locality_)
        << "at locality " << int{child.locality_} << ": " << command;
    const TSS2_RC rc = step.transmitCode;
    child.pending_ = rc == TSS2_RC_SUCCESS;
    child.setReadable(child.pending_ && !step.slow);
    if (!child.pending_) child.running_.clear();
    return rc;
}

TSS2_RC FakeChild::receive(TSS2_TCTI_CONTEXT* context, size_t* size, uint8_t* response,
                           int32_t timeout) {
    FakeChild& child = of(context);
    const Inside inside(child);
    ++child.receives;
    child.timeouts.push_back(timeout);
    EXPECT_NE(response, nullptr) << "a size query";
    EXPECT_EQ(*size, kMaxResponse);
    if (child.forgotten_) return TSS2_TCTI_RC_BAD_SEQUENCE;
    if (!child.pending_) {
        ADD_FAILURE() << "there is no response to receive";
        return TSS2_TCTI_RC_BAD_SEQUENCE;
    }
    Step& step = child.running_.front();
    if (step.onReceive) step.onReceive();
    if (step.tryAgainLeft > 0) {
        --step.tryAgainLeft;
        return TSS2_TCTI_RC_TRY_AGAIN;
    }
    return child.give(size, response);
}

/// A response that is larger than the buffer only says so: that is how a child TCTI goes wrong.
TSS2_RC FakeChild::give(size_t* size, uint8_t* response) {
    const Step step = std::move(running_.front());
    running_.clear();
    pending_ = false;
    setReadable(false);
    if (step.receiveCode != TSS2_RC_SUCCESS) return step.receiveCode;
    const Bytes& bytes = step.response;
    std::copy_n(bytes.data(), std::min(bytes.size(), *size), response);
    *size = bytes.size();
    return TSS2_RC_SUCCESS;
}

TSS2_RC FakeChild::cancel(TSS2_TCTI_CONTEXT* context) {
    FakeChild& child = of(context);
    const Inside inside(child);
    ++child.cancels;
    if (const auto action = child.whileCanceling) action();
    if (child.forgetsOnCancel && child.cancelCode == TSS2_RC_SUCCESS) {
        child.forgotten_ = child.pending_;
        child.pending_ = false;
    }
    return child.cancelCode;
}

// ---- The poll handle

void FakeChild::tell() { handle_ = eventfd(0, EFD_NONBLOCK); }

void FakeChild::setReadable(bool readable) {
    if (handle_ < 0) return;
    eventfd_t value = 0;
    if (readable)
        eventfd_write(handle_, 1);
    else
        eventfd_read(handle_, &value);
}

void FakeChild::makeReady() {
    if (handle_ < 0)
        running_.front().tryAgainLeft = 0;
    else
        setReadable(true);
}

TSS2_RC FakeChild::getPollHandles(TSS2_TCTI_CONTEXT* context, TSS2_TCTI_POLL_HANDLE* handles,
                                  size_t* count) {
    FakeChild& child = of(context);
    const Inside inside(child);
    if (child.handle_ < 0) return TSS2_TCTI_RC_NOT_IMPLEMENTED;
    if (handles != nullptr) handles[0] = {child.handle_, POLLIN | POLLOUT, 0};
    *count = 1;
    return TSS2_RC_SUCCESS;
}

TSS2_RC FakeChild::setLocality(TSS2_TCTI_CONTEXT* context, uint8_t locality) {
    FakeChild& child = of(context);
    const Inside inside(child);
    EXPECT_FALSE(child.pending_) << "a locality in the middle of a command";
    if (const auto action = child.whileSettingLocality) action();
    child.localities.push_back(locality);
    if (child.localityCode == TSS2_RC_SUCCESS) child.locality_ = locality;
    return child.localityCode;
}

}  // namespace spaces::test

// What the linker puts in place of the loader.
extern "C" TSS2_RC __wrap_Tss2_TctiLdr_Initialize(const char* nameConf,
                                                  TSS2_TCTI_CONTEXT** context) {
    return spaces::test::FakeChild::load(nameConf, context);
}

extern "C" void __wrap_Tss2_TctiLdr_Finalize(TSS2_TCTI_CONTEXT** context) {
    spaces::test::FakeChild::unload(context);
}
