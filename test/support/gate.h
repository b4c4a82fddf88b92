/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A gate before a simulator: commands that arrive while it is closed wait there, so that a test
 * says itself how long the TPM takes for a command, and knows what has reached it, in order.
 *
 *     Gate gate(sim);
 *     Client a(Client::spaceConf(gate.conf()));
 *     gate.close();
 *     a.transmit(getRandom());               // running, for as long as we like
 *     EXPECT_EQ(gate.await(), TPM2_CC_GetRandom);
 *     gate.open();
 *
 * What always holds: to a client it is a swtpm that serves one command at a time; control requests
 * pass at any time.
 */
#ifndef SPACES_TEST_SUPPORT_GATE_H
#define SPACES_TEST_SUPPORT_GATE_H

#include <tss2/tss2_tpm2_types.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "bytes.h"
#include "simulator.h"
#include "swtpm_link.h"

namespace spaces::test {

class Gate {
  public:
    /** What a TPM may do when it is asked to cancel a command that waits at the gate. */
    enum class OnCancel { answerCanceled, carryOn };

    explicit Gate(const Simulator& sim);
    ~Gate();
    Gate(const Gate&) = delete;
    Gate& operator=(const Gate&) = delete;

    uint16_t port() const { return listeners_.port; }
    std::string conf() const { return "swtpm:host=127.0.0.1,port=" + std::to_string(port()); }

    void close() { set(false, 0); }
    void open() { set(true, 0); }
    /** Closed, lets the next command through, the one that waits or the first to come. */
    void passOne() { set(false, 1); }

    /** Waits until a command waits at the closed gate, and returns its code. */
    TPM2_CC await();

    /** The commands that have arrived since the `mark`-th. */
    std::vector<Bytes> commands(size_t mark = 0);
    size_t commandCount();

    /** Commands that wait are canceled or not; one that the TPM has is the TPM's to cancel. */
    void onCancel(OnCancel what);
    /** How many requests to cancel have arrived. */
    size_t cancels();

  private:
    void serveCommands();
    void serveControl();
    void command(const Descriptor& client);
    void control(const Descriptor& client);
    bool passes(const Bytes& command);
    bool cancel();
    void set(bool open, size_t permits);

    const SwtpmLink tpm_;
    const Listeners listeners_;

    std::mutex mutex_;  // guards what follows
    std::condition_variable changed_;
    bool open_ = true, waiting_ = false, canceled_ = false, ending_ = false;
    size_t permits_ = 0, cancels_ = 0;
    OnCancel onCancel_ = OnCancel::answerCanceled;
    std::vector<Bytes> commands_;

    std::thread commandThread_, controlThread_;
};

}  // namespace spaces::test

#endif
