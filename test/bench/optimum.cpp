// SPDX-License-Identifier: BSD-2-Clause
// The least that any rule can pay for a trace; see traces.h.
// Keeping an item from one command that names it to the next saves the cost of its leaving and
// coming back, and takes a slot over all commands between. The slots are units of flow through the
// line of commands: a unit either rests between commands or rides on one item's stay. Each command
// must be touched by as many units as it names items, since those are resident. The cheapest flow
// is the optimum for any costs. Only a first save is spread evenly over the chances to pay it,
// which can put the result below the true optimum (by one command per object) but never above.
// Always holds: costs are integers, so the result does not hang on rounding.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <queue>
#include <utility>
#include <vector>

#include "bench/traces.h"

namespace spaces::bench {
namespace {

constexpr int64_t kUnit = 1 << 20;           // one TPM command
constexpr int64_t kMust = int64_t{1} << 40;  // more than any trace costs: such arcs are taken first
constexpr int64_t kFar = std::numeric_limits<int64_t>::max() / 4;

/// Min-cost flow by successive shortest paths. Arcs lead from lower to higher nodes only.
class Flow {
  public:
    explicit Flow(size_t nodes) : out_(nodes), potential_(nodes, kFar) {}

    void arc(size_t from, size_t to, int capacity, int64_t cost) {
        out_[from].push_back(arcs_.size());
        arcs_.push_back({to, capacity, cost});
        out_[to].push_back(arcs_.size());
        arcs_.push_back({from, 0, -cost});
    }

    /// Sends `units` from the first node to the last one; returns their cost.
    int64_t send(unsigned units) {
        firstPotentials();
        int64_t cost = 0;
        for (unsigned i = 0; i < units; i++) cost += sendOne();
        return cost;
    }

  private:
    struct Arc {
        size_t to;
        int capacity;
        int64_t cost;
    };

    void firstPotentials() {
        potential_[0] = 0;
        for (size_t node = 0; node < out_.size(); node++)
            for (size_t a : out_[node])
                if (arcs_[a].capacity > 0)
                    potential_[arcs_[a].to] =
                        std::min(potential_[arcs_[a].to], potential_[node] + arcs_[a].cost);
    }

    int64_t sendOne() {
        std::vector<int64_t> distance(out_.size(), kFar);
        std::vector<size_t> by(out_.size());
        std::priority_queue<std::pair<int64_t, size_t>, std::vector<std::pair<int64_t, size_t>>,
                            std::greater<>>
            open;
        distance[0] = 0;
        open.push({0, 0});
        while (!open.empty()) {
            auto [d, node] = open.top();
            open.pop();
            if (d > distance[node]) continue;
            for (size_t a : out_[node]) {
                const Arc& arc = arcs_[a];
                int64_t next = d + arc.cost + potential_[node] - potential_[arc.to];
                if (arc.capacity == 0 || next >= distance[arc.to]) continue;
                distance[arc.to] = next;
                by[arc.to] = a;
                open.push({next, arc.to});
            }
        }
        for (size_t node = 0; node < out_.size(); node++) potential_[node] += distance[node];
        int64_t cost = 0;
        for (size_t node = out_.size() - 1; node != 0; node = arcs_[by[node] ^ 1].to) {
            arcs_[by[node]].capacity--;
            arcs_[by[node] ^ 1].capacity++;
            cost += arcs_[by[node]].cost;
        }
        return cost;
    }

    std::vector<Arc> arcs_;
    std::vector<std::vector<size_t>> out_;
    std::vector<int64_t> potential_;
};

/// What not staying costs: until the next use, or until the end (a flush or the trace's last
/// command), where nothing has to come back.
int64_t priceOfLeaving(Kind kind, bool used_again, bool flushed) {
    if (used_again) return kind == Kind::Sequence ? 3 : 2;
    if (flushed) return kind == Kind::Object ? 0 : 1;
    return kind == Kind::Sequence ? 2 : 1;
}

/// One item's life: the commands that name it, and the one that ends it.
struct Life {
    std::vector<size_t> named;
    size_t end;
    bool flushed = false;
};

std::vector<Life> livesOf(const Trace& trace) {
    std::vector<Life> lives(trace.items.size(), Life{{}, trace.steps.size()});
    for (size_t t = 0; t < trace.steps.size(); t++) {
        const Step& step = trace.steps[t];
        if (step.act == Act::Flush) {
            lives[step.item].end = t;
            lives[step.item].flushed = true;
        } else {
            lives[step.item].named.push_back(t);
            if (step.second != kNone) lives[step.second].named.push_back(t);
        }
    }
    return lives;
}

}  // namespace

double optimum(const Trace& trace, unsigned slots) {
    // Step t is the nodes 2t (in) and 2t+1 (out); the last node is the end of the trace.
    size_t steps = trace.steps.size(), end = 2 * steps;
    Flow flow(end + 1);
    int must = 0;
    for (size_t t = 0; t < steps; t++) {
        const Step& step = trace.steps[t];
        int named = step.act == Act::Flush ? 0 : step.second == kNone ? 1 : 2;
        flow.arc(2 * t, 2 * t + 1, static_cast<int>(slots), 0);
        if (named > 0) flow.arc(2 * t, 2 * t + 1, named, -kMust);
        flow.arc(2 * t + 1, 2 * t + 2, static_cast<int>(slots), 0);
        must += named;
    }

    int64_t worst = static_cast<int64_t>(steps) * kUnit;
    std::vector<Life> lives = livesOf(trace);
    for (size_t i = 0; i < lives.size(); i++) {
        const Life& life = lives[i];
        auto chances = static_cast<int64_t>(life.named.size());
        int64_t first_save = trace.items[i].kind == Kind::Object && chances ? kUnit / chances : 0;
        for (size_t n = 0; n < life.named.size(); n++) {
            bool again = n + 1 < life.named.size();
            int64_t price = priceOfLeaving(trace.items[i].kind, again, life.flushed) * kUnit;
            price += first_save;
            worst += price;
            flow.arc(2 * life.named[n] + 1, 2 * (again ? life.named[n + 1] : life.end), 1, -price);
        }
    }
    int64_t saved = -flow.send(slots) - must * kMust;
    return static_cast<double>(worst - saved) / kUnit;
}

}  // namespace spaces::bench
