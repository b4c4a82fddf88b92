// SPDX-License-Identifier: BSD-2-Clause
// The log. Each line is written with one call to a file opened for that line: nothing stays open,
// so there is nothing to leak at dlclose and nothing to share by accident after fork.
#include "log/log.h"

#include <fcntl.h>
#include <strings.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>

namespace spaces::log {
namespace {

constexpr const char* kNames[] = {"none", "ERROR", "WARNING", "info", "debug", "trace"};
constexpr size_t kMaxLine = 1024;
constexpr int kUnread = -1;

std::atomic<int> threshold = kUnread;

bool equal(std::string_view a, std::string_view b) {
    return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

std::optional<Level> levelNamed(std::string_view name) {
    for (int i = 0; i < static_cast<int>(std::size(kNames)); ++i) {
        if (equal(name, kNames[i])) return static_cast<Level>(i);
    }
    return std::nullopt;
}

class Destination {
  public:
    Destination() {
        const char* path = secure_getenv("TSS2_LOGFILE");
        if (path == nullptr || equal(path, "stderr")) return;
        if (equal(path, "stdout") || equal(path, "-")) {
            fd_ = STDOUT_FILENO;
            return;
        }
        const int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
        if (file < 0) return;
        fd_ = file;
        opened_ = true;
    }
    ~Destination() {
        if (opened_) close(fd_);
    }
    Destination(const Destination&) = delete;
    Destination& operator=(const Destination&) = delete;

    void write(const char* text, size_t size) const {
        while (size > 0) {
            const ssize_t written = ::write(fd_, text, size);
            if (written < 0 && errno == EINTR) continue;
            if (written <= 0) return;
            text += written;
            size -= static_cast<size_t>(written);
        }
    }

  private:
    int fd_ = STDERR_FILENO;
    bool opened_ = false;
};

}  // namespace

Level parseLevel(const char* setting) {
    Level level = Level::Warning;
    std::string_view rest = setting == nullptr ? "" : setting;
    while (!rest.empty()) {
        const std::string_view entry = rest.substr(0, rest.find(','));
        rest.remove_prefix(std::min(rest.size(), entry.size() + 1));
        const size_t plus = entry.find('+');
        if (plus == std::string_view::npos) continue;
        const std::string_view module = entry.substr(0, plus);
        if (!equal(module, "tcti") && !equal(module, "all")) continue;
        level = levelNamed(entry.substr(plus + 1)).value_or(level);
    }
    return level;
}

bool enabled(Level level) {
    int current = threshold.load(std::memory_order_relaxed);
    if (current == kUnread) {
        current = static_cast<int>(parseLevel(secure_getenv("TSS2_LOG")));
        threshold.store(current, std::memory_order_relaxed);
    }
    return static_cast<int>(level) <= current;
}

void print(Level level, const char* file, int line, const char* function, const char* format, ...) {
    const int saved = errno;
    char text[kMaxLine];
    const auto put = [](size_t at, int added) {
        return std::min(at + static_cast<size_t>(std::max(added, 0)), sizeof(text) - 3);
    };
    size_t size = put(0, snprintf(text, sizeof(text) - 2, "%s:tcti:%s:%d:%s() ",
                                  kNames[static_cast<int>(level)], file, line, function));
    va_list arguments;
    va_start(arguments, format);
    size = put(size, vsnprintf(text + size, sizeof(text) - 2 - size, format, arguments));
    va_end(arguments);
    text[size++] = ' ';
    text[size++] = '\n';
    Destination().write(text, size);
    errno = saved;
}

void printBytes(Level level, const char* file, int line, const char* function, const char* title,
                std::span<const uint8_t> bytes) {
    print(level, file, line, function, "%s (size=%zu):", title, bytes.size());
    const Destination destination;
    for (size_t start = 0; start < bytes.size(); start += 16) {
        char row[64];
        size_t size = static_cast<size_t>(snprintf(row, sizeof(row), "%04zx: ", start));
        for (const uint8_t byte : bytes.subspan(start, std::min<size_t>(16, bytes.size() - start)))
            size += static_cast<size_t>(snprintf(row + size, sizeof(row) - size, "%02x", byte));
        row[size++] = '\n';
        destination.write(row, size);
    }
}

}  // namespace spaces::log
