// SPDX-License-Identifier: BSD-2-Clause
// One space of the soak test; see soak_space.h.
#include "soak_space.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "support/crypto.h"
#include "support/response.h"
#include "support/signature.h"

using namespace spaces::test;

namespace {

std::string show(const Bytes& data) { return hex(data); }
std::string show(uint32_t value) { return hex(value); }
std::string show(const std::vector<TPM2_HANDLE>& handles) {
    std::string text;
    for (const TPM2_HANDLE handle : handles) text += hex(handle) + " ";
    return text;
}

template <class T>
void same(const T& actual, const T& expected, const std::string& what) {
    if (actual != expected)
        throw std::runtime_error(what + ": " + show(actual) + " instead of " + show(expected));
}

/// The policy digest after one more PolicyAuthValue, or PolicyCommandCode with `argument`.
Bytes extended(const Bytes& digest, TPM2_CC policyCommand, const Bytes& argument = {}) {
    Bytes input = digest;
    append(input, policyCommand, 4);
    append(input, argument);
    return sha256(input);
}

constexpr size_t kSleepers = 2;
constexpr size_t kAwake = SoakSpace::kSessions - kSleepers;

const Bytes kUnsealCode = {0, 0, 1, 0x5E};

const Bytes& unsealPolicy() {
    static const Bytes digest = extended(extended(Bytes(32), TPM2_CC_PolicyAuthValue),
                                         TPM2_CC_PolicyCommandCode, kUnsealCode);
    return digest;
}

TPM2_HANDLE indexOf(TPM2_HANDLE session) { return session & 0x00FFFFFF; }

}  // namespace

void SoakSpace::Session::restart() {
    digest = Bytes(32);
    commandCode = false;
    session.authValueNeeded = false;
}

SoakSpace::SoakSpace(const Simulator& sim, uint64_t seed)
    : random_(seed), client_(Client::space(sim, "swap=on")) {}

void SoakSpace::fill() {
    makeSleepers();
    while (objects_.size() < kObjects) makeObject();
    while (sessions_.size() + savedSessions_.size() < kAwake) startSession();
}

void SoakSpace::step() {
    using Action = void (SoakSpace::*)();
    static const std::pair<unsigned, Action> actions[] = {
        {40, &SoakSpace::useObject},      {12, &SoakSpace::usePolicy},
        {10, &SoakSpace::makeObject},     {6, &SoakSpace::flushObject},
        {3, &SoakSpace::certify},         {4, &SoakSpace::saveObject},
        {4, &SoakSpace::loadObject},      {6, &SoakSpace::startSession},
        {1, &SoakSpace::flushSession},    {4, &SoakSpace::saveSession},
        {5, &SoakSpace::loadSession},     {1, &SoakSpace::flushSavedSession},
        {1, &SoakSpace::useSavedSession}, {2, &SoakSpace::useWhatIsNotThere},
        {3, &SoakSpace::checkLists},
    };
    static const size_t all = [] {
        size_t sum = 0;
        for (const auto& [weight, action] : actions) sum += weight;
        return sum;
    }();
    size_t drawn = below(all);
    for (const auto& [weight, action] : actions) {
        if (drawn < weight) return (this->*action)();
        drawn -= weight;
    }
}

void SoakSpace::transmit() {
    const auto object = anyOf({Kind::Storage, Kind::Signing, Kind::Hmac, Kind::Sealed,
                               Kind::PolicySealed, Kind::PublicOnly});
    if (object == objects_.end()) return;
    doing_ = "transmit ReadPublic " + hex(object->first);
    same<uint32_t>(client_.transmit(readPublic(object->first)), TSS2_RC_SUCCESS, "transmit");
    awaitedName_ = object->second.name;
}

void SoakSpace::receive() {
    if (awaitedName_.empty()) return;
    doing_ += ", receive";
    Bytes response;
    same<uint32_t>(client_.receive(response), TSS2_RC_SUCCESS, "receive");
    same(rc(response), TPM2_RC_SUCCESS, "ReadPublic");
    same(publicName(response), std::exchange(awaitedName_, {}), "the Name");
}

void SoakSpace::finish(bool emptyFirst) {
    checkLists();
    for (auto at = objects_.begin(); at != objects_.end();) {
        const auto next = std::next(at);
        useObject(at);
        at = next;
    }
    while (!savedSessions_.empty()) flushSavedSession();
    wakeSleepers();
    if (emptyFirst) {
        while (!objects_.empty()) flushObject();
        while (!sessions_.empty()) flushSession();
    }
    client_.close();
}

