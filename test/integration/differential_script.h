// SPDX-License-Identifier: BSD-2-Clause
// What the differential test does to its TPMs, as a list that can be written down, read back and
// made shorter.
// Always holds: an operation names what earlier ones made by their labels, never by handles, so a
// list from which some are left out still makes sense; a line of text is one operation.
//
//     12 space=1 Sign key=7 s1=9 a1=65 cut=20
//
// is operation 12, which space 1 sends: Sign with what operation 7 made, authorised by the session
// that operation 9 made, with attributes 65, cut to 20 octets. The verbs are in
// differential_commands.cpp; the arguments that all of them take, in differential_world.h.
#pragma once

#include <cstdint>
#include <functional>
#include <istream>
#include <map>
#include <ostream>
#include <string>
#include <vector>

namespace spaces::test {

struct Operation {
    int label = 0;
    size_t space = 0;
    std::string verb;
    std::map<std::string, int64_t> arguments;

    bool has(const std::string& name) const { return arguments.contains(name); }
    int64_t get(const std::string& name, int64_t otherwise = 0) const {
        const auto found = arguments.find(name);
        return found == arguments.end() ? otherwise : found->second;
    }
    Operation& with(const std::string& name, int64_t value) {
        arguments[name] = value;
        return *this;
    }
};

using Script = std::vector<Operation>;

std::ostream& operator<<(std::ostream& out, const Operation& operation);

/// The first line of a file is the mode's name.
void write(std::ostream& out, const std::string& mode, const Script& script);
std::string read(std::istream& in, Script& script);

/// A script that still fails, and of which no operation and no argument can be left out.
Script shrink(Script script, const std::function<bool(const Script&)>& fails);

}  // namespace spaces::test
