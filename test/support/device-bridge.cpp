// SPDX-License-Identifier: BSD-2-Clause
//
// device-bridge SWTPM-PORT LINK: a pseudo-terminal in raw mode that behaves like a TPM character
// device, so that tests can run over the device TCTI without a TPM in the machine: what a client
// writes goes to swtpm command by command, the response comes back in one piece. Makes the
// symbolic link LINK to the terminal, prints LINK when it is ready, and removes it on SIGTERM or
// when its parent ends. Any number of clients may open it one after the other.
//
// The kernel hands a write to a terminal over in one piece only up to some 1,700 bytes, and the
// device TCTI reads once: longer responses are refused rather than left to chance.

#include <fcntl.h>
#include <stdlib.h>
#include <termios.h>

#include <cstdio>
#include <exception>

#include "swtpm_link.h"

namespace {

using namespace spaces::test;

constexpr size_t kMaxResponseSize = 1700;

const char* linkPath = nullptr;

void removeLinkAndEnd(int) {
    ::unlink(linkPath);
    ::_exit(0);
}

class Terminal {
  public:
    explicit Terminal(const char* link) : master_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
        if (!master_ || ::grantpt(master_.get()) != 0 || ::unlockpt(master_.get()) != 0) {
            fail("posix_openpt");
        }
        const char* name = ::ptsname(master_.get());
        // Kept open for good: without a client the master side would only read errors.
        slave_ = Descriptor(::open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
        termios mode;
        if (!slave_ || ::tcgetattr(slave_.get(), &mode) != 0) fail(name);
        ::cfmakeraw(&mode);
        if (::tcsetattr(slave_.get(), TCSANOW, &mode) != 0) fail("tcsetattr");
        ::unlink(link);
        if (::symlink(name, link) != 0) fail(link);
    }

    Bytes command() const {
        Bytes command;
        readCommand(master_.get(), command);
        return command;
    }

    void writeResponse(const Bytes& response) const {
        if (response.size() > kMaxResponseSize) throw std::runtime_error("response too long");
        const ssize_t n = ::write(master_.get(), response.data(), response.size());
        if (n != static_cast<ssize_t>(response.size())) fail("write");
    }

  private:
    Descriptor master_, slave_;
};

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s SWTPM-PORT LINK\n", argv[0]);
        return 2;
    }
    linkPath = argv[2];
    std::signal(SIGTERM, removeLinkAndEnd);
    endWithParent();
    const SwtpmLink tpm(portArgument(argv[1]));
    const Terminal terminal(linkPath);
    std::printf("%s\n", linkPath);
    std::fflush(stdout);
    for (;;) terminal.writeResponse(tpm.command(terminal.command()));
} catch (const std::exception& error) {
    std::fprintf(stderr, "device-bridge: %s\n", error.what());
    if (linkPath != nullptr) ::unlink(linkPath);
    return 1;
}