std::string SoakSpace::text(size_t most) {
    std::string result(below(most) + 1, ' ');
    for (char& letter : result) letter = static_cast<char>('a' + below(26));
    return result;
}

SoakSpace::Objects::iterator SoakSpace::anyOf(std::initializer_list<Kind> kinds) {
    std::vector<Objects::iterator> found;
    for (auto at = objects_.begin(); at != objects_.end(); ++at)
        if (std::find(kinds.begin(), kinds.end(), at->second.kind) != kinds.end())
            found.push_back(at);
    return found.empty() ? objects_.end() : found[below(found.size())];
}

// ---- Commands -----------------------------------------------------------------------------------

/// Up to two HMAC sessions in random order.
std::vector<TPM2_HANDLE> SoakSpace::hmacSessions() {
    std::vector<TPM2_HANDLE> found;
    for (const auto& [handle, session] : sessions_)
        if (session.type == TPM2_SE_HMAC) found.push_back(handle);
    std::shuffle(found.begin(), found.end(), random_);
    found.resize(std::min(found.size(), below(3)));
    return found;
}

/// Sessions and what each does: authorise the first handle, encrypt, decrypt, audit; the last of
/// it. One that would do nothing is left out, since the TPM refuses it. An audit ends a binding,
/// so bound sessions do not audit here. Where nothing is authorised there is only one session: the
/// test support computes the HMAC of a first session as one that authorises.
std::vector<Use> SoakSpace::chooseUses(const Request& request) {
    std::vector<Use> uses;
    uint8_t taken = 0;
    for (const TPM2_HANDLE handle : hmacSessions()) {
        if (!request.authorizes && !uses.empty()) break;
        Session& session = sessions_.at(handle);
        const bool authorizes = request.authorizes && uses.empty();
        uint8_t does = 0;
        if (session.symmetric && request.decrypts && oneIn(2)) does |= TPMA_SESSION_DECRYPT;
        if (session.symmetric && request.encrypts && oneIn(2)) does |= TPMA_SESSION_ENCRYPT;
        if (!session.bound && oneIn(3)) does |= TPMA_SESSION_AUDIT;
        does &= static_cast<uint8_t>(~taken);
        taken |= does;
        if (!authorizes && does == 0) continue;
        if (!oneIn(12)) does |= TPMA_SESSION_CONTINUESESSION;
        uses.push_back({&session.session, authorizes ? request.auth : "", does});
    }
    return uses;
}

/// By sessions, or with the passwords that the command has; it must succeed.
Bytes SoakSpace::send(const Request& request) {
    std::vector<Use> uses = chooseUses(request);
    doing_ += " with";
    for (const Use& use : uses)
        doing_ += " " + hex(use.session->handle()) + "/" + hex(use.attributes);
    if (uses.empty()) return client_.ok(request.command);
    const Bytes response = sendWith(client_, request.command, uses, request.names);
    same(rc(response), TPM2_RC_SUCCESS, "response code");
    for (const Use& use : uses)
        if ((use.attributes & TPMA_SESSION_CONTINUESESSION) == 0)
            sessions_.erase(use.session->handle());
    return response;
}

void SoakSpace::refused(const Command& command, TPM2_RC code) {
    same(rc(client_.send(command)), code, "response code");
}

// ---- Objects ------------------------------------------------------------------------------------

void SoakSpace::makeObject() {
    if (objects_.size() >= kObjects) return flushObject();
    const auto parent = anyOf({Kind::Storage});
    if (parent == objects_.end()) return makePrimary(Kind::Storage);
    switch (below(10)) {
        case 0:
            return makePrimary(oneIn(4) ? Kind::Storage : Kind::Signing);
        case 1:
            return makeChild(parent, Kind::Signing);
        case 2:
        case 3:
            return makeChild(parent, Kind::Sealed);
        case 4:
        case 5:
            return makeChild(parent, Kind::PolicySealed);
        case 6: {
            doing_ = "LoadExternal of a public key";
            const Bytes response = send({loadExternalEcc(), {}, "", false});
            return adopt(response,
                         {Kind::PublicOnly, "", parameters(response, 1).tpm2b(), "", "", {}});
        }
        case 7: {
            doing_ = "LoadExternal of an HMAC key";
            const std::string key = text(40), auth = text(20);
            const Bytes response = send({loadExternalHmac(key, auth), {}, "", false});
            return adopt(response,
                         {Kind::Hmac, auth, parameters(response, 1).tpm2b(), key, "", {}});
        }
        default:
            return makeSequence();
    }
}

