/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One TCTI context, opened through the TCTI loader as an application opens it, and closed with
 * the object.
 *
 *     Client bare = Client::bare(sim);                // straight to the TPM
 *     Client space = Client::space(sim);              // through the library under test
 *     Client swapping = Client::space(sim, "swap=on");
 *     TPM2_HANDLE key = handle(space.ok(createPrimary()));
 *     EXPECT_EQ(rc(bare.send(readPublic(0x80000002))), 0x910u);
 *
 * send() and ok() throw on a TCTI error: GoogleTest reports that as the test's failure.
 */
#ifndef SPACES_TEST_SUPPORT_CLIENT_H
#define SPACES_TEST_SUPPORT_CLIENT_H

#include <tss2/tss2_tcti.h>
#include <tss2/tss2_tpm2_types.h>

#include <string>
#include <vector>

#include "bytes.h"
#include "simulator.h"

namespace spaces::test {

class Client {
  public:
    /** Throws when the context cannot be opened. */
    explicit Client(const std::string& conf);
    ~Client() { close(); }
    Client(Client&& other) noexcept;
    Client& operator=(Client&& other) noexcept;

    static Client bare(const Simulator& sim) { return Client(sim.conf()); }
    static Client space(const Simulator& sim, const std::string& options = "") {
        return Client(spaceConf(sim, options));
    }

    /** Whether the options of this run ($SPACES_TEST_OPTIONS) make its spaces swap. */
    static bool spacesSwap();

    /** What opening a context with this conf answers; it is closed again at once. */
    static TSS2_RC tryOpen(const std::string& conf);

    /** "PATH-OF-THE-LIBRARY:options,swtpm:host=...,port=..."; the options are those of the whole
     *  run, $SPACES_TEST_OPTIONS, and these. */
    static std::string spaceConf(const Simulator& sim, const std::string& options = "") {
        return spaceConf(sim.conf(), options);
    }
    static std::string spaceConf(const std::string& child, const std::string& options = "");

    /** The library under test: $SPACES_LIBRARY, or the one of the build tree. */
    static std::string libraryPath();

    /** Sends a command and returns the response, whatever its code. */
    Bytes send(const Bytes& command);

    /** As send(), and throws unless the response code is 0. */
    Bytes ok(const Bytes& command);

    // The TCTI functions themselves.
    TSS2_RC transmit(const Bytes& command);
    TSS2_RC receive(Bytes& response, int32_t timeout = TSS2_TCTI_TIMEOUT_BLOCK);
    TSS2_RC receiveSize(size_t& size, int32_t timeout = TSS2_TCTI_TIMEOUT_BLOCK);
    TSS2_RC cancel();
    TSS2_RC setLocality(uint8_t locality);

    /** Finalizes the context; a second close does nothing. */
    void close();

    TSS2_TCTI_CONTEXT* context() const { return context_; }

    /** Gives the context away: the caller finalizes it with Tss2_TctiLdr_Finalize(). */
    TSS2_TCTI_CONTEXT* release();

  private:
    TSS2_TCTI_CONTEXT* context_ = nullptr;
};

/** Whether spaces swap in this run: then nobody's objects and sessions take slots away from others,
 *  as on a TPM that has enough of them. */
bool swapping();

/** The code of a warning that the TPM is full; in a run that swaps, 0. */
TPM2_RC unlessSwapping(TPM2_RC warning);

/** Whether spaces use only some of the TPM's slots in this run, so that what is in the TPM itself
 *  cannot be said. */
bool capped();

/** All handles from `first` (its type: 0x80000000, 0x81000000, 0x02000000 loaded sessions,
 *  0x03000000 saved sessions, which a TPM lists as 0x02xxxxxx, 0x01000000 NV) that the client sees,
 * over as many pages as needed. */
std::vector<TPM2_HANDLE> handles(Client& client, TPM2_HANDLE first);

/** What is left in the TPM itself: "" when it holds no transient object and no session, else a
 *  list for the message:  EXPECT_EQ(residue(sim), ""); */
std::string residue(const Simulator& sim);

}  // namespace spaces::test

#endif
