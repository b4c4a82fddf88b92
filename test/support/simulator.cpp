/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A swtpm process for one test: see simulator.h.  Nothing here waits for a fixed time; the only
 * polls are for swtpm to serve and end either way when its process does.
 */
#include "simulator.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <stdexcept>
#include <system_error>

#include "client.h"
#include "command.h"
#include "response.h"

namespace spaces::test {

namespace {

constexpr char kNvFile[] = "/tpm2-00.permall";
constexpr uint32_t kCmdInit = 2;
constexpr uint32_t kInitDeleteVolatile = 1;

/** A loopback TCP socket that closes itself. */
class Socket {
  public:
    Socket() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "socket");
    }
    ~Socket() { ::close(fd_); }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;

    bool bind(uint16_t port) {
        sockaddr_in name = address(port);
        return ::bind(fd_, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0;
    }
    bool connect(uint16_t port) {
        sockaddr_in name = address(port);
        return ::connect(fd_, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0;
    }
    /** Sends a control command and returns the first four bytes of its answer, if it came. */
    bool exchange(const Bytes& request, uint32_t& answer) {
        std::array<uint8_t, 4> reply;
        if (::send(fd_, request.data(), request.size(), MSG_NOSIGNAL) !=
                static_cast<ssize_t>(request.size()) ||
            recv(fd_, reply.data(), reply.size(), MSG_WAITALL) != 4)
            return false;
        answer = Cursor(Bytes(reply.begin(), reply.end())).u32();
        return true;
    }

  private:
    static sockaddr_in address(uint16_t port) {
        sockaddr_in name{};
        name.sin_family = AF_INET;
        name.sin_port = htons(port);
        name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return name;
    }
    int fd_;
};

/** A port that is free just now, like the one after it.  Taken from below the range that the kernel
 *  gives to outgoing connections: each command is one, and keeps its port for a minute. */
uint16_t freePortPair() {
    std::random_device random;
    for (;;) {
        const auto port = std::uniform_int_distribution<uint16_t>(10000, 32000)(random);
        Socket data, control;
        if (data.bind(port) && control.bind(static_cast<uint16_t>(port + 1))) return port;
    }
}

/** In the new process: becomes swtpm, or ends. */
[[noreturn]] void becomeSwtpm(const std::string& directory, uint16_t port, Record record,
                              pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    std::string state = "dir=" + directory;
    std::string bind = ",bindaddr=127.0.0.1";
    std::string server = "type=tcp,port=" + std::to_string(port) + bind;
    std::string control = "type=tcp,port=" + std::to_string(port + 1) + bind;
    std::string level = record == Record::commands ? "20" : "1";
    std::string log = "level=" + level + ",file=" + directory + "/log";
    std::string pid = "file=" + directory + "/pid";
    int errors = open((directory + "/stderr").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(errors, STDOUT_FILENO);
    dup2(errors, STDERR_FILENO);
    // A descriptor of the test left open here would hide from it that a peer has closed.
    close_range(STDERR_FILENO + 1, ~0U, 0);
    execlp("swtpm", "swtpm", "socket", "--tpm2", "--tpmstate", state.c_str(), "--server",
           server.c_str(), "--ctrl", control.c_str(), "--flags", "not-need-init,startup-clear",
           "--log", log.c_str(), "--pid", pid.c_str(), static_cast<char*>(nullptr));
    dprintf(STDERR_FILENO, "cannot run swtpm: %s\n", strerror(errno));
    _exit(127);
}

std::string readFile(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

}  // namespace

Simulator::Simulator(Record record) : Simulator(record, std::string()) {}

Simulator::Simulator(Record record, const Simulator& original)
    : Simulator(record, original.nvFile()) {}

/** Once it has answered anything, its NV is complete. */
std::string Simulator::nvFile() const {
    Client::bare(*this).ok(getRandom());
    return directory_ + kNvFile;
}

Simulator::Simulator(Record record, const std::string& nv) : record_(record) {
    std::string pattern = (std::filesystem::temp_directory_path() / "spaces-swtpm-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr)
        throw std::system_error(errno, std::generic_category(), "mkdtemp " + pattern);
    directory_ = pattern;
    if (!nv.empty()) std::filesystem::copy_file(nv, directory_ + kNvFile);
    // Between our look and swtpm's bind another process may take a port: then look again.
    for (int attempt = 0; attempt < 20; attempt++) {
        port_ = freePortPair();
        if (start()) return;
    }
    std::string reason = readFile(directory_ + "/stderr") + readFile(directory_ + "/log");
    removeDirectory();
    throw std::runtime_error("swtpm does not start: " + reason);
}

Simulator::~Simulator() {
    kill();
    removeDirectory();
}

void Simulator::removeDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
}

std::string Simulator::conf() const { return "swtpm:host=127.0.0.1,port=" + std::to_string(port_); }

bool Simulator::start() {
    std::filesystem::remove(directory_ + "/pid");
    pid_t parent = getpid();
    pid_ = fork();
    if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (pid_ == 0) becomeSwtpm(directory_, port_, record_, parent);
    return waitUntilServing();
}

/** True once this very swtpm has its ports, false when it has ended: it writes the file with its
 *  process id only after it listens, and ends when it cannot. */
bool Simulator::waitUntilServing() {
    while (!std::filesystem::exists(directory_ + "/pid")) {
        if (waitpid(pid_, nullptr, WNOHANG) == pid_) {
            pid_ = -1;
            return false;
        }
        usleep(1000);
    }
    return true;
}

void Simulator::kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
}

void Simulator::restart() {
    kill();
    if (record_ == Record::commands) readLog();
    if (!start()) throw std::runtime_error("swtpm does not start again on its port");
}

void Simulator::reset(AfterReset startup) {
    initialize();
    if (startup == AfterReset::none) return;
    Client::bare(*this).ok(
        test::startup(startup == AfterReset::startupState ? TPM2_SU_STATE : TPM2_SU_CLEAR));
}

/** _TPM_Init.  The control channel serves one connection at a time, so this one ends here. */
void Simulator::initialize() {
    Bytes request;
    append(request, kCmdInit, 4);
    append(request, kInitDeleteVolatile, 4);
    uint32_t answer = ~0U;
    Socket control;
    if (!control.connect(static_cast<uint16_t>(port_ + 1)) || !control.exchange(request, answer) ||
        answer != 0)
        throw std::runtime_error("swtpm did not reset the TPM: " + hex(answer));
}

/** Takes in what the log has got since last time: a command is a line "SWTPM_IO_Read: length N"
 *  and the lines of two-digit numbers that follow. */
void Simulator::readLog() {
    if (record_ == Record::nothing) throw std::logic_error("this swtpm records no commands");
    std::ifstream log(directory_ + "/log");
    log.seekg(logOffset_);
    for (std::string line; std::getline(log, line) && !log.eof();) {
        logOffset_ += static_cast<long>(line.size()) + 1;
        if (line.find(':') != std::string::npos) {
            inCommand_ = line.find("SWTPM_IO_Read:") != std::string::npos;
            if (inCommand_) commands_.emplace_back();
            continue;
        }
        if (!inCommand_) continue;
        for (size_t at = 0; at + 2 < line.size(); at += 3)
            commands_.back().push_back(
                static_cast<uint8_t>(std::stoul(line.substr(at + 1, 2), nullptr, 16)));
    }
}

size_t Simulator::commandCount() {
    readLog();
    return commands_.size();
}

std::vector<Bytes> Simulator::commands(size_t mark) {
    readLog();
    if (mark > commands_.size()) throw std::out_of_range("a mark that was never reached");
    return {commands_.begin() + static_cast<std::ptrdiff_t>(mark), commands_.end()};
}

std::vector<TPM2_CC> Simulator::commandCodes(size_t mark) {
    std::vector<TPM2_CC> codes;
    for (const Bytes& command : commands(mark)) codes.push_back(rc(command));
    return codes;
}

}  // namespace spaces::test
