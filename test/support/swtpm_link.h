// SPDX-License-Identifier: BSD-2-Clause
//
// How the bridge programs reach a swtpm: one TCP connection for each TPM command and for each
// control command, closed at once, so that a test may always ask the same swtpm directly between
// two commands. Everything blocks; every failure throws std::runtime_error.

#ifndef SPACES_TEST_SUPPORT_SWTPM_LINK_H
#define SPACES_TEST_SUPPORT_SWTPM_LINK_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bytes.h"

namespace spaces::test {

constexpr size_t kHeaderSize = 10;  // tag, size, command or response code

// A file descriptor that is closed with its owner; -1 is "none".
class Descriptor {
  public:
    Descriptor() = default;
    explicit Descriptor(int fd) : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        other.close();
        return *this;
    }
    ~Descriptor() { close(); }

    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    void close() {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }

  private:
    int fd_ = -1;
};

[[noreturn]] inline void fail(const std::string& what) {
    throw std::runtime_error(what + ": " + std::strerror(errno));
}

// The big-endian number at `offset`, as in every TPM header.
inline uint32_t readU32(std::span<const uint8_t> bytes, size_t offset = 0) {
    const auto* p = bytes.data() + offset;
    return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | p[3];
}

inline Bytes u32(uint32_t value) {
    Bytes bytes;
    append(bytes, value, 4);
    return bytes;
}

// Fills `bytes` from `fd`; false on a clean end of file before the first byte.
inline bool readAll(int fd, std::span<uint8_t> bytes) {
    size_t done = 0;
    while (done < bytes.size()) {
        const ssize_t n = ::read(fd, bytes.data() + done, bytes.size() - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail("read");
        if (n == 0 && done == 0) return false;
        if (n == 0) throw std::runtime_error("read: ended in the middle of a message");
        done += static_cast<size_t>(n);
    }
    return true;
}

inline void sendAll(int socket, std::span<const uint8_t> bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail("send");
        bytes = bytes.subspan(static_cast<size_t>(n));
    }
}

inline sockaddr_in loopback(uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

inline Descriptor connectLoopback(uint16_t port) {
    Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = loopback(port);
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        fail("connect to swtpm");
    }
    return socket;
}

// Two free ports in a row: a conf names one only. Outside the range the kernel gives to outgoing
// connections.
struct Listeners {
    Listeners() {
        std::random_device random;
        for (int attempt = 0; attempt < 1000; ++attempt)
            if (listenAt(static_cast<uint16_t>(10000 + random() % 20000))) return;
        throw std::runtime_error("no two free ports in a row");
    }

    // At this port and the next one, for whoever serves again where it served before.
    explicit Listeners(uint16_t at) {
        if (!listenAt(at)) fail("the ports are taken");
    }

    uint16_t port = 0;
    Descriptor first, second;

  private:
    bool listenAt(uint16_t at) {
        port = at;
        first = listenOn(at);
        second = listenOn(static_cast<uint16_t>(at + 1));
        return first && second;
    }

    static Descriptor listenOn(uint16_t port) {
        Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const int on = 1;
        ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        const sockaddr_in address = loopback(port);
        if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
                0 ||
            ::listen(socket.get(), 4) != 0) {
            return {};
        }
        return socket;
    }
};

// One TPM command from a client; false if there is none more.
inline bool readCommand(int client, Bytes& command) {
    constexpr uint32_t kMaxCommandSize = 4096;
    command.resize(kHeaderSize);
    if (!readAll(client, command)) return false;
    const uint32_t size = readU32(command, 2);
    if (size < kHeaderSize || size > kMaxCommandSize) throw std::runtime_error("bad size");
    command.resize(size);
    if (size > kHeaderSize) readAll(client, std::span(command).subspan(kHeaderSize));
    return true;
}

class SwtpmLink {
  public:
    explicit SwtpmLink(uint16_t port) : port_(port) {}

    // One TPM command to the data port; the whole response.
    Bytes command(std::span<const uint8_t> bytes) const { return finish(begin(bytes)); }

    // The same in two steps: the connection becomes readable when the response is there.
    Descriptor begin(std::span<const uint8_t> bytes) const {
        Descriptor socket = connectLoopback(port_);
        sendAll(socket.get(), bytes);
        return socket;
    }

    static Bytes finish(const Descriptor& socket) {
        Bytes response(kHeaderSize);
        if (!readAll(socket.get(), response)) throw std::runtime_error("swtpm gave no response");
        const uint32_t size = readU32(response, 2);
        if (size < kHeaderSize) throw std::runtime_error("swtpm gave a short response");
        response.resize(size);
        if (size > kHeaderSize) readAll(socket.get(), std::span(response).subspan(kHeaderSize));
        return response;
    }

    // The locality of all commands from now on, whoever sends them: swtpm knows only one.
    void setLocality(uint8_t locality) const {
        Bytes request = u32(kCmdSetLocality);
        request.push_back(locality);
        control(request);
    }

    void cancel() const { control(u32(kCmdCancelTpmCmd)); }

    static constexpr uint32_t kCmdSetLocality = 5;
    static constexpr uint32_t kCmdCancelTpmCmd = 9;

    // A control command that answers with nothing but its result, which must be good.
    void control(std::span<const uint8_t> request) const {
        const Descriptor socket = connectLoopback(static_cast<uint16_t>(port_ + 1));
        sendAll(socket.get(), request);
        Bytes result(4);
        if (!readAll(socket.get(), result) || readU32(result) != 0) {
            throw std::runtime_error("swtpm refused control command " +
                                     std::to_string(readU32(request)));
        }
    }

  private:
    uint16_t port_;
};

// A bridge never outlives whoever started it.
inline void endWithParent() {
    const pid_t parent = ::getppid();
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent || parent == 1) ::_exit(1);
}

inline uint16_t portArgument(const char* text) {
    const unsigned long port = std::stoul(text);
    if (port == 0 || port >= 65535) throw std::runtime_error("bad port " + std::string(text));
    return static_cast<uint16_t>(port);
}

}  // namespace spaces::test

#endif