void SoakSpace::makePrimary(Kind kind) {
    static constexpr TPM2_RH hierarchies[] = {TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT, TPM2_RH_PLATFORM,
                                              TPM2_RH_NULL};
    const TPM2_RH hierarchy = hierarchies[below(std::size(hierarchies))];
    doing_ = "CreatePrimary in " + hex(hierarchy);
    const std::string unique = text(30), auth = text(20);
    const Bytes area = kind == Kind::Storage ? eccStorage(unique) : eccSigning(unique);
    const Bytes response = send({createPrimary(hierarchy, area, auth), {}, ""});
    Object object{kind, auth, primaryName(response), "", "", {}};
    if (kind == Kind::Signing) object.key = publicKey(parameters(response, 1).tpm2b());
    adopt(response, object);
}

void SoakSpace::makeChild(Objects::iterator parent, Kind kind) {
    const TPM2_HANDLE at = parent->first;
    const Object owner = parent->second;
    doing_ = "Create under " + hex(at);
    const std::string auth = text(20), secret = kind == Kind::Signing ? "" : text(60);
    const Bytes area = kind == Kind::Signing  ? eccSigning()
                       : kind == Kind::Sealed ? sealed()
                                              : policyOnly(sealed(), unsealPolicy());
    const Created made =
        created(send({create(at, area, auth, secret, owner.auth), {owner.name}, owner.auth}));
    doing_ = "Load under " + hex(at);
    const Bytes response =
        send({load(at, made.outPrivate, made.outPublic, owner.auth), {owner.name}, owner.auth});
    Object object{kind, auth, parameters(response, 1).tpm2b(), secret, "", {}};
    same(object.name, nameOf(made.outPublic), "the Name");
    if (kind == Kind::Signing) object.key = publicKey(made.outPublic);
    adopt(response, object);
}

void SoakSpace::makeSequence() {
    const std::string auth = text(20);
    const auto key = anyOf({Kind::Hmac});
    if (key == objects_.end() || oneIn(2)) {
        doing_ = "HashSequenceStart";
        return adopt(send({hashSequenceStart(auth), {}, "", false, true, false}),
                     {Kind::HashSequence, auth, {}, "", "", {}});
    }
    doing_ = "HMAC_Start with " + hex(key->first);
    const Object& object = key->second;
    adopt(send({hmacStart(key->first, auth, object.auth),
                {object.name},
                object.auth,
                true,
                true,
                false}),
          {Kind::HmacSequence, auth, {}, object.secret, "", {}});
}

/// A TPM gives out the lowest free number.
void SoakSpace::adopt(const Bytes& response, Object object) {
    TPM2_HANDLE lowest = TPM2_TRANSIENT_FIRST;
    while (objects_.contains(lowest)) ++lowest;
    same(handle(response), lowest, "the new object's handle");
    objects_.emplace(lowest, std::move(object));
}

void SoakSpace::flushObject() {
    if (objects_.empty()) return;
    const auto at = any(objects_);
    doing_ = "FlushContext " + hex(at->first);
    client_.ok(flushContext(at->first));
    objects_.erase(at);
}

void SoakSpace::useObject() {
    if (!objects_.empty()) useObject(any(objects_));
}

void SoakSpace::useObject(Objects::iterator at) {
    const auto& [key, object] = *at;
    switch (object.kind) {
        case Kind::Signing:
            return signAndVerify(object, key);
        case Kind::Hmac: {
            doing_ = "HMAC with " + hex(key);
            const std::string data = text(100);
            const Bytes response = send({hmac(key, data, object.auth), {object.name}, object.auth});
            return same(parameters(response).tpm2b(), hmacSha256(bytes(object.secret), bytes(data)),
                        "the HMAC");
        }
        case Kind::Sealed: {
            doing_ = "Unseal " + hex(key);
            const Bytes response =
                send({unseal(key, object.auth), {object.name}, object.auth, true, false});
            return same(parameters(response).tpm2b(), bytes(object.secret), "the sealed data");
        }
        case Kind::PolicySealed:
            doing_ = "Unseal without the policy " + hex(key);
            return refused(unseal(key, object.auth), TPM2_RC_AUTH_UNAVAILABLE);
        case Kind::HashSequence:
        case Kind::HmacSequence:
            return useSequence(at);
        default:
            return checkName(at);
    }
}

