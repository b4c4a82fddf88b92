// SPDX-License-Identifier: BSD-2-Clause
// One performance of a script: two clients, each with a space over one TPM behind a child that
// fails once, and an account of what each of their objects and sessions must be.
//
// The account. What fails may cost what it is about, and what that is depends on the failure: so
// each thing is alive (and has to answer as what it is), unsure (it may be gone, or more than one
// thing may have been done to it), doomed (it is gone, and nobody but the TPM knows), or gone.
// What it must be is asked of a TPM that nobody else uses.
//
// Always holds, and fails the test where it does not: nothing is lost but what the failure may
// cost; a client is told of a failure once, by the TPM's code or one of the library's own; after
// it everything that a client asks for is answered as by a private TPM; and when the spaces are
// closed the TPM is empty but for what the failure left to nobody.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "unit/faulty_child.h"

namespace spaces::test {

/// How the library is used.
struct Mode {
    const char* name;
    const char* options;  // before the child's name in the conf string
    bool swaps;
};

/// As many as this library has.
const std::vector<Mode>& allModes();

/// A client, and the context of its space.
class Party {
  public:
    ~Party() { close(); }

    TSS2_RC open(const std::string& conf);
    bool isOpen() const;
    void close();

    void start(const Packet& command);
    Packet finish();
    TSS2_RC setLocality(uint8_t locality);
    TSS2_RC cancel();

  private:
    TSS2_TCTI_CONTEXT* context() { return reinterpret_cast<TSS2_TCTI_CONTEXT*>(memory_.data()); }

    alignas(16) std::array<uint8_t, 1024> memory_{};
};

/// What a client has in its TPM.
struct Thing {
    enum class Kind { Object, Sequence, Policy, Hmac };
    enum class Life { Alive, Unsure, Doomed, Gone };

    Party* party;
    Kind kind;
    TPM2_HANDLE hierarchy = 0;
    std::string name = {};
    TPM2_HANDLE handle = 0;
    Life life = Life::Gone;
    std::vector<size_t> uses = {0};  // how often it may have been changed
    bool saved = false;              // a session, by its client
    bool listed = true;              // as long as the library may not know that it is gone
    bool maybeSaved = false;         // it was not said
    Bytes context = {};
    Bytes made = {};  // an object's public area, as the TPM said when it was made

    bool isSession() const { return kind == Kind::Policy || kind == Kind::Hmac; }
};

class Play;

/// A script, with a name for the test.
struct Script {
    const char* name;
    void (*perform)(Play& play);
};

class Play {
  public:
    Play(TpmBehind& tpm, const Mode& mode, const Fault& fault, size_t position);
    ~Play();
    Play(const Play&) = delete;
    Play& operator=(const Play&) = delete;

    /// A command, and what its answers mean.
    struct Op {
        Party* party;
        Packet command;
        std::vector<Thing*> names = {};                       // in the command's order
        std::function<void(const Packet& answer)> done = {};  // with success
        std::function<void()> unknown = {};                   // it may have been done
        std::vector<TPM2_RC> alsoRight = {};                  // codes beside success
        bool firedBefore = false;
    };

    // For scripts.

    Party a, b;
    bool swaps() const { return mode_.swaps; }

    Thing& object(Party& party, const std::string& name, TPM2_HANDLE hierarchy = TPM2_RH_PLATFORM);
    Thing& sequence(Party& party);
    Thing& policy(Party& party);
    Thing& hmac(Party& party);
    /// What is made of it: the same object once more.
    Thing& loadCopy(Thing& object);

    /// Changes it, where it can change.
    void use(Thing& thing) { run(using_(thing)); }
    /// Sees what it is; of a sequence that is its end.
    void check(Thing& thing) { run(checking(thing)); }
    void certify(Thing& object, Thing& key);
    /// With continueSession clear.
    void end(Thing& hmac);
    void save(Thing& thing);
    void load(Thing& session);
    void flush(Thing& thing);
    /// All that the client has, of each kind.
    void list(Party& party);
    /// Names what the client does not have.
    void nameOthers(Party& party);
    void unknownCommand(Party& party);

    Op using_(Thing& thing);
    Op checking(Thing& thing);
    /// Two clients' commands, of which the first to be sent is the last to be waited for.
    void together(Op first, Op second);
    /// The second one is taken back while it waits for the first.
    void cancelSecond(Op first, Op second);
    void cancelRunning(Op op);
    void setLocality(Party& party, uint8_t locality);
    /// Sends it, and never fetches the answer.
    void abandon(Op op);

    void clear(Party& party);
    void control(Party& party, bool on);
    void shutDown(Party& party);
    void powerCycle();
    void expectOff(Party& party);
    void startUp(Party& party);
    /// Somebody else flushes it.
    void flushBehind(Thing& session);

    // For who performs it.

    /// From the first context opened to the last one closed, and what has to hold then.
    void perform(const Script& script);
    bool fired() const;
    size_t positions() const { return child_.calls(); }

  private:
    void open(Party& party);
    void end();
    static bool isPointless(const Op& op);
    void run(Op op);
    void start(Op& op);
    void finish(Op& op);
    void cancel(Op& op);
    void refused(const Op& op, TPM2_RC code, bool during);
    bool isExcused(TPM2_RC code) const;
    Thing* missing(const Op& op, TPM2_RC code) const;
    void lose(Thing& thing);
    void forgetMemory();

    Thing& make(Party& party, Thing::Kind kind, const Packet& command, const Thing& like);
    void born(Thing& thing, TPM2_HANDLE handle, bool during);
    Packet expected(const Thing& thing, size_t uses);
    bool isRight(const Thing& thing, const Packet& answer);
    void note(const FaultyChild::Event& event);
    template <class Condition>
    void doom(Condition condition);
    template <class Condition>
    void removeThose(Condition condition);
    void listOf(Party& party, TPM2_HANDLE first);
    void checkList(Party& party, TPM2_HANDLE first, const std::vector<TPM2_HANDLE>& listed);

    void verify(const std::vector<Party*>& parties);
    void empty(Party& party);
    void makeAnew(Party& party);
    void close(Party& party);

    TpmBehind& tpm_;
    const Mode mode_;
    const Fault fault_;
    const size_t position_;
    FaultyChild child_;
    std::deque<Thing> things_;
    size_t refusals_ = 0;      // that nothing but the fault explains
    size_t objectLosses_ = 0;  // of which it is not known what they are about
    size_t leftObjects_ = 0;   // in the TPM, and nobody's
    size_t leftSessions_ = 0;
    size_t leftSaved_ = 0;
    TPM2_CC hidden_ = 0;  // code of the command whose success was hidden
    bool memoryFailed_ = false;
    bool during_ = false;  // the fault fired during the op that is being finished
    bool orderly_ = false, maybeOrderly_ = false;  // since Shutdown(STATE)
    std::optional<Op> abandoned_;
    bool toldOfLoss_ = false;   // of something that is gone without the library's knowing
    bool unseenStart_ = false;  // somebody else's, or ours without an answer
    bool ended_ = false;
};

const std::vector<Script>& allScripts();

/// Performs it with the fault at this position; 0: without. False if it did not come to that.
bool perform(TpmBehind& tpm, const Script& script, const Mode& mode, const Fault& fault,
             size_t position);

/// At how many positions it can happen. None fails.
size_t countPositions(TpmBehind& tpm, const Script& script, const Mode& mode, const Fault& fault);

}  // namespace spaces::test
