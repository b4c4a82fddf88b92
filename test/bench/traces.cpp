// SPDX-License-Identifier: BSD-2-Clause
// The traces; see traces.h.
// Always holds: an item is created before it is used, is used by no command after its flush, and
// no command names more than two items.
#include "bench/traces.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

namespace spaces::bench {
namespace {

using Items = std::vector<int>;
using Source = std::function<int()>;

/// Builds one trace. Random numbers come from the engine alone: the standard's distributions are
/// not the same everywhere.
class Builder {
  public:
    Builder(std::string name, unsigned seed, size_t commands) : commands_(commands), engine_(seed) {
        trace_.name = std::move(name);
    }

    bool full() const { return trace_.steps.size() >= commands_; }
    size_t below(size_t n) { return engine_() % n; }
    bool chance(double p) { return uniform() < p; }
    double uniform() { return static_cast<double>(engine_()) / 4294967296.0; }

    int create(Kind kind = Kind::Object, int parent = kNone, unsigned space = 0) {
        trace_.items.push_back({kind, space});
        int item = static_cast<int>(trace_.items.size()) - 1;
        trace_.steps.push_back({Act::Create, item, parent});
        return item;
    }
    Items createMany(size_t n, Kind kind = Kind::Object, unsigned space = 0) {
        Items items;
        for (size_t i = 0; i < n; i++) items.push_back(create(kind, kNone, space));
        return items;
    }
    void use(int item, int second = kNone) { trace_.steps.push_back({Act::Use, item, second}); }
    void alike() { trace_.alike = true; }
    void flush(int item) { trace_.steps.push_back({Act::Flush, item}); }

    Trace take() {
        trace_.steps.resize(std::min(trace_.steps.size(), commands_));
        return std::move(trace_);
    }

    /// Items one after the other, round and round.
    static Source cyclic(Items items) {
        return [items = std::move(items), i = size_t{0}]() mutable {
            return items[i++ % items.size()];
        };
    }
    /// Item k with a probability that falls as 1/(k+1)^s; s = 0: all alike.
    Source zipf(Items items, double s = 1) {
        std::vector<double> sum;
        double total = 0;
        for (double rank = 1; sum.size() < items.size(); rank++)
            sum.push_back(total += std::pow(rank, -s));
        return [this, items = std::move(items), sum = std::move(sum), total] {
            auto at = std::upper_bound(sum.begin(), sum.end(), uniform() * total) - sum.begin();
            return items[std::min<size_t>(at, items.size() - 1)];
        };
    }
    void draw(const Source& source, size_t n) {
        for (size_t i = 0; i < n && !full(); i++) use(source());
    }
    void fill(const Source& source) {
        while (!full()) use(source());
    }

