// SPDX-License-Identifier: BSD-2-Clause
// Swapping over a real TPM with three object slots and three for loaded sessions: a space that
// holds more of both answers as a private TPM with room enough would.
#include <gtest/gtest.h>

#include <numeric>

#include "support/client.h"
#include "support/command.h"
#include "support/crypto.h"
#include "support/response.h"
#include "support/session.h"
#include "support/simulator.h"

using namespace spaces::test;

namespace {

Client swapping(Simulator &sim, const std::string &more = "") {
    return Client::space(sim, "swap=on" + (more.empty() ? "" : "," + more));
}

// Ten objects in one space, with the lowest handles; used in turn under HMAC sessions, whose
// cpHash covers the objects' Names.
TEST(Swapping, TenObjects) {
    Simulator sim;
    Client a = swapping(sim);
    std::vector<Bytes> names;
    for (uint32_t i = 0; i < 10; ++i) {
        const Bytes made = a.ok(createPrimary(TPM2_RH_OWNER, eccSigning(), "key"));
        EXPECT_EQ(handle(made), 0x80000000 + i);
        names.push_back(primaryName(made));
    }
    Session session = Session::start(a, TPM2_SE_HMAC);
    const Bytes digest = sha256(bytes("data"));
    for (int round = 0; round < 3; ++round)
        for (uint32_t i = 0; i < 10; ++i)
            EXPECT_EQ(rc(session.authorize(a, sign(0x80000000 + i, digest), "key", {names[i]})), 0u);
    EXPECT_EQ(handles(a, 0x80000000).size(), 10u);
    a.close();
    EXPECT_EQ(residue(sim), "");
}

// Ten sessions in one space, policy sessions with state between them.
TEST(Swapping, TenSessions) {
    Simulator sim;
    Client a = swapping(sim);
    Client bare = Client::bare(sim);
    std::vector<TPM2_HANDLE> policies;
    for (int i = 0; i < 10; ++i)
        policies.push_back(handle(a.ok(startAuthSession(TPM2_SE_POLICY))));
    for (int round = 0; round < 3; ++round)
        for (int i = 0; i < 10; ++i)
            a.ok(policyCommandCode(policies[i], TPM2_CC_Sign));
    std::vector<Bytes> digests;
    for (int i = 0; i < 10; ++i) digests.push_back(a.ok(policyGetDigest(policies[i])));
    for (int i = 1; i < 10; ++i) EXPECT_EQ(digests[i], digests[0]);
    EXPECT_EQ(handles(a, 0x02000000).size(), 10u);
    EXPECT_EQ(handles(a, 0x03000000).size(), 0u);
    a.close();
    EXPECT_EQ(residue(sim), "");
}

}  // namespace
