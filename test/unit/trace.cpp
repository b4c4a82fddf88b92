// SPDX-License-Identifier: BSD-2-Clause
// Unit test of the trace.
// Always holds: whatever is written, and whoever writes beside it, the file is JSON that obeys the
// Trace Event Format; nothing that is somebody else's is touched.
#include "log/trace.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>
#include <vector>

#include "support/trace_events.h"

namespace spaces::log {
namespace {

using test::contentsOf;
using test::TraceEvents;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

namespace fs = std::filesystem;

constexpr auto kMicrosecond = std::chrono::microseconds(1);

/// A folder of its own, and a trace in it that is not there yet.
class TraceTest : public testing::Test {
  protected:
    TraceTest() {
        std::string name = (fs::temp_directory_path() / "spaces-trace.XXXXXX").string();
        folder = mkdtemp(name.data());
        path = folder / "trace";
    }
    ~TraceTest() override { fs::remove_all(folder); }

    void addSpan(Trace& trace, unsigned row, int begin, int end, uint32_t code = 0) {
        trace.addSpan(row, "ReadPublic", "client", Trace::Clock::time_point(begin * kMicrosecond),
                      Trace::Clock::time_point(end * kMicrosecond), code);
    }
    TraceEvents events() const { return TraceEvents(path); }

    /// The log line of a file that must be refused, and be as before.
    std::string refusal(const fs::path& name) {
        const bool isFile = fs::is_regular_file(name);
        const std::string before = isFile ? contentsOf(name) : "";
        Trace trace;
        testing::internal::CaptureStderr();
        EXPECT_FALSE(trace.open(name.c_str())) << name;
        const std::string line = testing::internal::GetCapturedStderr();
        EXPECT_FALSE(trace.isOpen());
        trace.addSpace();
        trace.setSlots(1, 1);
        EXPECT_EQ(isFile ? contentsOf(name) : "", before);
        EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << line;
        EXPECT_THAT(line, HasSubstr("ERROR:tcti:"));
        EXPECT_THAT(line, HasSubstr("'" + name.string() + "'"));
        return line;
    }

