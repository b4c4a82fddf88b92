// SPDX-License-Identifier: BSD-2-Clause
// The verbs of differential_script.h; see differential_commands.h.
#include "differential_commands.h"

#include <algorithm>
#include <set>

#include "support/crypto.h"

namespace spaces::test {
namespace {

std::string word(int64_t number) { return number == 0 ? "" : "w" + std::to_string(number); }

Bytes publicFor(Shape shape, int64_t unique, TPMA_OBJECT more) {
    switch (shape) {
        case Shape::Signing:
            return eccSigning(word(unique), more);
        case Shape::Hmac:
            return hmacKey(word(unique), more);
        case Shape::Sealed:
            return sealed();
        case Shape::Policy:
            return policyOnly(hmacKey(word(unique), more), policyDigest());
        default:
            return eccStorage(word(unique), more);
    }
}

/// One operation, on one side. A member function for each verb that is more than a line.
class Builder {
  public:
    Builder(const Terms& terms, const Operation& operation, Side side)
        : terms_(terms), operation_(operation), side_(side) {}

    std::optional<Request> build() {
        auto command = [&]() -> std::optional<Command> {
            for (auto family :
                 {&Builder::objects, &Builder::uses, &Builder::sequences, &Builder::sessions,
                  &Builder::contexts, &Builder::shared, &Builder::questions}) {
                auto built = (this->*family)();
                if (built || missing_) return built;
            }
            throw std::runtime_error("no such verb: " + operation_.verb);
        }();
        if (!command || missing_) return std::nullopt;
        request_.command = *command;
        request_.names.resize(request_.command.handles().size());
        request_.auths.resize(request_.command.authorizations().size());
        return request_;
    }

  private:
    using Built = std::optional<Command>;

    bool is(const char* verb) const { return operation_.verb == verb; }
    int64_t get(const char* name, int64_t otherwise = 0) const {
        return operation_.get(name, otherwise);
    }
    std::string auth() const { return word(get("auth")); }
    std::string data() const { return std::string(static_cast<size_t>(get("data", 5)), 'd'); }
    TPM2_RH hierarchy() const { return kHierarchies[get("hierarchy") & 3]; }
    TPM2_HANDLE nvIndex() const { return 0x01000000 + static_cast<TPM2_HANDLE>(get("index")); }

    /// The object at a position of the handle area; `authorizes`: its auth value is needed there.
    Operand object(const char* argument, size_t position, bool authorizes = true) {
        const auto found = terms_.object(operation_, argument, side_);
        if (!found) {
            missing_ = true;
            return {};
        }
        name(position, found->name);
        if (authorizes) authorize(position, found->auth);
        request_.determined = request_.determined && found->determined;
        return *found;
    }
    void name(size_t position, const Bytes& name) {
        if (request_.names.size() <= position) request_.names.resize(position + 1);
        request_.names[position] = name;
    }
    void authorize(size_t position, const std::string& auth) {
        if (request_.auths.size() <= position) request_.auths.resize(position + 1);
        request_.auths[position] = auth;
    }
    TPM2_HANDLE session(const char* argument = "session") {
        const auto found = terms_.session(operation_, argument, side_);
        missing_ = missing_ || !found;
        const Thing* made = terms_.thing(get(argument));
        request_.determined = request_.determined && (made == nullptr || made->determined);
        return found.value_or(0);
    }
    Bytes publicTemplate() const {
        return publicFor(Shape(get("shape")), get("unique"),
                         get("stclear") != 0 ? TPMA_OBJECT_STCLEAR : 0);
    }
    std::string sealedData() const { return Shape(get("shape")) == Shape::Sealed ? "sealed" : ""; }
    Bytes sensitive() const {
        Command fields(0);
        fields.tpm2b(auth()).tpm2b(sealedData());
        return fields.parameters();
    }

    Built objects() {
        if (is("Primary")) {
            request_.determined = hierarchy() != TPM2_RH_NULL;
            return Command(TPM2_CC_CreatePrimary)
                .handle(hierarchy())
                .password()
                .tpm2b(sensitive())
                .tpm2b(publicTemplate())
                .tpm2b()
                .u32(0);
        }
        if (is("Create")) {
            const Operand parent = object("parent", 0);
            request_.determined = false;
            return create(parent.handle, publicTemplate(), auth(), sealedData(), parent.auth);
        }
        if (is("CreateLoaded")) {
            const Operand parent = object("parent", 0);
            request_.determined = false;
            return Command(TPM2_CC_CreateLoaded)
                .handle(parent.handle)
                .password(parent.auth)
                .tpm2b(sensitive())
                .tpm2b(publicTemplate());
        }
        if (is("Load")) {
            const Operand parent = object("parent", 0);
            const Thing* child = terms_.thing(get("child"));
            if (child == nullptr) return none();
            request_.determined = false;
            return load(parent.handle, child->bytes[side_], child->publicArea[side_], parent.auth);
        }
        if (is("LoadExternal"))
            return Shape(get("shape")) == Shape::External
                       ? loadExternalEcc(hierarchy(), TPMA_OBJECT_NODA)
                       : loadExternalHmac(word(get("unique", 1)), auth());
        if (is("ReadPublic")) return readPublic(object("key", 0, false).handle);
        return {};
    }

