// SPDX-License-Identifier: BSD-2-Clause
// The connection to the model, and the loader's functions that lead to it; see child.h.
// Always holds: the model executes a command while it is transmitted, so what follows can spoil
// the response only.
#include "fuzz/child.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <tss2/tss2_tctildr.h>
#include <unistd.h>

#include <algorithm>
#include <map>

namespace spaces::fuzz {
namespace {

constexpr size_t kMaxResponse = TPM2_MAX_RESPONSE_SIZE;

std::map<std::string, Child*>& children() {
    static std::map<std::string, Child*> all;
    return all;
}

}  // namespace

Child::Child(const std::string& name, const test::ModelTpm::Size& size, Manner manner)
    : tpm(name, size),
      name_(name),
      manner_(manner),
      handle_(manner.tells ? eventfd(0, EFD_NONBLOCK) : -1) {
    children().emplace(name, this);
}

Child::~Child() {
    require(model_ == nullptr, "the child is closed when the last context is");
    children().erase(name_);
    if (handle_ >= 0) close(handle_);
}

void Child::hurry(bool on) {
    hurried_ = on;
    if (!on) return;
    deed_.tryAgain = 0;
    setReadable(pending_);
}

void Child::setReadable(bool readable) const {
    if (handle_ < 0) return;
    eventfd_t value = 0;
    if (readable)
        eventfd_write(handle_, 1);
    else
        eventfd_read(handle_, &value);
}

TSS2_RC Child::load(const char* name, TSS2_TCTI_CONTEXT** context) {
    const auto found = children().find(name);
    if (found == children().end()) return TSS2_TCTI_RC_NOT_SUPPORTED;
    Child& child = *found->second;
    require(child.model_ == nullptr, "a child is opened once at a time");
    if (const TSS2_RC rc = child.sayOtherwise()) return rc;
    test::ModelTpm::load(name, &child.model_);
    child.context_.common = {
        {0, 2, transmit, receive, nullptr, cancel, getPollHandles, setLocality}, nullptr};
    child.context_.child = &child;
    *context = reinterpret_cast<TSS2_TCTI_CONTEXT*>(&child.context_);
    return TSS2_RC_SUCCESS;
}

void Child::unload(TSS2_TCTI_CONTEXT** context) {
    Child& child = of(*context);
    test::ModelTpm::unload(&child.model_);
    child.pending_ = child.forgotten_ = false;
    child.setReadable(false);
    *context = nullptr;
}

Child& Child::of(TSS2_TCTI_CONTEXT* context) {
    Child& child = *reinterpret_cast<Context*>(context)->child;
    require(child.model_ != nullptr, "no call into a closed child");
    return child;
}

void Child::execute(const Bytes& command) {
    response_.resize(kMaxResponse);
    size_t size = response_.size();
    Tss2_Tcti_Transmit(model_, command.size(), command.data());
    Tss2_Tcti_Receive(model_, &size, response_.data(), TSS2_TCTI_TIMEOUT_BLOCK);
    response_.resize(size);
    tpm.takeSent();
}

TSS2_RC Child::transmit(TSS2_TCTI_CONTEXT* context, size_t size, const uint8_t* bytes) {
    Child& child = of(context);
    if (child.forgotten_) {  // the response that is owed comes first
        child.forgotten_ = false;
        require(size == 10, "a forgotten response is asked for with a header", size);
        return TSS2_RC_SUCCESS;
    }
    require(!child.pending_, "one command at a time");
    require(size >= 10 && size <= TPM2_MAX_COMMAND_SIZE && wire::get32(bytes + 2) == size,
            "a command is as large as its header says", size);
    require(++child.commands_ <= kMostCommands, "it ends");
    const Bytes command(bytes, bytes + size);
    child.deed_ = child.script ? child.script(command) : Deed{};
    if (child.deed_.transmitFails != TSS2_RC_SUCCESS) return child.deed_.transmitFails;
    child.execute(command);
    if (child.deed_.alter) child.deed_.alter(child.response_);
    child.pending_ = true;
    if (child.hurried_) child.deed_.tryAgain = 0;
    child.setReadable(child.deed_.tryAgain == 0);
    return TSS2_RC_SUCCESS;
}

TSS2_RC Child::receive(TSS2_TCTI_CONTEXT* context, size_t* size, uint8_t* response, int32_t) {
    Child& child = of(context);
    require(child.pending_, "a response is received once");
    if (child.forgotten_) return TSS2_TCTI_RC_BAD_SEQUENCE;
    require(response != nullptr && *size == kMaxResponse, "there is room for any response", *size);
    if (child.deed_.tryAgain > 0) {
        --child.deed_.tryAgain;
        return TSS2_TCTI_RC_TRY_AGAIN;
    }
    child.pending_ = false;
    child.setReadable(false);
    if (child.deed_.receiveFails != TSS2_RC_SUCCESS) return child.deed_.receiveFails;
    std::copy_n(child.response_.begin(), std::min(child.response_.size(), *size), response);
    *size = child.response_.size();
    return TSS2_RC_SUCCESS;
}

TSS2_RC Child::cancel(TSS2_TCTI_CONTEXT* context) {
    Child& child = of(context);
    const TSS2_RC rc = child.sayOtherwise();
    if (rc == TSS2_RC_SUCCESS && child.manner_.forgets) child.forgotten_ = child.pending_;
    return rc;
}

TSS2_RC Child::getPollHandles(TSS2_TCTI_CONTEXT* context, TSS2_TCTI_POLL_HANDLE* handles,
                              size_t* count) {
    const Child& child = of(context);
    if (child.handle_ < 0) return TSS2_TCTI_RC_NOT_IMPLEMENTED;
    if (handles != nullptr) handles[0] = {child.handle_, POLLIN | POLLOUT, 0};
    *count = 1;
    return TSS2_RC_SUCCESS;
}

TSS2_RC Child::setLocality(TSS2_TCTI_CONTEXT* context, uint8_t) {
    const Child& child = of(context);
    require(!child.pending_, "no locality in the middle of a command");
    return child.sayOtherwise();
}

}  // namespace spaces::fuzz

// In place of the loader's.
extern "C" TSS2_RC Tss2_TctiLdr_Initialize(const char* name, TSS2_TCTI_CONTEXT** context) {
    return spaces::fuzz::Child::load(name, context);
}

extern "C" void Tss2_TctiLdr_Finalize(TSS2_TCTI_CONTEXT** context) {
    spaces::fuzz::Child::unload(context);
}
