/* SPDX-License-Identifier: BSD-2-Clause
 *
 * TPM commands as bytes.  Command is a builder that sets tag, authSize and commandSize by itself
 * and lets a test override each of them to send something malformed; below it are the commands
 * that tests need again and again.  A Command converts to Bytes, so it can go straight into
 * Client::send().
 *
 *     client.ok(createPrimary(TPM2_RH_OWNER, eccStorage()));
 *     client.send(readPublic(0x80000000).size(11));                 // a lie about the size
 *     client.send(Command(TPM2_CC_Hash).tpm2b("abc").u16(TPM2_ALG_SHA256).u32(TPM2_RH_NULL));
 *
 * Ready-made commands authorise with passwords.  To authorise with a session instead use
 * session.h, or noAuth() and session() here.
 */
#ifndef SPACES_TEST_SUPPORT_COMMAND_H
#define SPACES_TEST_SUPPORT_COMMAND_H

#include <tss2/tss2_tpm2_types.h>

#include <optional>
#include <string>
#include <vector>

#include "bytes.h"

namespace spaces::test {

class Command {
  public:
    explicit Command(TPM2_CC code) : code_(code) {}

    /** Appends to the handle area, whenever it is called. */
    Command& handle(TPM2_HANDLE handle);

    // Append to the auth area; its first entry makes the tag TPM2_ST_SESSIONS.
    Command& password(const std::string& auth = "");
    Command& session(TPM2_HANDLE handle, const Bytes& nonce = {},
                     uint8_t attributes = TPMA_SESSION_CONTINUESESSION, const Bytes& hmac = {});
    Command& noAuth();

    // Append to the parameters.
    Command& u8(uint8_t value);
    Command& u16(uint16_t value);
    Command& u32(uint32_t value);
    Command& u64(uint64_t value);
    Command& bytes(const Bytes& data);
    Command& tpm2b(const Bytes& buffer = {});
    Command& tpm2b(const char* buffer) { return tpm2b(test::bytes(buffer)); }
    Command& tpm2b(const std::string& buffer) { return tpm2b(test::bytes(buffer)); }

    // Say something else than what is true.
    Command& tag(uint16_t tag);
    Command& size(uint32_t commandSize);
    Command& authSize(uint32_t size);
    Command& code(TPM2_CC code);
    Command& setHandle(size_t position, TPM2_HANDLE handle);
    /** Cuts the built command to `length` bytes; commandSize says so too unless size() is set. */
    Command& truncate(size_t length);

    Bytes build() const;
    operator Bytes() const { return build(); }

    // What session.h computes its HMACs over.
    struct Authorization {
        TPM2_HANDLE handle;
        Bytes nonce;
        uint8_t attributes;
        Bytes hmac;
    };
    TPM2_CC code() const { return code_; }
    const std::vector<TPM2_HANDLE>& handles() const { return handles_; }
    const std::vector<Authorization>& authorizations() const { return authorizations_; }
    Bytes& parameters() { return parameters_; }