    fs::path folder, path;
};

TEST_F(TraceTest, IsCompleteAfterEveryEvent) {
    Trace trace;
    ASSERT_TRUE(trace.open(path.c_str()));
    size_t written = 1;
    EXPECT_EQ(events().size(), written);
    const auto expectOneMore = [&] {
        EXPECT_EQ(events().size(), ++written);
        EXPECT_EQ(events().brokenRule(), "");
    };
    const unsigned first = trace.addSpace();
    expectOneMore();
    const unsigned second = trace.addSpace();
    expectOneMore();
    EXPECT_NE(first, second);
    for (int i = 0; i < 20; ++i) {
        addSpan(trace, i % 2 == 0 ? first : second, 10 * i, 10 * i + 10);
        expectOneMore();
        trace.setSlots(i + 1u, 2u);
        expectOneMore();
    }
}

TEST_F(TraceTest, SaysWhatItWasTold) {
    Trace trace;
    ASSERT_TRUE(trace.open(path.c_str()));
    const unsigned row = trace.addSpace();
    addSpan(trace, row, 1500, 1750, 0x902);
    const TraceEvents::Json span = events().of("X").at(0);
    EXPECT_EQ(span["name"], "ReadPublic");
    EXPECT_EQ(span["cat"], "client");
    EXPECT_EQ(span["pid"], getpid());
    EXPECT_EQ(span["tid"], row);
    EXPECT_EQ(span["ts"], 1500.0);
    EXPECT_EQ(span["dur"], 250.0);
    EXPECT_EQ(span["args"]["response code"], "0x902");
    EXPECT_THAT(events().of("M").at(0)["args"]["name"], std::string(program_invocation_short_name));
    EXPECT_THAT(events().of("M").at(1)["args"]["name"], "space " + std::to_string(row));
}

TEST_F(TraceTest, CountsWhenACountChanges) {
    Trace trace;
    ASSERT_TRUE(trace.open(path.c_str()));
    constexpr unsigned kCounts[][2] = {{0, 0}, {1, 0}, {1, 0}, {1, 2}, {0, 2}, {0, 0}, {0, 0}};
    for (const auto& [objects, sessions] : kCounts) trace.setSlots(objects, sessions);
    EXPECT_THAT(events().slots(), ElementsAre(Pair(1, 0), Pair(1, 2), Pair(0, 2), Pair(0, 0)));
    EXPECT_EQ(events().brokenRule(), "");
}

/// A process may have several; a viewer draws a counter for each name and id.
TEST_F(TraceTest, CountsForEachTpm) {
    Trace one, other;
    ASSERT_TRUE(one.open(path.c_str(), "swtpm:port=\"2321\""));
    ASSERT_TRUE(other.open(path.c_str(), "device:/dev/tpm0"));
    one.setSlots(1, 0);
    other.setSlots(3, 2);
    EXPECT_EQ(events().of("C").at(0)["id"], "swtpm:port=_2321_");
    EXPECT_EQ(events().of("C").at(1)["id"], "device:/dev/tpm0");
    EXPECT_EQ(events().brokenRule(), "");
}

TEST_F(TraceTest, AProgramMayHaveAnyName) {
    char* const name = program_invocation_short_name;
    std::string odd = "a\"b\\c\n\x7f\xff\td" + std::string(100, 'x');
    program_invocation_short_name = odd.data();
    Trace trace;
    EXPECT_TRUE(trace.open(path.c_str()));
    program_invocation_short_name = name;
    const std::string written = events().of("M").at(0)["args"]["name"];
    EXPECT_EQ(written, "a_b_c____d" + std::string(63 - 10, 'x'));
}

TEST_F(TraceTest, WhatIsTooLongIsLeftOut) {
    Trace trace;
    ASSERT_TRUE(trace.open(path.c_str()));
    const unsigned row = trace.addSpace();
    const std::string before = contentsOf(path);
    for (size_t length = 340; length < 440; ++length) {
        trace.addSpan(row, std::string(length, 'n').c_str(), "client", {}, {}, 0);
        ASSERT_EQ(events().brokenRule(), "") << length;
    }
    EXPECT_EQ(events().of("X").back()["name"].get<std::string>().size(),
              events().of("X").size() + 339);
    EXPECT_LT(events().of("X").size(), 100u);
}

TEST_F(TraceTest, ANewOneIsForItsOwnerAlone) {
    const mode_t before = umask(0);
    Trace trace;
    EXPECT_TRUE(trace.open(path.c_str()));
    umask(before);
    EXPECT_EQ(fs::status(path).permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(TraceTest, GoesOnWhereAnotherEnded) {
    for (int i = 0; i < 3; ++i) {
        Trace trace;
        ASSERT_TRUE(trace.open(path.c_str()));
        addSpan(trace, trace.addSpace(), 10 * i, 10 * i + 5);
    }
    EXPECT_EQ(events().of("X").size(), 3u);
}

TEST_F(TraceTest, AnEmptyFileIsAsGoodAsNone) {
    std::ofstream(path).close();
    Trace trace;
    EXPECT_TRUE(trace.open(path.c_str()));
    EXPECT_EQ(events().size(), 1u);
}

TEST_F(TraceTest, WhatIsNotATraceIsLeftAlone) {
    const fs::path other = folder / "other";
    for (const char* text :
         {"x", "some text\n]\n", "[\n", "\n]\n", "{}\n", "[]\n", "[\n{\"name\":1},\n"}) {
        std::ofstream(other) << text;
        EXPECT_THAT(refusal(other),
                    HasSubstr("is not a trace, and is left alone: name a new file"));
    }
}

TEST_F(TraceTest, WhatIsNoFileIsLeftAlone) {
    const fs::path fifo = folder / "fifo";
    ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
    EXPECT_THAT(refusal(fifo), HasSubstr("is not a trace"));
    EXPECT_THAT(refusal("/dev/null"), HasSubstr("is not a trace"));
    EXPECT_THAT(refusal(folder), HasSubstr("cannot be written: Is a directory"));
    EXPECT_THAT(refusal(folder / "no" / "folder"), HasSubstr("No such file or directory"));
}

TEST_F(TraceTest, ALinkIsNotFollowed) {
    {
        Trace trace;
        ASSERT_TRUE(trace.open(path.c_str()));
    }
    const std::string before = contentsOf(path);
    const fs::path link = folder / "link", dangling = folder / "dangling";
    fs::create_symlink(path, link);
    fs::create_symlink(folder / "new", dangling);
    for (const fs::path& each : {link, dangling})
        EXPECT_THAT(refusal(each),
                    HasSubstr("cannot be written: Too many levels of symbolic links"));
    EXPECT_EQ(contentsOf(path), before);
    EXPECT_FALSE(fs::exists(folder / "new"));
}

TEST_F(TraceTest, WithoutAFileNothingHappens) {
    Trace trace;
    EXPECT_EQ(trace.addSpace(), 0u);
    addSpan(trace, 1, 0, 1);
    trace.setSlots(1, 1);
    EXPECT_TRUE(fs::is_empty(folder));
}

TEST_F(TraceTest, AForkedProcessWritesNothing) {
    Trace trace;
    ASSERT_TRUE(trace.open(path.c_str()));
    const std::string before = contentsOf(path);
    const pid_t pid = fork();
    if (pid == 0) {
        trace.abandon();
        addSpan(trace, trace.addSpace(), 0, 1);
        trace.setSlots(1, 1);
        const auto isTheFile = [this](const fs::directory_entry& each) {
            std::error_code gone;
            return fs::read_symlink(each, gone) == path;
        };
        const fs::directory_iterator descriptors("/proc/self/fd");
        const bool open = std::any_of(begin(descriptors), end(descriptors), isTheFile);
        _exit(trace.isOpen() || open ? 1 : 0);
    }
    int status = -1;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(contentsOf(path), before);
    addSpan(trace, trace.addSpace(), 0, 1);
    EXPECT_EQ(events().of("X").size(), 1u);
}

// Each process opens it over and over, while others write.
TEST_F(TraceTest, SeveralProcessesWriteSideBySide) {
    constexpr int kProcesses = 4, kTraces = 20, kSpans = 200;
    std::vector<pid_t> processes;
    for (int i = 0; i < kProcesses; ++i) {
        processes.push_back(fork());
        if (processes.back() != 0) continue;
        for (int j = 0; j < kTraces; ++j) {
            Trace trace;
            if (!trace.open(path.c_str())) _exit(1);
            for (int k = 0; k < kSpans; ++k) addSpan(trace, 0, 0, 0);
        }
        _exit(0);
    }
    for (const pid_t process : processes) {
        int status = -1;
        ASSERT_EQ(waitpid(process, &status, 0), process);
        EXPECT_EQ(status, 0) << "the file was not taken for a trace";
    }
    EXPECT_EQ(events().of("M").size(), size_t{kProcesses * kTraces});
    EXPECT_EQ(events().of("X").size(), size_t{kProcesses * kTraces * kSpans});
}

// The lock is held as another process would hold it: the writer sleeps, and has written nothing.
TEST_F(TraceTest, WhileAnotherHoldsTheFileNothingIsWritten) {
    Trace trace;
    ASSERT_TRUE(trace.open(path.c_str()));
    const std::string before = contentsOf(path);
    const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_EQ(flock(file, LOCK_EX), 0);
    std::atomic<pid_t> writer = 0;
    std::atomic<bool> written = false;
    std::thread thread([&] {
        writer = gettid();
        addSpan(trace, 0, 0, 0);
        written = true;
    });
    const auto sleeps = [&] {
        const fs::path stat = "/proc/self/task/" + std::to_string(writer) + "/stat";
        return writer != 0 && contentsOf(stat).find(") S ") != std::string::npos;
    };
    while (!written && !sleeps()) std::this_thread::yield();
    EXPECT_EQ(contentsOf(path), before);
    close(file);
    thread.join();
    EXPECT_EQ(events().of("X").size(), 1u);
}

// Spaces come while others send.
TEST_F(TraceTest, ThreadsOfOneTraceDoNotMeet) {
    constexpr int kRows = 5000;
    Trace trace;
    ASSERT_TRUE(trace.open(path.c_str()));
    std::thread sender([&] {
        for (int i = 0; i < kRows; ++i) addSpan(trace, 0, 0, 0);
    });
    for (int i = 0; i < kRows; ++i) trace.addSpace();
    sender.join();
    EXPECT_EQ(events().size(), size_t{1 + 2 * kRows});
}

// Two children of one process may be in one picture.
TEST_F(TraceTest, TracesOfOneProcessShareNoRow) {
    Trace one, other;
    ASSERT_TRUE(one.open(path.c_str()));
    ASSERT_TRUE(other.open(path.c_str()));
    addSpan(one, one.addSpace(), 0, 10);
    addSpan(other, other.addSpace(), 5, 15);
    EXPECT_EQ(events().brokenRule(), "");
}

TEST_F(TraceTest, AListOfSomebodyElseIsLeftAlone) {
    std::ofstream(path) << "[\n    1,\n    2\n]\n";
    EXPECT_THAT(refusal(path), HasSubstr("is not a trace"));
}

TEST_F(TraceTest, AFullDiskCostsEventsAndNothingElse) {
    const pid_t pid = fork();
    if (pid == 0) {
        Trace trace;
        if (!trace.open(path.c_str())) _exit(1);
        std::signal(SIGXFSZ, SIG_IGN);
        rlimit before{};
        getrlimit(RLIMIT_FSIZE, &before);
        const rlimit full{1000, before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &full);
        for (int i = 0; i < 20; ++i) addSpan(trace, 0, 0, 0);
        setrlimit(RLIMIT_FSIZE, &before);
        std::exit(0);  // unlike _exit it lets coverage count
    }
    int status = -1;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT_EQ(status, 0);
    EXPECT_GE(events().size(), 3u);
    EXPECT_LT(events().size(), 20u);
}

// What a process leaves that is killed between two pages.
TEST_F(TraceTest, WhatWasLeftUndoneIsEndedByTheNext) {
    {
        Trace trace;
        ASSERT_TRUE(trace.open(path.c_str()));
        const unsigned row = trace.addSpace();
        for (int i = 0; i < 5; ++i) addSpan(trace, row, 10 * i, 10 * i + 5);
    }
    std::string text = contentsOf(path);
    ASSERT_THAT(text, testing::EndsWith("\n]\n"));
    text.replace(text.size() - 3, 3, "," + std::string(300, ' '));
    std::ofstream(path) << text;
    Trace next;
    ASSERT_TRUE(next.open(path.c_str()));
    addSpan(next, next.addSpace(), 100, 105);
    EXPECT_EQ(events().of("X").size(), 6u);
    EXPECT_EQ(events().brokenRule(), "");
}

// A process that is killed in the middle.
TEST_F(TraceTest, IsCompleteWhenItsWriterIsKilled) {
    for (int round = 0; round < 10; ++round) {
        int told[2];
        ASSERT_EQ(pipe2(told, O_CLOEXEC), 0);
        const pid_t pid = fork();
        if (pid == 0) {
            Trace trace;
            if (!trace.open(path.c_str())) _exit(1);
            const unsigned row = trace.addSpace();
            for (uint32_t i = 0;; ++i) {
                addSpan(trace, row, 0, 0, i);
                if (write(told[1], &i, sizeof i) != sizeof i) _exit(1);
            }
        }
        close(told[1]);
        uint32_t last = 0;
        for (int i = 0; i < 50 + round; ++i) ASSERT_EQ(read(told[0], &last, sizeof last), 4);
        ASSERT_EQ(kill(pid, SIGKILL), 0);
        ASSERT_EQ(waitpid(pid, nullptr, 0), pid);
        while (read(told[0], &last, sizeof last) == 4) continue;
        close(told[0]);
        // What it told of is there, and what it had no time to tell of may be. The next one to
        // write there mends what the format allows and JSON does not.
        {
            Trace next;
            EXPECT_TRUE(next.open(path.c_str()));
        }
        const auto code = events().of("X").back()["args"]["response code"].get<std::string>();
        EXPECT_GE(std::stoul(code, nullptr, 16), last);
        EXPECT_LE(std::stoul(code, nullptr, 16), last + 1);
        fs::remove(path);
    }
}

}  // namespace
}  // namespace spaces::log