void SoakSpace::signAndVerify(const Object& object, TPM2_HANDLE key) {
    if (oneIn(10)) {
        doing_ = "Sign with a wrong password " + hex(key);
        return refused(sign(key, Bytes(32), object.auth + "x"),
                       TPM2_RC_BAD_AUTH | TPM2_RC_S | TPM2_RC_1);
    }
    doing_ = "Sign with " + hex(key);
    const Bytes digest = sha256(bytes(text(30)));
    Cursor answer = parameters(
        send({sign(key, digest, object.auth), {object.name}, object.auth, true, true, false}));
    verify(object.key.get(), digest, derSignature(answer));
}

/// Two objects in one command.
void SoakSpace::certify() {
    const auto signer = anyOf({Kind::Signing});
    const auto subject = anyOf({Kind::Storage, Kind::Signing, Kind::Hmac, Kind::Sealed});
    if (signer == objects_.end() || subject == objects_.end()) return;
    doing_ = "Certify " + hex(subject->first) + " by " + hex(signer->first);
    Cursor answer = parameters(client_.ok(spaces::test::certify(
        subject->first, signer->first, subject->second.auth, signer->second.auth)));
    const Bytes attest = answer.tpm2b();
    verify(signer->second.key.get(), sha256(attest), derSignature(answer));
    const Bytes& name = subject->second.name;
    if (std::search(attest.begin(), attest.end(), name.begin(), name.end()) == attest.end())
        throw std::runtime_error("another object was certified");
}

void SoakSpace::useSequence(Objects::iterator at) {
    const TPM2_HANDLE sequence = at->first;
    Object& object = at->second;
    const std::string more = text(150);
    object.data += more;
    if (!oneIn(6)) {
        doing_ = "SequenceUpdate " + hex(sequence);
        client_.ok(sequenceUpdate(sequence, more, object.auth));
        return;
    }
    doing_ = "SequenceComplete " + hex(sequence);
    const Bytes result =
        parameters(client_.ok(sequenceComplete(sequence, more, object.auth))).tpm2b();
    const Bytes data = bytes(object.data);
    same(result,
         object.kind == Kind::HashSequence ? sha256(data) : hmacSha256(bytes(object.secret), data),
         "the sequence's result");
    objects_.erase(at);
}

void SoakSpace::checkName(Objects::iterator at) {
    doing_ = "ReadPublic " + hex(at->first);
    const Bytes response = send({readPublic(at->first), {at->second.name}, "", false, false, true});
    same(publicName(response), at->second.name, "the Name");
}

void SoakSpace::saveObject() {
    if (objects_.empty()) return;
    const auto at = any(objects_);
    doing_ = "ContextSave " + hex(at->first);
    const Bytes saved = context(client_.ok(contextSave(at->first)));
    constexpr size_t kMost = 8;
    if (savedObjects_.size() == kMost) savedObjects_.erase(savedObjects_.begin());
    savedObjects_.emplace_back(saved, at->second);
}

/// The same context as often as one likes; a sequence goes back to where it was.
void SoakSpace::loadObject() {
    if (savedObjects_.empty() || objects_.size() >= kObjects) return;
    doing_ = "ContextLoad of an object";
    const auto& [saved, object] = savedObjects_[below(savedObjects_.size())];
    adopt(client_.ok(contextLoad(saved)), object);
}

// ---- Sessions -----------------------------------------------------------------------------------

/// A policy session after PolicyAuthValue.
SoakSpace::Session SoakSpace::startPolicy() {
    doing_ = "a policy session to be left alone";
    Session made;
    made.type = TPM2_SE_POLICY;
    made.session = spaces::test::Session::start(client_, made.type);
    client_.ok(policyAuthValue(made.session.handle()));
    made.digest = extended(made.digest, TPM2_CC_PolicyAuthValue);
    return made;
}

void SoakSpace::makeSleepers() {
    idle_ = startPolicy();
    sleeper_ = startPolicy();
    sleeperContext_ = context(client_.ok(contextSave(sleeper_.session.handle())));
}

