/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What an integration test of isolation stands on: one TPM that two spaces share, and beside it a
 * TPM that one client has for itself.  The latter is the specification: what A answers is compared
 * with what it answers.  When the spaces are closed at the end, the shared TPM must be empty.
 */
#ifndef SPACES_TEST_INTEGRATION_SHARED_AND_PRIVATE_H
#define SPACES_TEST_INTEGRATION_SHARED_AND_PRIVATE_H

#include <gtest/gtest.h>

#include <exception>
#include <string>
#include <vector>

#include "support/client.h"
#include "support/command.h"
#include "support/response.h"
#include "support/simulator.h"

namespace spaces::test {

constexpr TPM2_HANDLE kFirst = TPM2_TRANSIENT_FIRST, kSecond = kFirst + 1, kThird = kFirst + 2;
constexpr TPM2_HANDLE kLoaded = TPM2_LOADED_SESSION_FIRST, kSaved = TPM2_ACTIVE_SESSION_FIRST;

using Handles = std::vector<TPM2_HANDLE>;

struct SharedAndPrivate {
    Simulator shared;
    Simulator alone;
    Client a = Client::space(shared);
    Client b = Client::space(shared);
    Client own = Client::bare(alone);  ///< has `alone` for itself

    SharedAndPrivate() = default;
    SharedAndPrivate(const SharedAndPrivate&) = delete;
    SharedAndPrivate& operator=(const SharedAndPrivate&) = delete;
    ~SharedAndPrivate() { closeAll(); }

    /** Sends the command to A and to the private TPM.  Their answers must be the same: the code,
     *  the response handle if there is one, and all of an error.  Returns A's. */
    Bytes both(const Command& command) {
        const Bytes answer = a.send(command), expected = own.send(command);
        EXPECT_EQ(hex(rc(answer)), hex(rc(expected))) << hex(command);
        if (rc(answer) != TPM2_RC_SUCCESS || rc(expected) != TPM2_RC_SUCCESS) {
            EXPECT_EQ(hex(answer), hex(expected)) << hex(command);
        } else if (responseHandles(command.code()) != 0) {
            EXPECT_EQ(hex(handle(answer)), hex(handle(expected))) << hex(command);
        }
        return answer;
    }

    /** The code of both(). */
    TPM2_RC bothCode(const Command& command) { return rc(both(command)); }

    /** Does the same with A and with the private TPM; both must come to the same.  Returns A's. */
    template <class Action>
    auto alike(Action action) {
        const auto got = action(a);
        EXPECT_EQ(got, action(own));
        return got;
    }

    /** Resets both TPMs under everybody's feet. */
    void resetBoth(AfterReset startup = AfterReset::startupClear) {
        shared.reset(startup);
        alone.reset(startup);
    }

    void closeAll() try {
        a.close();
        b.close();
        EXPECT_EQ(residue(shared), "");
    } catch (const std::exception& problem) {
        ADD_FAILURE() << problem.what();
    }
};

/** For TEST_F(Isolation, ...). */
class Isolation : public testing::Test, protected SharedAndPrivate {};

/** Makes `client` fill the TPM: `count` objects of the NULL hierarchy. */
inline void makeObjects(Client& client, int count) {
    for (int i = 0; i < count; i++)
        client.ok(createPrimary(TPM2_RH_NULL, hmacKey(std::to_string(i))));
}

}  // namespace spaces::test

#endif
