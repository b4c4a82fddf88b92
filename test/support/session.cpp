/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The client's side of a session: see session.h, and TPM 2.0 Part 1, "Session-based
 * authorizations", whose terms are used here.
 */
#include "session.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "crypto.h"
#include "response.h"

namespace spaces::test {

namespace {

constexpr size_t kNonceSize = 16;

Bytes joined(std::initializer_list<Bytes> parts) {
    Bytes all;
    for (const Bytes& part : parts) append(all, part);
    return all;
}

/** True for handles that are their own Name. */
bool namesItself(TPM2_HANDLE handle) {
    switch (handle >> TPM2_HR_SHIFT) {
        case TPM2_HT_TRANSIENT:
        case TPM2_HT_PERSISTENT:
        case TPM2_HT_NV_INDEX:
            return false;
        default:
            return true;
    }
}

/** The Names of all handles of the command, those that may be left out filled in.  A transient
 *  object without a Name is a sequence. */
std::vector<Bytes> completeNames(const Command& command, std::vector<Bytes> names) {
    names.resize(command.handles().size());
    for (size_t i = 0; i < names.size(); i++)
        if (names[i].empty() && namesItself(command.handles()[i]))
            names[i] = handleName(command.handles()[i]);
    return names;
}

/** A sequence has no Name, but whoever means one says so by making an Exchange. */
void checkNames(const Command& command, const std::vector<Bytes>& names) {
    for (size_t i = 0; i < command.handles().size(); i++)
        if ((i >= names.size() || names[i].empty()) && !namesItself(command.handles()[i]))
            throw std::logic_error("the Name of " + hex(command.handles()[i]) + " is needed");
}

Bytes cpHash(Command& command, const std::vector<Bytes>& names) {
    Bytes input;
    append(input, command.code(), 4);
    for (const Bytes& name : names) append(input, name);
    append(input, command.parameters());
    return sha256(input);
}

/** Replaces the first parameter, a TPM2B, by its encryption or decryption. */
void cryptFirstParameter(Bytes& parameters, const Bytes& key, const Bytes& nonceNewer,
                         const Bytes& nonceOlder, bool encrypt) {
    Cursor cursor(parameters);
    Bytes plain = cursor.tpm2b();
    Bytes material = kdfa(key, "CFB", nonceNewer, nonceOlder, 256);
    Bytes changed = aesCfb(Bytes(material.begin(), material.begin() + 16),
                           Bytes(material.begin() + 16, material.end()), plain, encrypt);
    std::copy(changed.begin(), changed.end(), parameters.begin() + 2);
}

/** A salt that the ECC key with this x coordinate can recover, encrypted: with the ephemeral
 * private key 1, the ephemeral public key is the curve's generator and the shared secret is the
 * key's own public point.  Nothing here has to stay secret. */
struct Salt {
    Bytes encrypted;
    Bytes plain;

