// SPDX-License-Identifier: BSD-2-Clause
// Scripts as text, and shorter ones; see differential_script.h.
#include "differential_script.h"

#include <algorithm>
#include <set>
#include <sstream>
#include <stdexcept>

namespace spaces::test {

std::ostream& operator<<(std::ostream& out, const Operation& operation) {
    out << operation.label << " space=" << operation.space << " " << operation.verb;
    for (const auto& [name, value] : operation.arguments) out << " " << name << "=" << value;
    return out;
}

void write(std::ostream& out, const std::string& mode, const Script& script) {
    out << mode << "\n";
    for (const Operation& operation : script) out << operation << "\n";
}

namespace {

Operation parse(const std::string& line) {
    Operation operation;
    std::istringstream words(line);
    words >> operation.label;
    for (std::string word; words >> word;) {
        const size_t equals = word.find('=');
        if (equals == std::string::npos)
            operation.verb = word;
        else
            operation.with(word.substr(0, equals), std::stoll(word.substr(equals + 1)));
    }
    operation.space = static_cast<size_t>(operation.get("space"));
    operation.arguments.erase("space");
    if (operation.label <= 0 || operation.verb.empty())
        throw std::runtime_error("not an operation: " + line);
    return operation;
}

/// What the last operation stands on, by labels: often that is all.
Script slice(const Script& script) {
    std::set<int64_t> needed;
    Script kept;
    for (auto operation = script.rbegin(); operation != script.rend(); ++operation) {
        if (operation != script.rbegin() && !needed.contains(operation->label)) continue;
        for (const char* name : {"s1", "s2", "s3", "key", "by", "parent", "child", "session",
                                 "bind", "salt", "context"})
            needed.insert(operation->get(name));
        kept.insert(kept.begin(), *operation);
    }
    return kept;
}

/// Leaves out what can be left out: halves first, then ever smaller pieces, until no single one can
/// be (delta debugging).
void shrinkLength(Script& script, const std::function<bool(const Script&)>& fails) {
    for (size_t piece = std::max<size_t>(script.size() / 2, 1);;) {
        bool shorter = false;
        for (size_t at = 0; at < script.size();) {
            Script rest(script.begin(), script.begin() + static_cast<ptrdiff_t>(at));
            rest.insert(
                rest.end(),
                script.begin() + static_cast<ptrdiff_t>(std::min(at + piece, script.size())),
                script.end());
            if (!rest.empty() && fails(rest)) {
                script = rest;
                shorter = true;
            } else {
                at += piece;
            }
        }
        if (piece == 1 && !shorter) return;
        if (!shorter || piece > script.size()) piece = std::max<size_t>(piece / 2, 1);
    }
}

/// Arguments that say how, not what: a plainer command may do as well.
void shrinkArguments(Script& script, const std::function<bool(const Script&)>& fails) {
    static const std::set<std::string> plain = {
        "a1",   "a2",     "a3",    "s1",        "s2",     "s3",     "cut",   "extend", "flip", "by",
        "auth", "unique", "later", "symmetric", "reason", "policy", "wrong", "tag",    "code"};
    for (size_t at = 0; at < script.size(); ++at) {
        const auto arguments = script[at].arguments;
        for (const auto& [name, value] : arguments) {
            if (!plain.contains(name)) continue;
            script[at].arguments.erase(name);
            if (!fails(script)) script[at].with(name, value);
        }
    }
}

}  // namespace

std::string read(std::istream& in, Script& script) {
    std::string mode;
    std::getline(in, mode);
    for (std::string line; std::getline(in, line);)
        if (!line.empty() && line[0] != '#') script.push_back(parse(line));
    return mode;
}

Script shrink(Script script, const std::function<bool(const Script&)>& fails) {
    if (const Script candidate = slice(script); fails(candidate)) script = candidate;
    shrinkLength(script, fails);
    shrinkArguments(script, fails);
    shrinkLength(script, fails);
    return script;
}

}  // namespace spaces::test
