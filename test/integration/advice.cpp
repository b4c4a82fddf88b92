/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A context that cannot be opened.
 * What always holds here: whatever is wrong, the library logs one line, which says what is wrong
 * and what to do. What it says of devices that are held, and of waiting, is in failing-child.cpp;
 * of slots that are full, in leftovers.cpp.
 */
#include <gmock/gmock.h>
#include <linux/capability.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "our_log.h"
#include "support/client.h"

namespace spaces::test {
namespace {

using testing::HasSubstr;

/** Opens a context that must not open, and returns the library's line. */
std::string advice(const std::string& conf, TSS2_RC code) {
    const OurLog log;
    EXPECT_EQ(hex(Client::tryOpen(Client::libraryPath() + ":" + conf)), hex(code)) << conf;
    const std::string line = log.line();
    EXPECT_THAT(line, HasSubstr("ERROR:tcti:src/"));
    return line;
}

struct Wrong {
    const char* conf;
    const char* advice;
};

class Options : public testing::TestWithParam<Wrong> {};

TEST_P(Options, AreRefusedWithWhatIsAllowed) {
    EXPECT_THAT(advice(GetParam().conf, TSS2_TCTI_RC_BAD_VALUE), HasSubstr(GetParam().advice));
}

INSTANTIATE_TEST_SUITE_P(
    Wrong, Options,
    testing::Values(
        Wrong{"swap=maybe,swtpm", "'maybe' for option 'swap': allowed is off or on"},
        Wrong{"objects=0,swtpm", "'0' for option 'objects': allowed is a number from 1"},
        Wrong{"sessions=x,swtpm", "'x' for option 'sessions': allowed is a number from 1"},
        Wrong{"objects=2,swtpm", "'objects' limits swapping: it is allowed with swap=on"},
        Wrong{"leftovers=all,swtpm", "'all' for option 'leftovers': allowed is keep or flush"},
        Wrong{"wait=long,swtpm", "'long' for option 'wait': allowed is a number of seconds"},
        Wrong{"trace=,swtpm", "'' for option 'trace': allowed is a file name"},
        Wrong{"trace=/dev/null,swtpm", "'/dev/null' is not a trace, and is left alone: name a new"},
        Wrong{"trace=/no/such/trace,swtpm", "'/no/such/trace' cannot be written: No such file"},
        Wrong{"trace=/no/such/trace", "'/no/such/trace' cannot be written: No such file"},
        Wrong{"swop=on,swtpm", "Unknown option 'swop=on': allowed are swap, objects, sessions"},
        Wrong{"swap,swtpm", "No value for option 'swap': write swap=VALUE, allowed is off or on"},
        Wrong{"spaces:swtpm", "'spaces' is this one: allowed is any other"},
        Wrong{":/dev/tpm0", "No name before ':/dev/tpm0'"},
        Wrong{"swtpm,swap=on", "Options come before the child TCTI: write 'spaces:swap=on,swtpm'"},
        Wrong{"wait=1,swtpm,leftovers=flush,swap=on:port=1", "Options come before"}));

TEST(AChild, ThatIsNotInstalledIsNamed) {
    EXPECT_THAT(advice("nosuch:x", TSS2_TCTI_RC_NOT_SUPPORTED),
                HasSubstr("there is no library for the TCTI 'nosuch': install "
                          "libtss2-tcti-nosuch.so.0 (Debian has libtss2-tcti-nosuch0), or correct "
                          "the name"));
    for (const std::string file : {"/no/such/tcti.so", "libtss2-tcti-nosuch.so.0"})
        EXPECT_THAT(advice(file, TSS2_TCTI_RC_NOT_SUPPORTED),
                    HasSubstr("there is no library for the TCTI '" + file + "': correct the name"));
}

TEST(AChild, ThatIsAnotherKindOfLibraryIsNamed) {
    EXPECT_THAT(advice("libc.so.6", TSS2_ESYS_RC_BAD_REFERENCE),
                HasSubstr("the library 'libc.so.6' is no TCTI: correct the name"));
}

TEST(AChild, RefusesItsConf) {
    EXPECT_THAT(advice("swtpm:host=127.0.0.1,port=2321,swap=on", TSS2_TCTI_RC_BAD_VALUE),
                HasSubstr("'swtpm' does not accept its configuration 'host=127.0.0.1,port=2321,"
                          "swap=on'; options of spaces come before the child's name"));
}

TEST(AChild, ThatIsNotStarted) {
    Simulator sim;
    sim.kill();
    const std::string where = "host=127.0.0.1,port=" + std::to_string(sim.port());
    for (const std::string name : {"swtpm", "mssim"})
        EXPECT_THAT(advice(name + ":" + where, TSS2_TCTI_RC_IO_ERROR),
                    HasSubstr("the TPM behind the TCTI '" + name +
                              "' does not answer: is it started, and served at this address?"));
}

// ---- Devices

class Device : public testing::Test {
  protected:
    Device() {
        char name[] = "/tmp/spaces-device.XXXXXX";
        if (::mkdtemp(name) == nullptr) throw std::runtime_error("mkdtemp");
        folder = name;
        path = folder + "/tpm0";
    }
    ~Device() override { std::filesystem::remove_all(folder); }
    void make(mode_t mode) const {
        std::ofstream(path).close();
        if (::chmod(path.c_str(), mode) != 0) throw std::runtime_error("chmod");
    }
    std::string advice() const { return test::advice("device:" + path, TSS2_TCTI_RC_IO_ERROR); }

    std::string folder, path;
};

/** For this thread, from now on permissions are what they say, whoever it belongs to. */
void becomeOrdinary() {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    const __user_cap_data_struct none[2]{};
    if (::syscall(SYS_capset, &header, none) != 0) throw std::runtime_error("capset");
}

TEST_F(Device, IsNotThere) {
    EXPECT_THAT(advice(), HasSubstr("there is no " + path +
                                    ": is a TPM enabled in the firmware, and its driver loaded? "));
}

TEST_F(Device, IsFollowedByAnOption) {
    path += ",swap=on";
    EXPECT_THAT(advice(), HasSubstr("; options of spaces come before the child's name"));
}

TEST_F(Device, IsNotForThisUser) {
    make(0);
    std::string line;
    std::thread([&] {
        becomeOrdinary();
        line = advice();
    }).join();
    EXPECT_THAT(line, HasSubstr("no permission for " + path + ": run as a user whom"));
    EXPECT_THAT(line, HasSubstr("'sudo usermod -aG tss USER' and a new login"));
}

TEST_F(Device, IsNoTpm) {
    make(0600);
    EXPECT_THAT(advice(),
                HasSubstr(path + " can be opened, but does not answer as a TPM 2.0: name"));
}

TEST_F(Device, IsAFolder) {
    path = folder;
    EXPECT_THAT(advice(), HasSubstr(path + ": Is a directory; name the device of a TPM"));
}

/** A socket is opened no more than a device is whose driver is not loaded. */
TEST_F(Device, HasNoDriver) {
    sockaddr_un address{AF_UNIX, {}};
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    const int server = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::bind(server, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_THAT(advice(), HasSubstr("there is no TPM behind " + path + ": is a TPM enabled"));
    ::close(server);
}

}  // namespace
}  // namespace spaces::test

int main(int argc, char** argv) { return spaces::test::runTestsWithLog(argc, argv); }
