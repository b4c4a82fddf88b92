/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A real TPM for one test: a swtpm process of its own on loopback ports of its own.  It is gone
 * when the object is, and when the test process dies.
 *
 *     Simulator sim;
 *     size_t mark = sim.commandCount();
 *     ...                                 // let the code under test work
 *     EXPECT_EQ(sim.commandCodes(mark), (std::vector<TPM2_CC>{TPM2_CC_GetRandom}));
 *
 * The kernel ends swtpm with the *thread* that started it, so make a Simulator in the main thread.
 */
#ifndef SPACES_TEST_SUPPORT_SIMULATOR_H
#define SPACES_TEST_SUPPORT_SIMULATOR_H

#include <sys/types.h>
#include <tss2/tss2_tpm2_types.h>

#include <string>
#include <vector>

#include "bytes.h"

namespace spaces::test {

/** Recording costs more than the commands: tests that send many thousands go without. */
enum class Record { commands, nothing };

enum class AfterReset { none, startupClear, startupState };

class Simulator {
  public:
    /** Starts swtpm; Startup(CLEAR) is done and does not count as a command. */
    explicit Simulator(Record record = Record::commands);
    /** As above, with the NV that `original` has now: the same seeds and proofs, so that the same
     *  primary objects come out.  Nobody else may be connected to it just now. */
    Simulator(Record record, const Simulator& original);
    ~Simulator();
    Simulator(const Simulator&) = delete;
    Simulator& operator=(const Simulator&) = delete;

    /** "swtpm:host=127.0.0.1,port=N" */
    std::string conf() const;

    /** How many commands the TPM has received since the first start: exact once the response to
     *  the last one was read.  Commands of bare clients and of reset() count too. */
    size_t commandCount();

    /** The codes, or the whole bytes, of the commands after the first `mark` ones. */
    std::vector<TPM2_CC> commandCodes(size_t mark = 0);
    std::vector<Bytes> commands(size_t mark = 0);

    /** A TPM reset under everybody's feet (_TPM_Init), then perhaps TPM2_Startup, which must
     *  succeed.  For a TPM Resume or Restart send TPM2_Shutdown(STATE) yourself before. */
    void reset(AfterReset startup = AfterReset::startupClear);

    /** SIGKILL; a command in flight and every later one meet a dead transport. */
    void kill();

    /** Starts swtpm again after kill(): same ports, same NV, Startup(CLEAR) done. */
    void restart();

    void killAndRestart() {
        kill();
        restart();
    }

    pid_t pid() const { return pid_; }
    uint16_t port() const { return port_; }

  private:
    Simulator(Record record, const std::string& nv);
    std::string nvFile() const;
    bool start();
    bool waitUntilServing();
    void initialize();
    void readLog();
    void removeDirectory();

    const Record record_;
    std::string directory_;
    uint16_t port_ = 0;
    pid_t pid_ = -1;
    std::vector<Bytes> commands_;
    long logOffset_ = 0;
    bool inCommand_ = false;
};

}  // namespace spaces::test

#endif