    Built uses() {
        if (is("Sign")) {
            const Operand key = object("key", 0);
            return sign(key.handle, Bytes(32, static_cast<uint8_t>(get("data"))), key.auth);
        }
        if (is("Hmac")) {
            const Operand key = object("key", 0);
            return hmac(key.handle, data(), key.auth);
        }
        if (is("Unseal")) {
            const Operand key = object("key", 0);
            return unseal(key.handle, key.auth);
        }
        if (is("Certify")) {
            const Operand key = object("key", 0), by = object("by", 1);
            return certify(key.handle, by.handle, key.auth, by.auth);
        }
        if (is("ChangeAuth")) {
            const Operand key = object("key", 0), parent = object("parent", 1, false);
            return Command(TPM2_CC_ObjectChangeAuth)
                .handle(key.handle)
                .handle(parent.handle)
                .password(key.auth)
                .tpm2b(auth());
        }
        return {};
    }

    Built sequences() {
        if (is("HashSequence"))
            return hashSequenceStart(auth(), get("event") != 0 ? TPM2_ALG_NULL : TPM2_ALG_SHA256);
        if (is("HmacSequence")) {
            const Operand key = object("key", 0);
            return hmacStart(key.handle, auth(), key.auth);
        }
        if (is("Update") || is("Complete")) {
            const Operand key = object("key", 0);
            return is("Update") ? sequenceUpdate(key.handle, data(), key.auth)
                                : sequenceComplete(key.handle, data(), key.auth);
        }
        if (is("EventComplete")) {
            authorize(0, "");
            const Operand key = object("key", 1);
            return eventSequenceComplete(static_cast<TPM2_HANDLE>(get("pcr", TPM2_RH_NULL)),
                                         key.handle, data(), key.auth);
        }
        return {};
    }

    Built start() {
        Session::Options& options = request_.start;
        options.type = static_cast<TPM2_SE>(get("type"));
        options.symmetric = get("symmetric") != 0;
        if (operation_.has("bind")) {
            const Operand bind = object("bind", 1, false);
            options.bind = bind.handle;
            options.bindName = bind.name;
            options.bindAuth = bind.auth;
        }
        if (operation_.has("salt")) {
            const Operand key = object("salt", 0, false);
            options.tpmKey = key.handle;
            if (key.publicArea.size() > 68 && key.shape == Shape::Storage)
                options.tpmKeyX = Bytes(key.publicArea.end() - 66, key.publicArea.end() - 34);
        }
        return Session::startCommand(request_.session, options);
    }

    Built sessions() {
        if (is("Start")) return start();
        if (is("PolicyCommandCode"))
            return policyCommandCode(session(), static_cast<TPM2_CC>(get("of", TPM2_CC_HMAC)));
        if (is("PolicyAuthValue")) return policyAuthValue(session());
        if (is("PolicyPassword")) return policyPassword(session());
        if (is("PolicyPcr")) return policyPcr(session(), static_cast<int>(get("pcr", 16)));
        if (is("PolicyRestart")) return policyRestart(session());
        if (is("PolicyGetDigest")) return policyGetDigest(session());
        if (is("PolicyLocality")) return Command(TPM2_CC_PolicyLocality).handle(session()).u8(1);
        if (is("PolicySecret")) {
            if (!operation_.has("key")) return policySecret(TPM2_RH_OWNER, session());
            const Operand key = object("key", 0);
            return policySecret(key.handle, session(), key.auth);
        }
        if (is("PolicyNv")) {
            name(0, {0});
            name(1, {0});
            return policyNv(nvIndex(), session(), data());
        }
        if (is("AuditDigest")) {
            authorize(0, "");
            const Operand by = object("by", 1);
            return Command(TPM2_CC_GetSessionAuditDigest)
                .handle(TPM2_RH_ENDORSEMENT)
                .handle(by.handle)
                .handle(session())
                .password()
                .password(by.auth)
                .tpm2b()
                .u16(TPM2_ALG_NULL);
        }
        return {};
    }

