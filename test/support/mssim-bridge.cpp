// SPDX-License-Identifier: BSD-2-Clause
//
// mssim-bridge SWTPM-PORT [PORT]: the protocol of Microsoft's TPM simulator towards clients,
// swtpm's towards the TPM, so that tests can run over the mssim TCTI. swtpm's control port must be
// SWTPM-PORT + 1. Prints the port P of the TPM command interface, which is PORT or a free one,
// when it is ready; the platform interface is P + 1. Serves one client at a time, as the simulator
// does, and the next one when that has gone; platform requests also while the TPM works at a
// command, so that it can be canceled. Ends on SIGTERM or with its parent.

#include <netinet/tcp.h>
#include <poll.h>

#include <cstdio>
#include <exception>

#include "swtpm_link.h"

namespace {

using namespace spaces::test;

enum MsSim : uint32_t {
    kPowerOn = 1,
    kSendCommand = 8,
    kCancelOn = 9,
    kCancelOff = 10,
    kNvOn = 11,
    kSessionEnd = 20,
    kStop = 21,
};

constexpr uint32_t kMaxCommandSize = 4096;

class Bridge {
  public:
    explicit Bridge(uint16_t swtpmPort) : tpm_(swtpmPort) {}
    Bridge(uint16_t swtpmPort, uint16_t port) : tpm_(swtpmPort), listeners_(port) {}

    uint16_t port() const { return listeners_.port; }

    [[noreturn]] void run() {
        for (;;) {
            // A listener waits while its interface has a client, and a client while the TPM works.
            const Descriptor& first = running_ ? running_ : client_ ? client_ : listeners_.first;
            const Descriptor& second = platform_ ? platform_ : listeners_.second;
            pollfd fds[] = {{first.get(), POLLIN, 0}, {second.get(), POLLIN, 0}};
            if (::poll(fds, 2, -1) < 0 && errno != EINTR) fail("poll");
            if (fds[0].revents != 0)
                turn(listeners_.first, client_, running_ ? &Bridge::answer : &Bridge::serveTpm);
            if (fds[1].revents != 0) turn(listeners_.second, platform_, &Bridge::servePlatform);
        }
    }

  private:
    // Accepts the interface's next client, or serves one request of its present one. A client that
    // ends, or that breaks the protocol, loses its connection and nothing else.
    void turn(const Descriptor& listener, Descriptor& client, bool (Bridge::*serve)()) {
        if (!client) {
            client = Descriptor(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
            return;
        }
        // The mssim TCTI sends a command in two pieces, and the second only once the first is
        // acknowledged: which the kernel likes to put off for 40 ms.
        const int on = 1;
        ::setsockopt(client.get(), IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
        try {
            if ((this->*serve)()) return;
        } catch (const std::exception& error) {
            std::fprintf(stderr, "mssim-bridge: %s\n", error.what());
        }
        client.close();
    }

    bool serveTpm() {
        Bytes request(4);
        if (!readAll(client_.get(), request)) return false;
        const uint32_t code = readU32(request);
        if (code == kSessionEnd || code == kStop) return false;
        if (code != kSendCommand) throw std::runtime_error("request on the TPM port not known");

        Bytes setup(5);  // locality, size
        readAll(client_.get(), setup);
        const uint32_t size = readU32(setup, 1);
        if (size < kHeaderSize || size > kMaxCommandSize) throw std::runtime_error("bad size");
        Bytes command(size);
        readAll(client_.get(), command);
        // swtpm would wait for ever for what the header promises.
        if (readU32(command, 2) != size) throw std::runtime_error("sizes disagree");

        tpm_.setLocality(setup[0]);
        running_ = tpm_.begin(command);
        return true;
    }

    bool answer() {
        const Descriptor running = std::move(running_);
        const Bytes response = SwtpmLink::finish(running);
        Bytes answer = u32(static_cast<uint32_t>(response.size()));
        append(answer, response);
        append(answer, 0, 4);
        sendAll(client_.get(), answer);
        return true;
    }

    bool servePlatform() {
        Bytes request(4);
        if (!readAll(platform_.get(), request)) return false;
        switch (readU32(request)) {
            case kSessionEnd:
            case kStop:
                return false;
            case kCancelOn:
                if (running_) tpm_.cancel();
                break;
            case kPowerOn:  // swtpm has power and NV for as long as it runs
            case kNvOn:
            case kCancelOff:
                break;
            default:
                throw std::runtime_error("platform command not known");
        }
        sendAll(platform_.get(), u32(0));
        return true;
    }

    SwtpmLink tpm_;
    const Listeners listeners_;
    Descriptor client_, platform_;
    Descriptor running_;  // the command that the TPM works at
};

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 2 && argc != 3) {
        std::fprintf(stderr, "usage: %s SWTPM-PORT [PORT]\n", argv[0]);
        return 2;
    }
    endWithParent();
    const uint16_t swtpmPort = portArgument(argv[1]);
    Bridge bridge = argc == 3 ? Bridge(swtpmPort, portArgument(argv[2])) : Bridge(swtpmPort);
    std::printf("%u\n", bridge.port());
    std::fflush(stdout);
    bridge.run();
} catch (const std::exception& error) {
    std::fprintf(stderr, "mssim-bridge: %s\n", error.what());
    return 1;
}
