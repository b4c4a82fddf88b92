// SPDX-License-Identifier: BSD-2-Clause
// Reading the conf string; see conf.h.
#include "tcti/conf.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "config.h"
#include "log/log.h"

namespace spaces::tcti {
namespace {

/// What an option's value is good for.
enum class Verdict { Fine, Bad, NotHere };

struct Option {
    std::string_view name;
    const char* allowed;
    Verdict (*accept)(std::string_view value, Conf& conf);
};

std::optional<uint32_t> number(std::string_view text) {
    uint32_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

Verdict acceptSwap(std::string_view value, Conf& conf) {
    conf.swap = value == "on";
    if (conf.swap) return SPACES_SWAPPING ? Verdict::Fine : Verdict::NotHere;
    return value == "off" ? Verdict::Fine : Verdict::Bad;
}

Verdict acceptSlots(std::string_view value, std::optional<uint32_t>& slots) {
    slots = number(value);
    return slots && *slots > 0 ? Verdict::Fine : Verdict::Bad;
}

Verdict acceptLeftovers(std::string_view value, Conf& conf) {
    using Policy = tpm::Leftovers::Policy;
    conf.leftovers = value == "flush" ? Policy::Flush : Policy::Keep;
    return value == "flush" || value == "keep" ? Verdict::Fine : Verdict::Bad;
}

Verdict acceptWait(std::string_view value, Conf& conf) {
    const auto seconds = number(value);
    if (!seconds) return Verdict::Bad;
    conf.wait = std::chrono::seconds(*seconds);
    return Verdict::Fine;
}

constexpr Option kOptions[] = {
    {"swap", "off or on", acceptSwap},
    {"objects", "a number from 1",
     [](std::string_view value, Conf& conf) { return acceptSlots(value, conf.objects); }},
    {"sessions", "a number from 1",
     [](std::string_view value, Conf& conf) { return acceptSlots(value, conf.sessions); }},
    {"leftovers", "keep or flush", acceptLeftovers},
    {"wait", "a number of seconds, 0 not to wait", acceptWait},
    {"trace", "a file name",
     [](std::string_view value, Conf& conf) {
         conf.trace = value;
         return value.empty() ? Verdict::Bad : Verdict::Fine;
     }},
};

#define PRINTABLE(view) static_cast<int>((view).size()), (view).data()

/// Null if there is none.
const Option* findOption(std::string_view name) {
    const auto* option = std::find_if(std::begin(kOptions), std::end(kOptions),
                                      [&](const Option& o) { return o.name == name; });
    return option == std::end(kOptions) ? nullptr : option;
}

bool acceptOption(std::string_view piece, Conf& conf) {
    const size_t equals = piece.find('=');
    const std::string_view name = piece.substr(0, equals);
    const std::string_view value = piece.substr(equals + 1);
    const Option* option = findOption(name);
    if (option == nullptr) {
        LOG_ERROR(
            "Unknown option '%.*s': allowed are swap, objects, sessions, leftovers, wait, "
            "trace, and then the child TCTI",
            PRINTABLE(piece));
        return false;
    }
    switch (option->accept(value, conf)) {
        case Verdict::Fine:
            return true;
        case Verdict::Bad:
            LOG_ERROR("Bad value '%.*s' for option '%.*s': allowed is %s", PRINTABLE(value),
                      PRINTABLE(name), option->allowed);
            return false;
        case Verdict::NotHere:
            LOG_ERROR("Option '%.*s' is not in this build, which has isolation only",
                      PRINTABLE(piece));
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

/// A child's name may hold a comma, as a file's can, but nobody means an option by that.
bool holdsOption(std::string_view name) {
    return std::any_of(std::begin(kOptions), std::end(kOptions), [name](const Option& option) {
        const size_t at = name.find(option.name);
        return at != 0 && at != name.npos && name[at - 1] == ',' &&
               name.substr(at + option.name.size()).starts_with('=');
    });
}

bool acceptChild(std::string_view child) {
    const std::string_view name = child.substr(0, child.find(':'));
    if (name.empty()) {
        LOG_ERROR("No name before '%.*s': allowed is a child TCTI like device, swtpm or mssim",
                  PRINTABLE(child));
        return false;
    }
    if (const Option* option = findOption(name.substr(0, name.find(',')))) {
        LOG_ERROR("No value for option '%s': write %s=VALUE, allowed is %s", option->name.data(),
                  option->name.data(), option->allowed);
        return false;
    }
    if (isThisLibrary(name)) {
        LOG_ERROR(
            "The child TCTI '%.*s' is this one: allowed is any other, like device, swtpm "
            "or mssim",
            PRINTABLE(name));
        return false;
    }
    if (holdsOption(name)) {
        LOG_ERROR("Options come before the child TCTI: write 'spaces:%.*s,%.*s' for '%.*s'",
                  PRINTABLE(name.substr(name.find(',') + 1)),
                  PRINTABLE(name.substr(0, name.find(','))), PRINTABLE(name));
        return false;
    }
    return true;
}

/// What one option asks of another.
bool consistent(const Conf& conf) {
    if (conf.swap || (!conf.objects && !conf.sessions)) return true;
    LOG_ERROR("Option '%s' limits swapping: it is allowed with swap=on",
              conf.objects ? "objects" : "sessions");
    return false;
}

}  // namespace

const char kOptionsHelp[] =
    "[OPTION=VALUE,]...[CHILD[:CHILD-CONF]]: "
    "swap=off|on (more objects and sessions than the TPM has slots; default off), "
    "objects=N, sessions=N (with swap=on: use at most N of the TPM's slots), "
    "leftovers=keep|flush (what no space of this process owns, when no slot is left; default "
    "keep), "
    "wait=SECONDS (for a TPM that another process holds; default 0), "
    "trace=FILE (of commands and swaps, for chrome://tracing or Perfetto). "
    "No CHILD: device:/dev/tpmrm0, device:/dev/tpm0, swtpm, mssim are tried.";

bool parseConf(const char* text, Conf& conf) {
    std::string_view rest = text == nullptr ? "" : text;
    while (!rest.empty()) {
        const std::string_view piece = rest.substr(0, rest.find(','));
        if (!isOption(piece)) break;
        if (!acceptOption(piece, conf)) return false;
        rest.remove_prefix(std::min(rest.size(), piece.size() + 1));
    }
    if (!rest.empty() && !acceptChild(rest)) return false;
    conf.child = rest;
    return consistent(conf);
}

}  // namespace spaces::tcti
