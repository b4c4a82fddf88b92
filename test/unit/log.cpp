// SPDX-License-Identifier: BSD-2-Clause
// Unit test of the log.
// Always holds: the library reads the environment once per process, so what depends on it runs in
// a process of its own, made by fork before the first log line of this one.
#include "log/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>
#include <vector>

namespace spaces::log {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::MatchesRegex;

namespace fs = std::filesystem;

/// A folder of its own with a log file in it.
class Log : public testing::Test {
  protected:
    Log() {
        std::string name = (fs::temp_directory_path() / "spaces-log.XXXXXX").string();
        folder = mkdtemp(name.data());
        file = folder / "log";
    }
    ~Log() override { fs::remove_all(folder); }

    /// Runs `body` in a process with this environment; null: not set.
    void run(const char* level, const char* destination, const std::function<void()>& body) const {
        const pid_t pid = fork();
        ASSERT_GE(pid, 0);
        if (pid == 0) {
            level != nullptr ? setenv("TSS2_LOG", level, 1) : unsetenv("TSS2_LOG");
            destination != nullptr ? setenv("TSS2_LOGFILE", destination, 1)
                                   : unsetenv("TSS2_LOGFILE");
            body();
            std::exit(0);  // unlike _exit it lets coverage count
        }
        int status = -1;
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        ASSERT_EQ(status, 0);
    }
    void run(const char* level, const std::function<void()>& body) const {
        run(level, file.c_str(), body);
    }

    std::vector<std::string> lines() const {
        std::vector<std::string> result;
        std::ifstream in(file);
        for (std::string line; std::getline(in, line);) result.push_back(line);
        return result;
    }

