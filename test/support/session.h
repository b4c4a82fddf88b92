/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The client's side of a session: nonces, cpHash, HMACs, parameter encryption.  Every successful
 * response is verified, so a layer that changes one authenticated byte is caught: a response HMAC
 * that is wrong throws.
 *
 *     Session hmac = Session::start(client);
 *     client.ok(createPrimary(TPM2_RH_OWNER, eccStorage(), "secret"));       // 0x80000000
 *     Bytes name = publicName(client.ok(readPublic(0x80000000)));
 *     EXPECT_EQ(rc(hmac.authorize(client, create(0x80000000), "secret", {name})), 0u);
 *     EXPECT_EQ(rc(hmac.audit(client, getRandom())), 0u);
 *
 * Names: one for each handle of the command, in order.  The Name of a PCR, session or permanent
 * handle may be left out ({} in the middle, or a shorter list).
 */
#ifndef SPACES_TEST_SUPPORT_SESSION_H
#define SPACES_TEST_SUPPORT_SESSION_H

#include <string>
#include <vector>

#include "client.h"
#include "command.h"
#include "response.h"

namespace spaces::test {

class Session {
  public:
    struct Options {
        TPM2_SE type = TPM2_SE_HMAC;
        TPM2_HANDLE bind = TPM2_RH_NULL;
        Bytes bindName = {};                ///< may be empty for a permanent handle
        std::string bindAuth = "";          ///< the auth value of the bind entity
        bool symmetric = false;             ///< AES-128-CFB, for the attributes decrypt and encrypt
        TPM2_HANDLE tpmKey = TPM2_RH_NULL;  ///< salts the session: an ECC decryption key, P-256
        Bytes tpmKeyX = {};                 ///< the x coordinate of its public point
    };

    static Session start(Client& client, const Options& options);
    static Session start(Client& client, TPM2_SE type = TPM2_SE_HMAC);

    /** start() in two steps, for a client that does something else in between. */
    static Command startCommand(Session& session, const Options& options);
    void started(const Bytes& response, const Options& options);

    /** A session that the TPM need not have: what is sent with it is well formed. */
    static Session unknown(TPM2_HANDLE handle);

    TPM2_HANDLE handle() const { return handle_; }

    /** Sends the command with this session in place of its first password: it authorises handle 1
     *  whose auth value is `auth`.  Further passwords of the command stay. */
    Bytes authorize(Client& client, Command command, const std::string& auth = "",
                    const std::vector<Bytes>& names = {},
                    uint8_t attributes = TPMA_SESSION_CONTINUESESSION);

    /** Sends the command with this session after its passwords: it authorises nothing.  For audit,
     *  or for parameter encryption with other attributes. */
    Bytes audit(Client& client, Command command, const std::vector<Bytes>& names = {},
                uint8_t attributes = TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_AUDIT);

    /** A policy with PolicyAuthValue: the HMAC key takes the auth value in.  Set by the test, and
     *  cleared by any use, as in the TPM. */
    bool authValueNeeded = false;

    /** A policy with PolicyPassword: the password is sent instead of an HMAC, and no HMAC comes
     *  back.  Set and cleared as above. */
    bool passwordNeeded = false;

    /** Of the successful commands that it audited since it was reset. */
    const Bytes& auditDigest() const { return auditDigest_; }

  private:
    friend class Exchange;

    TPM2_SE type_ = TPM2_SE_HMAC;
    TPM2_HANDLE handle_ = 0;
    Bytes key_;
    Bytes boundName_;
    Bytes nonceCaller_;
    Bytes nonceTpm_;
    Bytes salt_;
    Bytes auditDigest_ = Bytes(32);
};

/** One entry of an auth area: a session, or (session == nullptr) a password. */
struct Use {
    Session* session = nullptr;
    std::string auth = "";  ///< of the handle at the same position, if that needs authorisation
    uint8_t attributes = TPMA_SESSION_CONTINUESESSION;
    /** Authorises with another auth value, but encrypts parameters with the right one: what does
     *  not look at the value is not to notice. */
    bool wrong = false;
};

/** One command on its way with sessions: first every session's part of the command is computed,
 *  then that of the response is checked. */
class Exchange {
  public:
    Exchange(Command command, const std::vector<Use>& uses, const std::vector<Bytes>& names);

    /** The command as it goes out: nonces rolled, first parameter encrypted, HMACs made. */
    Bytes command();

    /** Verifies a successful response; returns it with its first parameter decrypted. */
    Bytes verified(Bytes response);

  private:
    void rollNonces();
    void encrypt();
    Bytes otherNonces() const;
    Bytes hmacKey(const Use& use, size_t position) const;
    void verify(const Use& use, const Bytes& key, const Bytes& responseHash, Cursor& area);
    void noteAudit(const Use& use, const Bytes& responseHash) const;
    const Use* with(uint8_t attribute) const;

    Command command_;
    const size_t authorizing_;  ///< so many of the uses authorise, as the command's passwords did
    const std::vector<Use> uses_;
    std::vector<Bytes> names_;
    std::vector<Bytes> keys_;
    Bytes commandHash_;
};

/** The general form: sends the command with exactly these authorisations, in this order.  A command
 *  that changes the auth value it is authorised with is not for it: the response HMAC has the new
 *  value as its key. */
Bytes sendWith(Client& client, Command command, const std::vector<Use>& uses,
               const std::vector<Bytes>& names = {});

}  // namespace spaces::test

#endif