void SoakSpace::wakeSleepers() {
    // The contexts are numbered.
    const TPM2_HANDLE idle = idle_.session.handle();
    doing_ = "ContextSave of the session that was idle, " + hex(idle);
    const Bytes saved = context(client_.ok(contextSave(idle)));
    same(handle(client_.ok(contextLoad(saved))), idle, "the loaded session's handle");
    sessionsSaved_ = Cursor(saved).u64() - Cursor(sleeperContext_).u64();
    const TPM2_HANDLE sleeper = sleeper_.session.handle();
    doing_ = "ContextLoad of the session that slept, " + hex(sleeper);
    same(handle(client_.ok(contextLoad(sleeperContext_))), sleeper, "the loaded session's handle");
    for (const Session& session : {sleeper_, idle_}) {
        doing_ = "a session that was left alone, " + hex(session.session.handle());
        const Bytes digest =
            parameters(client_.ok(policyGetDigest(session.session.handle()))).tpm2b();
        same(digest, session.digest, "the digest");
        client_.ok(flushContext(session.session.handle()));
    }
}

void SoakSpace::startSession() {
    if (sessions_.size() + savedSessions_.size() >= kAwake) return;
    spaces::test::Session::Options options;
    static constexpr TPM2_SE types[] = {TPM2_SE_HMAC, TPM2_SE_HMAC, TPM2_SE_POLICY, TPM2_SE_POLICY,
                                        TPM2_SE_TRIAL};
    options.type = types[below(std::size(types))];
    options.symmetric = oneIn(2);
    const auto bind = anyOf({Kind::Storage, Kind::Signing, Kind::Hmac, Kind::Sealed});
    if (bind != objects_.end() && oneIn(3)) {
        options.bind = bind->first;
        options.bindName = bind->second.name;
        options.bindAuth = bind->second.auth;
    }
    doing_ = "StartAuthSession";
    const auto session = spaces::test::Session::start(client_, options);
    const bool bound = options.bind != TPM2_RH_NULL;
    if (!sessions_
             .emplace(session.handle(),
                      Session{session, options.type, bound, options.symmetric, Bytes(32), false})
             .second)
        throw std::runtime_error("a session's handle was given out twice");
}

void SoakSpace::flushSession() {
    if (sessions_.empty()) return;
    const auto at = any(sessions_);
    doing_ = "FlushContext " + hex(at->first);
    client_.ok(flushContext(at->first));
    sessions_.erase(at);
}

/// A policy session is taken through PolicyAuthValue, PolicyCommandCode and Unseal, with a step
/// amiss now and then; its digest is known at each.
void SoakSpace::usePolicy() {
    std::vector<Sessions::iterator> found;
    for (auto at = sessions_.begin(); at != sessions_.end(); ++at)
        if (at->second.isPolicy()) found.push_back(at);
    if (found.empty()) return;
    const auto at = found[below(found.size())];
    Session& session = at->second;
    const TPM2_HANDLE handle = at->first;
    if (oneIn(3)) {
        doing_ = "PolicyGetDigest " + hex(handle);
        same(parameters(client_.ok(policyGetDigest(handle))).tpm2b(), session.digest, "the digest");
    } else if (session.digest == unsealPolicy() && session.type == TPM2_SE_POLICY) {
        unsealByPolicy(at);
    } else if (session.commandCode || oneIn(10)) {
        doing_ = "PolicyRestart " + hex(handle);
        client_.ok(policyRestart(handle));
        session.restart();
    } else if (session.digest == Bytes(32) && !oneIn(10)) {
        doing_ = "PolicyAuthValue " + hex(handle);
        client_.ok(policyAuthValue(handle));
        session.session.authValueNeeded = true;
        session.digest = extended(session.digest, TPM2_CC_PolicyAuthValue);
    } else {
        doing_ = "PolicyCommandCode " + hex(handle);
        client_.ok(policyCommandCode(handle, TPM2_CC_Unseal));
        session.commandCode = true;
        session.digest = extended(session.digest, TPM2_CC_PolicyCommandCode, kUnsealCode);
    }
}

