// SPDX-License-Identifier: BSD-2-Clause
// Reading the conf string; see conf.h.
#include "tcti/conf.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>

#include "log/log.h"

namespace spaces::tcti {
namespace {

/// What an option's value is good for.
enum class Verdict { Fine, Bad, NotHere };

struct Option {
    std::string_view name;
    const char* allowed;
    Verdict (*check)(std::string_view value);
};

std::optional<uint32_t> number(std::string_view text) {
    uint32_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

/// One of two words, the first being the default and the second what this build cannot do.
Verdict either(std::string_view value, std::string_view usual, std::string_view other) {
    if (value == usual) return Verdict::Fine;
    return value == other ? Verdict::NotHere : Verdict::Bad;
}

Verdict slots(std::string_view value) {
    const auto count = number(value);
    return count && *count > 0 ? Verdict::NotHere : Verdict::Bad;
}

Verdict seconds(std::string_view value) {
    const auto count = number(value);
    if (!count) return Verdict::Bad;
    return *count == 0 ? Verdict::Fine : Verdict::NotHere;
}

constexpr Option kOptions[] = {
    {"swap", "off or on", [](std::string_view v) { return either(v, "off", "on"); }},
    {"objects", "a number from 1, with swap=on", slots},
    {"sessions", "a number from 1, with swap=on", slots},
    {"leftovers", "keep or flush", [](std::string_view v) { return either(v, "keep", "flush"); }},
    {"wait", "a number of seconds, 0 not to wait", seconds},
    {"trace", "a file name",
     [](std::string_view v) { return v.empty() ? Verdict::Bad : Verdict::NotHere; }},
};

#define PRINTABLE(view) static_cast<int>((view).size()), (view).data()

bool acceptOption(std::string_view piece) {
    const size_t equals = piece.find('=');
    const std::string_view name = piece.substr(0, equals);
    const std::string_view value = piece.substr(equals + 1);
    const auto option = std::find_if(std::begin(kOptions), std::end(kOptions),
                                     [&](const Option& o) { return o.name == name; });
    if (option == std::end(kOptions)) {
        LOG_ERROR(
            "Unknown option '%.*s': allowed are swap, objects, sessions, leftovers, wait, "
            "trace, and then the child TCTI",
            PRINTABLE(piece));
        return false;
    }
    switch (option->check(value)) {
        case Verdict::Fine:
            return true;
        case Verdict::Bad:
            LOG_ERROR("Bad value '%.*s' for option '%.*s': allowed is %s", PRINTABLE(value),
                      PRINTABLE(name), option->allowed);
            return false;
        case Verdict::NotHere:
            LOG_ERROR(
                "Option '%.*s=%.*s' is not in this build: it has isolation only, no "
                "swapping, no leftovers=flush, no wait and no trace",
                PRINTABLE(name), PRINTABLE(value));
            return false;
    }
    return false;
}

bool isOption(std::string_view piece) { return piece.find('=') < piece.find(':'); }

/// This library, by the short name or as a file.
bool isThisLibrary(std::string_view name) {
    name = name.substr(name.rfind('/') + 1);  // npos + 1 is 0
    return name == "spaces" || name.starts_with("libtss2-tcti-spaces.so") ||
           name.starts_with("libtss2-spaces.so");
}

bool acceptChild(std::string_view child) {
    const std::string_view name = child.substr(0, child.find(':'));
    if (name.empty()) {
        LOG_ERROR("No name before '%.*s': allowed is a child TCTI like device, swtpm or mssim",
                  PRINTABLE(child));
        return false;
    }
    if (isThisLibrary(name)) {
        LOG_ERROR(
            "The child TCTI '%.*s' is this one: allowed is any other, like device, swtpm "
            "or mssim",
            PRINTABLE(name));
        return false;
    }
    return true;
}

}  // namespace

const char kOptionsHelp[] =
    "[OPTION=VALUE,]...[CHILD[:CHILD-CONF]]: "
    "swap=off|on (more objects and sessions than the TPM has slots; default off), "
    "objects=N, sessions=N (use at most N of the TPM's slots), "
    "leftovers=keep|flush (of other processes, when no slot is left; default keep), "
    "wait=SECONDS (for a TPM that another process holds; default 0), "
    "trace=FILE (of commands and swaps). "
    "This build has isolation only: the defaults are all it accepts. "
    "No CHILD: device:/dev/tpmrm0, device:/dev/tpm0, swtpm, mssim are tried.";

bool parseConf(const char* text, Conf& conf) {
    std::string_view rest = text == nullptr ? "" : text;
    while (!rest.empty()) {
        const std::string_view piece = rest.substr(0, rest.find(','));
        if (!isOption(piece)) break;
        if (!acceptOption(piece)) return false;
        rest.remove_prefix(std::min(rest.size(), piece.size() + 1));
    }
    if (!rest.empty() && !acceptChild(rest)) return false;
    conf.child = rest;
    return true;
}

}  // namespace spaces::tcti