    Salt() = default;  ///< none
    explicit Salt(const Bytes& keyX) {
        appendTpm2b(encrypted, p256GeneratorX());
        appendTpm2b(encrypted, p256GeneratorY());
        plain = sha256(
            joined({{0, 0, 0, 1}, keyX, bytes("SECRET"), {0}, p256GeneratorX(), keyX}));  // KDFe
    }
};

}  // namespace

Session Session::start(Client& client, TPM2_SE type) {
    Options options;
    options.type = type;
    return start(client, options);
}

Session Session::start(Client& client, const Options& options) {
    Session session;
    session.started(client.ok(startCommand(session, options)), options);
    return session;
}

Session Session::unknown(TPM2_HANDLE handle) {
    Session session;
    session.handle_ = handle;
    session.nonceTpm_ = Bytes(kNonceSize);
    return session;
}

Command Session::startCommand(Session& session, const Options& options) {
    session.type_ = options.type;
    session.nonceCaller_ = randomBytes(kNonceSize);
    const Salt salt = options.tpmKey == TPM2_RH_NULL ? Salt() : Salt(options.tpmKeyX);
    session.salt_ = salt.plain;
    Command command = Command(TPM2_CC_StartAuthSession)
                          .handle(options.tpmKey)
                          .handle(options.bind)
                          .tpm2b(session.nonceCaller_)
                          .tpm2b(salt.encrypted)
                          .u8(options.type);
    if (options.symmetric)
        command.u16(TPM2_ALG_AES).u16(128).u16(TPM2_ALG_CFB);
    else
        command.u16(TPM2_ALG_NULL);
    return command.u16(TPM2_ALG_SHA256);
}

void Session::started(const Bytes& response, const Options& options) {
    handle_ = test::handle(response);
    nonceTpm_ = parameters(response, 1).tpm2b();
    if (options.bind != TPM2_RH_NULL || options.tpmKey != TPM2_RH_NULL)
        key_ = kdfa(joined({bytes(options.bindAuth), salt_}), "ATH", nonceTpm_, nonceCaller_, 256);
    // A policy session takes its key from the bind entity but is not bound to it.
    if (options.bind != TPM2_RH_NULL && options.type == TPM2_SE_HMAC)
        boundName_ = options.bindName.empty() ? handleName(options.bind) : options.bindName;
}

Bytes Session::authorize(Client& client, Command command, const std::string& auth,
                         const std::vector<Bytes>& names, uint8_t attributes) {
    std::vector<Use> uses{{this, auth, attributes}};
    for (size_t i = 1; i < command.authorizations().size(); i++) {
        const Bytes& password = command.authorizations()[i].hmac;
        uses.push_back({nullptr, std::string(password.begin(), password.end())});
    }
    return sendWith(client, command, uses, names);
}

Bytes Session::audit(Client& client, Command command, const std::vector<Bytes>& names,
                     uint8_t attributes) {
    std::vector<Use> uses;
    for (const Command::Authorization& each : command.authorizations())
        uses.push_back({nullptr, std::string(each.hmac.begin(), each.hmac.end())});
    uses.push_back({this, "", attributes});
    return sendWith(client, command, uses, names);
}

namespace {

Bytes parameterKey(const Bytes& sessionKey, const Use& use) {
    return joined({sessionKey, bytes(use.auth)});
}

/** What the auth value is said to be, to authorise with. */
std::string givenAuth(const Use& use) { return use.wrong ? use.auth + "x" : use.auth; }

}  // namespace

Exchange::Exchange(Command command, const std::vector<Use>& uses, const std::vector<Bytes>& names)
    : command_(std::move(command)),
      authorizing_(command_.authorizations().size()),
      uses_(uses),
      names_(completeNames(command_, names)) {}

/** The entry whose session has the attribute, or nullptr. */
const Use* Exchange::with(uint8_t attribute) const {
    for (const Use& use : uses_)
        if (use.session != nullptr && (use.attributes & attribute) != 0) return &use;
    return nullptr;
}

void Exchange::rollNonces() {
    for (const Use& use : uses_)
        if (use.session != nullptr) use.session->nonceCaller_ = randomBytes(kNonceSize);
}

void Exchange::encrypt() {
    if (const Use* use = with(TPMA_SESSION_DECRYPT))
        cryptFirstParameter(command_.parameters(), parameterKey(use->session->key_, *use),
                            use->session->nonceCaller_, use->session->nonceTpm_, true);
}

/** When another session than the first encrypts, the first one's HMAC takes in its nonceTPM; if it
 *  authorises something. */
Bytes Exchange::otherNonces() const {
    Bytes nonces;
    const Use* decrypting = with(TPMA_SESSION_DECRYPT);
    const Use* encrypting = with(TPMA_SESSION_ENCRYPT);
    if (decrypting != nullptr && decrypting != &uses_[0])
        append(nonces, decrypting->session->nonceTpm_);
    if (encrypting != nullptr && encrypting != &uses_[0] && encrypting != decrypting)
        append(nonces, encrypting->session->nonceTpm_);
    return nonces;
}

Bytes Exchange::hmacKey(const Use& use, size_t position) const {
    const Session& session = *use.session;
    bool bound = !session.boundName_.empty() && position < names_.size() &&
                 names_[position] == session.boundName_;
    bool takesAuth = session.type_ == TPM2_SE_HMAC ? !bound : session.authValueNeeded;
    return joined({session.key_, takesAuth ? bytes(givenAuth(use)) : Bytes{}});
}

Bytes Exchange::command() {
    rollNonces();
    encrypt();  // before cpHash, which is over what the TPM receives
    commandHash_ = cpHash(command_, names_);
    command_.noAuth();
    for (size_t i = 0; i < uses_.size(); i++) {
        const Use& use = uses_[i];
        keys_.push_back(use.session == nullptr ? Bytes{} : hmacKey(use, i));
        if (use.session == nullptr) {
            command_.password(givenAuth(use));
            continue;
        }
        const Session& session = *use.session;
        Bytes input = joined({commandHash_,
                              session.nonceCaller_,
                              session.nonceTpm_,
                              i == 0 && authorizing_ > 0 ? otherNonces() : Bytes{},
                              {use.attributes}});
        command_.session(session.handle_, session.nonceCaller_, use.attributes,
                         session.passwordNeeded && i < authorizing_ ? bytes(givenAuth(use))
                                                                    : hmacSha256(keys_[i], input));
    }
    return command_;
}

/** Reads one entry of the response's auth area and checks it. */
void Exchange::verify(const Use& use, const Bytes& key, const Bytes& responseHash, Cursor& area) {
    Bytes nonce = area.tpm2b();
    uint8_t attributes = area.u8();
    Bytes hmac = area.tpm2b();
    if (use.session == nullptr) return;
    Session& session = *use.session;
    session.nonceTpm_ = nonce;
    Bytes input = joined({responseHash, nonce, session.nonceCaller_, {attributes}});
    if (hmac != (session.passwordNeeded ? Bytes{} : hmacSha256(key, input)))
        throw std::runtime_error("the response HMAC of session " + hex(session.handle_) +
                                 " is wrong");
}

void Exchange::noteAudit(const Use& use, const Bytes& responseHash) const {
    if (use.session == nullptr || (use.attributes & TPMA_SESSION_AUDIT) == 0) return;
    Bytes& digest = use.session->auditDigest_;
    if ((use.attributes & TPMA_SESSION_AUDITRESET) != 0) digest = Bytes(digest.size());
    digest = sha256(joined({digest, commandHash_, responseHash}));
}

Bytes Exchange::verified(Bytes response) {
    const size_t head = 10 + 4 * static_cast<size_t>(responseHandles(command_.code()));
    Cursor area(response);
    area.bytes(head);
    Bytes answer = area.bytes(area.u32());
    Bytes hashed;
    append(hashed, TPM2_RC_SUCCESS, 4);
    append(hashed, command_.code(), 4);
    append(hashed, answer);
    for (size_t i = 0; i < uses_.size(); i++) {
        verify(uses_[i], keys_[i], sha256(hashed), area);
        noteAudit(uses_[i], sha256(hashed));
        if (uses_[i].session != nullptr)
            uses_[i].session->authValueNeeded = uses_[i].session->passwordNeeded = false;
    }
    if (area.left() != 0) throw std::runtime_error("bytes after the response's auth area");
    if (const Use* use = with(TPMA_SESSION_ENCRYPT)) {
        cryptFirstParameter(answer, parameterKey(use->session->key_, *use), use->session->nonceTpm_,
                            use->session->nonceCaller_, false);
        std::copy(answer.begin(), answer.end(),
                  response.begin() + static_cast<std::ptrdiff_t>(head) + 4);
    }
    return response;
}

Bytes sendWith(Client& client, Command command, const std::vector<Use>& uses,
               const std::vector<Bytes>& names) {
    checkNames(command, names);
    Exchange exchange(std::move(command), uses, names);
    Bytes response = client.send(exchange.command());
    return rc(response) == TPM2_RC_SUCCESS ? exchange.verified(response) : response;
}

}  // namespace spaces::test