  private:
    size_t commands_;
    std::mt19937 engine_;
    Trace trace_;
};

Items part(const Items& items, size_t first, size_t n) {
    Items some;
    for (size_t i = 0; i < n; i++) some.push_back(items[(first + i) % items.size()]);
    return some;
}

// ---- steady habits ------------------------------------------------------------------------------

void cyclic(Builder& b, size_t n, Kind kind) { b.fill(Builder::cyclic(b.createMany(n, kind))); }
void zipf(Builder& b, size_t n, Kind kind) { b.fill(b.zipf(b.createMany(n, kind))); }

void alike(Builder& b, size_t n) {
    b.alike();
    b.fill(b.zipf(b.createMany(n), 0));
}

/// 1 2 3 ... n ... 3 2: the interval of one item alternates between short and long.
void toAndFro(Builder& b, size_t n) {
    Items items = b.createMany(n), way = items;
    for (size_t i = n - 2; i > 0; i--) way.push_back(items[i]);
    b.fill(Builder::cyclic(way));
}

/// In turn, but one use in ten is any of them.
void nearlyInTurn(Builder& b, size_t n) {
    Items items = b.createMany(n);
    Source next = Builder::cyclic(items), any = b.zipf(items, 0);
    while (!b.full()) b.use(b.chance(0.1) ? any() : next());
}

/// A walk over a ring of objects, a step to either side at a time.
void randomWalk(Builder& b, size_t n) {
    Items items = b.createMany(n);
    for (size_t at = 0; !b.full(); at += b.chance(0.5) ? 1 : n - 1) b.use(items[at % n]);
}

/// The item at depth d of the recency stack with a probability that falls as `fall`^d: the kind of
/// habit that plain LRU is best at.
void recency(Builder& b, size_t n, double fall) {
    Items stack = b.createMany(n);
    while (!b.full()) {
        size_t depth = 0;
        while (depth + 1 < n && b.chance(fall)) depth++;
        std::rotate(stack.begin(), stack.begin() + depth, stack.begin() + depth + 1);
        b.use(stack.front());
    }
}

/// A Zipf choice, used a few times in a row: a tool that works with one key, then with another.
void bursts(Builder& b, size_t n) {
    Source next = b.zipf(b.createMany(n));
    while (!b.full()) {
        int item = next();
        for (size_t i = 1 + b.below(4); i > 0; i--) b.use(item);
    }
}

// ---- parents, pairs -----------------------------------------------------------------------------

/// p c1 p c2 p c3 ...
void parentBetween(Builder& b, size_t children, bool random) {
    int parent = b.create();
    Items items = b.createMany(children);
    Source next = random ? b.zipf(items) : Builder::cyclic(items);
    while (!b.full()) {
        b.use(parent);
        b.use(next());
    }
}

/// Several spaces, each of which loads a child below its own parent, uses it a few times and
/// flushes it.
void loadUseFlush(Builder& b, size_t spaces) {
    Items parents;
    for (unsigned i = 0; i < spaces; i++) parents.push_back(b.create(Kind::Object, kNone, i));
    struct Turn {
        int child = kNone;
        size_t left = 0;
    };
    std::vector<Turn> turns(spaces);
    while (!b.full()) {
        auto i = static_cast<unsigned>(b.below(spaces));
        if (turns[i].child == kNone) {
            turns[i] = {b.create(Kind::Object, parents[i], i), 1 + b.below(4)};
        } else if (turns[i].left-- > 0) {
            b.use(turns[i].child);
        } else {
            b.flush(turns[i].child);
            turns[i].child = kNone;
        }
    }
}

/// Commands that name two objects (Certify and the like), one of them always the same few.
void pairs(Builder& b, size_t keys, size_t objects) {
    Items signers = b.createMany(keys);
    Source next = Builder::cyclic(b.createMany(objects));
    while (!b.full()) b.use(next(), signers[b.below(keys)]);
}

// ---- habits that change -------------------------------------------------------------------------

void phases(Builder& b, size_t working_set, bool in_turn) {
    Items items = b.createMany(20);
    for (size_t phase = 0; !b.full(); phase++) {
        Items now = part(items, phase * 7, working_set);
        b.draw(in_turn ? Builder::cyclic(now) : b.zipf(now), 200 + b.below(200));
    }
}

void cyclicThenZipf(Builder& b) {
    Items items = b.createMany(16);
    while (!b.full()) {
        b.draw(Builder::cyclic(part(items, 0, 6)), 300);
        b.draw(b.zipf(items), 300);
    }
}

/// Two hot objects, then one pass over 20 others: the same ones each time, or new ones.
void scans(Builder& b, size_t hot_uses, bool new_ones) {
    Items hot = b.createMany(2), cold = b.createMany(new_ones ? 0 : 20);
    while (!b.full()) {
        b.draw(b.zipf(hot, 0), hot_uses);
        if (new_ones) {
            Items once = b.createMany(20);
            for (int item : once) b.use(item);
            for (int item : once) b.flush(item);
        } else {
            for (int item : cold) b.use(item);
        }
    }
}

/// The hot objects stay in use while the pass goes on.
void scanThroughHot(Builder& b) {
    Items hot = b.createMany(2);
    Source next = Builder::cyclic(b.createMany(20)), warm = b.zipf(hot, 0);
    while (!b.full()) b.use(b.chance(0.5) ? warm() : next());
}

// ---- several spaces -----------------------------------------------------------------------------

void twoSpaces(Builder& b, size_t in_turn, size_t random, bool strict) {
    Source one = Builder::cyclic(b.createMany(in_turn, Kind::Object, 0));
    Source other = b.zipf(b.createMany(random, Kind::Object, 1));
    for (size_t i = 0; !b.full(); i++) b.use((strict ? i % 2 : b.below(2)) ? one() : other());
}

// ---- birth and death ----------------------------------------------------------------------------

/// `alive` objects at a time, each used `uses` times on the average, then flushed and replaced.
void births(Builder& b, size_t alive, size_t uses, Kind kind) {
    b.alike();
    Items items = b.createMany(alive, kind);
    while (!b.full()) {
        size_t i = b.below(alive);
        if (b.below(uses + 1) > 0) {
            b.use(items[i]);
        } else {
            b.flush(items[i]);
            items[i] = b.create(kind);
        }
    }
}

/// The same in order: each is used `uses` times, in turn with the others, and leaves in its turn.
void birthsInTurn(Builder& b, size_t alive, size_t uses) {
    Items items = b.createMany(alive);
    std::vector<size_t> count(alive);
    for (size_t i = 0; i < alive; i++) count[i] = i * uses / alive;
    for (size_t i = 0; !b.full(); i = (i + 1) % alive) {
        if (count[i]++ < uses) {
            b.use(items[i]);
        } else {
            b.flush(items[i]);
            items[i] = b.create();
            count[i] = 0;
        }
    }
}

/// A few long-lived keys among objects that live for two or three uses.
void longAndShortLived(Builder& b) {
    Source keys = b.zipf(b.createMany(4));
    while (!b.full()) {
        int item = b.create();
        for (size_t i = 2 + b.below(2); i > 0; i--) {
            b.use(keys());
            b.use(item);
        }
        b.flush(item);
    }
}

// ---- sequences among objects --------------------------------------------------------------------

void sequencesAndObjects(Builder& b, size_t sequences, size_t objects, bool in_turn) {
    Items items = b.createMany(sequences, Kind::Sequence);
    for (int item : b.createMany(objects)) items.push_back(item);
    if (!in_turn)
        for (size_t i = items.size(); i > 1; i--) std::swap(items[i - 1], items[b.below(i)]);
    b.fill(in_turn ? Builder::cyclic(items) : b.zipf(items));
}

/// Hash sequences that are started, updated a few times and completed beside keys in use.
void hashing(Builder& b) {
    Source keys = b.zipf(b.createMany(6));
    std::vector<std::pair<int, size_t>> open;
    while (!b.full()) {
        if (b.chance(0.5)) {
            b.use(keys());
        } else if (open.size() < 2) {
            open.emplace_back(b.create(Kind::Sequence), 3 + b.below(8));
        } else {
            size_t i = b.below(open.size());
            b.use(open[i].first);
            if (--open[i].second == 0) {
                b.flush(open[i].first);
                open.erase(open.begin() + static_cast<std::ptrdiff_t>(i));
            }
        }
    }
}

using Make = std::function<void(Builder&)>;

std::vector<std::pair<std::string, Make>> recipes() {
    std::vector<std::pair<std::string, Make>> all;
    auto add = [&](std::string name, Make make) { all.emplace_back(std::move(name), make); };
    auto count = [](size_t n) { return std::to_string(n); };
    auto many = [](size_t n, std::string word) {
        return std::to_string(n) + " " + word + (n == 1 ? "" : "s");
    };
    for (const Kind kind : {Kind::Object, Kind::Session}) {
        const char* word = kind == Kind::Object ? "object" : "session";
        for (size_t n : {1, 2, 3, 4, 5, 8, 16})
            add(many(n, word) + " in turn", [=](Builder& b) { cyclic(b, n, kind); });
        for (size_t n : {8, 16, 64}) {
            if (kind == Kind::Session && n > 16) continue;  // a TPM has 64 in all
            add(many(n, word) + ", Zipf", [=](Builder& b) { zipf(b, n, kind); });
        }
    }
    for (size_t n : {4, 8}) add(count(n) + " objects, all alike", [=](Builder& b) { alike(b, n); });
    for (size_t n : {5, 9})
        add(count(n) + " objects to and fro", [=](Builder& b) { toAndFro(b, n); });
    add("8 objects, nearly in turn", [](Builder& b) { nearlyInTurn(b, 8); });
    add("16 objects, a random walk", [](Builder& b) { randomWalk(b, 16); });
    for (int percent : {50, 70, 85})
        add("recency, " + count(percent) + " % go deeper",
            [=](Builder& b) { recency(b, 16, percent / 100.0); });
    add("16 objects, Zipf, in bursts", [](Builder& b) { bursts(b, 16); });

    for (size_t n : {4, 8})
        add("a parent between " + count(n) + " children in turn",
            [=](Builder& b) { parentBetween(b, n, false); });
    add("a parent between 8 children, Zipf", [](Builder& b) { parentBetween(b, 8, true); });
    for (size_t n : {1, 2, 4})
        add("load, use, flush in " + many(n, "space"), [=](Builder& b) { loadUseFlush(b, n); });
    add("pairs: 1 key, 6 objects in turn", [](Builder& b) { pairs(b, 1, 6); });
    add("pairs: 2 keys, 6 objects in turn", [](Builder& b) { pairs(b, 2, 6); });

    add("phases of 5 objects in turn", [](Builder& b) { phases(b, 5, true); });
    add("phases of 8 objects, Zipf", [](Builder& b) { phases(b, 8, false); });
    add("6 in turn, then 16 Zipf", cyclicThenZipf);
    for (size_t n : {6, 40}) {
        add("2 hot used " + count(n) + " times, then 20 once",
            [=](Builder& b) { scans(b, n, false); });
        add("2 hot used " + count(n) + " times, then 20 new",
            [=](Builder& b) { scans(b, n, true); });
    }
    add("2 hot while 20 pass", scanThroughHot);
    add("spaces: 4 in turn and 2 hot", [](Builder& b) { twoSpaces(b, 4, 2, false); });
    add("spaces: 6 in turn and 8 Zipf", [](Builder& b) { twoSpaces(b, 6, 8, false); });
    add("spaces: 6 in turn and 8 Zipf, strictly", [](Builder& b) { twoSpaces(b, 6, 8, true); });

    for (size_t uses : {2, 8, 40})
        add("6 alive, each used " + count(uses) + " times",
            [=](Builder& b) { births(b, 6, uses, Kind::Object); });
    for (size_t uses : {2, 8})
        add("6 alive, in turn, each used " + count(uses) + " times",
            [=](Builder& b) { birthsInTurn(b, 6, uses); });
    add("6 sessions alive, each used 8 times", [](Builder& b) { births(b, 6, 8, Kind::Session); });
    add("4 keys among short-lived", longAndShortLived);

    add("4 sequences in turn", [](Builder& b) { cyclic(b, 4, Kind::Sequence); });
    add("2 sequences, 4 objects in turn", [](Builder& b) { sequencesAndObjects(b, 2, 4, true); });
    add("3 sequences, 5 objects, Zipf", [](Builder& b) { sequencesAndObjects(b, 3, 5, false); });
    add("hashing beside 6 keys", hashing);
    return all;
}

// ---- costs --------------------------------------------------------------------------------------

/// What one item costs while a trace is played: TPM commands to let it leave.
unsigned costToLeave(Kind kind, bool saved) {
    if (kind == Kind::Session) return 1;              // ContextSave
    return kind == Kind::Sequence || !saved ? 2 : 1;  // (ContextSave), FlushContext
}

/// What is alive, step by step: in one space, or in all.
Peak peakWhere(const Trace& trace, const std::function<bool(unsigned space)>& counts) {
    Peak peak, now;
    for (const Step& step : trace.steps) {
        const Item& item = trace.items[step.item];
        if (!counts(item.space) || step.act == Act::Use) continue;
        size_t& alive = item.kind == Kind::Session ? now.sessions : now.objects;
        step.act == Act::Create ? ++alive : --alive;
        peak.objects = std::max(peak.objects, now.objects);
        peak.sessions = std::max(peak.sessions, now.sessions);
    }
    return peak;
}

class Player {
  public:
    Player(const Trace& trace, unsigned slots, const Rule& rule)
        : trace_(trace), slots_(slots), rule_(rule), saved_(trace.items.size()) {}

