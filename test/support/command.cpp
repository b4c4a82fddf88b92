/* SPDX-License-Identifier: BSD-2-Clause
 *
 * TPM commands as bytes: see command.h.
 */
#include "command.h"

#include "crypto.h"

namespace spaces::test {

// ---- The builder

Command& Command::handle(TPM2_HANDLE handle) {
    handles_.push_back(handle);
    return *this;
}

Command& Command::password(const std::string& auth) {
    return session(TPM2_RS_PW, {}, TPMA_SESSION_CONTINUESESSION, test::bytes(auth));
}

Command& Command::session(TPM2_HANDLE handle, const Bytes& nonce, uint8_t attributes,
                          const Bytes& hmac) {
    authorizations_.push_back({handle, nonce, attributes, hmac});
    return *this;
}

Command& Command::noAuth() {
    authorizations_.clear();
    return *this;
}

Command& Command::u8(uint8_t value) {
    append(parameters_, value, 1);
    return *this;
}

Command& Command::u16(uint16_t value) {
    append(parameters_, value, 2);
    return *this;
}

Command& Command::u32(uint32_t value) {
    append(parameters_, value, 4);
    return *this;
}

Command& Command::u64(uint64_t value) {
    append(parameters_, value, 8);
    return *this;
}

Command& Command::bytes(const Bytes& data) {
    append(parameters_, data);
    return *this;
}

Command& Command::tpm2b(const Bytes& buffer) {
    appendTpm2b(parameters_, buffer);
    return *this;
}

Command& Command::tag(uint16_t tag) {
    tag_ = tag;
    return *this;
}

Command& Command::size(uint32_t commandSize) {
    size_ = commandSize;
    return *this;
}

Command& Command::authSize(uint32_t size) {
    authSize_ = size;
    return *this;
}

Command& Command::code(TPM2_CC code) {
    code_ = code;
    return *this;
}

Command& Command::setHandle(size_t position, TPM2_HANDLE handle) {
    handles_.at(position) = handle;
    return *this;
}

Command& Command::truncate(size_t length) {
    length_ = length;
    return *this;
}

Bytes Command::build() const {
    Bytes area;
    for (const Authorization& auth : authorizations_) {
        append(area, auth.handle, 4);
        appendTpm2b(area, auth.nonce);
        append(area, auth.attributes, 1);
        appendTpm2b(area, auth.hmac);
    }
    Bytes body;
    for (TPM2_HANDLE handle : handles_) append(body, handle, 4);
    uint16_t tag = tag_.value_or(area.empty() ? TPM2_ST_NO_SESSIONS : TPM2_ST_SESSIONS);
    if (!area.empty() || authSize_ || tag == TPM2_ST_SESSIONS)
        append(body, authSize_.value_or(static_cast<uint32_t>(area.size())), 4);
    append(body, area);
    append(body, parameters_);

    Bytes command;
    size_t length = length_.value_or(10 + body.size());
    append(command, tag, 2);
    append(command, size_.value_or(static_cast<uint32_t>(length)), 4);
    append(command, code_, 4);
    append(command, body);
    command.resize(length);
    return command;
}

// ---- Templates

namespace {

constexpr TPMA_OBJECT kKey = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                             TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_USERWITHAUTH |
                             TPMA_OBJECT_NODA;
constexpr TPMA_OBJECT kStorage = kKey | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT;
constexpr TPMA_OBJECT kSigning = kKey | TPMA_OBJECT_SIGN_ENCRYPT;

/** Fields of a structure one after the other: Command's appenders, for their result alone. */
class Fields : public Command {
  public:
    Fields() : Command(0) {}
};

/** type, nameAlg, attributes, an empty authPolicy. */
Fields publicHead(TPMI_ALG_PUBLIC type, TPMA_OBJECT attributes) {
    Fields head;
    head.u16(type).u16(TPM2_ALG_SHA256).u32(attributes).tpm2b();
    return head;
}

Bytes eccPublic(TPMA_OBJECT attributes, const Bytes& parameters, const Bytes& x, const Bytes& y) {
    Fields area = publicHead(TPM2_ALG_ECC, attributes);
    area.bytes(parameters).u16(TPM2_ECC_NIST_P256).u16(TPM2_ALG_NULL).tpm2b(x).tpm2b(y);
    return area.parameters();
}

Bytes ecdsaParameters() {
    return Fields().u16(TPM2_ALG_NULL).u16(TPM2_ALG_ECDSA).u16(TPM2_ALG_SHA256).parameters();
}

Bytes storageParameters() {
    Fields fields;
    fields.u16(TPM2_ALG_AES).u16(128).u16(TPM2_ALG_CFB).u16(TPM2_ALG_NULL);
    return fields.parameters();
}

Bytes keyedHash(TPMA_OBJECT attributes, const Bytes& unique) {
    Fields area = publicHead(TPM2_ALG_KEYEDHASH, attributes);
    area.u16(TPM2_ALG_HMAC).u16(TPM2_ALG_SHA256).tpm2b(unique);
    return area.parameters();
}

/** A TPMS_SENSITIVE_CREATE with its TPM2B size. */
Bytes sensitiveCreate(const std::string& auth, const std::string& data) {
    Bytes inner = Fields().tpm2b(auth).tpm2b(data).parameters();
    return Fields().tpm2b(inner).parameters();
}

/** A TPML_PCR_SELECTION of one PCR of the SHA-256 bank. */
Bytes pcrSelection(int pcr) {
    Fields fields;
    fields.u32(1).u16(TPM2_ALG_SHA256).u8(3);
    for (int first = 0; first < 24; first += 8)
        fields.u8(pcr >= first && pcr < first + 8 ? static_cast<uint8_t>(1 << (pcr - first)) : 0);
    return fields.parameters();
}

}  // namespace

Bytes eccStorage(const std::string& unique, TPMA_OBJECT more) {
    return eccPublic(kStorage | more, storageParameters(), bytes(unique), {});
}

Bytes rsaStorage(const std::string& unique, TPMA_OBJECT more) {
    Fields area = publicHead(TPM2_ALG_RSA, kStorage | more);
    area.bytes(storageParameters()).u16(2048).u32(0).tpm2b(unique);
    return area.parameters();
}

Bytes eccSigning(const std::string& unique, TPMA_OBJECT more) {
    return eccPublic(kSigning | more, ecdsaParameters(), bytes(unique), {});
}

Bytes hmacKey(const std::string& unique, TPMA_OBJECT more) {
    return keyedHash(kSigning | more, bytes(unique));
}

Bytes sealed() {
    Fields area = publicHead(TPM2_ALG_KEYEDHASH, kKey & ~TPMA_OBJECT_SENSITIVEDATAORIGIN);
    area.u16(TPM2_ALG_NULL).tpm2b();
    return area.parameters();
}

Bytes policyOnly(Bytes publicArea, const Bytes& authPolicy) {
    publicArea.at(7) &= static_cast<uint8_t>(~TPMA_OBJECT_USERWITHAUTH);
    Bytes result(publicArea.begin(), publicArea.begin() + 8);
    appendTpm2b(result, authPolicy);
    result.insert(result.end(), publicArea.begin() + 10, publicArea.end());
    return result;
}

// ---- Objects

Command createPrimary(TPM2_RH hierarchy, const Bytes& publicArea, const std::string& auth,
                      const std::string& hierarchyAuth) {
    return Command(TPM2_CC_CreatePrimary)
        .handle(hierarchy)
        .password(hierarchyAuth)
        .bytes(sensitiveCreate(auth, ""))
        .tpm2b(publicArea)
        .tpm2b()
        .u32(0);
}

Command create(TPM2_HANDLE parent, const Bytes& publicArea, const std::string& auth,
               const std::string& data, const std::string& parentAuth) {
    return Command(TPM2_CC_Create)
        .handle(parent)
        .password(parentAuth)
        .bytes(sensitiveCreate(auth, data))
        .tpm2b(publicArea)
        .tpm2b()
        .u32(0);
}

Command load(TPM2_HANDLE parent, const Bytes& outPrivate, const Bytes& outPublic,
             const std::string& parentAuth) {
    return Command(TPM2_CC_Load)
        .handle(parent)
        .password(parentAuth)
        .tpm2b(outPrivate)
        .tpm2b(outPublic);
}

Command loadExternalEcc(TPM2_RH hierarchy, TPMA_OBJECT more) {
    const TPMA_OBJECT attributes = TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_SIGN_ENCRYPT | more;
    return Command(TPM2_CC_LoadExternal)
        .tpm2b()
        .tpm2b(eccPublic(attributes, ecdsaParameters(), p256GeneratorX(), p256GeneratorY()))
        .u32(hierarchy);
}

Command loadExternalHmac(const std::string& key, const std::string& auth) {
    // The unique field of a symmetric object binds its public area to the secret: H(seed || key).
    const Bytes seed(32, 0x5a);
    Bytes seedAndKey = seed;
    append(seedAndKey, bytes(key));
    constexpr TPMA_OBJECT attributes =
        TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_SIGN_ENCRYPT | TPMA_OBJECT_NODA;
    Bytes sensitive =
        Fields().u16(TPM2_ALG_KEYEDHASH).tpm2b(auth).tpm2b(seed).tpm2b(key).parameters();
    return Command(TPM2_CC_LoadExternal)
        .tpm2b(sensitive)
        .tpm2b(keyedHash(attributes, sha256(seedAndKey)))
        .u32(TPM2_RH_NULL);
}

Command readPublic(TPM2_HANDLE object) { return Command(TPM2_CC_ReadPublic).handle(object); }

// TPM2_FlushContext's handle is a parameter, unlike every other handle.
Command flushContext(TPM2_HANDLE handle) { return Command(TPM2_CC_FlushContext).u32(handle); }

Command contextSave(TPM2_HANDLE handle) { return Command(TPM2_CC_ContextSave).handle(handle); }

Command contextLoad(const Bytes& context) { return Command(TPM2_CC_ContextLoad).bytes(context); }

Command evictControl(TPM2_HANDLE object, TPM2_HANDLE persistent, TPM2_RH auth) {
    return Command(TPM2_CC_EvictControl).handle(auth).handle(object).password().u32(persistent);
}

Command certify(TPM2_HANDLE object, TPM2_HANDLE signKey, const std::string& objectAuth,
                const std::string& signAuth) {
    return Command(TPM2_CC_Certify)
        .handle(object)
        .handle(signKey)
        .password(objectAuth)
        .password(signAuth)
        .tpm2b()
        .u16(TPM2_ALG_NULL);
}

Command sign(TPM2_HANDLE key, const Bytes& digest, const std::string& auth) {
    return Command(TPM2_CC_Sign)
        .handle(key)
        .password(auth)
        .tpm2b(digest)
        .u16(TPM2_ALG_NULL)
        .u16(TPM2_ST_HASHCHECK)
        .u32(TPM2_RH_NULL)
        .tpm2b();
}

Command unseal(TPM2_HANDLE object, const std::string& auth) {
    return Command(TPM2_CC_Unseal).handle(object).password(auth);
}

Command hmac(TPM2_HANDLE key, const std::string& data, const std::string& auth) {
    return Command(TPM2_CC_HMAC).handle(key).password(auth).tpm2b(data).u16(TPM2_ALG_NULL);
}

// ---- Sequences

Command hashSequenceStart(const std::string& auth, TPMI_ALG_HASH hash) {
    return Command(TPM2_CC_HashSequenceStart).tpm2b(auth).u16(hash);
}

Command hmacStart(TPM2_HANDLE key, const std::string& auth, const std::string& keyAuth) {
    return Command(TPM2_CC_HMAC_Start).handle(key).password(keyAuth).tpm2b(auth).u16(TPM2_ALG_NULL);
}

Command sequenceUpdate(TPM2_HANDLE sequence, const std::string& data, const std::string& auth) {
    return Command(TPM2_CC_SequenceUpdate).handle(sequence).password(auth).tpm2b(data);
}

Command sequenceComplete(TPM2_HANDLE sequence, const std::string& data, const std::string& auth) {
    return Command(TPM2_CC_SequenceComplete)
        .handle(sequence)
        .password(auth)
        .tpm2b(data)
        .u32(TPM2_RH_NULL);
}

Command eventSequenceComplete(TPM2_HANDLE pcr, TPM2_HANDLE sequence, const std::string& data,
                              const std::string& auth) {
    return Command(TPM2_CC_EventSequenceComplete)
        .handle(pcr)
        .handle(sequence)
        .password()
        .password(auth)
        .tpm2b(data);
}

// ---- Sessions and policies

Command startAuthSession(TPM2_SE type, TPM2_HANDLE bind, const Bytes& nonceCaller) {
    return Command(TPM2_CC_StartAuthSession)
        .handle(TPM2_RH_NULL)
        .handle(bind)
        .tpm2b(nonceCaller)
        .tpm2b()
        .u8(type)
        .u16(TPM2_ALG_NULL)
        .u16(TPM2_ALG_SHA256);
}

Command policyRestart(TPM2_HANDLE session) {
    return Command(TPM2_CC_PolicyRestart).handle(session);
}

Command policyGetDigest(TPM2_HANDLE session) {
    return Command(TPM2_CC_PolicyGetDigest).handle(session);
}

Command policyCommandCode(TPM2_HANDLE session, TPM2_CC code) {
    return Command(TPM2_CC_PolicyCommandCode).handle(session).u32(code);
}

Command policyAuthValue(TPM2_HANDLE session) {
    return Command(TPM2_CC_PolicyAuthValue).handle(session);
}

Command policyPassword(TPM2_HANDLE session) {
    return Command(TPM2_CC_PolicyPassword).handle(session);
}

Command policyPcr(TPM2_HANDLE session, int pcr) {
    return Command(TPM2_CC_PolicyPCR).handle(session).tpm2b().bytes(pcrSelection(pcr));
}

Command policySecret(TPM2_HANDLE authEntity, TPM2_HANDLE session, const std::string& auth) {
    return Command(TPM2_CC_PolicySecret)
        .handle(authEntity)
        .handle(session)
        .password(auth)
        .tpm2b()
        .tpm2b()
        .tpm2b()
        .u32(0);
}

Command policyNv(TPM2_HANDLE index, TPM2_HANDLE session, const std::string& operand,
                 const std::string& auth) {
    return Command(TPM2_CC_PolicyNV)
        .handle(index)
        .handle(index)
        .handle(session)
        .password(auth)
        .tpm2b(operand)
        .u16(0)
        .u16(TPM2_EO_EQ);
}

Command getSessionAuditDigest(TPM2_HANDLE signKey, TPM2_HANDLE session) {
    return Command(TPM2_CC_GetSessionAuditDigest)
        .handle(TPM2_RH_ENDORSEMENT)
        .handle(signKey)
        .handle(session)
        .password()
        .password()
        .tpm2b()
        .u16(TPM2_ALG_NULL);
}

// ---- Hierarchies and the TPM as a whole

Command clear(TPM2_RH auth) { return Command(TPM2_CC_Clear).handle(auth).password(); }

Command changePps() { return Command(TPM2_CC_ChangePPS).handle(TPM2_RH_PLATFORM).password(); }

Command changeEps() { return Command(TPM2_CC_ChangeEPS).handle(TPM2_RH_PLATFORM).password(); }

Command hierarchyControl(TPM2_RH enable, bool state, TPM2_RH auth) {
    return Command(TPM2_CC_HierarchyControl).handle(auth).password().u32(enable).u8(state);
}

Command startup(TPM2_SU type) { return Command(TPM2_CC_Startup).u16(type); }

Command shutdown(TPM2_SU type) { return Command(TPM2_CC_Shutdown).u16(type); }

Command getRandom(uint16_t count) { return Command(TPM2_CC_GetRandom).u16(count); }

Command getCapability(TPM2_CAP capability, uint32_t first, uint32_t count) {
    return Command(TPM2_CC_GetCapability).u32(capability).u32(first).u32(count);
}

Command pcrExtend(TPM2_HANDLE pcr, const Bytes& sha256Digest) {
    return Command(TPM2_CC_PCR_Extend)
        .handle(pcr)
        .password()
        .u32(1)
        .u16(TPM2_ALG_SHA256)
        .bytes(sha256Digest);
}

Command pcrRead(int pcr) { return Command(TPM2_CC_PCR_Read).bytes(pcrSelection(pcr)); }

// ---- NV

Command nvDefineSpace(TPM2_HANDLE index, uint16_t size, const std::string& auth) {
    constexpr TPMA_NV attributes = TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE | TPMA_NV_NO_DA;
    Bytes publicInfo =
        Fields().u32(index).u16(TPM2_ALG_SHA256).u32(attributes).tpm2b().u16(size).parameters();
    return Command(TPM2_CC_NV_DefineSpace)
        .handle(TPM2_RH_OWNER)
        .password()
        .tpm2b(auth)
        .tpm2b(publicInfo);
}

Command nvUndefineSpace(TPM2_HANDLE index) {
    return Command(TPM2_CC_NV_UndefineSpace).handle(TPM2_RH_OWNER).handle(index).password();
}

Command nvReadPublic(TPM2_HANDLE index) { return Command(TPM2_CC_NV_ReadPublic).handle(index); }

Command nvWrite(TPM2_HANDLE index, const std::string& data, const std::string& auth) {
    return Command(TPM2_CC_NV_Write).handle(index).handle(index).password(auth).tpm2b(data).u16(0);
}

Command nvRead(TPM2_HANDLE index, uint16_t size, const std::string& auth) {
    return Command(TPM2_CC_NV_Read).handle(index).handle(index).password(auth).u16(size).u16(0);
}

}  // namespace spaces::test
