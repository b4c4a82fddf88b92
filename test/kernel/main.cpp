/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Runs the tests that were linked with it, in the guest: each is one line for the host.
 *
 * What always holds here: $SPACES_RESULTS is a file that gets "ok - NAME" or "not ok - NAME" for
 * each test that has ended, in the order of their ends; the messages of a failure come before it,
 * each line with a "# " in front.
 */
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <string>

namespace {

class Results : public testing::EmptyTestEventListener {
  public:
    explicit Results(const char* path) : file_(std::fopen(path, "ae")) {
        if (!file_) std::exit(EXIT_FAILURE);
    }

  private:
    void OnTestPartResult(const testing::TestPartResult& result) override {
        if (result.passed()) return;
        std::istringstream lines(result.message());
        std::fprintf(file_.get(), "# %s:%d\n", result.file_name() ? result.file_name() : "?",
                     result.line_number());
        for (std::string line; std::getline(lines, line);)
            std::fprintf(file_.get(), "# %s\n", line.c_str());
    }
    void OnTestEnd(const testing::TestInfo& test) override {
        std::fprintf(file_.get(), "%s - %s.%s\n", test.result()->Passed() ? "ok" : "not ok",
                     test.test_suite_name(), test.name());
        std::fflush(file_.get());
    }

    struct Close {
        void operator()(FILE* file) const { std::fclose(file); }
    };
    std::unique_ptr<FILE, Close> file_;
};

}  // namespace

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    if (const char* path = std::getenv("SPACES_RESULTS"))
        testing::UnitTest::GetInstance()->listeners().Append(new Results(path));
    return RUN_ALL_TESTS();
}
