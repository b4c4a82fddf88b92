// SPDX-License-Identifier: BSD-2-Clause
// Calls into the child TCTI, through the macros of tss2_tcti.h; see child.h.
#include "tpm/child.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <tss2/tss2_tctildr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <ctime>

#include "log/log.h"
#include "tpm/child_name.h"
#include "wire/command.h"

namespace spaces::tpm {
namespace {

/// The device TCTI asks the TPM something when it opens, and takes a signal for a failure.
template <class Call>
TSS2_RC withoutSignals(Call call) {
    sigset_t all{}, before{};
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const TSS2_RC rc = call();
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return rc;
}

/// Calls into a child TCTI. One that writes to a connection whose other end has gone may get
/// SIGPIPE, which would end the application; here it is an error code like any other.
template <class Call>
TSS2_RC withoutSigpipe(Call call) {
    sigset_t sigpipe{}, before{};
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe, &before);
    const TSS2_RC rc = call();
    if (sigismember(&before, SIGPIPE) != 1) {
        const timespec now{};
        while (rc != TSS2_RC_SUCCESS && sigtimedwait(&sigpipe, nullptr, &now) < 0 && errno == EINTR)
            continue;
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
    return rc;
}

}  // namespace

TSS2_RC Child::open() {
    if (isOpen()) return TSS2_RC_SUCCESS;
    const auto load = [this] { return Tss2_TctiLdr_Initialize(nameAndConf_.c_str(), &context_); };
    // Not for others: a program that the cmd TCTI starts would inherit it.
    const TSS2_RC rc =
        ChildName(nameAndConf_).is("device") ? withoutSignals(load) : withoutSigpipe(load);
    if (rc != TSS2_RC_SUCCESS)
        context_ = nullptr;
    else
        findDescriptors();
    return rc;
}

void Child::close() {
    if (isOpen())
        withoutSigpipe([this] {
            Tss2_TctiLdr_Finalize(&context_);
            return TSS2_TCTI_RC_NO_CONNECTION;
        });
    context_ = nullptr;
    descriptorCount_ = 0;
    canceled_ = repeating_ = false;
}

/// swtpm serves one connection at a time, and its TCTI makes one for each command: a copy of it
/// would keep swtpm from everyone for as long as the forked process lives. To close it, and to free
/// its memory, is all that this child's finalize does.
///
/// A device can be open once only: while this process kept its copy, nobody could open it again
/// when the parent has let it go.
void Child::abandon() {
    if (isOpen() && connectsForEachCommand()) Tss2_TctiLdr_Finalize(&context_);
    if (isOpen() && ChildName(nameAndConf_).is("device"))
        for (const int descriptor : descriptors()) ::close(descriptor);
    context_ = nullptr;
    descriptorCount_ = 0;
}

bool Child::connectsForEachCommand() const { return ChildName(nameAndConf_).is("swtpm"); }

/// Keeps the child's descriptors, and from programs started beside us, which child TCTIs forget.
void Child::findDescriptors() {
    std::array<TSS2_TCTI_POLL_HANDLE, kMostDescriptors> handles{};
    size_t count = 0;
    if (Tss2_Tcti_GetPollHandles(context_, nullptr, &count) != TSS2_RC_SUCCESS || count == 0 ||
        count > handles.size() ||
        Tss2_Tcti_GetPollHandles(context_, handles.data(), &count) != TSS2_RC_SUCCESS)
        return;
    for (size_t i = 0; i < count; ++i) {
        descriptors_[i] = handles[i].fd;
        fcntl(handles[i].fd, F_SETFD, FD_CLOEXEC);
    }
    descriptorCount_ = count;
}

TSS2_RC Child::transmit(wire::Bytes command) {
    LOG_BYTES("to the TPM", command);
    canceled_ = repeating_ = false;
    int error = 0;
    const TSS2_RC rc = withoutSigpipe([&] {
        errno = 0;
        const TSS2_RC said = Tss2_Tcti_Transmit(context_, command.size(), command.data());
        error = errno;
        return said;
    });
    return rc != TSS2_RC_SUCCESS && error == E2BIG ? kTooLarge : rc;
}

TSS2_RC Child::receive(wire::ResponseBuffer response, size_t& size, int32_t timeout,
                       int interruption) {
    if (descriptorCount_ > 0) {
        const TSS2_RC rc = awaitResponse(timeout, interruption);
        if (rc != TSS2_RC_SUCCESS) return rc;
        timeout = TSS2_TCTI_TIMEOUT_BLOCK;
    }
    // It writes only where it has to take a cancel back.
    const auto ask = [&] { return demand(response, size, timeout); };
    const TSS2_RC rc = canceled_ ? withoutSigpipe(ask) : ask();
    if (rc != TSS2_RC_SUCCESS) return rc;
    if (size > response.size() || !wire::Response::wellFormed(response.first(size))) {
        LOG_ERROR("The child TCTI '%s' gave %zu octets that are no TPM response",
                  nameAndConf_.c_str(), size);
        return TSS2_TCTI_RC_MALFORMED_RESPONSE;
    }
    LOG_BYTES("from the TPM", response.first(size));
    return rc;
}

/// Success: the child has something to give, or to complain of.
TSS2_RC Child::awaitResponse(int32_t timeout, int interruption) const {
    std::array<pollfd, kMostDescriptors + 1> watched{};
    for (size_t i = 0; i < descriptorCount_; ++i) watched[i] = {descriptors_[i], POLLIN, 0};
    pollfd& interrupted = watched[descriptorCount_];
    interrupted = {interruption, POLLIN, 0};
    const int ready = poll(watched.data(), descriptorCount_ + 1, timeout);
    if (ready < 0) return errno == EINTR ? TSS2_TCTI_RC_TRY_AGAIN : TSS2_TCTI_RC_IO_ERROR;
    if (ready == 0) return TSS2_TCTI_RC_TRY_AGAIN;
    if (interrupted.revents == 0) return TSS2_RC_SUCCESS;
    eventfd_t value = 0;
    eventfd_read(interruption, &value);
    return TSS2_TCTI_RC_TRY_AGAIN;
}

/// After a cancel, some child TCTIs believe that no response is owed any more, though it will come
/// (pcap and mssim). They are ready to receive again once another command is sent; one that the TPM
/// refuses at its first octets does nothing else.
TSS2_RC Child::demand(wire::ResponseBuffer response, size_t& size, int32_t timeout) {
    size = response.size();
    TSS2_RC rc = Tss2_Tcti_Receive(context_, &size, response.data(), timeout);
    if (rc != TSS2_TCTI_RC_BAD_SEQUENCE || !canceled_ || repeating_) return rc;
    std::array<uint8_t, wire::kHeaderSize> nothing{};
    wire::putHeader(nothing.data(), 0, nothing.size(), 0);
    rc = Tss2_Tcti_Transmit(context_, nothing.size(), nothing.data());
    if (rc != TSS2_RC_SUCCESS) return rc;
    repeating_ = true;
    size = response.size();
    return Tss2_Tcti_Receive(context_, &size, response.data(), timeout);
}

TSS2_RC Child::cancel() {
    if (canceled_) return TSS2_RC_SUCCESS;  // some believe by now that nothing is running
    const TSS2_RC rc = withoutSigpipe([this] { return Tss2_Tcti_Cancel(context_); });
    if (rc == TSS2_RC_SUCCESS) canceled_ = true;
    return rc;
}

TSS2_RC Child::setLocality(uint8_t locality) {
    return withoutSigpipe([&] { return Tss2_Tcti_SetLocality(context_, locality); });
}

}  // namespace spaces::tpm
