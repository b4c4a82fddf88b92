// SPDX-License-Identifier: BSD-2-Clause
// Fuzz target: the conf string, read alone and by the whole of Init.
// Always holds: what is accepted names a child that is not this library, the string's end letter
// by letter, and limits from 1, only where swapping is on; a context that opens works; Init accepts
// nothing that reading alone refuses.
//
// The input: conf strings, one after the other with an octet 0 between them; the contexts they open
// are in use at once.
#include "tcti/conf.h"

#include <list>
#include <string_view>

#include "fuzz/child.h"
#include "fuzz/client.h"
#include "fuzz/steps.h"

namespace spaces::fuzz {
namespace {

constexpr size_t kMostContexts = 4;

bool checkConf(const std::string& text, tcti::Conf& conf) {
    if (!tcti::parseConf(text.c_str(), conf)) return false;
    require(std::string_view(text).ends_with(conf.child), "the child is the end of the string");
    const std::string_view options(text.data(), text.size() - conf.child.size());
    require(options.empty() || options.back() == ',' || conf.child.empty(), "a piece is whole");
    require(options.find(':') == options.npos || options.find('=') < options.find(':'),
            "the child's name begins where the options end");
    require(conf.objects.value_or(1) > 0 && conf.sessions.value_or(1) > 0, "limits are from 1");
    require(conf.swap || (!conf.objects && !conf.sessions), "limits are for swapping");
    const std::string_view name = std::string_view(conf.child).substr(0, conf.child.find(':'));
    require(name != "spaces" && !name.ends_with("/spaces"), "the child is another");
    require(name.substr(0, name.find(',')).find('=') == name.npos, "no option is taken for a name");
    return true;
}

/// Opens a context, and if it opens, has a command go through it.
void checkInit(const std::string& text, Client& client) {
    tcti::Conf conf;
    const bool readable = checkConf(text, conf);
    if (!conf.trace.empty()) return;  // it would write files of any name
    const TSS2_RC rc = client.open(text);
    require(readable || rc == TSS2_TCTI_RC_BAD_VALUE, "Init refuses what cannot be read", rc);
    if (rc != TSS2_RC_SUCCESS) return;
    const auto response = client.send(test::create("object").all());
    require(response.has_value() && response->size() >= 10, "a context that opened works");
}

void run(const std::string& text) {
    // Names that the loader finds; the usual places are among them.
    Child model("model", {}), named("swtpm", {}), manager("device:/dev/tpmrm0", {});
    Child long_("model:a=b,c:d", {});
    std::list<Client> clients;
    size_t at = 0;
    while (at <= text.size() && clients.size() < kMostContexts) {
        const size_t end = std::min(text.find('\0', at), text.size());
        checkInit(text.substr(at, end - at), clients.emplace_back());
        at = end + 1;
    }
    clients.clear();
    for (const Child* child : {&model, &named, &manager, &long_})
        require(child->tpm.loadedObjects() == 0, "no object is left");
}

}  // namespace
}  // namespace spaces::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    spaces::fuzz::prepareProcess();
    spaces::fuzz::run(std::string(reinterpret_cast<const char*>(data), size));
    return 0;
}
