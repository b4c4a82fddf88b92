// SPDX-License-Identifier: BSD-2-Clause
// The table of doc/swap-policy.md: TPM commands for one client command, for each trace and rule.
//
//   policy_table [SLOTS [COMMANDS [SEEDS]]]     (3, 20000, 5)
//
// Always holds: the output depends on the arguments alone; figures are means over the seeds, the
// two ratios the worst of them.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "bench/rules.h"
#include "bench/traces.h"

namespace {

using spaces::bench::Trace;

struct Row {
    std::string name;
    bool alike = false;
    double optimum = 0, policy = 0, lru = 0, abrmd = 0, kernel = 0;
    double to_optimum = 0, to_lru = 0;

    void add(const Trace& trace, unsigned slots, double weight) {
        double best = spaces::bench::optimum(trace, slots);
        double ours = spaces::bench::costOf<spaces::bench::PolicyRule>(trace, slots);
        double recent = spaces::bench::costOf<spaces::bench::LeastRecentlyUsed>(trace, slots);
        double share = weight / static_cast<double>(trace.steps.size());
        optimum += best * share;
        policy += ours * share;
        lru += recent * share;
        abrmd += static_cast<double>(spaces::bench::costOfAbrmd(trace)) * share;
        kernel += static_cast<double>(spaces::bench::costOfKernel(trace)) * share;
        to_optimum = std::max(to_optimum, ours / best);
        to_lru = std::max(to_lru, ours / recent);
    }
};

std::vector<Row> measure(unsigned slots, size_t commands, unsigned seeds) {
    std::vector<Row> rows;
    for (unsigned seed = 1; seed <= seeds; seed++) {
        std::vector<Trace> traces = spaces::bench::allTraces(seed, commands);
        rows.resize(traces.size());
        for (size_t i = 0; i < traces.size(); i++) {
            rows[i].name = traces[i].name;
            rows[i].alike = traces[i].alike;
            rows[i].add(traces[i], slots, 1.0 / seeds);
        }
    }
    return rows;
}

unsigned argument(int argc, char** argv, int at, unsigned otherwise) {
    return at < argc ? static_cast<unsigned>(std::strtoul(argv[at], nullptr, 10)) : otherwise;
}

}  // namespace

int main(int argc, char** argv) {
    unsigned slots = argument(argc, argv, 1, 3), commands = argument(argc, argv, 2, 20000);
    unsigned seeds = argument(argc, argv, 3, 5);
    if (slots < 2 || commands == 0 || seeds == 0) {
        std::fprintf(stderr, "usage: %s [SLOTS>=2 [COMMANDS [SEEDS]]]\n", argv[0]);
        return 2;
    }
    std::puts("| trace | optimum | policy | LRU | abrmd | kernel | to optimum | to LRU |");
    std::puts("|---|---|---|---|---|---|---|---|");
    double to_optimum = 0, alike = 0, to_lru = 0;
    for (const Row& row : measure(slots, commands, seeds)) {
        std::printf("| %s%s | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f |\n", row.name.c_str(),
                    row.alike ? " (*)" : "", row.optimum, row.policy, row.lru, row.abrmd,
                    row.kernel, row.to_optimum, row.to_lru);
        double& worst = row.alike ? alike : to_optimum;
        worst = std::max(worst, row.to_optimum);
        to_lru = std::max(to_lru, row.to_lru);
    }
    std::printf("\nWorst, %u slots: %.3f of the optimum, %.3f where (*), %.3f of LRU.\n", slots,
                to_optimum, alike, to_lru);
}
