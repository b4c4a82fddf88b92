// SPDX-License-Identifier: BSD-2-Clause
// Writing a trace; see trace.h. The file is "[", events with commas between them, "]": each event
// takes the place of the closing bracket, and brings a new one, in one write; or in two, where the
// first page is full, and then the format allows what is there between them, too.
#include "log/trace.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "log/log.h"

namespace spaces::log {
namespace {

constexpr char kStart[] = "[\n";
constexpr char kEnd[] = "\n]\n";
constexpr off_t kEndSize = sizeof kEnd - 1;
constexpr char kComma[] = ",\n";
constexpr size_t kMaxEvent = 512;
constexpr off_t kPage = 4096;

double microseconds(Trace::Clock::duration time) {
    return std::chrono::duration<double, std::micro>(time).count();
}

/// What JSON can hold without escapes.
std::array<char, 64> printable(const char* text) {
    std::array<char, 64> result{};
    for (size_t i = 0; i + 1 < result.size() && text[i] != '\0'; ++i) {
        const bool plain = text[i] >= ' ' && text[i] < 0x7F && text[i] != '"' && text[i] != '\\';
        result[i] = plain ? text[i] : '_';
    }
    return result;
}

/// What every trace begins with.
constexpr char kFirst[] = R"({"name":"process_name","ph":"M",)";

/// Of this process, whatever file they are in: no two of its traces share a row.
std::atomic<unsigned> rows = 0;

/// While it lives, no other process, and no other trace of this one, writes to the file.
class Locked {
  public:
    explicit Locked(int file) : file_(file) {
        while (flock(file_, LOCK_EX) != 0 && errno == EINTR) continue;
    }
    ~Locked() { flock(file_, LOCK_UN); }
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;

  private:
    int file_;
};

template <size_t kSize>
bool holds(int file, off_t at, const char (&text)[kSize]) {
    std::array<char, kSize - 1> found{};
    return at >= 0 && pread(file, found.data(), found.size(), at) == ssize_t{found.size()} &&
           memcmp(found.data(), text, found.size()) == 0;
}

/// A writer was killed between two pages: what is there ends with a comma and blanks. Ends it.
bool mend(int file, off_t size) {
    std::array<char, kPage> last{};
    const off_t from = std::max<off_t>(size - kPage, 0);
    const ssize_t count = pread(file, last.data(), last.size(), from);
    if (count <= 0) return false;
    const size_t comma =
        std::string_view(last.data(), static_cast<size_t>(count)).find_last_not_of(" \n");
    if (comma == std::string_view::npos || last[comma] != ',') return false;
    const off_t at = from + static_cast<off_t>(comma);
    return pwrite(file, kEnd, kEndSize, at) == kEndSize && ftruncate(file, at + kEndSize) == 0;
}

/// Empty, or as we begin and end it.
bool isTrace(int file) {
    struct stat status {};
    if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) return false;
    if (status.st_size == 0) return true;
    if (!holds(file, 0, kStart) || !holds(file, sizeof kStart - 1, kFirst)) return false;
    return holds(file, status.st_size - kEndSize, kEnd) || mend(file, status.st_size);
}

/// A process that is killed in a write may leave it undone from a page's boundary on. So none
/// crosses one: where there is too little room, the page is filled with blanks behind a comma, and
/// the event begins the next page. Returns where, and takes the comma off the text; or -1.
off_t makeRoom(int file, off_t at, std::string_view& text) {
    const off_t room = kPage - at % kPage;
    if (at == 0 || static_cast<off_t>(text.size()) <= room) return at;
    std::array<char, kMaxEvent> blanks{};
    blanks.fill(' ');
    blanks[0] = ',';
    if (pwrite(file, blanks.data(), static_cast<size_t>(room), at) != room) return -1;
    text.remove_prefix(sizeof kComma - 1);
    return at + room;
}

/// The disk is full: the file ends as it did.
void takeBack(int file, off_t at) {
    const bool ended = at == 0 || pwrite(file, kEnd, kEndSize, at) == kEndSize;
    if (!ended || ftruncate(file, at == 0 ? 0 : at + kEndSize) != 0)
        LOG_WARNING("The trace cannot be written any more: %s", strerrordesc_np(errno));
}

/// Others may be in the middle of writing.
bool isTraceNow(int file) {
    const Locked locked(file);
    return isTrace(file);
}

}  // namespace

Trace::~Trace() {
    if (isOpen()) close(file_);
}

bool Trace::open(const char* path, const char* tpm) {
    const int file = ::open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
    if (file < 0) {
        LOG_ERROR("The trace '%s' cannot be written: %s", path, strerrordesc_np(errno));
        return false;
    }
    if (!isTraceNow(file)) {
        LOG_ERROR("'%s' is not a trace, and is left alone: name a new file", path);
        close(file);
        return false;
    }
    file_ = file;
    process_ = getpid();
    tpm_ = printable(tpm);
    add(R"(%s"pid":%d,"args":{"name":"%s"}})", kFirst, process_,
        printable(program_invocation_short_name).data());
    return true;
}

void Trace::abandon() {
    if (isOpen()) close(file_);
    file_ = -1;
}

unsigned Trace::addSpace() {
    if (!isOpen()) return 0;
    const unsigned space = ++rows;
    add(R"({"name":"thread_name","ph":"M","pid":%d,"tid":%u,"args":{"name":"space %u"}})", process_,
        space, space);
    return space;
}

void Trace::addSpan(unsigned space, const char* name, const char* kind, Clock::time_point begin,
                    Clock::time_point end, uint32_t responseCode) {
    if (!isOpen()) return;
    add(R"({"name":"%s","cat":"%s","ph":"X","pid":%d,"tid":%u,"ts":%.3f,"dur":%.3f,)"
        R"("args":{"response code":"0x%x"}})",
        name, kind, process_, space, microseconds(begin.time_since_epoch()),
        microseconds(end - begin), responseCode);
}

void Trace::setSlots(size_t objects, size_t sessions) {
    if (!isOpen() || (objects == objects_ && sessions == sessions_)) return;
    objects_ = objects;
    sessions_ = sessions;
    add(R"({"name":"the TPM's slots","ph":"C","id":"%s","pid":%d,"ts":%.3f,)"
        R"("args":{"objects":%zu,"sessions":%zu}})",
        tpm_.data(), process_, microseconds(Clock::now().time_since_epoch()), objects, sessions);
}

/// What cannot be written is missing in the picture, and nowhere else.
void Trace::add(const char* format, ...) {
    std::array<char, kMaxEvent> text{};
    const std::lock_guard one(adding_);  // threads of a process share the file's lock
    const Locked locked(file_);
    const off_t size = lseek(file_, 0, SEEK_END);
    const off_t at = size > kEndSize ? size - kEndSize : 0;
    size_t used =
        static_cast<size_t>(snprintf(text.data(), text.size(), "%s", at > 0 ? kComma : kStart));
    va_list values;
    va_start(values, format);
    const int length = vsnprintf(&text[used], text.size() - used, format, values);
    va_end(values);
    if (length < 0 || used + static_cast<size_t>(length) + sizeof kEnd > text.size()) return;
    used += static_cast<size_t>(length);
    memcpy(&text[used], kEnd, kEndSize);
    used += kEndSize;
    std::string_view event(text.data(), used);
    const off_t place = makeRoom(file_, at, event);
    if (place < 0 ||
        pwrite(file_, event.data(), event.size(), place) != static_cast<ssize_t>(event.size()))
        takeBack(file_, at);
}

}  // namespace spaces::log
