/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A gate before a simulator: see gate.h. One thread serves the TPM's port, one the control port.
 */
#include "gate.h"

#include "response.h"

namespace spaces::test {

namespace {

/** Serves clients one after the other until the listener is shut down. A client that goes away in
 *  the middle, or whose TPM does, loses its connection. */
template <class Serve>
void serveAll(const Descriptor& listener, Serve serve) {
    for (;;) {
        const Descriptor client(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!client) return;
        try {
            serve(client);
        } catch (const std::runtime_error&) {
        }
    }
}

/** What a TPM answers when it has canceled a command. */
Bytes canceled() {
    Bytes response;
    append(response, TPM2_ST_NO_SESSIONS, 2);
    append(response, kHeaderSize, 4);
    append(response, TPM2_RC_CANCELED, 4);
    return response;
}

}  // namespace

Gate::Gate(const Simulator& sim) : tpm_(sim.port()) {
    commandThread_ = std::thread([this] {
        serveAll(listeners_.first, [this](const Descriptor& client) { command(client); });
    });
    controlThread_ = std::thread([this] {
        serveAll(listeners_.second, [this](const Descriptor& client) { control(client); });
    });
}

Gate::~Gate() {
    open();
    ::shutdown(listeners_.first.get(), SHUT_RDWR);
    ::shutdown(listeners_.second.get(), SHUT_RDWR);
    commandThread_.join();
    controlThread_.join();
}

void Gate::set(bool open, size_t permits) {
    const std::lock_guard lock(mutex_);
    open_ = open;
    permits_ = permits;
    changed_.notify_all();
}

TPM2_CC Gate::await() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return waiting_; });
    return rc(commands_.back());
}

std::vector<Bytes> Gate::commands(size_t mark) {
    const std::lock_guard lock(mutex_);
    return {commands_.begin() + static_cast<std::ptrdiff_t>(mark), commands_.end()};
}

size_t Gate::commandCount() {
    const std::lock_guard lock(mutex_);
    return commands_.size();
}

void Gate::onCancel(OnCancel what) {
    const std::lock_guard lock(mutex_);
    onCancel_ = what;
}

size_t Gate::cancels() {
    const std::lock_guard lock(mutex_);
    return cancels_;
}

void Gate::command(const Descriptor& client) {
    Bytes command;
    if (!readCommand(client.get(), command)) return;
    sendAll(client.get(), passes(command) ? tpm_.command(command) : canceled());
}

/** False if it is canceled. */
bool Gate::passes(const Bytes& command) {
    std::unique_lock lock(mutex_);
    commands_.push_back(command);
    waiting_ = true;
    canceled_ = false;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_ || permits_ > 0 || canceled_; });
    waiting_ = false;
    if (canceled_) return false;
    if (!open_) --permits_;
    return true;
}

void Gate::control(const Descriptor& client) {
    Bytes request(4);
    if (!readAll(client.get(), request)) return;
    if (readU32(request) == SwtpmLink::kCmdSetLocality) {
        request.resize(5);
        readAll(client.get(), std::span(request).subspan(4));
    }
    if (readU32(request) != SwtpmLink::kCmdCancelTpmCmd || !cancel()) tpm_.control(request);
    sendAll(client.get(), u32(0));
}

/** False if there is nothing here to cancel. */
bool Gate::cancel() {
    const std::lock_guard lock(mutex_);
    ++cancels_;
    if (!waiting_) return false;
    canceled_ = onCancel_ == OnCancel::answerCanceled;
    changed_.notify_all();
    return true;
}

}  // namespace spaces::test
