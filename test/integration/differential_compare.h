// SPDX-License-Identifier: BSD-2-Clause
// Whether two responses, a space's and a private TPM's, are the same; and the one list of all that
// need not be.
// Always holds: what is not in kAllowances is compared octet for octet; whatever differs without a
// right to throws Different.
#pragma once

#include <array>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/response.h"

namespace spaces::test {

/// Everything that may differ, or is not asked for. The reasons are in differential_compare.cpp.
enum class Allowed {
    RandomValue,
    RandomKey,
    Signature,
    SavedContext,
    Clock,
    SessionNumber,
    SessionOrder,
    Available,
    AtLeastOneAvailable,
    ListWithSession,
    NeighboursFill,
    PrivateFull,
    PersistentAlias,
    OthersContext,
    ShutdownAlone,
    PowerLostAfterShutdown,
    ClearWithStClear,
    LeadsRandom,
    FlushedIsBack,
    ToldToOthers,
    Exclusive,
    Protected,
    Count,
};

struct Allowance {
    const char* name;
    const char* reason;
};
extern const std::array<Allowance, static_cast<size_t>(Allowed::Count)> kAllowances;

/// How often each was used.
class Tally {
  public:
    void count(Allowed what) { ++used_[static_cast<size_t>(what)]; }
    size_t used(Allowed what) const { return used_[static_cast<size_t>(what)]; }
    Tally& operator+=(const Tally& other);
    std::string table() const;

  private:
    std::array<size_t, static_cast<size_t>(Allowed::Count)> used_{};
};

struct Different : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// What one space and its private TPM have of their own: random values that stand for each other.
/// The same value on one side must stand for the same value on the other.
class Relation {
  public:
    void require(const Bytes& shared, const Bytes& alone);

  private:
    std::map<Bytes, Bytes> toAlone_, toShared_;
};

/// What is known of a command whose responses are compared.
struct Circumstances {
    TPM2_CC code = 0;
    bool determined = true;    ///< every key and proof in it follows from what is the same
    bool withSession = false;  ///< the response has an HMAC
    bool swaps = false;
    uint32_t capability = 0, count = 0;                     ///< of GetCapability
    std::array<uint32_t, 2> first{};                        ///< of GetCapability
    std::array<std::vector<TPM2_HANDLE>, 2> loaded, saved;  ///< sessions of the space, sorted
    std::array<Bytes, 2> signer;       ///< the public area of an ECDSA key that signs
    std::array<Bytes, 2> signed_;      ///< what Sign signs: a digest
    std::array<Bytes, 2> auditDigest;  ///< of the session that GetSessionAuditDigest is about
};

class Comparison {
  public:
    Comparison(Relation& relation, Tally& tally, const Circumstances& circumstances)
        : relation_(relation), tally_(tally), is_(circumstances) {}

    /// Of successful responses, whose handles were compared before: their parameters.
    void parameters(const Bytes& shared, const Bytes& alone);

    /// Their authorisation areas; the HMACs were verified.
    void authorizations(const Bytes& shared, const Bytes& alone);

  private:
    void same(size_t size, const char* what);
    void rest();
    void differing(size_t size, Allowed why, const char* what);
    void tpm2b(const char* what);
    Bytes random2b(Allowed why, const char* what);
    void key2b(const char* what);
    void publicArea(const char* what);
    void ticket();
    void attestation();
    void signature(const std::array<Bytes, 2>& digest);
    void context();
    void capability();
    void sessionList(const std::array<std::vector<TPM2_HANDLE>, 2>& all);
    void properties();
    [[noreturn]] void fail(const std::string& what) const;

    Relation& relation_;
    Tally& tally_;
    const Circumstances& is_;
    std::array<Cursor, 2> in_{Cursor({}), Cursor({})};
};

}  // namespace spaces::test