void SoakSpace::unsealByPolicy(Sessions::iterator at) {
    const auto object = anyOf({Kind::PolicySealed});
    if (object == objects_.end()) return;
    const bool goesOn = !oneIn(4);
    doing_ = "Unseal " + hex(object->first) + " by policy " + hex(at->first);
    const Bytes response = at->second.session.authorize(client_, unseal(object->first),
                                                        object->second.auth, {object->second.name},
                                                        goesOn ? TPMA_SESSION_CONTINUESESSION : 0);
    same(rc(response), TPM2_RC_SUCCESS, "response code");
    same(parameters(response).tpm2b(), bytes(object->second.secret), "the sealed data");
    if (goesOn)
        at->second.restart();
    else
        sessions_.erase(at);
}

void SoakSpace::saveSession() {
    if (sessions_.empty()) return;
    const auto at = any(sessions_);
    doing_ = "ContextSave " + hex(at->first);
    savedSessions_.emplace_back(context(client_.ok(contextSave(at->first))), at->second);
    sessions_.erase(at);
}

void SoakSpace::loadSession() {
    if (!staleContext_.empty() && oneIn(4)) {
        doing_ = "ContextLoad of a stale session";
        return refused(Command(TPM2_CC_ContextLoad).bytes(staleContext_),
                       TPM2_RC_HANDLE | TPM2_RC_P | TPM2_RC_1);
    }
    if (savedSessions_.empty()) return;
    const size_t which = below(savedSessions_.size());
    auto [saved, session] = savedSessions_[which];
    const TPM2_HANDLE expected = session.session.handle();
    doing_ = "ContextLoad of session " + hex(expected);
    same(handle(client_.ok(contextLoad(saved))), expected, "the loaded session's handle");
    savedSessions_.erase(savedSessions_.begin() + static_cast<std::ptrdiff_t>(which));
    sessions_.emplace(expected, session);
    staleContext_ = saved;
}

void SoakSpace::flushSavedSession() {
    if (savedSessions_.empty()) return;
    const TPM2_HANDLE session = savedSessions_.back().second.session.handle();
    doing_ = "FlushContext of saved " + hex(session);
    client_.ok(flushContext(session));
    staleContext_ = savedSessions_.back().first;
    savedSessions_.pop_back();
}

void SoakSpace::useSavedSession() {
    if (savedSessions_.empty()) return;
    const TPM2_HANDLE session = savedSessions_.back().second.session.handle();
    doing_ = "use of saved " + hex(session);
    refused(Command(TPM2_CC_GetRandom).session(session).u16(8), TPM2_RC_REFERENCE_S0);
    refused(contextSave(session), TPM2_RC_REFERENCE_H0);
}

// ---- What is not there, and what is -------------------------------------------------------------

void SoakSpace::useWhatIsNotThere() {
    TPM2_HANDLE missing = TPM2_TRANSIENT_FIRST;
    while (objects_.contains(missing)) ++missing;
    if (missing >= TPM2_TRANSIENT_FIRST + 3) return;  // out of range has codes of its own
    doing_ = "use of " + hex(missing) + ", which is not there";
    refused(readPublic(missing), TPM2_RC_REFERENCE_H0);
    refused(sign(missing), TPM2_RC_REFERENCE_H0);
    refused(flushContext(missing), TPM2_RC_HANDLE | TPM2_RC_P | TPM2_RC_1);
}

void SoakSpace::checkLists() {
    doing_ = "GetCapability of handles";
    std::vector<TPM2_HANDLE> expected;
    for (const auto& [handle, object] : objects_) expected.push_back(handle);
    same(handles(client_, TPM2_TRANSIENT_FIRST), expected, "transient objects");
    const auto byIndex = [](TPM2_HANDLE a, TPM2_HANDLE b) { return indexOf(a) < indexOf(b); };
    expected.clear();
    for (const auto& [handle, session] : sessions_) expected.push_back(handle);
    expected.push_back(idle_.session.handle());
    std::sort(expected.begin(), expected.end(), byIndex);
    same(handles(client_, TPM2_LOADED_SESSION_FIRST), expected, "loaded sessions");
    expected = {TPM2_HMAC_SESSION_FIRST + indexOf(sleeper_.session.handle())};
    for (const auto& [saved, session] : savedSessions_)
        expected.push_back(TPM2_HMAC_SESSION_FIRST + indexOf(session.session.handle()));
    std::sort(expected.begin(), expected.end(), byIndex);
    same(handles(client_, TPM2_ACTIVE_SESSION_FIRST), expected, "saved sessions");
}
