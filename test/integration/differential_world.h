// SPDX-License-Identifier: BSD-2-Clause
// Several spaces on one TPM, and for each of them a private TPM that it must not differ from.
// Always holds: all TPMs start with the same seeds; an operation is sent to a space and to its
// private TPM, and what only one TPM can have (PCRs, NV, hierarchies, ...) is then changed in the
// private TPMs of the other spaces too; a response that differs without a right to throws
// Different.
//
// Arguments that every operation takes, beside its verb's:
//
//     s1, s2, s3   sessions (labels) in the authorisation area; 0 or none: a password; below zero:
//                  sessions that are not there
//     a1, a2, a3   their attributes
//     wrong        1: a wrong auth value in what authorises; drop 1: sessions only, no passwords
//     cut, extend  the command is cut to, longer by, so many octets
//     flip, by     the parameter octet at this place is changed by this exclusive-or
//     tag, code    other ones in the header
//     later        the response is fetched after the next operations' commands were sent
//
// A label below zero is an object, or a session, that is not there: -1 the first such number.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "differential_commands.h"
#include "differential_compare.h"
#include "support/simulator.h"

namespace spaces::test {

struct Mode {
    const char* name;
    const char* options;  ///< of the conf string
    bool swaps;
};

inline void PrintTo(const Mode& mode, std::ostream* out) { *out << mode.name; }

class World : private Terms {
  public:
    static constexpr size_t kSpaces = 3;
    static constexpr size_t kSlots = 3;  ///< of the TPM, for objects and for loaded sessions

    World(const Mode& mode, const Simulator& original);
    ~World() override;

    /// One operation, or several of which all but the last are to be fetched later; each of
    /// another space.
    void run(const Script& batch);

    /// Closes the spaces: nothing must be left in the TPM but sessions that clients saved.
    void finish();

    size_t commands() const { return commands_; }
    size_t succeeded() const { return succeeded_; }
    const Tally& tally() const { return tally_; }

    // For who chooses the next operation.
    const std::map<int, Thing>& things() const { return things_; }
    const std::map<TPM2_HANDLE, Shape>& persistent() const { return persistentShapes_; }
    size_t objects(size_t space) const { return count(space, Thing::Kind::Object); }
    size_t loadedSessions(size_t space) const { return count(space, Thing::Kind::Session); }
    bool swaps() const { return mode_.swaps; }

  private:
    struct Prepared {
        Operation operation;
        Command plain{0};  ///< with passwords, as others' TPMs are told
        Two<Request> request{Request{Command(0), {}, {}, true, {}, {}},
                             Request{Command(0), {}, {}, true, {}, {}}};
        Two<std::vector<Use>> uses;
        Two<std::unique_ptr<Exchange>> exchange;
        Two<std::deque<Session>> unknown;  ///< stand for sessions that are not there
        Two<Bytes> bytes, response, auditDigest;
        bool mangled = false;
    };
    struct Persistent {
        Operand operand;  ///< all but what differs
        Operation maker;
        std::array<Two<Bytes>, kSpaces> name, publicArea;
    };

    // What arguments mean.
    std::optional<Operand> object(const Operation& operation, const std::string& argument,
                                  Side side) const override;
    std::optional<TPM2_HANDLE> session(const Operation& operation, const std::string& argument,
                                       Side side) const override;
    const Thing* thing(int64_t label) const override;
    Operand absentObject(size_t space, int64_t which) const;
    Operand byHandle(size_t space, TPM2_HANDLE handle, Side side) const;
    TPM2_HANDLE absentSession(size_t space, int64_t which, Side side) const;

    // Commands.
    std::unique_ptr<Prepared> prepare(const Operation& operation);
    bool authorize(Prepared& prepared, Side side);
    bool leadsRandomOctets(const Prepared& prepared, size_t at) const;
    bool mangle(Prepared& prepared);
    bool clearEndsContexts() const;
    bool mayBeSent(const Prepared& prepared);
    bool fits(Thing::Kind kind, size_t space, size_t need, size_t pending);
    void exchange(Prepared& prepared);
    void powerCycle(const Operation& operation);
    bool flushAfterShutdown(const Operation& operation);
    void flushAgain(const Operation& operation);
    void useProtected(Client& client);

    // Responses.
    void compare(Prepared& prepared);
    Circumstances circumstances(const Prepared& prepared) const;
    std::array<std::vector<TPM2_HANDLE>, 2> sessions(size_t space, bool saved) const;
    bool namesAlias(const Prepared& prepared) const;
    bool isAlias(const Prepared& prepared) const;
    void undoAlias(const Prepared& prepared);

    // What success means.
    void commit(Prepared& prepared);
    void endSessions(const Prepared& prepared);
    void notePolicy(const Prepared& prepared);
    void make(Prepared& prepared);
    void makeSession(Prepared& prepared);
    void makeContext(Prepared& prepared);
    void loadContext(Prepared& prepared);
    void evicted(const Prepared& prepared);
    void end(size_t space, TPM2_HANDLE handle);
    void flushHierarchies(const Prepared& prepared);
    bool discard(const Prepared& prepared);

    // The other spaces' private TPMs.
    void tellOthers(const Prepared& prepared);
    void tell(size_t space, const Command& command);
    void tellEviction(size_t space, const Prepared& prepared);
    void withFreeSlot(size_t space, const std::function<void()>& action);
    void endExclusiveness(const Prepared& prepared);

    template <class Visitor>
    void eachOther(size_t space, Visitor visit) {
        for (size_t other = 0; other < kSpaces; ++other)
            if (other != space) visit(other);
    }
    size_t count(size_t space, Thing::Kind kind) const;
    Client& alone(size_t space) { return *alone_[space]; }

    const Mode mode_;
    std::unique_ptr<Simulator> sharedTpm_;
    std::array<std::unique_ptr<Simulator>, kSpaces> privateTpm_;
    std::array<std::unique_ptr<Client>, kSpaces> space_, alone_;
    std::array<Relation, kSpaces> relation_;
    std::array<bool, kSpaces> mayBeExclusive_{};
    std::map<int, Thing> things_;
    std::map<TPM2_HANDLE, Persistent> persistent_;
    std::map<TPM2_HANDLE, Shape> persistentShapes_;
    std::set<TPM2_HANDLE> changed_;  ///< hierarchies with new seeds or proofs
    std::array<size_t, 2> pending_{};
    bool restarted_ = false;  ///< clearCount is not 0
    bool shutDown_ = false;   ///< with STATE, and not started since
    Tally tally_;
    size_t commands_ = 0, succeeded_ = 0;
};

}  // namespace spaces::test
