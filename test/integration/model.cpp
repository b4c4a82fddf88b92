// SPDX-License-Identifier: BSD-2-Clause
// The model TPM of the unit tests answers as a real one: the same random commands go to both.
//
// Always holds: response codes and handles are the same after every command, and so is what
// is loaded and saved; what the model does not have (types of sessions, authorisation, templates)
// is not asked for. SPACES_SEED and SPACES_ROUNDS say otherwise for a longer run.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <map>
#include <optional>
#include <random>

#include "model_side.h"
#include "support/client.h"
#include "support/command.h"
#include "support/response.h"
#include "support/simulator.h"

namespace spaces::test {
namespace {

constexpr TPM2_HANDLE kPersistent = 0x81800001;  // of PLATFORM, which Clear does not touch
constexpr TPM2_RH kHierarchies[] = {TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT, TPM2_RH_PLATFORM,
                                    TPM2_RH_NULL};

uint64_t setting(const char* name, uint64_t otherwise) {
    const char* value = std::getenv(name);
    return value == nullptr || *value == '\0' ? otherwise : std::stoull(value);
}

class Pair {
  public:
    explicit Pair(uint64_t seed) : random_(seed) { makePersistent(); }

    /// One command to both. False when they differ.
    bool step();

  private:
    enum class Kind { Storage, Signing, Sequence };
    struct Object {
        Kind kind;
        int instance;  // of the key: contexts of it are the same
    };
    struct Context {
        Bytes real, model;
        std::optional<Object> object;  // none: a session's
    };
    struct Child {
        Created created;
        int parent;
    };

    size_t below(size_t limit) { return random_() % limit; }
    bool oneIn(size_t count) { return below(count) == 0; }

    TPM2_HANDLE anyObject() {
        return oneIn(12) ? kPersistent : TPM2_TRANSIENT_FIRST + static_cast<TPM2_HANDLE>(below(4));
    }
    TPM2_HANDLE anySession();
    const Object* find(TPM2_HANDLE handle) const {
        const auto found = objects_.find(handle);
        return found == objects_.end() ? nullptr : &found->second;
    }
    bool is(TPM2_HANDLE handle, Kind kind) const {
        return find(handle) == nullptr || find(handle)->kind == kind;
    }

    bool both(const Bytes& command) { return both(command, command); }
    bool both(const Bytes& toReal, const Bytes& toModel);
    bool succeeded() const { return rc(answer_) == TPM2_RC_SUCCESS; }
    bool asMuch();
    void makePersistent();

    bool makeObject();
    bool useObject();
    bool useSession();
    bool save();
    bool load();
    bool flush();
    bool changeHierarchy();
    bool powerCycle();

