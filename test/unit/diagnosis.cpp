// SPDX-License-Identifier: BSD-2-Clause
// Unit test of tpm/diagnosis: what is said of a child that does not open.
// Always holds: a device is a file in a folder of the test's own, and stays as it was. How the
// lines reach the user is in test/integration/advice.cpp, devices that are held in
// failing-child.cpp.
#include "tpm/diagnosis.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <tss2/tss2_esys.h>
#include <tss2/tss2_tcti.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "tpm/descriptor.h"

namespace spaces::tpm {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

namespace fs = std::filesystem;

class Device : public testing::Test {
  protected:
    Device() {
        std::string name = (fs::temp_directory_path() / "spaces-device.XXXXXX").string();
        folder = mkdtemp(name.data());
        path = folder / "tpm0";
    }
    ~Device() override { fs::remove_all(folder); }
    Diagnosis diagnosis() const { return diagnose("device:" + path, TSS2_TCTI_RC_IO_ERROR); }

    /// Of a thread for which permissions are what they say, whoever it belongs to.
    Diagnosis ordinaryDiagnosis() const {
        Diagnosis found;
        std::thread([&] {
            __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
            const __user_cap_data_struct none[2]{};
            ASSERT_EQ(syscall(SYS_capset, &header, none), 0);
            found = diagnosis();
        }).join();
        return found;
    }

    fs::path folder;
    std::string path;
};

TEST(Child, HasNoLibrary) {
    const Diagnosis found = diagnose("nosuch:x", TSS2_TCTI_RC_NOT_SUPPORTED);
    EXPECT_FALSE(found.busy);
    EXPECT_THAT(found.advice, AllOf(HasSubstr("no library for the TCTI 'nosuch'"),
                                    HasSubstr("install libtss2-tcti-nosuch.so.0")));
}

TEST(Child, IsAFileThatIsNotThere) {
    for (const char* name : {"./nosuch", "nosuch.so.0"})
        EXPECT_THAT(diagnose(name, TSS2_TCTI_RC_NOT_SUPPORTED).advice,
                    AllOf(HasSubstr("correct the name"), Not(HasSubstr("install"))));
}

TEST(Child, IsNoTcti) {
    EXPECT_THAT(diagnose("libc.so.6", TSS2_ESYS_RC_BAD_REFERENCE).advice,
                HasSubstr("the library 'libc.so.6' is no TCTI"));
}

TEST(Child, RefusesItsConf) {
    const std::string order = "options of spaces come before the child's name";
    EXPECT_THAT(
        diagnose("swtpm:port=x", TSS2_TCTI_RC_BAD_VALUE).advice,
        AllOf(HasSubstr("does not accept its configuration 'port=x'"), Not(HasSubstr(order))));
    EXPECT_THAT(diagnose("swtpm:port=1,swap=on", TSS2_TCTI_RC_BAD_VALUE).advice, HasSubstr(order));
}

TEST(Child, DoesNotAnswerYet) {
    const Diagnosis found = diagnose("swtpm:port=1", TSS2_TCTI_RC_IO_ERROR);
    EXPECT_TRUE(found.busy) << "it may be started a moment later";
    EXPECT_EQ(found.device, "");
    EXPECT_THAT(found.advice, HasSubstr("the TPM behind the TCTI 'swtpm' does not answer"));
}

TEST_F(Device, IsNotThere) {
    EXPECT_FALSE(isFree(path));
    EXPECT_FALSE(diagnosis().busy);
    EXPECT_THAT(diagnosis().advice, StartsWith("there is no " + path + ": is a TPM enabled"));
}

TEST_F(Device, HasNoTpmBehindIt) {
    if (mknod(path.c_str(), S_IFSOCK | 0600, 0) != 0) FAIL() << "mknod";  // open gives ENXIO
    EXPECT_FALSE(diagnosis().busy);
    EXPECT_THAT(diagnosis().advice, StartsWith("there is no TPM behind " + path));
}

TEST_F(Device, CannotBeOpenedForAnotherReason) {
    path = folder;
    EXPECT_FALSE(diagnosis().busy);
    EXPECT_THAT(diagnosis().advice, StartsWith(path + ": Is a directory"));
}

TEST_F(Device, IsNotForThisUser) {
    std::ofstream(path).close();
    ASSERT_EQ(chmod(path.c_str(), 0), 0);
    const Diagnosis found = ordinaryDiagnosis();
    EXPECT_FALSE(found.busy);
    EXPECT_THAT(found.advice, StartsWith("no permission for " + path));
}

// A terminal can be held alone, as a TPM is.
TEST_F(Device, IsHeldByAProcess) {
    const Descriptor master(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    ASSERT_EQ(unlockpt(master.number()), 0);
    path = ptsname(master.number());
    const Descriptor holder(open(path.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
    ASSERT_EQ(ioctl(holder.number(), TIOCEXCL), 0);
    ASSERT_EQ(fchmod(holder.number(), 0666), 0);  // whoever it belongs to where this runs
    const Diagnosis found = ordinaryDiagnosis();
    EXPECT_TRUE(found.busy);
    EXPECT_EQ(found.device, path);
    EXPECT_THAT(found.advice, AllOf(StartsWith(path + " is held by "),
                                    HasSubstr("(process " + std::to_string(getpid()) + ")"),
                                    HasSubstr("wait=SECONDS")));
}

TEST_F(Device, IsNoTpm) {
    std::ofstream(path).close();
    EXPECT_TRUE(isFree(path));
    EXPECT_TRUE(diagnosis().busy) << "whoever had it may have let it go";
    EXPECT_THAT(diagnosis().advice, StartsWith(path + " can be opened, but does not answer"));
}

/// On a machine with a TPM, it depends on the machine what is said of it.
TEST(DeviceWithoutAName, IsTheManagersOrTheTpmItself) {
    const char* name = access("/dev/tpmrm0", F_OK) == 0 ? "/dev/tpmrm0" : "/dev/tpm0";
    EXPECT_THAT(diagnose("device", TSS2_TCTI_RC_IO_ERROR).advice, HasSubstr(name));
}

}  // namespace
}  // namespace spaces::tpm
