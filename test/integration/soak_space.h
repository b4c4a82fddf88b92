// SPDX-License-Identifier: BSD-2-Clause
// One space of the soak test: a client that sends random commands, and a model of what it holds.
// Always holds: every response is checked against the model, and every one that is not what the
// model says throws; the same seed makes the same choices.
#pragma once

#include <openssl/evp.h>

#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "support/client.h"
#include "support/command.h"
#include "support/session.h"

class SoakSpace {
  public:
    static constexpr size_t kObjects = 30;
    static constexpr size_t kSessions = 6;  // eight spaces hold 48 of the TPM's 64

    SoakSpace(const spaces::test::Simulator& sim, uint64_t seed);

    /// Makes objects and sessions until there are as many as it may hold. Two of the sessions are
    /// left alone until the end: in a long soak the context gap catches up with them.
    void fill();

    /// One random thing, one or a few commands.
    void step();

    /// A command whose response is fetched later, so that several spaces wait at once.
    void transmit();
    void receive();

    /// Checks all that it holds once more, and closes; every other one empties itself before.
    void finish(bool emptyFirst);

    /// What it did last, for the message when it went wrong.
    const std::string& doing() const { return doing_; }

    /// How many contexts of sessions, anybody's, the TPM saved from fill() to finish().
    uint64_t sessionsSaved() const { return sessionsSaved_; }

  private:
    using Bytes = spaces::test::Bytes;
    using Command = spaces::test::Command;

    enum class Kind {
        Storage,
        Signing,
        Hmac,
        Sealed,
        PolicySealed,
        PublicOnly,
        HashSequence,
        HmacSequence,
    };
    struct Object {
        Kind kind;
        std::string auth;
        Bytes name;
        std::string secret;             // key, sealed data
        std::string data;               // what went into a sequence so far
        std::shared_ptr<EVP_PKEY> key;  // the public one of a signing key
    };
    using Objects = std::map<TPM2_HANDLE, Object>;
    struct Session {
        spaces::test::Session session = {};
        TPM2_SE type = TPM2_SE_HMAC;
        bool bound = false;
        bool symmetric = false;
        Bytes digest = Bytes(32);
        bool commandCode = false;  // PolicyCommandCode was applied
        bool isPolicy() const { return type != TPM2_SE_HMAC; }
        void restart();
    };
    using Sessions = std::map<TPM2_HANDLE, Session>;
    /// A command, and what sessions may do with it.
    struct Request {
        Command command;
        std::vector<Bytes> names;
        std::string auth;  // of its first handle
        bool authorizes = true;
        bool decrypts = true;  // the first parameter is a TPM2B; so it is in the response
        bool encrypts = true;
    };

    size_t below(size_t count) {
        return std::uniform_int_distribution<size_t>(0, count - 1)(random_);
    }
    bool oneIn(size_t count) { return below(count) == 0; }
    std::string text(size_t most);
    template <class Map>
    typename Map::iterator any(Map& map) {
        return std::next(map.begin(), static_cast<std::ptrdiff_t>(below(map.size())));
    }
    Objects::iterator anyOf(std::initializer_list<Kind> kinds);
    std::vector<TPM2_HANDLE> hmacSessions();

    // Commands.
    Bytes send(const Request& request);
    std::vector<spaces::test::Use> chooseUses(const Request& request);
    void refused(const Command& command, TPM2_RC code);

    // Objects.
    void makeObject();
    void makePrimary(Kind kind);
    void makeChild(Objects::iterator parent, Kind kind);
    void makeSequence();
    void adopt(const Bytes& response, Object object);
    void flushObject();
    void useObject();
    void useObject(Objects::iterator at);
    void certify();
    void signAndVerify(const Object& object, TPM2_HANDLE key);
    void useSequence(Objects::iterator at);
    void checkName(Objects::iterator at);
    void saveObject();
    void loadObject();

    // Sessions.
    Session startPolicy();
    void makeSleepers();
    void wakeSleepers();
    void startSession();
    void flushSession();
    void usePolicy();
    void unsealByPolicy(Sessions::iterator at);
    void saveSession();
    void loadSession();
    void flushSavedSession();
    void useSavedSession();

    void useWhatIsNotThere();
    void checkLists();

    std::mt19937_64 random_;
    spaces::test::Client client_;
    Objects objects_;
    Sessions sessions_;
    std::vector<std::pair<Bytes, Object>> savedObjects_;    // contexts stay good
    std::vector<std::pair<Bytes, Session>> savedSessions_;  // contexts are good for once
    Bytes staleContext_;                                    // of a session that was loaded since
    Session sleeper_;  // saved at the start and loaded at the end
    Bytes sleeperContext_;
    Session idle_;  // not saved, and not used until the end
    Bytes awaitedName_;
    uint64_t sessionsSaved_ = 0;
    std::string doing_;
};
