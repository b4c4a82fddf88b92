/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Tests that read as the specification of a private TPM: each runs on one, and then, unchanged, on
 * a space whose neighbour owns objects and sessions in the same TPM.  The expected codes are
 * literal, so a test also fails when the private TPM is not what it is taken for.
 */
#ifndef SPACES_TEST_INTEGRATION_NEIGHBOURHOOD_H
#define SPACES_TEST_INTEGRATION_NEIGHBOURHOOD_H

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "support/client.h"
#include "support/command.h"
#include "support/response.h"
#include "support/simulator.h"

namespace spaces::test {

enum class Setting {
    privateTpm,
    neighbourBelow,  ///< the neighbour's objects come first: ours have other numbers in the TPM
    neighbourAbove,  ///< ours come first: the numbers above them are the neighbour's
};

class OnEveryTpm : public testing::TestWithParam<Setting> {
  protected:
    explicit OnEveryTpm(Record record = Record::commands) : sim(record) {}

    Simulator sim;
    Client tpm = isSpace() ? Client::space(sim) : Client::bare(sim);

    static bool isSpace() { return GetParam() != Setting::privateTpm; }

    /** Something that a neighbour does, if there is one: where a private TPM has nothing. */
    void neighbour(const Bytes& command) {
        if (isSpace()) neighbourClient().ok(command);
    }
    /** The neighbour makes an object below ours, or above them, as the setting has it. */
    void neighbourBelow(const Bytes& command) {
        if (GetParam() == Setting::neighbourBelow) neighbour(command);
    }
    void neighbourAbove(const Bytes& command) {
        if (GetParam() == Setting::neighbourAbove) neighbour(command);
    }
    Client& neighbourClient() {
        if (!neighbour_) neighbour_ = Client::space(sim);
        return *neighbour_;
    }

    /** The handle of something new of our own. */
    TPM2_HANDLE make(const Bytes& command) { return handle(tpm.ok(command)); }

    /** The response code; an error is a bare header, whatever the command was. */
    TPM2_RC answer(const Bytes& command) { return answer(tpm, command); }
    static TPM2_RC answer(Client& client, const Bytes& command) {
        Bytes response = client.send(command);
        Bytes header = {0x80, 0x01, 0, 0, 0, 10};
        append(header, rc(response), 4);
        if (rc(response) != TPM2_RC_SUCCESS) {
            EXPECT_EQ(hex(response), hex(header)) << hex(command);
        }
        return rc(response);
    }

  private:
    std::optional<Client> neighbour_;
};

inline std::string settingName(const testing::TestParamInfo<Setting>& info) {
    switch (info.param) {
        case Setting::privateTpm:
            return "PrivateTpm";
        case Setting::neighbourBelow:
            return "NeighbourBelow";
        case Setting::neighbourAbove:
            return "NeighbourAbove";
    }
    return "";
}

#define ON_EVERY_TPM(suite)                                                                     \
    INSTANTIATE_TEST_SUITE_P(                                                                   \
        On, suite,                                                                              \
        testing::Values(Setting::privateTpm, Setting::neighbourBelow, Setting::neighbourAbove), \
        settingName)

}  // namespace spaces::test

#endif