  private:
    TPM2_CC code_;
    std::vector<TPM2_HANDLE> handles_;
    std::vector<Authorization> authorizations_;
    Bytes parameters_;
    std::optional<uint16_t> tag_;
    std::optional<uint32_t> size_;
    std::optional<uint32_t> authSize_;
    std::optional<size_t> length_;
};

// ---- Public area templates (TPMT_PUBLIC).  nameAlg is SHA-256, noDA is set, userWithAuth too.
// Equal templates make equal primary keys; another `unique` (32 bytes at most) makes another.
// `more` adds attributes, e.g. TPMA_OBJECT_STCLEAR.

Bytes eccStorage(const std::string& unique = "", TPMA_OBJECT more = 0);
Bytes rsaStorage(const std::string& unique = "", TPMA_OBJECT more = 0);  ///< RSA 2048: slow
Bytes eccSigning(const std::string& unique = "", TPMA_OBJECT more = 0);  ///< ECDSA with SHA-256
Bytes hmacKey(const std::string& unique = "", TPMA_OBJECT more = 0);     ///< HMAC with SHA-256
Bytes sealed();  ///< for create() with `data`; unseal() reads it
Bytes policyOnly(Bytes publicArea, const Bytes& authPolicy);  ///< that template, with a policy
                                                              ///< and userWithAuth clear

// ---- Objects

Command createPrimary(TPM2_RH hierarchy = TPM2_RH_OWNER, const Bytes& publicArea = eccStorage(),
                      const std::string& auth = "", const std::string& hierarchyAuth = "");
Command create(TPM2_HANDLE parent, const Bytes& publicArea = eccSigning(),
               const std::string& auth = "", const std::string& data = "",
               const std::string& parentAuth = "");
Command load(TPM2_HANDLE parent, const Bytes& outPrivate, const Bytes& outPublic,
             const std::string& parentAuth = "");
Command loadExternalEcc(TPM2_RH hierarchy = TPM2_RH_NULL,
                        TPMA_OBJECT more = 0);  ///< a public key, P-256's generator
Command loadExternalHmac(const std::string& key, const std::string& auth = "");
Command readPublic(TPM2_HANDLE object);
Command flushContext(TPM2_HANDLE handle);
Command contextSave(TPM2_HANDLE handle);
Command contextLoad(const Bytes& context);
Command evictControl(TPM2_HANDLE object, TPM2_HANDLE persistent, TPM2_RH auth = TPM2_RH_OWNER);
Command certify(TPM2_HANDLE object, TPM2_HANDLE signKey, const std::string& objectAuth = "",
                const std::string& signAuth = "");
Command sign(TPM2_HANDLE key, const Bytes& digest = Bytes(32, 1), const std::string& auth = "");
Command unseal(TPM2_HANDLE object, const std::string& auth = "");
Command hmac(TPM2_HANDLE key, const std::string& data, const std::string& auth = "");

// ---- Sequences

/** TPM2_ALG_NULL makes an event sequence. */
Command hashSequenceStart(const std::string& auth = "", TPMI_ALG_HASH hash = TPM2_ALG_SHA256);
Command hmacStart(TPM2_HANDLE key, const std::string& auth = "", const std::string& keyAuth = "");
Command sequenceUpdate(TPM2_HANDLE sequence, const std::string& data, const std::string& auth = "");
Command sequenceComplete(TPM2_HANDLE sequence, const std::string& data = "",
                         const std::string& auth = "");
Command eventSequenceComplete(TPM2_HANDLE pcr, TPM2_HANDLE sequence, const std::string& data = "",
                              const std::string& auth = "");

// ---- Sessions and policies

/** Unsalted, SHA-256, no symmetric algorithm.  With an empty auth value an unbound HMAC session
 *  needs no HMAC: .session(handle) authorises. */
Command startAuthSession(TPM2_SE type = TPM2_SE_HMAC, TPM2_HANDLE bind = TPM2_RH_NULL,
                         const Bytes& nonceCaller = Bytes(16));
Command policyRestart(TPM2_HANDLE session);
Command policyGetDigest(TPM2_HANDLE session);
Command policyCommandCode(TPM2_HANDLE session, TPM2_CC code);
Command policyAuthValue(TPM2_HANDLE session);
Command policyPassword(TPM2_HANDLE session);
Command policyPcr(TPM2_HANDLE session, int pcr);
Command policySecret(TPM2_HANDLE authEntity, TPM2_HANDLE session, const std::string& auth = "");
/** `operand` equals the NV contents. */
Command policyNv(TPM2_HANDLE index, TPM2_HANDLE session, const std::string& operand,
                 const std::string& auth = "");
Command getSessionAuditDigest(TPM2_HANDLE signKey, TPM2_HANDLE session);

// ---- Hierarchies and the TPM as a whole

Command clear(TPM2_RH auth = TPM2_RH_LOCKOUT);
Command changePps();
Command changeEps();
Command hierarchyControl(TPM2_RH enable, bool state, TPM2_RH auth = TPM2_RH_PLATFORM);
Command startup(TPM2_SU type = TPM2_SU_CLEAR);
Command shutdown(TPM2_SU type = TPM2_SU_CLEAR);
Command getRandom(uint16_t count = 8);
Command getCapability(TPM2_CAP capability, uint32_t first, uint32_t count = 1);
Command pcrExtend(TPM2_HANDLE pcr, const Bytes& sha256Digest = Bytes(32, 1));
Command pcrRead(int pcr);

// ---- NV: an ordinary index in the owner's hierarchy that its own auth value reads and writes

Command nvDefineSpace(TPM2_HANDLE index, uint16_t size = 8, const std::string& auth = "");
Command nvUndefineSpace(TPM2_HANDLE index);
Command nvReadPublic(TPM2_HANDLE index);
Command nvWrite(TPM2_HANDLE index, const std::string& data, const std::string& auth = "");
Command nvRead(TPM2_HANDLE index, uint16_t size = 8, const std::string& auth = "");

}  // namespace spaces::test

#endif