    fs::path folder, file;
};

void oneOfEach() {
    const uint8_t secret[] = {0x5E, 0xC7, 0xE7};
    LOG_ERROR("an %s", "error");
    LOG_WARNING("a warning");
    LOG_INFO("an info");
    LOG_BYTES("bytes", std::span<const uint8_t>(secret));
    LOG_DEBUG("a debug");
}

TEST(Level, IsTheTctiModules) {
    EXPECT_EQ(parseLevel(nullptr), Level::Warning);
    EXPECT_EQ(parseLevel(""), Level::Warning);
    EXPECT_EQ(parseLevel("tcti+none"), Level::None);
    EXPECT_EQ(parseLevel("tcti+error"), Level::Error);
    EXPECT_EQ(parseLevel("tcti+warning"), Level::Warning);
    EXPECT_EQ(parseLevel("tcti+info"), Level::Info);
    EXPECT_EQ(parseLevel("tcti+debug"), Level::Debug);
    EXPECT_EQ(parseLevel("tcti+trace"), Level::Trace);
    EXPECT_EQ(parseLevel("all+debug"), Level::Debug);
    EXPECT_EQ(parseLevel("TCTI+DEBUG"), Level::Debug);
    EXPECT_EQ(parseLevel("All+Info"), Level::Info);
}

TEST(Level, OfOtherModulesDoesNotMatter) {
    EXPECT_EQ(parseLevel("esys+trace,sys+debug,marshal+trace"), Level::Warning);
    EXPECT_EQ(parseLevel("esys+trace,tcti+info,fapi+none"), Level::Info);
}

TEST(Level, IsTheLastOneNamed) {
    EXPECT_EQ(parseLevel("all+none,tcti+trace"), Level::Trace);
    EXPECT_EQ(parseLevel("tcti+trace,all+error"), Level::Error);
    EXPECT_EQ(parseLevel("tcti+info,tcti+debug"), Level::Debug);
}

TEST(Level, ThatDoesNotExistChangesNothing) {
    for (const char* setting : {"tcti", "tcti+", "tcti+loud", "debug", "+debug", ",,", "tcti=debug",
                                "tcti+debugx", "tcti +debug"})
        EXPECT_EQ(parseLevel(setting), Level::Warning) << setting;
    EXPECT_EQ(parseLevel("tcti+info,tcti+loud,"), Level::Info);
}

TEST_F(Log, LineIsAsInTheTss) {
    run("tcti+info", [] { LOG_INFO("%d commands", 3); });
    EXPECT_THAT(
        lines(),
        ElementsAre(MatchesRegex("info:tcti:test/unit/log.cpp:[0-9]+:.*\\(\\) 3 commands ")));
}

TEST_F(Log, LevelsChooseWhatIsPrinted) {
    const auto names = [this] {
        std::vector<std::string> result;
        for (const std::string& line : lines()) result.push_back(line.substr(0, line.find(':')));
        fs::remove(file);
        return result;
    };
    run("tcti+none", oneOfEach);
    EXPECT_THAT(names(), ElementsAre());
    run("tcti+error", oneOfEach);
    EXPECT_THAT(names(), ElementsAre("ERROR"));
    run(nullptr, oneOfEach);
    EXPECT_THAT(names(), ElementsAre("ERROR", "WARNING"));
    run("all+info", oneOfEach);
    EXPECT_THAT(names(), ElementsAre("ERROR", "WARNING", "info"));
    run("all+debug", oneOfEach);
    EXPECT_THAT(names(), ElementsAre("ERROR", "WARNING", "info", "debug", "0000", "debug"));
}

TEST_F(Log, BytesShowAtDebugOnly) {
    run("tcti+info", oneOfEach);
    for (const std::string& line : lines()) EXPECT_THAT(line, Not(HasSubstr("5ec7e7")));
    run("tcti+debug", oneOfEach);
    EXPECT_THAT(lines(), testing::Contains("0000: 5ec7e7"));
}

TEST_F(Log, BytesComeSixteenToARow) {
    run("tcti+trace", [] {
        uint8_t bytes[33];
        for (size_t i = 0; i < sizeof(bytes); ++i) bytes[i] = static_cast<uint8_t>(i);
        LOG_BYTES("a title", std::span<const uint8_t>(bytes));
    });
    EXPECT_THAT(lines(), ElementsAre(HasSubstr("() a title (size=33): "),
                                     "0000: 000102030405060708090a0b0c0d0e0f",
                                     "0010: 101112131415161718191a1b1c1d1e1f", "0020: 20"));
}

TEST_F(Log, FileIsItsOwnersAlone) {
    run("tcti+info", [] {
        umask(0);
        LOG_INFO("x");
    });
    struct stat found;
    ASSERT_EQ(stat(file.c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 07777, 0600u);
}

TEST_F(Log, FileIsAppendedTo) {
    for (int i = 0; i < 3; ++i) run("tcti+info", [] { LOG_INFO("x"); });
    EXPECT_EQ(lines().size(), 3u);
}

TEST_F(Log, NothingStaysOpen) {
    run("tcti+info", [] {
        const int before = dup(STDERR_FILENO);
        LOG_INFO("x");
        if (dup(STDERR_FILENO) != before + 1) _exit(1);
    });
}

TEST_F(Log, ErrnoStaysAsItIs) {
    run("tcti+info", "/nowhere/at/all", [] {
        close(STDERR_FILENO);
        errno = 4711;
        LOG_INFO("x");
        if (errno != 4711) _exit(1);
    });
}

TEST_F(Log, StandardStreamsHaveNames) {
    struct {
        const char* name;
        int stream;
    } const cases[] = {{nullptr, STDERR_FILENO},  {"stderr", STDERR_FILENO},
                       {"STDERR", STDERR_FILENO}, {"stdout", STDOUT_FILENO},
                       {"-", STDOUT_FILENO},      {"/nowhere/at/all", STDERR_FILENO}};
    for (const auto& each : cases) {
        fs::remove(file);
        run("tcti+info", each.name, [&] {
            const int caught = open(file.c_str(), O_WRONLY | O_CREAT, 0600);
            const int lost = open("/dev/null", O_WRONLY);
            dup2(lost, STDOUT_FILENO);
            dup2(lost, STDERR_FILENO);
            dup2(caught, each.stream);
            LOG_INFO("x");
        });
        EXPECT_EQ(lines().size(), 1u) << (each.name == nullptr ? "(not set)" : each.name);
    }
}

TEST_F(Log, LineThatIsTooLongIsCut) {
    run("tcti+info", [] {
        LOG_INFO("%s", std::string(5000, 'x').c_str());
        LOG_INFO("next");
    });
    const std::vector<std::string> found = lines();
    ASSERT_EQ(found.size(), 2u);
    EXPECT_LE(found[0].size() + 1, 1024u);
    EXPECT_THAT(found[0], testing::EndsWith("xxx "));
    EXPECT_THAT(found[1], testing::EndsWith("() next "));
}

TEST_F(Log, LinesOfThreadsStayWhole) {
    run("tcti+info", [] {
        std::vector<std::thread> threads;
        for (char c : {'a', 'b', 'c', 'd'})
            threads.emplace_back([c] {
                for (int i = 0; i < 200; ++i) LOG_INFO("%s", std::string(100, c).c_str());
            });
        for (std::thread& thread : threads) thread.join();
    });
    const std::vector<std::string> found = lines();
    EXPECT_EQ(found.size(), 800u);
    for (const std::string& line : found)
        EXPECT_THAT(line, MatchesRegex("info:tcti:.*\\(\\) (a+|b+|c+|d+) "));
}

}  // namespace
}  // namespace spaces::log
