// SPDX-License-Identifier: BSD-2-Clause
// What the differential test knows of what was made, and the commands that its operations stand
// for. Always holds: an operation gives the same command for a space and for its private TPM but
// for what only one of them accepts: handles of sessions, Names, private areas, contexts.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "differential_script.h"
#include "support/session.h"

namespace spaces::test {

enum Side : size_t { kShared, kAlone };
template <class T>
using Two = std::array<T, 2>;

enum class Shape : int64_t {
    Storage,
    Signing,
    Hmac,
    Sealed,
    Policy,        ///< an HMAC key that only a policy opens: PolicyCommandCode(HMAC)
    External,      ///< a public area
    ExternalHmac,  ///< a key and all
    HashSequence,
    EventSequence,
    HmacSequence,
};

/// What an operation made.
struct Thing {
    enum class Kind { Object, Session, Child, Context };
    Kind kind = Kind::Object;
    size_t space = 0;
    bool live = false;   ///< an object or session that is loaded
    bool saved = false;  ///< a session that the client has saved
    Shape shape = Shape::Storage;
    TPM2_HANDLE hierarchy = TPM2_RH_NULL;
    std::string auth;
    bool determined = true;  ///< the same on both sides
    bool portable = false;   ///< a context that all the private TPMs can load
    Operation maker;
    int of = 0;  ///< what a context is of
    Two<TPM2_HANDLE> handle{};
    Two<Bytes> name, publicArea, bytes;  ///< bytes: a private area or a context
    TPM2_SE type = TPM2_SE_HMAC;
    bool bound = false, symmetric = false;
    Two<Session> session;

    bool isSequence() const { return shape >= Shape::HashSequence; }
    bool owns() const { return live || saved; }
};

/// An object in a command: a Thing, a persistent object, or nothing.
struct Operand {
    TPM2_HANDLE handle = 0;
    Bytes name{0}, publicArea;
    std::string auth;
    Shape shape = Shape::Storage;
    TPM2_HANDLE hierarchy = TPM2_RH_NULL;
    bool determined = true;
};

/// How operations' arguments are understood.
class Terms {
  public:
    virtual ~Terms() = default;
    /// A label; or, below zero, an object that is not there; or a handle. None: it was never made.
    virtual std::optional<Operand> object(const Operation& operation, const std::string& argument,
                                          Side side) const = 0;
    /// The same for a session.
    virtual std::optional<TPM2_HANDLE> session(const Operation& operation,
                                               const std::string& argument, Side side) const = 0;
    virtual const Thing* thing(int64_t label) const = 0;
};

/// A command before sessions are put in place of its passwords.
struct Request {
    Command command;
    std::vector<Bytes> names;        ///< of the handles
    std::vector<std::string> auths;  ///< of those that need authorisation
    bool determined = true;
    Session::Options start;  ///< for StartAuthSession
    Session session;
};

/// None when what the operation needs was not made.
std::optional<Request> request(const Terms& terms, const Operation& operation, Side side);

/// The digest of PolicyCommandCode(HMAC).
Bytes policyDigest();

/// Whether the first parameter is a TPM2B, of the command and of the response.
bool canDecrypt(const std::string& verb);
bool canEncrypt(const std::string& verb);

constexpr TPM2_RH kHierarchies[] = {TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT, TPM2_RH_PLATFORM,
                                    TPM2_RH_NULL};

}  // namespace spaces::test
