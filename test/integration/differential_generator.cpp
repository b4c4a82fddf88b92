// SPDX-License-Identifier: BSD-2-Clause
// What is chosen how often; see differential_generator.h.
#include "differential_generator.h"

#include <algorithm>
#include <set>

namespace spaces::test {
namespace {

const std::vector<Shape> kKeys = {Shape::Signing, Shape::Hmac, Shape::ExternalHmac};
const std::vector<Shape> kAnyObject = {Shape::Storage,      Shape::Signing,     Shape::Hmac,
                                       Shape::Sealed,       Shape::Policy,      Shape::External,
                                       Shape::ExternalHmac, Shape::HashSequence};
const std::vector<Shape> kSequences = {Shape::HashSequence, Shape::EventSequence,
                                       Shape::HmacSequence};

bool isPolicyType(const Thing& thing) { return thing.type != TPM2_SE_HMAC; }

/// Other octets in these could do something that the private TPMs of the others are not told of, or
/// whose numbers differ, or that time decides.
bool mayChangeOctets(const std::string& verb) {
    static const std::set<std::string> verbs = {
        "Primary", "Create",   "CreateLoaded", "Load",      "LoadExternal", "Sign",    "Hmac",
        "Certify", "Update",   "Complete",     "Start",     "LoadContext",  "PcrRead", "Random",
        "Hash",    "SelfTest", "HashSequence", "PolicyPcr", "PolicyNv",     "NvRead"};
    return verbs.contains(verb);
}

bool takesNoSession(const std::string& verb) {
    // A wrong HMAC of Clear's would count against lockout.
    static const std::set<std::string> verbs = {"Clear",    "Startup",  "PowerCycle",
                                                "PolicyNv", "NvDefine", "NvUndefine",
                                                "NvWrite",  "NvRead",   "NvReadPublic"};
    return verbs.contains(verb);
}

}  // namespace

std::vector<int> Generator::labels(const std::function<bool(const Thing&)>& wanted) const {
    std::vector<int> found;
    for (const auto& [label, thing] : world_->things())
        if (wanted(thing)) found.push_back(label);
    return found;
}

int64_t Generator::any(const std::vector<Shape>& shapes) {
    const bool right = !oneIn(12);
    if (oneIn(25)) return -1 - static_cast<int64_t>(below(5));
    if (oneIn(15)) return 0x81000000 + static_cast<int64_t>(below(4));
    std::vector<int64_t> found;
    for (const int label : labels([&](const Thing& thing) {
             const bool fits = std::find(shapes.begin(), shapes.end(), thing.shape) != shapes.end();
             return thing.kind == Thing::Kind::Object && thing.space == space_ && thing.live &&
                    (fits || !right);
         }))
        found.push_back(label);
    for (const auto& [handle, shape] : world_->persistent())
        if (std::find(shapes.begin(), shapes.end(), shape) != shapes.end()) found.push_back(handle);
    noObject_ = noObject_ || found.empty();
    if (found.empty()) return -1 - static_cast<int64_t>(below(3));
    return found[below(found.size())];
}

int64_t Generator::anySession(bool (*wanted)(const Thing&)) {
    if (oneIn(20))
        return oneIn(5) ? -64 - static_cast<int64_t>(below(3))
                        : -1 - static_cast<int64_t>(below(10));
    const bool right = !oneIn(12);
    const auto found = labels([&](const Thing& thing) {
        return thing.kind == Thing::Kind::Session && thing.space == space_ &&
               (right ? thing.live && wanted(thing) : thing.owns());
    });
    noSession_ = noSession_ || found.empty();
    if (found.empty()) return -1 - static_cast<int64_t>(below(4));
    return found[below(found.size())];
}

/// Mostly a late one; of others too.
int64_t Generator::anyContext() {
    auto found = labels([&](const Thing& thing) {
        return thing.kind == Thing::Kind::Context && (thing.space == space_ || oneIn(3));
    });
    if (found.empty()) return 0;
    if (found.size() > 8 && !oneIn(6)) found.erase(found.begin(), found.end() - 8);
    return found[below(found.size())];
}

void Generator::object(Operation& operation) {
    const size_t which = below(20);
    if (oneIn(3)) operation.with("auth", 1 + static_cast<int64_t>(below(2)));
    operation.with("shape",
                   static_cast<int64_t>(oneOf({Shape::Storage, Shape::Signing, Shape::Hmac,
                                               Shape::Hmac, Shape::Sealed, Shape::Policy})));
    if (oneIn(3)) operation.with("unique", 1 + static_cast<int64_t>(below(3)));
    const auto hierarchy = static_cast<int64_t>(below(4));
    if (which < 8) {
        operation.verb = "Primary";
        operation.with("hierarchy", hierarchy);
        if (oneIn(3)) operation.with("shape", static_cast<int64_t>(Shape::Storage));
        if (oneIn(8)) operation.with("stclear", 1);
    } else if (which < 11) {
        operation.verb = "Create";
        operation.with("parent", any({Shape::Storage}));
    } else if (which < 12) {
        operation.verb = "CreateLoaded";
        operation.with("parent", any({Shape::Storage}));
    } else if (which < 16) {
        const auto children = labels([&](const Thing& thing) {
            return thing.kind == Thing::Kind::Child && thing.space == space_;
        });
        operation.verb = "Load";
        operation.arguments.clear();
        if (children.empty()) return object(operation);
        const int child = children[below(children.size())];
        // Its own parent, if that is still there.
        const auto parent = static_cast<int>(world_->things().at(child).maker.get("parent"));
        const auto at = world_->things().find(parent);
        const bool there = at != world_->things().end() && at->second.live;
        operation.with("child", child)
            .with("parent", there && !oneIn(8) ? parent : any({Shape::Storage}));
    } else {
        operation.verb = "LoadExternal";
        operation.with("shape",
                       static_cast<int64_t>(oneIn(2) ? Shape::External : Shape::ExternalHmac));
        operation.with("hierarchy", hierarchy);
    }
}

void Generator::use(Operation& operation) {
    switch (below(9)) {
        case 0:
        case 1:
            operation.verb = "ReadPublic";
            operation.with("key", any(kAnyObject));
            break;
        case 2:
            operation.verb = "Sign";
            operation.with("key", any({Shape::Signing}));
            break;
        case 3:
        case 4:
        case 5:
            operation.verb = "Hmac";
            operation.with("key", any({Shape::Hmac, Shape::ExternalHmac, Shape::Policy}));
            break;
        case 6:
            operation.verb = "Unseal";
            operation.with("key", any({Shape::Sealed}));
            break;
        case 7:
            operation.verb = "Certify";
            operation.with("key", any(kAnyObject)).with("by", oneIn(3) ? TPM2_RH_NULL : any(kKeys));
            break;
        default:
            operation.verb = "ChangeAuth";
            operation.with("key", any(kAnyObject)).with("parent", any({Shape::Storage}));
            operation.with("auth", static_cast<int64_t>(below(3)));
            break;
    }
    operation.with("data", static_cast<int64_t>(below(40)));
}

void Generator::sequence(Operation& operation) {
    operation.with("data", static_cast<int64_t>(below(200)));
    switch (below(7)) {
        case 0:
            operation.verb = "HashSequence";
            operation.with("event", oneIn(3));
            break;
        case 1:
            operation.verb = "HmacSequence";
            operation.with("key", any({Shape::Hmac, Shape::ExternalHmac}));
            break;
        case 2:
        case 3:
        case 4:
            operation.verb = "Update";
            operation.with("key", any(kSequences));
            break;
        case 5:
            operation.verb = "Complete";
            operation.with("key", any({Shape::HashSequence, Shape::HmacSequence}));
            break;
        default:
            operation.verb = "EventComplete";
            operation.with("key", any({Shape::EventSequence}));
            if (oneIn(2)) operation.with("pcr", oneOf<int64_t>({10, 16}));
            break;
    }
}

void Generator::start(Operation& operation) {
    operation.verb = "Start";
    operation.with("type", oneOf<int64_t>({TPM2_SE_HMAC, TPM2_SE_HMAC, TPM2_SE_POLICY,
                                           TPM2_SE_POLICY, TPM2_SE_TRIAL}));
    if (oneIn(2)) operation.with("symmetric", 1);
    if (oneIn(4)) operation.with("bind", any(kAnyObject));
    if (oneIn(8)) operation.with("salt", any({Shape::Storage}));
}

void Generator::policy(Operation& operation) {
    if (oneIn(4)) return start(operation);
    if (oneIn(10)) {
        operation.verb = "AuditDigest";
        operation.with("session", anySession([](const Thing& t) { return !isPolicyType(t); }));
        operation.with("by", oneIn(2) ? TPM2_RH_NULL : any(kKeys));
        return;
    }
    operation.verb = oneOf<const char*>({"PolicyCommandCode", "PolicyCommandCode",
                                         "PolicyAuthValue", "PolicyPassword", "PolicyPcr",
                                         "PolicySecret", "PolicyNv", "PolicyRestart",
                                         "PolicyGetDigest", "PolicyGetDigest", "PolicyLocality"});
    operation.with("session", anySession(isPolicyType));
    if (operation.verb == "PolicyNv") operation.with("index", static_cast<int64_t>(below(3)));
    if (operation.verb == "PolicySecret" && oneIn(2)) operation.with("key", any(kAnyObject));
    if (operation.verb == "PolicyPcr") operation.with("pcr", oneOf<int64_t>({10, 16}));
}

void Generator::context(Operation& operation) {
    const int64_t context = anyContext();
    if (context != 0 && oneIn(2)) {
        operation.verb = "LoadContext";
        operation.with("context", context);
        return;
    }
    operation.verb = "Save";
    if (oneIn(2))
        operation.with("key", any(kAnyObject));
    else
        operation.with("session", anySession([](const Thing&) { return true; }));
}

std::vector<int> Generator::savedSessions() const {
    return labels([&](const Thing& thing) {
        return thing.kind == Thing::Kind::Session && thing.space == space_ && thing.saved;
    });
}

void Generator::flush(Operation& operation) {
    operation.verb = "Flush";
    const auto saved = savedSessions();
    if (!saved.empty() && (saved.size() > 4 || oneIn(4)))
        operation.with("session", saved[below(saved.size())]);
    else if (world_->loadedSessions(space_) > 0 && oneIn(2))
        operation.with("session", anySession([](const Thing&) { return true; }));
    else
        operation.with("key", any(kAnyObject));
}

void Generator::question(Operation& operation) {
    const auto any = [](const Thing&) { return true; };
    switch (below(10)) {
        case 0:
            operation.verb = "Random";
            break;
        case 1:
            operation.verb = "Hash";
            break;
        case 2:
            operation.verb = oneIn(2) ? "Clock" : "SelfTest";
            break;
        case 3:
            operation.verb = "PcrRead";
            operation.with("pcr", oneOf<int64_t>({10, 16}));
            break;
        case 4:
            operation.verb = "Capability";
            operation.with("capability", TPM2_CAP_TPM_PROPERTIES)
                .with("first", oneOf<int64_t>({TPM2_PT_HR_LOADED, TPM2_PT_HR_NV_INDEX,
                                               TPM2_PT_HR_TRANSIENT_AVAIL, TPM2_PT_PERMANENT,
                                               TPM2_PT_HR_TRANSIENT_MIN}))
                .with("count", oneOf<int64_t>({1, 5, 20}));
            break;
        default:
            operation.verb = "Capability";
            if (oneIn(4))
                operation.with("session", anySession(any));
            else
                operation.with("first",
                               oneOf<int64_t>({0x80000000, 0x80000000, 0x80000001, 0x80000002,
                                               0x02000000, 0x02000000, 0x03000000, 0x03000000,
                                               0x81000000, 0x01000000, 0x04000000}));
            if (oneIn(2)) operation.with("count", static_cast<int64_t>(below(4)));
            break;
    }
}

void Generator::pcrOrNv(Operation& operation) {
    operation.verb =
        oneOf<const char*>({"PcrExtend", "PcrReset", "PcrEvent", "NvDefine", "NvUndefine",
                            "NvWrite", "NvWrite", "NvRead", "NvRead", "NvReadPublic"});
    operation.with("pcr", oneOf<int64_t>({10, 16}))
        .with("index", static_cast<int64_t>(below(3)))
        .with("data", static_cast<int64_t>(below(10)));
}

void Generator::evict(Operation& operation) {
    operation.verb = "Evict";
    const auto slot = static_cast<int64_t>(below(3));
    operation.with("slot", slot);
    if (oneIn(3)) {
        operation.with("key", 0x81000000 + slot);
        return;
    }
    const auto primaries = labels([&](const Thing& thing) {
        return thing.kind == Thing::Kind::Object && thing.space == space_ && thing.live &&
               thing.maker.verb == "Primary" && thing.hierarchy == TPM2_RH_OWNER;
    });
    operation.with("key", primaries.empty() ? any(kAnyObject) : primaries[below(primaries.size())]);
}

void Generator::hierarchy(Operation& operation) {
    switch (below(12)) {
        case 0:
            operation.verb = "Clear";
            break;
        case 1:
            operation.verb = oneIn(2) ? "ChangePps" : "ChangeEps";
            break;
        case 2:
            operation.verb = "PowerCycle";
            if (!oneIn(4)) operation.with("shutdown", oneIn(4) ? TPM2_SU_CLEAR : TPM2_SU_STATE);
            if (oneIn(2)) operation.with("resume", 1);
            if (world_->loadedSessions(space_) > 0 && oneIn(2))
                operation.with("flush", anySession([](const Thing& thing) { return thing.live; }));
            else if (const auto saved = savedSessions(); !saved.empty() && oneIn(2))
                operation.with("flush", saved[below(saved.size())]);
            break;
        case 3:
            operation.verb = oneIn(2) ? "Startup" : "Shutdown";
            operation.with("type", oneIn(2));
            break;
        case 4:
        case 5:
        case 6:
            operation.verb = "HierarchyControl";
            operation.with("hierarchy", oneIn(12) ? 2 : static_cast<int64_t>(below(2)));
            break;
        default:
            operation.verb = "HierarchyControl";
            operation.with("hierarchy", static_cast<int64_t>(below(2))).with("on", 1);
            break;
    }
}

/// A bound session that authorises a public-only object puts the reference TPM in failure mode.
bool Generator::wouldFailTheTpm(const Operation& operation) const {
    const auto is = [&](const char* argument, auto wanted) {
        const auto at = world_->things().find(static_cast<int>(operation.get(argument)));
        return at != world_->things().end() && wanted(at->second);
    };
    const auto isPublicOnly = [](const Thing& thing) { return thing.shape == Shape::External; };
    const auto isBound = [](const Thing& thing) { return thing.bound; };
    return (is("key", isPublicOnly) || is("by", isPublicOnly) || is("parent", isPublicOnly)) &&
           (is("s1", isBound) || is("s2", isBound));
}

/// Sessions that authorise, audit or encrypt.
void Generator::addSessions(Operation& operation) {
    if (takesNoSession(operation.verb) || !oneIn(3)) return;
    const auto audits = [](const Thing& thing) { return !isPolicyType(thing) && !thing.bound; };
    const auto sessions = [](const Thing&) { return true; };
    for (const char* number : {"1", "2", "3"}) {
        if (oneIn(4)) continue;
        int64_t attributes = oneIn(8) ? 0 : TPMA_SESSION_CONTINUESESSION;
        const bool audit = oneIn(4);
        if (audit) attributes |= TPMA_SESSION_AUDIT;
        if (audit && oneIn(6)) attributes |= TPMA_SESSION_AUDITEXCLUSIVE;
        if (audit && oneIn(6)) attributes |= TPMA_SESSION_AUDITRESET;
        const int64_t label = anySession(audit ? audits : sessions);
        const auto at = world_->things().find(static_cast<int>(label));
        const bool symmetric = at != world_->things().end() && at->second.symmetric;
        if (symmetric && canDecrypt(operation.verb) && oneIn(3)) attributes |= TPMA_SESSION_DECRYPT;
        if (symmetric && canEncrypt(operation.verb) && oneIn(3)) attributes |= TPMA_SESSION_ENCRYPT;
        operation.with(std::string("s") + number, label);
        operation.with(std::string("a") + number, attributes);
        if (!oneIn(4)) break;
    }
}

void Generator::spoil(Operation& operation) {
    switch (below(7)) {
        case 0:
        case 1:
            operation.with("cut", static_cast<int64_t>(below(400)));
            break;
        case 2:
            operation.with("extend", 1 + static_cast<int64_t>(below(8)));
            break;
        case 3:
            operation.with("tag", oneOf<int64_t>({TPM2_ST_SESSIONS, TPM2_ST_NO_SESSIONS,
                                                  TPM2_ST_RSP_COMMAND, 0x1234}));
            break;
        case 4:
            operation.with("code", oneOf<int64_t>({0x123, 0x11E, 0x1FF, 0x20000171}));
            break;
        case 5:
            operation.with("drop", 1);
            break;
        default:
            if (!mayChangeOctets(operation.verb)) break;
            operation.with("flip", static_cast<int64_t>(below(400)));
            operation.with("by", 1 + static_cast<int64_t>(below(255)));
            break;
    }
}

/// What is loaded leaves no slot to the space.
bool Generator::isFull() const {
    size_t objects = 0, sessions = 0;
    for (size_t each = 0; each < World::kSpaces; ++each) {
        if (world_->swaps() && each != space_) continue;
        objects += world_->objects(each);
        sessions += world_->loadedSessions(each);
    }
    return objects >= World::kSlots || sessions >= World::kSlots;
}

void Generator::chooseVerb(Operation& operation) {
    static constexpr struct {
        Choice choice;
        size_t weight;
    } kChoices[] = {{&Generator::object, 16},   {&Generator::use, 28},
                    {&Generator::sequence, 12}, {&Generator::policy, 22},
                    {&Generator::context, 12},  {&Generator::flush, 7},
                    {&Generator::question, 12}, {&Generator::pcrOrNv, 6},
                    {&Generator::evict, 3},     {&Generator::hierarchy, 1}};
    size_t total = 0;
    for (const auto& each : kChoices) total += each.weight;
    size_t at = below(total);
    for (const auto& each : kChoices) {
        if (at < each.weight) return (this->*each.choice)(operation);
        at -= each.weight;
    }
}

Operation Generator::choose(size_t space) {
    space_ = space;
    ++label_;
    const auto fresh = [&] { return Operation{label_, space, "", {}}; };
    Operation operation = fresh();
    noObject_ = noSession_ = false;
    if (isFull() && oneIn(6))
        flush(operation);
    else
        chooseVerb(operation);
    // What there is nothing for is mostly not worth asking.
    if (noObject_ && !oneIn(4)) object(operation = fresh());
    if (noSession_ && !oneIn(4)) start(operation = fresh());
    addSessions(operation);
    if (wouldFailTheTpm(operation))
        for (const char* session : {"s1", "s2", "s3"}) operation.arguments.erase(session);
    if (operation.verb != "Clear" && oneIn(25)) operation.with("wrong", 1);
    if (operation.verb != "PowerCycle" && oneIn(8)) spoil(operation);
    return operation;
}

Script Generator::next(const World& world) {
    world_ = &world;
    Script batch;
    size_t space = below(World::kSpaces);
    const size_t size = oneIn(6) ? 2 + below(World::kSpaces - 1) : 1;
    while (batch.size() < size) {
        batch.push_back(choose(space));
        if (batch.back().verb == "PowerCycle") return {batch.back()};
        space = (space + 1) % World::kSpaces;
    }
    for (size_t i = 0; i + 1 < batch.size(); ++i) batch[i].with("later", 1);
    return batch;
}

}  // namespace spaces::test