    std::mt19937_64 random_;
    Simulator sim_{Record::nothing};
    Client real_ = Client::bare(sim_);
    ModelSide model_;
    Bytes answer_, modelAnswer_;
    std::map<TPM2_HANDLE, Object> objects_;
    std::map<uint32_t, TPM2_HANDLE> sessions_;  // by index, loaded and saved
    std::deque<Context> contexts_;
    std::deque<Child> children_;
    int instances_ = 0;
};

TPM2_HANDLE Pair::anySession() {
    if (sessions_.empty() || oneIn(10))
        return TPM2_POLICY_SESSION_FIRST + static_cast<TPM2_HANDLE>(below(66));
    return std::next(sessions_.begin(), static_cast<ptrdiff_t>(below(sessions_.size())))->second;
}

bool Pair::both(const Bytes& toReal, const Bytes& toModel) {
    answer_ = real_.send(toReal);
    modelAnswer_ = model_.send(toModel);
    Cursor header(toReal);
    header.bytes(6);
    const bool creates = responseHandles(header.u32()) == 1;
    EXPECT_EQ(hex(rc(modelAnswer_)), hex(rc(answer_))) << hex(toReal);
    if (rc(modelAnswer_) != rc(answer_)) return false;
    if (!creates || !succeeded()) return true;
    EXPECT_EQ(hex(handle(modelAnswer_)), hex(handle(answer_))) << hex(toReal);
    return handle(modelAnswer_) == handle(answer_);
}

/// How much there is; and what is gone is forgotten.
bool Pair::asMuch() {
    const auto objects = handles(real_, TPM2_TRANSIENT_FIRST);
    const auto loaded = handles(real_, TPM2_LOADED_SESSION_FIRST);
    const auto saved = handles(real_, TPM2_ACTIVE_SESSION_FIRST);
    EXPECT_EQ(model_.objects(), objects.size());
    EXPECT_EQ(model_.loadedSessions(), loaded.size());
    EXPECT_EQ(model_.savedSessions(), saved.size());
    const TPM2_HANDLE kinds[] = {TPM2_TRANSIENT_FIRST, TPM2_LOADED_SESSION_FIRST,
                                 TPM2_ACTIVE_SESSION_FIRST};
    const TPM2_HANDLE from = kinds[below(3)] + static_cast<TPM2_HANDLE>(below(3));
    const Bytes query = getCapability(TPM2_CAP_HANDLES, from, static_cast<uint32_t>(1 + below(4)));
    EXPECT_EQ(hex(model_.send(query)), hex(real_.send(query))) << hex(query);
    std::erase_if(objects_, [&](const auto& entry) {
        return std::find(objects.begin(), objects.end(), entry.first) == objects.end();
    });
    std::erase_if(sessions_, [&](const auto& entry) {
        const auto isIt = [&](TPM2_HANDLE handle) { return (handle & 0xFFFFFF) == entry.first; };
        return std::none_of(loaded.begin(), loaded.end(), isIt) &&
               std::none_of(saved.begin(), saved.end(), isIt);
    });
    return !testing::Test::HasFailure();
}

void Pair::makePersistent() {
    const TPM2_HANDLE key = handle(real_.ok(createPrimary(TPM2_RH_PLATFORM, eccStorage("kept"))));
    real_.ok(evictControl(key, kPersistent, TPM2_RH_PLATFORM));
    real_.ok(flushContext(key));
}

bool Pair::makeObject() {
    const auto kind = static_cast<Kind>(below(3));
    const auto unique = std::to_string(below(3));
    if (kind == Kind::Sequence) {
        if (!both(hashSequenceStart())) return false;
    } else {
        const TPM2_RH hierarchy = kHierarchies[below(4)];
        Command command =
            createPrimary(hierarchy, kind == Kind::Storage ? eccStorage(unique) : hmacKey(unique));
        // An HMAC session with an empty key needs no HMAC.
        const TPM2_HANDLE session = anySession();
        if (oneIn(4) &&
            (session >> 24 == TPM2_HT_HMAC_SESSION || !sessions_.contains(session & 63)))
            command.noAuth().session(session, {}, oneIn(3) ? 0 : TPMA_SESSION_CONTINUESESSION);
        if (!both(command)) return false;
    }
    if (succeeded()) objects_[handle(answer_)] = {kind, ++instances_};
    return true;
}

bool Pair::useObject() {
    const TPM2_HANDLE object = anyObject(), other = anyObject();
    switch (below(7)) {
        case 0:
            return find(object) && is(object, Kind::Sequence) ? true : both(readPublic(object));
        case 1:
            return object == kPersistent || both(sequenceUpdate(object, "data"));
        case 2:
            return object == kPersistent || both(sequenceComplete(object));
        case 3: {
            // Who certifies signs; two that are not there are as good.
            const bool signs = other != kPersistent && is(other, Kind::Signing);
            const bool certifiable = !find(object) || !is(object, Kind::Sequence);
            // The real one takes an absent object for the persistent one named before it.
            const bool alias = object == kPersistent && !find(other);
            return !signs || !certifiable || alias || both(certify(object, other));
        }
        case 4: {
            const Bytes cut = readPublic(object).truncate(10 + below(4));
            return both(cut);
        }
        case 5:
            if (object != kPersistent && !is(object, Kind::Storage)) return true;
            if (!both(create(object, hmacKey()))) return false;
            if (succeeded() && find(object))
                children_.push_back({created(answer_), find(object)->instance});
            if (children_.size() > 8) children_.pop_front();
            return true;
        default: {
            if (children_.empty()) return true;
            const Child& child = children_[below(children_.size())];
            if (find(object) != nullptr && find(object)->instance != child.parent) return true;
            if (object == kPersistent) return true;
            if (!both(test::load(object, child.created.outPrivate, child.created.outPublic)))
                return false;
            if (succeeded()) objects_[handle(answer_)] = {Kind::Signing, ++instances_};
            return true;
        }
    }
}

bool Pair::useSession() {
    const TPM2_HANDLE session = anySession();
    const bool policy = session >> 24 == TPM2_HT_POLICY_SESSION;
    switch (below(5)) {
        case 0:
        case 1: {
            const TPM2_SE types[] = {TPM2_SE_HMAC, TPM2_SE_POLICY, TPM2_SE_TRIAL};
            if (!both(startAuthSession(types[below(3)]))) return false;
            if (succeeded()) sessions_[handle(answer_) & 0xFFFFFF] = handle(answer_);
            return true;
        }
        case 2:
            return !policy || both(policyCommandCode(session, TPM2_CC_Sign));
        case 3:
            return !policy || both(policySecret(TPM2_RH_OWNER, session));
        default:
            return !policy || both(policyGetDigest(session));
    }
}

bool Pair::save() {
    const bool ofSession = oneIn(2);
    const TPM2_HANDLE what = ofSession ? anySession() : anyObject();
    if (what == kPersistent) return true;
    if (!both(contextSave(what))) return false;
    if (!succeeded()) return true;
    Context context{test::context(answer_), test::context(modelAnswer_), std::nullopt};
    if (!ofSession) context.object = *find(what);
    contexts_.push_back(context);
    if (contexts_.size() > 100) contexts_.pop_front();
    return true;
}

bool Pair::load() {
    if (contexts_.empty()) return true;
    Context context = contexts_[below(oneIn(3) ? contexts_.size() : 1)];
    if (oneIn(2))
        context = contexts_[contexts_.size() - 1 - below(std::min<size_t>(4, contexts_.size()))];
    if (oneIn(8)) {
        context.real.back() ^= 1;
        context.model.back() ^= 1;
    }
    if (!both(contextLoad(context.real), contextLoad(context.model))) return false;
    if (succeeded() && context.object) objects_[handle(answer_)] = *context.object;
    return true;
}

bool Pair::flush() {
    TPM2_HANDLE what = oneIn(2) ? anySession() : anyObject();
    // Either type names a session here.
    if (what >> 31 == 0 && oneIn(3)) what ^= 0x01000000;
    return both(flushContext(what));
}

bool Pair::changeHierarchy() {
    const bool on = !oneIn(3);
    switch (below(6)) {
        case 0:
            return both(clear());
        case 1:
            if (!both(changePps())) return false;
            // Its persistent object has gone, too, of which the model knows nothing.
            for (const auto& [handle, object] : std::map(objects_)) {
                both(flushContext(handle));
                objects_.erase(handle);
            }
            makePersistent();
            return true;
        case 2:
            return both(changeEps());
        default:
            return both(hierarchyControl(kHierarchies[below(2)], on));
    }
}

bool Pair::powerCycle() {
    const bool orderly = !oneIn(4);
    if (orderly && !both(shutdown(oneIn(3) ? TPM2_SU_CLEAR : TPM2_SU_STATE))) return false;
    while (orderly && oneIn(3))
        if (!(oneIn(2) ? flush() : load())) return false;
    sim_.reset(AfterReset::none);
    model_.powerCycle();
    if (!both(getRandom()) || !both(flushContext(anyObject()))) return false;
    if (!both(startup(oneIn(2) ? TPM2_SU_STATE : TPM2_SU_CLEAR))) return false;
    return succeeded() || both(startup());
}

bool Pair::step() {
    using Act = bool (Pair::*)();
    static constexpr Act acts[] = {
        &Pair::makeObject, &Pair::makeObject, &Pair::makeObject, &Pair::useObject,
        &Pair::useObject,  &Pair::useObject,  &Pair::useObject,  &Pair::useSession,
        &Pair::useSession, &Pair::useSession, &Pair::save,       &Pair::save,
        &Pair::load,       &Pair::load,       &Pair::flush,      &Pair::flush};
    const size_t seldom = below(60);
    const Act act = seldom == 0   ? &Pair::powerCycle
                    : seldom <= 3 ? &Pair::changeHierarchy
                                  : acts[below(std::size(acts))];
    return (this->*act)() && asMuch();
}

TEST(Model, AnswersAsARealTpm) {
    const uint64_t seed = setting("SPACES_SEED", 2017), rounds = setting("SPACES_ROUNDS", 4000);
    constexpr uint64_t roundsInOneTpm = 1000;
    std::cout << "SPACES_SEED=" << seed << " SPACES_ROUNDS=" << rounds << "\n";
    for (uint64_t round = 0; round < rounds;) {
        Pair pair(seed + round);
        for (uint64_t i = 0; i < roundsInOneTpm && round < rounds; ++i, ++round)
            ASSERT_TRUE(pair.step()) << "round " << i << " of seed " << seed + round - i;
    }
}

}  // namespace
}  // namespace spaces::test
