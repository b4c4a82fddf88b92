/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The context gap over the kernel's devices: a TPM tells the saved contexts of sessions apart over
 * 65,535 saves only. A session that is not used while others are saved so often must still be
 * there, over /dev/tpmrm0 too, where it is the kernel that saves, after each command.
 *
 * Two hundred thousand commands take minutes: `make check-kernel-long` runs this.
 */
#include <gtest/gtest.h>

#include "device.h"
#include "support/response.h"

namespace spaces::test {
namespace {

constexpr int kSaves = 70000;

class Gap : public Device {
  protected:
    /** The same commands, by turns on two sessions, of which only one is in the TPM. */
    static void useByTurns(Client& client, int uses) {
        const TPM2_HANDLE one = handle(client.ok(startAuthSession(TPM2_SE_POLICY)));
        const TPM2_HANDLE two = handle(client.ok(startAuthSession(TPM2_SE_POLICY)));
        for (int i = 0; i < uses; i++)
            ASSERT_EQ(hex(rc(client.send(policyRestart(i % 2 == 0 ? one : two)))), hex(0u))
                << "use " << i;
    }
};

TEST_F(Gap, ReachedBySwapping) {
    Client client(Client::spaceConf(kTpm, "swap=on,sessions=1"));
    const Policy idle(client, "idle");
    useByTurns(client, kSaves);
    idle.expectUsable(client);
}

// The kernel saves the session that is in after every command, whatever it is about.
TEST_F(Gap, ReachedByTheKernel) {
    Client client(Client::spaceConf(kManaged, "swap=on"));
    const Policy idle(client, "idle"), busy(client, "busy");
    for (int i = 0; i < kSaves; i++)
        ASSERT_EQ(hex(rc(client.send(pcrRead(0)))), hex(0u)) << "command " << i;
    busy.expectUsable(client);
    idle.expectUsable(client);
}

}  // namespace
}  // namespace spaces::test
