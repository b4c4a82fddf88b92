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
     *  cleared by a use as authorisation, as in the TPM. */
    bool authValueNeeded = false;

  private:
    friend class Exchange;

    TPM2_SE type_ = TPM2_SE_HMAC;
    TPM2_HANDLE handle_ = 0;
    Bytes key_;
    Bytes boundName_;
    Bytes nonceCaller_;
    Bytes nonceTpm_;
};

/** One entry of an auth area: a session, or (session == nullptr) a password. */
struct Use {
    Session* session = nullptr;
    std::string auth = "";  ///< of the handle at the same position, if that needs authorisation
    uint8_t attributes = TPMA_SESSION_CONTINUESESSION;
};

/** The general form: sends the command with exactly these authorisations, in this order.  A command
 *  that changes the auth value it is authorised with is not for it: the response HMAC has the new
 *  value as its key. */
Bytes sendWith(Client& client, Command command, const std::vector<Use>& uses,
               const std::vector<Bytes>& names = {});

}  // namespace spaces::test

#endif
