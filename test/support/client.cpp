/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One TCTI context: see client.h.
 */
#include "client.h"

#include <tss2/tss2_tctildr.h>

#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "command.h"
#include "response.h"

namespace spaces::test {

namespace {

void check(TSS2_RC result, const char* what) {
    if (result != TSS2_RC_SUCCESS)
        throw std::runtime_error(std::string(what) + " answered " + hex(result));
}

/** Options that hold for every space of the run, in the form of a conf string. */
std::string optionsOfTheRun() {
    const char* options = std::getenv("SPACES_TEST_OPTIONS");
    return options == nullptr ? "" : options;
}

}  // namespace

Client::Client(const std::string& conf) {
    check(Tss2_TctiLdr_Initialize(conf.c_str(), &context_), ("opening " + conf).c_str());
}

Client::Client(Client&& other) noexcept : context_(other.release()) {}

Client& Client::operator=(Client&& other) noexcept {
    if (this != &other) {
        close();
        context_ = other.release();
    }
    return *this;
}

TSS2_RC Client::tryOpen(const std::string& conf) {
    TSS2_TCTI_CONTEXT* context = nullptr;
    TSS2_RC result = Tss2_TctiLdr_Initialize(conf.c_str(), &context);
    Tss2_TctiLdr_Finalize(&context);
    return result;
}

std::string Client::spaceConf(const std::string& child, const std::string& options) {
    std::string conf = libraryPath() + ":";
    for (const std::string& each : {optionsOfTheRun(), options})
        if (!each.empty()) conf += each + ",";
    return conf + child;
}

bool Client::spacesSwap() { return optionsOfTheRun().find("swap=on") != std::string::npos; }

std::string Client::libraryPath() {
    if (const char* path = std::getenv("SPACES_LIBRARY"); path != nullptr && *path != '\0')
        return path;
#ifdef SPACES_LIBRARY
    return SPACES_LIBRARY;
#else
    throw std::runtime_error("the environment variable SPACES_LIBRARY is not set");
#endif
}

Bytes Client::send(const Bytes& command) {
    check(transmit(command), "transmit");
    size_t size = 0;
    check(receiveSize(size), "receive (size query)");
    // Room for just that, as ESAPI gives it: the device TCTI, asked for the size before, waits for
    // as many octets as there is room for.
    Bytes response(size);
    check(Tss2_Tcti_Receive(context_, &size, response.data(), TSS2_TCTI_TIMEOUT_BLOCK), "receive");
    if (response.size() != size)
        throw std::runtime_error("the size query answered " + std::to_string(response.size()) +
                                 " for " + hex(response));
    return response;
}

Bytes Client::ok(const Bytes& command) {
    Bytes response = send(command);
    if (rc(response) != TPM2_RC_SUCCESS)
        throw std::runtime_error("command " + hex(command) + " answered " + hex(rc(response)));
    return response;
}

TSS2_RC Client::transmit(const Bytes& command) {
    return Tss2_Tcti_Transmit(context_, command.size(), command.data());
}

TSS2_RC Client::receive(Bytes& response, int32_t timeout) {
    size_t size = TPM2_MAX_RESPONSE_SIZE;
    response.resize(size);
    TSS2_RC result = Tss2_Tcti_Receive(context_, &size, response.data(), timeout);
    response.resize(result == TSS2_RC_SUCCESS ? size : 0);
    return result;
}

TSS2_RC Client::receiveSize(size_t& size, int32_t timeout) {
    size = 0;
    return Tss2_Tcti_Receive(context_, &size, nullptr, timeout);
}

TSS2_RC Client::cancel() { return Tss2_Tcti_Cancel(context_); }

TSS2_RC Client::setLocality(uint8_t locality) { return Tss2_Tcti_SetLocality(context_, locality); }

void Client::close() { Tss2_TctiLdr_Finalize(&context_); }

TSS2_TCTI_CONTEXT* Client::release() { return std::exchange(context_, nullptr); }

bool swapping() { return optionsOfTheRun().find("swap=on") != std::string::npos; }

TPM2_RC unlessSwapping(TPM2_RC warning) { return swapping() ? TPM2_RC_SUCCESS : warning; }

bool capped() {
    const std::string options = optionsOfTheRun();
    return options.find("objects=") != std::string::npos ||
           options.find("sessions=") != std::string::npos;
}

std::vector<TPM2_HANDLE> handles(Client& client, TPM2_HANDLE first) {
    std::vector<TPM2_HANDLE> all;
    for (;;) {
        HandleList page =
            handleList(client.ok(getCapability(TPM2_CAP_HANDLES, first, TPM2_MAX_CAP_HANDLES)));
        all.insert(all.end(), page.handles.begin(), page.handles.end());
        if (!page.moreData || page.handles.empty()) return all;
        first = (first & 0xFF000000) | ((page.handles.back() & 0x00FFFFFF) + 1);
    }
}

std::string residue(const Simulator& sim) {
    static const std::pair<const char*, TPM2_HANDLE> kinds[] = {
        {"transient", TPM2_TRANSIENT_FIRST},
        {"loaded session", TPM2_LOADED_SESSION_FIRST},
        {"saved session", TPM2_ACTIVE_SESSION_FIRST}};
    Client client = Client::bare(sim);
    std::string left;
    for (auto [kind, first] : kinds)
        for (TPM2_HANDLE handle : handles(client, first))
            left += std::string(left.empty() ? "" : ", ") + kind + " " + hex(handle);
    return left;
}

}  // namespace spaces::test
