/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One command after the other, by command code: see every_command.h.
 */
#include "every_command.h"

#include <algorithm>

namespace spaces::test {
namespace {

constexpr TPM2_HANDLE kOwner = TPM2_RH_OWNER, kPlatform = TPM2_RH_PLATFORM;
constexpr TPM2_HANDLE kPcr = 16;
constexpr TPM2_HANDLE kAttachedComponent = 0x90000000;
constexpr TPM2_HANDLE kCountdownTimer = 0x40000110;
const Bytes kDigest(32, 0x11);

/** Header, handles, and a password for each of the first `passwords` ones. */
Command with(TPM2_CC code, const std::vector<TPM2_HANDLE>& handles, int passwords) {
    Command command(code);
    for (TPM2_HANDLE handle : handles) command.handle(handle);
    for (int i = 0; i < passwords; i++) command.password();
    return command;
}

/** Fields of a structure one after the other. */
class Fields : public Command {
  public:
    Fields() : Command(0) {}
};

Bytes point() {
    Fields coordinates;
    coordinates.tpm2b(Bytes(32, 1)).tpm2b(Bytes(32, 2));
    return coordinates.parameters();
}

Bytes pcrSelection() {
    Fields selection;
    selection.u32(1).u16(TPM2_ALG_SHA256).u8(3).u8(0).u8(0).u8(1);
    return selection.parameters();
}

Bytes signature() {
    Fields fields;
    fields.u16(TPM2_ALG_ECDSA).u16(TPM2_ALG_SHA256).tpm2b(kDigest).tpm2b(kDigest);
    return fields.parameters();
}

Bytes ticket(TPM2_ST tag) { return Fields().u16(tag).u32(TPM2_RH_NULL).tpm2b().parameters(); }

Bytes nvPublic(TPM2_HANDLE index) {
    Fields fields;
    fields.u32(index).u16(TPM2_ALG_SHA256).u32(TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE);
    return fields.tpm2b().u16(8).parameters();
}

Bytes sensitiveCreate() { return Fields().tpm2b().tpm2b().parameters(); }

using Commands = std::vector<Command>;

void hierarchiesAndAudit(Commands& all) {
    all.push_back(hierarchyControl(TPM2_RH_ENDORSEMENT, false));
    all.push_back(changeEps());
    all.push_back(changePps());
    all.push_back(clear());
    all.push_back(with(TPM2_CC_ClearControl, {TPM2_RH_LOCKOUT}, 1).u8(TPM2_YES));
    all.push_back(with(TPM2_CC_ClockSet, {kOwner}, 1).u64(uint64_t{1} << 40));
    all.push_back(with(TPM2_CC_ClockRateAdjust, {kOwner}, 1).u8(1));
    all.push_back(with(TPM2_CC_HierarchyChangeAuth, {kOwner}, 1).tpm2b("auth"));
    all.push_back(with(TPM2_CC_SetPrimaryPolicy, {kOwner}, 1).tpm2b(kDigest).u16(TPM2_ALG_SHA256));
    all.push_back(with(TPM2_CC_PP_Commands, {kPlatform}, 1).u32(1).u32(TPM2_CC_Clear).u32(0));
    all.push_back(with(TPM2_CC_SetAlgorithmSet, {kPlatform}, 1).u32(0));
    all.push_back(with(TPM2_CC_SetCommandCodeAuditStatus, {kOwner}, 1)
                      .u16(TPM2_ALG_NULL)
                      .u32(1)
                      .u32(TPM2_CC_GetRandom)
                      .u32(0));
    all.push_back(with(TPM2_CC_DictionaryAttackLockReset, {TPM2_RH_LOCKOUT}, 1));
    all.push_back(
        with(TPM2_CC_DictionaryAttackParameters, {TPM2_RH_LOCKOUT}, 1).u32(9).u32(99).u32(999));
    all.push_back(
        with(TPM2_CC_FieldUpgradeStart, {kPlatform, kKey}, 1).tpm2b(kDigest).bytes(signature()));
    all.push_back(Command(TPM2_CC_FieldUpgradeData).tpm2b(kDigest));
    all.push_back(Command(TPM2_CC_FirmwareRead).u32(0));
    all.push_back(Command(TPM2_CC_IncrementalSelfTest).u32(1).u16(TPM2_ALG_SHA256));
    all.push_back(Command(TPM2_CC_SelfTest).u8(TPM2_NO));
    all.push_back(Command(TPM2_CC_GetTestResult));
    all.push_back(startup());
    all.push_back(shutdown());
    all.push_back(shutdown(TPM2_SU_STATE));
    all.push_back(Command(TPM2_CC_StirRandom).tpm2b(kDigest));
    all.push_back(getRandom());
    all.push_back(Command(TPM2_CC_ReadClock));
    all.push_back(getCapability(TPM2_CAP_HANDLES, TPM2_TRANSIENT_FIRST, 10));
    all.push_back(getCapability(TPM2_CAP_HANDLES, TPM2_LOADED_SESSION_FIRST, 10));
    all.push_back(getCapability(TPM2_CAP_TPM_PROPERTIES, TPM2_PT_HR_LOADED, 2));
    all.push_back(Command(TPM2_CC_TestParms).u16(TPM2_ALG_KEYEDHASH).u16(TPM2_ALG_NULL));
    all.push_back(with(TPM2_CC_GetCommandAuditDigest, {TPM2_RH_ENDORSEMENT, kKey}, 2)
                      .tpm2b()
                      .u16(TPM2_ALG_NULL));
    all.push_back(with(TPM2_CC_GetTime, {TPM2_RH_ENDORSEMENT, kKey}, 2).tpm2b().u16(TPM2_ALG_NULL));
    all.push_back(getSessionAuditDigest(kKey, kHmacSession));
    // Commands whose TPM would have hardware behind it.
    all.push_back(with(TPM2_CC_AC_GetCapability, {kAttachedComponent}, 0).u32(0).u32(1));
    all.push_back(with(TPM2_CC_AC_Send, {kKey, kOwner, kAttachedComponent}, 2).tpm2b());
    all.push_back(with(TPM2_CC_Policy_AC_SendSelect, {kPolicySession}, 0)
                      .tpm2b()
                      .tpm2b()
                      .tpm2b()
                      .u8(TPM2_NO));
    all.push_back(with(TPM2_CC_ACT_SetTimeout, {kCountdownTimer}, 1).u32(0));
}

void pcrs(Commands& all) {
    all.push_back(with(TPM2_CC_PCR_Allocate, {kPlatform}, 1).bytes(pcrSelection()));
    all.push_back(with(TPM2_CC_PCR_SetAuthPolicy, {kPlatform}, 1)
                      .tpm2b(kDigest)
                      .u16(TPM2_ALG_SHA256)
                      .u32(kPcr));
    all.push_back(with(TPM2_CC_PCR_SetAuthValue, {kPcr}, 1).tpm2b("auth"));
    all.push_back(with(TPM2_CC_PCR_Event, {kPcr}, 1).tpm2b("event"));
    all.push_back(with(TPM2_CC_PCR_Reset, {kPcr}, 1));
    all.push_back(pcrExtend(kPcr));
    all.push_back(pcrRead(kPcr));
}

void nv(Commands& all) {
    constexpr TPM2_HANDLE other = 0x01000002;
    all.push_back(with(TPM2_CC_NV_UndefineSpaceSpecial, {kNvIndex, kPlatform}, 2));
    all.push_back(nvUndefineSpace(kNvIndex));
    all.push_back(nvDefineSpace(other));
    all.push_back(with(TPM2_CC_NV_GlobalWriteLock, {kOwner}, 1));
    all.push_back(with(TPM2_CC_NV_Increment, {kNvIndex, kNvIndex}, 1));
    all.push_back(with(TPM2_CC_NV_SetBits, {kNvIndex, kNvIndex}, 1).u64(1));
    all.push_back(with(TPM2_CC_NV_Extend, {kNvIndex, kNvIndex}, 1).tpm2b("data"));
    all.push_back(nvWrite(kNvIndex, "data"));
    all.push_back(with(TPM2_CC_NV_WriteLock, {kNvIndex, kNvIndex}, 1));
    all.push_back(with(TPM2_CC_NV_ReadLock, {kNvIndex, kNvIndex}, 1));
    all.push_back(with(TPM2_CC_NV_ChangeAuth, {kNvIndex}, 0).session(kPolicySession).tpm2b("auth"));
    all.push_back(nvRead(kNvIndex));
    all.push_back(nvReadPublic(kNvIndex));
    all.push_back(with(TPM2_CC_NV_Certify, {kKey, kNvIndex, kNvIndex}, 2)
                      .tpm2b()
                      .u16(TPM2_ALG_NULL)
                      .u16(4)
                      .u16(0));
    // An index by its public area with a selector in front.
    Fields wide;
    wide.u16(TPM2_HT_NV_INDEX).bytes(nvPublic(other));
    all.push_back(with(0x19D, {kOwner}, 1).tpm2b().tpm2b(wide.parameters()));  // NV_DefineSpace2
    all.push_back(with(0x19E, {kNvIndex}, 0));                                 // NV_ReadPublic2
    all.push_back(with(0x19F, {kPlatform}, 1).tpm2b());                        // SetCapability
    all.push_back(with(0x1A0, {kPlatform}, 1).u8(TPM2_NO));                    // ReadOnlyControl
    all.push_back(with(0x1A1, {kPolicySession}, 0).tpm2b().tpm2b());  // PolicyTransportSPDM
}

void objects(Commands& all, const Belongings& own) {
    constexpr TPM2_HANDLE otherPersistent = 0x81000002;
    all.push_back(evictControl(kKey, otherPersistent));
    all.push_back(evictControl(kPersistent, kPersistent));
    all.push_back(createPrimary(kOwner, hmacKey()));
    all.push_back(createPrimary(TPM2_RH_NULL));
    all.push_back(create(kParent, hmacKey()));
    all.push_back(load(kParent, own.child.outPrivate, own.child.outPublic));
    all.push_back(loadExternalEcc());
    all.push_back(loadExternalHmac("key"));
    all.push_back(
        with(TPM2_CC_CreateLoaded, {kParent}, 1).tpm2b(sensitiveCreate()).tpm2b(hmacKey()));
    all.push_back(readPublic(kParent));
    all.push_back(readPublic(kPersistent));
    all.push_back(readPublic(kKey).session(kHmacSession, {}, 0x81));
    all.push_back(readPublic(kParent).session(kHmacSession, {}, 0));
    all.push_back(
        with(TPM2_CC_ActivateCredential, {kKey, kParent}, 2).tpm2b(kDigest).tpm2b(point()));
    all.push_back(with(TPM2_CC_MakeCredential, {kParent}, 0).tpm2b(kDigest).tpm2b(kDigest));
    all.push_back(with(TPM2_CC_ObjectChangeAuth, {kKey, kParent}, 1).tpm2b("auth"));
    all.push_back(with(TPM2_CC_Duplicate, {kKey, TPM2_RH_NULL}, 0)
                      .session(kPolicySession)
                      .tpm2b()
                      .u16(TPM2_ALG_NULL));
    all.push_back(
        with(TPM2_CC_Rewrap, {kParent, kParent}, 1).tpm2b(kDigest).tpm2b(kDigest).tpm2b(point()));
    all.push_back(with(TPM2_CC_Import, {kParent}, 1)
                      .tpm2b()
                      .tpm2b(eccSigning())
                      .tpm2b(Bytes(64, 1))
                      .tpm2b()
                      .u16(TPM2_ALG_NULL));
    all.push_back(unseal(kKey));
    all.push_back(contextSave(kKey));
    all.push_back(contextSave(kPolicySession));
    all.push_back(contextLoad(own.keyContext));
    all.push_back(contextLoad(own.sessionContext));
    all.push_back(flushContext(kKey));
    all.push_back(flushContext(0x80000002));
    all.push_back(flushContext(kHmacSession));
    all.push_back(flushContext(kSavedSession));
}

void cryptography(Commands& all) {
    all.push_back(certify(kParent, kKey));
    all.push_back(certify(kPersistent, kKey));
    all.push_back(with(TPM2_CC_CertifyCreation, {kKey, kParent}, 1)
                      .tpm2b()
                      .tpm2b(kDigest)
                      .u16(TPM2_ALG_NULL)
                      .bytes(ticket(TPM2_ST_CREATION)));
    all.push_back(with(TPM2_CC_CertifyX509, {kParent, kKey}, 2)
                      .tpm2b()
                      .u16(TPM2_ALG_NULL)
                      .tpm2b(Bytes(16, 0x30)));
    all.push_back(with(TPM2_CC_Quote, {kKey}, 1).tpm2b().u16(TPM2_ALG_NULL).bytes(pcrSelection()));
    all.push_back(sign(kKey));
    all.push_back(sign(kKey).noAuth().session(kHmacSession));
    all.push_back(with(TPM2_CC_VerifySignature, {kKey}, 0).tpm2b(kDigest).bytes(signature()));
    all.push_back(hmac(kKey, "data"));
    all.push_back(hmacStart(kKey));
    all.push_back(hashSequenceStart());
    all.push_back(hashSequenceStart("", TPM2_ALG_NULL));
    all.push_back(sequenceUpdate(kSequence, "data"));
    all.push_back(sequenceComplete(kSequence, "data"));
    all.push_back(eventSequenceComplete(kPcr, kSequence, "data"));
    all.push_back(Command(TPM2_CC_Hash).tpm2b("data").u16(TPM2_ALG_SHA256).u32(TPM2_RH_NULL));
    all.push_back(with(TPM2_CC_RSA_Encrypt, {kKey}, 0).tpm2b(kDigest).u16(TPM2_ALG_NULL).tpm2b());
    all.push_back(with(TPM2_CC_RSA_Decrypt, {kKey}, 1).tpm2b(kDigest).u16(TPM2_ALG_NULL).tpm2b());
    all.push_back(with(TPM2_CC_ECDH_KeyGen, {kParent}, 0));
    all.push_back(with(TPM2_CC_ECDH_ZGen, {kParent}, 1).tpm2b(point()));
    all.push_back(Command(TPM2_CC_ECC_Parameters).u16(TPM2_ECC_NIST_P256));
    all.push_back(Command(TPM2_CC_EC_Ephemeral).u16(TPM2_ECC_NIST_P256));
    all.push_back(with(TPM2_CC_Commit, {kKey}, 1).tpm2b(point()).tpm2b().tpm2b());
    all.push_back(with(TPM2_CC_ZGen_2Phase, {kParent}, 1)
                      .tpm2b(point())
                      .tpm2b(point())
                      .u16(TPM2_ALG_ECDH)
                      .u16(1));
    all.push_back(with(0x199, {kParent}, 0).tpm2b("data").u16(TPM2_ALG_NULL));  // ECC_Encrypt
    all.push_back(with(0x19A, {kParent}, 1)                                     // ECC_Decrypt
                      .tpm2b(point())
                      .tpm2b("data")
                      .tpm2b(kDigest)
                      .u16(TPM2_ALG_NULL));
    all.push_back(with(TPM2_CC_EncryptDecrypt, {kKey}, 1)
                      .u8(TPM2_NO)
                      .u16(TPM2_ALG_CFB)
                      .tpm2b(Bytes(16))
                      .tpm2b("data"));
    all.push_back(with(TPM2_CC_EncryptDecrypt2, {kKey}, 1)
                      .tpm2b("data")
                      .u8(TPM2_NO)
                      .u16(TPM2_ALG_CFB)
                      .tpm2b(Bytes(16)));
}

void sessionsAndPolicies(Commands& all) {
    const auto policy = [](TPM2_CC code) { return with(code, {kPolicySession}, 0); };
    all.push_back(startAuthSession());
    all.push_back(startAuthSession(TPM2_SE_POLICY));
    all.push_back(startAuthSession(TPM2_SE_TRIAL, kKey));
    all.push_back(policyRestart(kPolicySession));
    all.push_back(policyGetDigest(kPolicySession));
    all.push_back(policyGetDigest(kPolicySession).session(kHmacSession, {}, 0));
    all.push_back(policyCommandCode(kPolicySession, TPM2_CC_Sign));
    all.push_back(policyAuthValue(kPolicySession));
    all.push_back(policyPassword(kPolicySession));
    all.push_back(policyPcr(kPolicySession, kPcr));
    all.push_back(policySecret(kOwner, kPolicySession));
    all.push_back(policySecret(kKey, kPolicySession));
    all.push_back(policyNv(kNvIndex, kPolicySession, "data"));
    all.push_back(with(TPM2_CC_PolicySigned, {kKey, kPolicySession}, 0)
                      .tpm2b()
                      .tpm2b()
                      .tpm2b()
                      .u32(0)
                      .bytes(signature()));
    all.push_back(policy(TPM2_CC_PolicyAuthorize)
                      .tpm2b(kDigest)
                      .tpm2b()
                      .tpm2b(kDigest)
                      .bytes(ticket(TPM2_ST_VERIFIED)));
    all.push_back(policy(TPM2_CC_PolicyTicket)
                      .tpm2b()
                      .tpm2b()
                      .tpm2b()
                      .tpm2b(kDigest)
                      .bytes(ticket(TPM2_ST_AUTH_SECRET)));
    all.push_back(policy(TPM2_CC_PolicyOR).u32(2).tpm2b(Bytes(32)).tpm2b(kDigest));
    all.push_back(
        policy(TPM2_CC_PolicyCounterTimer).tpm2b(Bytes(4)).u16(0).u16(TPM2_EO_UNSIGNED_GE));
    all.push_back(policy(TPM2_CC_PolicyCpHash).tpm2b(kDigest));
    all.push_back(policy(TPM2_CC_PolicyNameHash).tpm2b(kDigest));
    all.push_back(policy(TPM2_CC_PolicyTemplate).tpm2b(kDigest));
    all.push_back(policy(TPM2_CC_PolicyLocality).u8(1));
    all.push_back(policy(TPM2_CC_PolicyPhysicalPresence));
    all.push_back(policy(TPM2_CC_PolicyNvWritten).u8(TPM2_YES));
    all.push_back(
        policy(TPM2_CC_PolicyDuplicationSelect).tpm2b(kDigest).tpm2b(kDigest).u8(TPM2_NO));
    all.push_back(with(TPM2_CC_PolicyAuthorizeNV, {kNvIndex, kNvIndex, kPolicySession}, 1));
    all.push_back(policy(0x19B)  // PolicyCapability
                      .tpm2b(Bytes(4))
                      .u16(0)
                      .u16(TPM2_EO_EQ)
                      .u32(TPM2_CAP_TPM_PROPERTIES)
                      .u32(TPM2_PT_FAMILY_INDICATOR));
    all.push_back(policy(0x19C).tpm2b(kDigest));  // PolicyParameters
}

}  // namespace

std::vector<Command> everyCommand(const Belongings& belongings) {
    Commands all;
    hierarchiesAndAudit(all);
    pcrs(all);
    nv(all);
    objects(all, belongings);
    cryptography(all);
    sessionsAndPolicies(all);
    std::stable_sort(all.begin(), all.end(), [](const Command& one, const Command& other) {
        return one.code() < other.code();
    });
    return all;
}

}  // namespace spaces::test
