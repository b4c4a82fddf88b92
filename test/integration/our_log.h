/* SPDX-License-Identifier: BSD-2-Clause
 *
 * For tests of what the user is told: what this library has logged, and nothing of what child TCTIs
 * and the loader have.
 * What always holds here: the log is a file of the test program's own, since the environment is
 * read once: runTestsWithLog() is for main().
 */
#ifndef SPACES_TEST_INTEGRATION_OUR_LOG_H
#define SPACES_TEST_INTEGRATION_OUR_LOG_H

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace spaces::test {

/** What the library has logged since the object was made. */
class OurLog {
  public:
    OurLog() : start_(all().size()) {}

    std::vector<std::string> lines() const {
        std::vector<std::string> lines = all();
        lines.erase(lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(start_));
        return lines;
    }

    /** The one line that there is; else the test fails. */
    std::string line() const {
        const std::vector<std::string> found = lines();
        EXPECT_EQ(found.size(), 1u) << testing::PrintToString(found);
        return found.empty() ? "" : found.back();
    }

  private:
    static std::vector<std::string> all() {
        std::ifstream file(std::getenv("TSS2_LOGFILE"));
        std::vector<std::string> ours;
        for (std::string line; std::getline(file, line);)
            for (const char* folder : {"tcti", "tpm", "space", "swap", "log"})
                if (line.find(":src/" + std::string(folder) + "/") != std::string::npos)
                    ours.push_back(line);
        return ours;
    }

    size_t start_;
};

inline int runTestsWithLog(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    char name[] = "/tmp/spaces-log.XXXXXX";
    if (::mkdtemp(name) == nullptr) return 1;
    ::setenv("TSS2_LOGFILE", (std::string(name) + "/log").c_str(), 1);
    ::setenv("TSS2_LOG", "all+warning", 1);
    const int result = RUN_ALL_TESTS();
    std::filesystem::remove_all(name);
    return result;
}

}  // namespace spaces::test

#endif
