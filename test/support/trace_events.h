/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Reading what trace=FILE writes, and seeing that it is what the Trace Event Format asks for.
 * What always holds here: a file that is not JSON throws.
 *
 *     const TraceEvents events(path);
 *     EXPECT_EQ(events.brokenRule(), "");
 */
#ifndef SPACES_TEST_SUPPORT_TRACE_EVENTS_H
#define SPACES_TEST_SUPPORT_TRACE_EVENTS_H

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace spaces::test {

inline std::string contentsOf(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

class TraceEvents {
  public:
    using Json = nlohmann::json;

    explicit TraceEvents(const std::string& path) : all_(Json::parse(contentsOf(path))) {}

    const Json& all() const { return all_; }
    size_t size() const { return all_.size(); }

    /** Those of a phase: "M" names a process or a row, "X" is a span, "C" a counter. */
    std::vector<Json> of(const std::string& phase) const {
        std::vector<Json> found;
        std::copy_if(all_.begin(), all_.end(), std::back_inserter(found),
                     [&](const Json& event) { return event["ph"] == phase; });
        return found;
    }

    /** Objects and sessions, each time that one of the numbers has changed. */
    std::vector<std::pair<int, int>> slots() const {
        std::vector<std::pair<int, int>> counts;
        for (const Json& event : of("C"))
            counts.emplace_back(event["args"]["objects"], event["args"]["sessions"]);
        return counts;
    }

    /** "NAME kind" of the spans in a row. */
    std::vector<std::string> spans(int row) const {
        std::vector<std::string> names;
        for (const Json& event : of("X"))
            if (event["tid"] == row)
                names.push_back(event["name"].get<std::string>() + " " +
                                event["cat"].get<std::string>());
        return names;
    }

    /** What is not as it should be; "" if all is well. */
    std::string brokenRule() const {
        if (!all_.is_array()) return "it is no list";
        std::set<Row> rows;
        std::set<int> processes;
        std::map<Row, std::vector<Span>> spans;
        for (const Json& event : all_)
            if (const std::string broken = brokenIn(event, processes, rows, spans); !broken.empty())
                return broken + ": " + event.dump();
        for (auto& [row, ofRow] : spans)
            if (overlap(ofRow)) return "spans overlap in row " + std::to_string(row.second);
        return "";
    }

  private:
    using Row = std::pair<int, int>;         // process, space
    using Span = std::pair<double, double>;  // begin, end

    static std::string brokenIn(const Json& event, std::set<int>& processes, std::set<Row>& rows,
                                std::map<Row, std::vector<Span>>& spans) {
        const int process = event.at("pid");
        const std::string phase = event.at("ph"), name = event.at("name");
        if (phase == "M") {
            if (event.at("args").at("name").get<std::string>().empty()) return "no name";
            if (name == "process_name") return processes.insert(process), "";
            if (name != "thread_name") return "a name of what?";
            return rows.insert({process, event.at("tid")}), "";
        }
        if (!processes.contains(process)) return "a process without a name";
        const double begin = event.at("ts");
        if (begin < 0) return "before time began";
        if (phase == "C") return isCounter(event) ? "" : "a counter that does not count";
        if (phase != "X") return "an unknown phase";
        const Row row{process, event.at("tid")};
        const double lasts = event.at("dur");
        if (!rows.contains(row)) return "a row without a name";
        if (lasts < 0) return "it ends before it begins";
        spans[row].emplace_back(begin, begin + lasts);
        return name.empty() ? "no name" : "";
    }

    static bool isCounter(const Json& event) {
        const Json& counts = event.at("args");
        return counts.size() == 2 && counts.at("objects").is_number_unsigned() &&
               counts.at("sessions").is_number_unsigned();
    }

    /** Times are rounded to a nanosecond. */
    static bool overlap(std::vector<Span>& spans) {
        constexpr double kRounding = 0.002;
        std::sort(spans.begin(), spans.end());
        for (size_t i = 1; i < spans.size(); i++)
            if (spans[i].first + kRounding < spans[i - 1].second) return true;
        return false;
    }

    Json all_;
};

}  // namespace spaces::test

#endif