    Built contexts() {
        const bool ofSession = operation_.has("session");
        if (is("Save")) return contextSave(ofSession ? session() : object("key", 0, false).handle);
        if (is("Flush"))
            return flushContext(ofSession ? session() : object("key", 0, false).handle);
        if (is("LoadContext")) {
            const Thing* context = terms_.thing(get("context"));
            if (context == nullptr || context->bytes[side_].empty()) return none();
            return contextLoad(context->bytes[side_]);
        }
        return {};
    }

    Built shared() {
        if (is("Evict")) {
            authorize(0, "");
            const Operand key = object("key", 1, false);
            return evictControl(key.handle, 0x81000000 + static_cast<TPM2_HANDLE>(get("slot")));
        }
        if (is("Clear")) return clear();
        if (is("ChangePps")) return changePps();
        if (is("ChangeEps")) return changeEps();
        if (is("HierarchyControl")) return hierarchyControl(hierarchy(), get("on") != 0);
        if (is("Shutdown")) return shutdown(static_cast<TPM2_SU>(get("type")));
        if (is("Startup")) return startup(static_cast<TPM2_SU>(get("type")));
        if (is("PcrExtend"))
            return pcrExtend(static_cast<TPM2_HANDLE>(get("pcr", 16)),
                             Bytes(32, static_cast<uint8_t>(get("data"))));
        if (is("PcrReset")) return Command(TPM2_CC_PCR_Reset).handle(16).password();
        if (is("PcrEvent")) return Command(TPM2_CC_PCR_Event).handle(16).password().tpm2b(data());
        return nv();
    }

    Built nv() {
        name(0, {0});
        name(1, {0});
        if (is("NvDefine")) return nvDefineSpace(nvIndex());
        if (is("NvUndefine")) return nvUndefineSpace(nvIndex());
        if (is("NvWrite")) return nvWrite(nvIndex(), data());
        if (is("NvRead")) return nvRead(nvIndex());
        if (is("NvReadPublic")) return nvReadPublic(nvIndex());
        request_.names.clear();
        return {};
    }

    Built questions() {
        if (is("PcrRead")) return pcrRead(static_cast<int>(get("pcr", 16)));
        if (is("Random")) return getRandom(static_cast<uint16_t>(get("size", 16)));
        if (is("Clock")) return Command(TPM2_CC_ReadClock);
        if (is("SelfTest")) return Command(TPM2_CC_SelfTest).u8(TPM2_NO);
        if (is("Hash"))
            return Command(TPM2_CC_Hash).tpm2b(data()).u16(TPM2_ALG_SHA256).u32(TPM2_RH_NULL);
        if (is("Capability")) {
            auto first = static_cast<uint32_t>(get("first"));
            if (operation_.has("session")) first = session();
            return getCapability(static_cast<TPM2_CAP>(get("capability", TPM2_CAP_HANDLES)), first,
                                 static_cast<uint32_t>(get("count", 254)));
        }
        return {};
    }

    Built none() {
        missing_ = true;
        return {};
    }

    const Terms& terms_;
    const Operation& operation_;
    const Side side_;
    Request request_{Command(0), {}, {}, true, {}, {}};
    bool missing_ = false;
};

}  // namespace

std::optional<Request> request(const Terms& terms, const Operation& operation, Side side) {
    return Builder(terms, operation, side).build();
}

Bytes policyDigest() {
    Bytes input(32);
    append(input, TPM2_CC_PolicyCommandCode, 4);
    append(input, TPM2_CC_HMAC, 4);
    return sha256(input);
}

bool canDecrypt(const std::string& verb) {
    static const std::set<std::string> verbs = {
        "Primary",      "Create",        "CreateLoaded", "Load",   "LoadExternal", "Sign",
        "Hmac",         "Certify",       "ChangeAuth",   "Update", "Complete",     "HashSequence",
        "HmacSequence", "EventComplete", "PolicySecret", "Hash",   "AuditDigest"};
    return verbs.contains(verb);
}

bool canEncrypt(const std::string& verb) {
    static const std::set<std::string> verbs = {
        "Primary",    "Create",     "CreateLoaded", "Load",   "LoadExternal",    "Hmac",
        "Certify",    "ChangeAuth", "Complete",     "Random", "PolicyGetDigest", "Hash",
        "ReadPublic", "Unseal",     "AuditDigest"};
    return verbs.contains(verb);
}

}  // namespace spaces::test
