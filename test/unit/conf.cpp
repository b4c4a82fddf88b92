// SPDX-License-Identifier: BSD-2-Clause
// Unit test of tcti/conf.
// Always holds: what this build cannot do is refused with a word about the build, and what no build
// takes is refused with a word about what is allowed.
#include "tcti/conf.h"

#include <gtest/gtest.h>

#include <optional>

#include "config.h"

namespace spaces::tcti {
namespace {

/// The child of a conf; nothing if the conf is refused.
std::optional<std::string> childOf(const char* text) {
    Conf conf;
    if (!parseConf(text, conf)) return std::nullopt;
    return conf.child;
}

/// The log line of a conf that must be refused.
std::string refusal(const char* text) {
    testing::internal::CaptureStderr();
    EXPECT_EQ(childOf(text), std::nullopt) << text;
    return testing::internal::GetCapturedStderr();
}

TEST(Conf, NamesAChild) {
    EXPECT_EQ(childOf("device"), "device");
    EXPECT_EQ(childOf("device:/dev/tpm0"), "device:/dev/tpm0");
    EXPECT_EQ(childOf("/usr/lib/libtss2-tcti-device.so.0:/dev/tpm0"),
              "/usr/lib/libtss2-tcti-device.so.0:/dev/tpm0");
}

TEST(Conf, MayNameNone) {
    EXPECT_EQ(childOf(nullptr), "");
    EXPECT_EQ(childOf(""), "");
    EXPECT_EQ(childOf("swap=off"), "");
    EXPECT_EQ(childOf("swap=off,"), "");
}

TEST(Conf, PassesTheChildOnUntouched) {
    for (const char* child :
         {"swtpm:host=localhost,port=2321", "swtpm:path=/a:b,c=d", "cmd:exec env A=b,c sh -c 'x:y'",
          "pcap:swtpm:port=1,swap=on", "mssim:a=1,wait=5,spaces:x", "device:", "tabrmd:bus_type=x"})
        EXPECT_EQ(childOf(child), child);
}

TEST(Conf, TakesOptionsBeforeTheChild) {
    EXPECT_EQ(childOf("swap=off,device:/dev/tpm0"), "device:/dev/tpm0");
    EXPECT_EQ(childOf("swap=off,leftovers=keep,wait=0,swtpm:host=h,port=1"), "swtpm:host=h,port=1");
    EXPECT_EQ(childOf("wait=000,swap=off,swap=off,device"), "device");
    EXPECT_EQ(childOf("swap=off,mssim:swap=maybe,wait=x"), "mssim:swap=maybe,wait=x");
}

TEST(Conf, AnUnknownOptionIsRefused) {
    for (const char* text : {"size=3,device", "size=3", "Swap=off,device", "swap =off", "=,device",
                             "=", "swap=off,nonsense=1,device"}) {
        const std::string line = refusal(text);
        EXPECT_NE(line.find("ERROR:tcti:"), std::string::npos) << line;
        EXPECT_NE(line.find("Unknown option"), std::string::npos) << line;
        EXPECT_NE(line.find("swap, objects, sessions, leftovers, wait, trace"), std::string::npos);
    }
    EXPECT_NE(refusal("swap=off,nonsense=1,device").find("'nonsense=1'"), std::string::npos);
}

struct Refused {
    const char* conf;
    const char* allowed;
};

class BadValue : public testing::TestWithParam<Refused> {};

TEST_P(BadValue, IsRefusedWithWhatIsAllowed) {
    const std::string line = refusal(GetParam().conf);
    EXPECT_NE(line.find("Bad value"), std::string::npos) << line;
    EXPECT_NE(line.find(GetParam().allowed), std::string::npos) << line;
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << line;
}

INSTANTIATE_TEST_SUITE_P(
    Options, BadValue,
    testing::Values(Refused{"swap=,device", "off or on"}, Refused{"swap=ON,device", "off or on"},
                    Refused{"swap=yes", "off or on"}, Refused{"swap=off ,device", "off or on"},
                    Refused{"leftovers=all", "keep or flush"}, Refused{"leftovers=", "keep or"},
                    Refused{"objects=0", "a number from 1"}, Refused{"objects=", "a number from 1"},
                    Refused{"objects=x", "a number"}, Refused{"objects=3x", "a number"},
                    Refused{"objects=-1", "a number"}, Refused{"objects=+1", "a number"},
                    Refused{"objects= 1", "a number"}, Refused{"sessions=0x3", "a number"},
                    Refused{"sessions=4294967296", "a number"}, Refused{"wait=", "seconds"},
                    Refused{"wait=1.5", "seconds"}, Refused{"wait=-1,device", "seconds"},
                    Refused{"trace=,device", "a file name"}));

TEST(Conf, AChildThatIsThisLibraryIsRefused) {
    for (const char* text :
         {"spaces", "spaces:device", "swap=off,spaces:device:/dev/tpm0",
          "libtss2-tcti-spaces.so.0:device", "libtss2-tcti-spaces.so",
          "/usr/lib/x86_64-linux-gnu/libtss2-tcti-spaces.so.0.0.0:swtpm", "./libtss2-spaces.so.0"})
        EXPECT_NE(refusal(text).find("is this one"), std::string::npos) << text;
    EXPECT_EQ(childOf("spaceship:x"), "spaceship:x");
    EXPECT_EQ(childOf("/home/spaces/libtss2-tcti-device.so"),
              "/home/spaces/libtss2-tcti-device.so");
    EXPECT_EQ(childOf("pcap:spaces:device"), "pcap:spaces:device") << "what the TPM heard";
}

TEST(Conf, AnOptionWithoutAValueIsNotTakenForAChild) {
    for (const char* text : {"swap", "swap,device", "swap:on,device", "wait=1,swap,device"})
        EXPECT_NE(refusal(text).find("No value for option 'swap': write swap=VALUE, allowed is off "
                                     "or on"),
                  std::string::npos)
            << text;
    EXPECT_NE(refusal("trace:/tmp/x,device").find("option 'trace'"), std::string::npos);
    for (const char* child : {"swapper", "./swap", "pcap:swap"}) EXPECT_EQ(childOf(child), child);
}

TEST(Conf, AChildWithoutANameIsRefused) {
    EXPECT_NE(refusal(":/dev/tpm0").find("No name before ':/dev/tpm0'"), std::string::npos);
    EXPECT_NE(refusal("swap=off,:x").find("allowed is a child TCTI"), std::string::npos);
}

TEST(Conf, OptionsAfterTheChildAreRefused) {
    EXPECT_NE(refusal("swtpm,swap=on")
                  .find("Options come before the child TCTI: write "
                        "'spaces:swap=on,swtpm' for 'swtpm,swap=on'"),
              std::string::npos);
    EXPECT_NE(refusal("wait=1,device,leftovers=flush,trace=x").find("'spaces:leftovers=flush,"),
              std::string::npos);
    for (const char* child : {"/opt/a,b/libtss2-tcti-x.so", "/opt/a,swap/libtss2-tcti-x.so"})
        EXPECT_EQ(childOf(child), child);
}

TEST(Conf, HelpNamesEveryOption) {
    const std::string help = kOptionsHelp;
    for (const char* option : {"swap=", "objects=", "sessions=", "leftovers=", "wait=", "trace="})
        EXPECT_NE(help.find(option), std::string::npos) << option;
    for (const char* child : {"device:/dev/tpmrm0", "device:/dev/tpm0", "swtpm", "mssim"})
        EXPECT_NE(help.find(child), std::string::npos) << child;
}

TEST(Conf, SlotsCanBeLimitedWhereThereIsSwapping) {
    for (const char* text : {"objects=3,device", "sessions=2", "swap=off,sessions=2,device"})
        EXPECT_NE(refusal(text).find("with swap=on"), std::string::npos) << text;
}

#if SPACES_SWAPPING
TEST(Conf, SwappingIsTurnedOn) {
    Conf conf;
    ASSERT_TRUE(parseConf("swap=on,device:/dev/tpm0", conf));
    EXPECT_TRUE(conf.swap);
    EXPECT_EQ(conf.child, "device:/dev/tpm0");
    EXPECT_FALSE(conf.objects || conf.sessions);
    ASSERT_TRUE(parseConf("sessions=2,swap=on,objects=4294967295", conf));
    EXPECT_EQ(conf.objects, 4294967295u);
    EXPECT_EQ(conf.sessions, 2u);
    ASSERT_TRUE(parseConf("swap=on,swap=off", conf = {}));
    EXPECT_FALSE(conf.swap) << "the last one counts";
    EXPECT_NE(refusal("swap=on,swap=off,objects=1").find("with swap=on"), std::string::npos);
}
#else
/// Isolation alone builds without swapping, and says so.
TEST(Conf, SwappingIsNotInThisBuild) {
    for (const char* text : {"swap=on", "swap=on,device", "swap=on,objects=3,device"})
        EXPECT_NE(refusal(text).find("not in this build"), std::string::npos) << text;
}
#endif

}  // namespace
}  // namespace spaces::tcti