    uint64_t play() {
        for (const Step& step : trace_.steps) {
            if (step.act == Act::Flush) {
                flush(step.item);
                continue;
            }
            if (step.second != kNone) ensure(step, step.second, true);
            ensure(step, step.item, step.act == Act::Use);
            cost_++;
            rule_.used(step.item);
            if (step.second != kNone) rule_.used(step.second);
        }
        return cost_;
    }

  private:
    Kind kindOf(int item) const { return trace_.items[item].kind; }

    /// A flushed object that is not in the TPM needs no TPM command; a session always does.
    void flush(int item) {
        bool resident = std::erase(resident_, item) > 0;
        if (resident || kindOf(item) == Kind::Session) cost_++;
    }

    void ensure(const Step& step, int item, bool load) {
        if (std::find(resident_.begin(), resident_.end(), item) != resident_.end()) return;
        if (resident_.size() >= slots_) evict(step);
        resident_.push_back(item);
        if (load) cost_++;
    }

    void evict(const Step& step) {
        std::vector<Resident> candidates;
        for (int item : resident_)
            if (item != step.item && item != step.second)
                candidates.push_back({item, costToLeave(kindOf(item), true) + 1});
        int victim = candidates[rule_.victim(candidates)].item;
        cost_ += costToLeave(kindOf(victim), saved_[victim]);
        saved_[victim] = true;
        std::erase(resident_, victim);
    }

