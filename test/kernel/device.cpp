/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Devices and processes: see device.h.
 */
#include "device.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <stdexcept>

#include "support/crypto.h"
#include "support/response.h"

namespace spaces::test {

void PrintTo(const Way& way, std::ostream* out) { *out << way.conf(); }

std::string flushResidue() {
    Client bare(kTpm);
    std::string left;
    for (TPM2_HANDLE first :
         {TPM2_TRANSIENT_FIRST, TPM2_LOADED_SESSION_FIRST, TPM2_ACTIVE_SESSION_FIRST})
        for (TPM2_HANDLE handle : handles(bare, first)) {
            left += hex(handle) + " ";
            bare.send(flushContext(handle));
        }
    return left;
}

AheadOfTheKernel::AheadOfTheKernel() {
    sched_param priority{};
    priority.sched_priority = 1;
    if (sched_setscheduler(0, SCHED_FIFO, &priority) != 0)
        throw std::runtime_error("no real-time priority");
}

AheadOfTheKernel::~AheadOfTheKernel() {
    const sched_param none{};
    sched_setscheduler(0, SCHED_OTHER, &none);
}

// ---- What can be told apart

Key::Key(Client& client, const std::string& itsSecret)
    : secret(itsSecret), object(handle(client.ok(loadExternalHmac(secret)))) {}

void Key::expectUsable(Client& client) const {
    const Bytes answer = client.send(hmac(object, "data"));
    ASSERT_EQ(hex(rc(answer)), hex(0u)) << secret;
    EXPECT_EQ(hex(parameters(answer).tpm2b()), hex(hmacSha256(bytes(secret), bytes("data"))));
}

Policy::Policy(Client& client, const std::string& text)
    : session(handle(client.ok(startAuthSession(TPM2_SE_POLICY)))) {
    client.ok(Command(TPM2_CC_PolicyCpHash).handle(session).tpm2b(sha256(bytes(text))));
    digest = client.ok(policyGetDigest(session));
}

void Policy::expectUsable(Client& client) const {
    EXPECT_EQ(hex(client.send(policyGetDigest(session))), hex(digest)) << hex(session);
}

// ---- Processes

Process::Process(const Work& work) {
    int up[2], down[2];
    messages_ = memfd_create("messages", MFD_CLOEXEC);
    if (messages_ < 0 || pipe2(up, O_CLOEXEC) != 0 || pipe2(down, O_CLOEXEC) != 0)
        throw std::runtime_error("no pipes");
    std::fflush(nullptr);
    pid_ = fork();
    if (pid_ < 0) throw std::runtime_error("fork failed");
    if (pid_ > 0) {
        close(up[1]);
        close(down[0]);
        fromChild_ = up[0];
        toChild_ = down[1];
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(up[0]);
    close(down[1]);
    dup2(messages_, STDERR_FILENO);
    const auto pause = [&] {
        char byte = 0;
        if (write(up[1], &byte, 1) != 1 || read(down[0], &byte, 1) != 1) _exit(1);
    };
    try {
        _exit(work(pause));
    } catch (const std::exception& error) {
        dprintf(STDERR_FILENO, "%s\n", error.what());
        _exit(1);
    }
}

Process::~Process() {
    kill();
    for (int each : {fromChild_, toChild_, messages_}) close(each);
}

bool Process::waitUntilPaused() {
    char byte;
    return read(fromChild_, &byte, 1) == 1;
}

void Process::goOn() {
    if (write(toChild_, "", 1) != 1) throw std::runtime_error("the process is gone");
}

void Process::kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    wait();
}

int Process::wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::string Process::messages() {
    std::string text;
    char part[4096];
    ssize_t size;
    for (off_t at = 0; (size = pread(messages_, part, sizeof(part), at)) > 0; at += size)
        text.append(part, static_cast<size_t>(size));
    return text;
}

}  // namespace spaces::test
