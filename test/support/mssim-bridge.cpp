// SPDX-License-Identifier: BSD-2-Clause
//
// mssim-bridge SWTPM-PORT: the protocol of Microsoft's TPM simulator towards clients, swtpm's
// towards the TPM, so that tests can run over the mssim TCTI. swtpm's control port must be
// SWTPM-PORT + 1. Prints the port P of the TPM command interface when it is ready; the platform
// interface is P + 1. Serves one client at a time, as the simulator does, and the next one when
// that has gone. Ends on SIGTERM or with its parent.

#include <poll.h>

#include <cstdio>
#include <exception>
#include <random>

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

Descriptor listenOn(uint16_t port) {
    Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const sockaddr_in address = loopback(port);
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(socket.get(), 4) != 0) {
        return {};
    }
    return socket;
}

class Bridge {
  public:
    explicit Bridge(uint16_t swtpmPort) : tpm_(swtpmPort) { listenOnPair(); }

    uint16_t port() const { return port_; }

    [[noreturn]] void run() {
        for (;;) {
            // A listener waits while its interface has a client; poll() ignores a negative fd.
            pollfd fds[] = {{client_ ? client_.get() : listener_.get(), POLLIN, 0},
                            {platform_ ? platform_.get() : platformListener_.get(), POLLIN, 0}};
            if (::poll(fds, 2, -1) < 0 && errno != EINTR) fail("poll");
            if (fds[0].revents != 0) turn(listener_, client_, &Bridge::serveTpm);
            if (fds[1].revents != 0) turn(platformListener_, platform_, &Bridge::servePlatform);
        }
    }

  private:
    // TCTI conf names one port only; outside the range the kernel gives to outgoing connections.
    void listenOnPair() {
        std::random_device random;
        for (int attempt = 0; attempt < 1000; ++attempt) {
            port_ = static_cast<uint16_t>(10000 + random() % 20000);
            listener_ = listenOn(port_);
            platformListener_ = listenOn(static_cast<uint16_t>(port_ + 1));
            if (listener_ && platformListener_) return;
        }
        throw std::runtime_error("no two free ports in a row");
    }

    // Accepts the interface's next client, or serves one request of its present one. A client that
    // ends, or that breaks the protocol, loses its connection and nothing else.
    void turn(const Descriptor& listener, Descriptor& client, bool (Bridge::*serve)()) {
        if (!client) {
            client = Descriptor(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
            return;
        }
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
        const Bytes response = tpm_.command(command);
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
                tpm_.cancel();
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
    uint16_t port_ = 0;
    Descriptor listener_, platformListener_;
    Descriptor client_, platform_;
};

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s SWTPM-PORT\n", argv[0]);
        return 2;
    }
    endWithParent();
    Bridge bridge(portArgument(argv[1]));
    std::printf("%u\n", bridge.port());
    std::fflush(stdout);
    bridge.run();
} catch (const std::exception& error) {
    std::fprintf(stderr, "mssim-bridge: %s\n", error.what());
    return 1;
}