    const Trace& trace_;
    unsigned slots_;
    const Rule& rule_;
    Items resident_;
    std::vector<bool> saved_;
    uint64_t cost_ = 0;
};

}  // namespace

std::vector<Trace> allTraces(unsigned seed, size_t commands) {
    std::vector<Trace> traces;
    for (const auto& [name, make] : recipes()) {
        Builder builder(name, seed, commands);
        make(builder);
        traces.push_back(builder.take());
    }
    return traces;
}

Peak peakOf(const Trace& trace) {
    return peakWhere(trace, [](unsigned) { return true; });
}

Peak peakOfOneSpace(const Trace& trace) {
    unsigned last = 0;
    for (const Item& item : trace.items) last = std::max(last, item.space);
    Peak most;
    for (unsigned space = 0; space <= last; space++) {
        const Peak peak = peakWhere(trace, [=](unsigned other) { return other == space; });
        most.objects = std::max(most.objects, peak.objects);
        most.sessions = std::max(most.sessions, peak.sessions);
    }
    return most;
}

uint64_t simulate(const Trace& trace, unsigned slots, const Rule& rule) {
    return Player(trace, slots, rule).play();
}

uint64_t costOfAbrmd(const Trace& trace) {
    uint64_t cost = 0;
    for (const Step& step : trace.steps)
        for (int item : {step.item, step.second}) {
            if (item == kNone || step.act == Act::Flush) continue;
            cost += trace.items[item].kind == Kind::Session ? 2 : 3;
            if (step.act == Act::Create && item == step.item) cost--;  // nothing to load
        }
    return cost + trace.steps.size();
}

/// The kernel fails beyond the TPM's slots; this is the price it would take if it did not.
uint64_t costOfKernel(const Trace& trace) {
    std::vector<uint64_t> extra(1);
    uint64_t cost = 0;
    for (const Step& step : trace.steps) {
        const Item& item = trace.items[step.item];
        if (item.space >= extra.size()) extra.resize(item.space + 1);
        unsigned moves = item.kind == Kind::Session ? 2 : 3;
        if (step.act == Act::Create) extra[item.space] += moves;
        cost += 1 + extra[item.space];
        if (step.act == Act::Flush) extra[item.space] -= moves;
    }
    return cost;
}

}  // namespace spaces::bench
