// SPDX-License-Identifier: BSD-2-Clause
//
// One short scenario over each kind of child TCTI that can be had without a TPM in the machine:
// what a space promises must not depend on how the TPM is reached.
//
// What always holds here: behind every child is the test's own swtpm, so that `residue(sim)` can
// ask the TPM itself what is left in it.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>

#include "support/bridge.h"
#include "support/bytes.h"
#include "support/client.h"
#include "support/command.h"
#include "support/response.h"
#include "support/session.h"
#include "support/simulator.h"

namespace spaces::test {
namespace {

constexpr TPM2_HANDLE kFirst = 0x80000000, kSecond = 0x80000001;
constexpr TPM2_RC kReferenceH0 = 0x910, kReferenceS0 = 0x918;

class Children : public testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        ::setenv("TCTI_PCAP_FILE", (folder + "/pcap").c_str(), 1);
        const std::string kind = GetParam();
        if (kind == "swtpm") {
            conf = Client::spaceConf(sim);
        } else if (kind == "device") {
            bridge = std::make_unique<Bridge>("device-bridge", sim.port(), folder + "/tpm0");
            conf = Client::spaceConf("device:" + bridge->line());
        } else if (kind == "mssim") {
            bridge = std::make_unique<Bridge>("mssim-bridge", sim.port());
            conf = Client::spaceConf("mssim:host=127.0.0.1,port=" + bridge->line());
        } else if (kind == "spaces_pcap") {
            conf = Client::spaceConf("pcap:" + sim.conf());
        } else if (kind == "pcap_spaces") {
            conf = "pcap:" + Client::spaceConf(sim);
        }
    }
    void TearDown() override {
        // Else the child was not the one that the test was about.
        if (std::string(GetParam()).find("pcap") != std::string::npos) {
            EXPECT_GT(std::filesystem::file_size(folder + "/pcap"), 100u);
        }
        std::filesystem::remove_all(folder);
    }

    static std::string makeFolder() {
        char name[] = "/tmp/children.XXXXXX";
        if (::mkdtemp(name) == nullptr) throw std::runtime_error("mkdtemp");
        return name;
    }

    const std::string folder = makeFolder();
    Simulator sim;
    std::unique_ptr<Bridge> bridge;
    std::string conf;
};

TEST_P(Children, EachSpaceHasItsOwnFirstObject) {
    Client a(conf), b(conf);
    const Bytes madeByA = a.ok(createPrimary(TPM2_RH_OWNER, eccStorage("a")));
    const Bytes madeByB = b.ok(createPrimary(TPM2_RH_OWNER, eccStorage("b")));
    EXPECT_EQ(hex(handle(madeByA)), hex(kFirst));
    EXPECT_EQ(hex(handle(madeByB)), hex(kFirst));
    EXPECT_NE(primaryName(madeByA), primaryName(madeByB));
    EXPECT_EQ(hex(publicName(a.ok(readPublic(kFirst)))), hex(primaryName(madeByA)));
    EXPECT_EQ(hex(publicName(b.ok(readPublic(kFirst)))), hex(primaryName(madeByB)));
    EXPECT_EQ(handles(a, kFirst), std::vector<TPM2_HANDLE>{kFirst});
}

TEST_P(Children, SessionsAuthorizeOverTheFirstObject) {
    Client a(conf), b(conf);
    b.ok(createPrimary(TPM2_RH_OWNER, eccStorage("b")));  // so that A's is not the TPM's first
    const Bytes name = primaryName(a.ok(createPrimary(TPM2_RH_OWNER, eccStorage("a"), "secret")));
    Session session = Session::start(a);
    for (int i = 0; i < 3; ++i) {  // nonces roll
        EXPECT_EQ(hex(rc(session.authorize(a, create(kFirst), "secret", {name}))),
                  hex(TPM2_RC_SUCCESS));
    }
    a.ok(flushContext(session.handle()));
}

TEST_P(Children, WhatIsForeignIsNotThere) {
    Client a(conf), b(conf);
    a.ok(createPrimary(TPM2_RH_OWNER, eccStorage("a")));
    a.ok(createPrimary(TPM2_RH_OWNER, eccStorage("a2")));
    const TPM2_HANDLE session = handle(a.ok(startAuthSession()));
    EXPECT_EQ(hex(rc(b.send(readPublic(kFirst)))), hex(kReferenceH0));
    EXPECT_EQ(hex(rc(b.send(readPublic(kSecond)))), hex(kReferenceH0));
    EXPECT_EQ(hex(rc(b.send(contextSave(session)))), hex(kReferenceH0));
    EXPECT_EQ(hex(rc(b.send(createPrimary().noAuth().session(session)))), hex(kReferenceS0));
    EXPECT_TRUE(handles(b, kFirst).empty());
    EXPECT_EQ(hex(rc(a.send(readPublic(kSecond)))), hex(TPM2_RC_SUCCESS));
}

TEST_P(Children, CloseLeavesTheTpmEmpty) {
    Client a(conf), b(conf);
    a.ok(createPrimary());
    a.ok(hashSequenceStart());
    a.ok(startAuthSession(TPM2_SE_POLICY));
    b.ok(createPrimary());
    ASSERT_NE(residue(sim), "");
    a.close();
    EXPECT_EQ(hex(rc(b.send(readPublic(kFirst)))), hex(TPM2_RC_SUCCESS));
    b.close();
    EXPECT_EQ(residue(sim), "");
}

TEST_P(Children, CloseReceivesWhatWasNotReceived) {
    Client a(conf), b(conf);
    ASSERT_EQ(a.transmit(createPrimary()), TSS2_RC_SUCCESS);
    ASSERT_EQ(b.transmit(startAuthSession()), TSS2_RC_SUCCESS);
    b.close();
    a.close();
    EXPECT_EQ(residue(sim), "");
}

TEST_P(Children, OneOpensAfterTheOther) {
    for (int i = 0; i < 3; ++i) {
        Client client(conf);
        EXPECT_EQ(handle(client.ok(createPrimary())), kFirst);
    }
    EXPECT_EQ(residue(sim), "");
}

INSTANTIATE_TEST_SUITE_P(Over, Children,
                         testing::Values("swtpm", "device", "mssim", "spaces_pcap", "pcap_spaces"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace spaces::test
