/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Starting and ending a bridge program: see bridge.h.
 */
#include "bridge.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <stdexcept>

#ifndef SUPPORT_PROGRAMS
#error "SUPPORT_PROGRAMS must be the folder of mssim-bridge and device-bridge"
#endif

namespace spaces::test {

Bridge::Bridge(const char* name, uint16_t port, const std::string& link) {
    const std::string program = std::string(SUPPORT_PROGRAMS) + "/" + name;
    const std::string number = std::to_string(port);
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
    pid_ = ::fork();
    if (pid_ == 0) {
        ::dup2(ends[1], STDOUT_FILENO);
        ::execl(program.c_str(), name, number.c_str(), link.empty() ? nullptr : link.c_str(),
                nullptr);
        ::_exit(127);
    }
    ::close(ends[1]);
    readLine(ends[0]);
    if (line_.empty()) throw std::runtime_error(program + " does not start");
}

Bridge::~Bridge() {
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
}

void Bridge::readLine(int fd) {
    char c;
    while (::read(fd, &c, 1) == 1 && c != '\n') line_ += c;
    ::close(fd);
}

}  // namespace spaces::test
