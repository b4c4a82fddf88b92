/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Two TPMs that their client must not be able to tell apart: one is its own; on the other it has a
 * space beside a neighbour that owns an object and a session.  Both are furnished alike.  The same
 * command goes to both, and the responses are compared; the few differences that there may be are
 * named, with their reasons, in one list in twins.cpp.
 */
#ifndef SPACES_TEST_INTEGRATION_TWINS_H
#define SPACES_TEST_INTEGRATION_TWINS_H

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "every_command.h"
#include "support/client.h"
#include "support/response.h"
#include "support/simulator.h"

namespace spaces::test {

/** How a pair of twins is furnished. */
struct Layout {
    enum class Second { nothing, key, sequence };
    Second second = Second::key;  ///< beside kParent; it leaves no slot for another object
    bool policySession = true;    ///< with kPolicySession, which leaves none for another session
    bool neighbourFirst = true;   ///< the neighbour's object has the lowest slot
};

class Twins {
  public:
    explicit Twins(const Layout& layout);

    /** Starts over with two new TPMs. */
    void rebuild(const Layout& layout);

    /** Flushes whatever the client has and makes it all again; on both alike. */
    void furnish();

    /** One command for both: the bytes differ only where everyCommand() does.  Adds a failure, and
     *  returns false, when the answers differ without a reason. */
    bool compare(const Bytes& toSpace, const Bytes& toAlone);

    /** Whether the last command succeeded on either. */
    bool succeeded() const { return rc(fromSpace_) == 0 || rc(fromAlone_) == 0; }
    TPM2_RC aloneAnswered() const { return rc(fromAlone_); }

    /** Puts both back in step after a command that succeeded or that was answered differently;
     *  `thoroughly`: as furnish() does, otherwise only what is sure to be needed. */
    void settle(const Bytes& command, bool thoroughly);

    /** The client has the same handles on both, and the neighbour still has all its own. */
    bool stillAlike();

    /** everyCommand(), for each of the two; good until the next furnish(). */
    const std::vector<Command>& forSpace() const { return tenants_->commands[0]; }
    const std::vector<Command>& forAlone() const { return tenants_->commands[1]; }

    /** How often each named difference was met. */
    const std::map<std::string, int>& differences() const { return differences_; }

    /** The neighbour's session, which is in nobody else's list. */
    static constexpr TPM2_HANDLE kNeighboursSession = 0x03000005;

    // What the list of differences is written in.
    TPM2_RC spaceAnswered() const { return rc(fromSpace_); }
    size_t objectsOfOurs();
    size_t sessionsOfOurs();

  private:
    struct Tenants {
        Simulator sharedTpm{Record::nothing}, privateTpm{Record::nothing};
        Client space = Client::space(sharedTpm), alone = Client::bare(privateTpm);
        Client neighbour = Client::space(sharedTpm);
        Belongings belongings[2];
        std::vector<Command> commands[2];
        Bytes neighboursName;
    };

    bool sameAnswers(const Bytes& command) const;
    void vacate(Client& client);
    void moveIn(Client& client, Belongings& belongings);
    void moveInNeighbour();

    Layout layout_;
    std::unique_ptr<Tenants> tenants_;
    Bytes fromSpace_, fromAlone_;
    bool diverged_ = false;
    std::map<std::string, int> differences_;
};

}  // namespace spaces::test

#endif
