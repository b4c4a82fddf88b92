// SPDX-License-Identifier: BSD-2-Clause
// Looking at what is behind a child TCTI that does not open; see diagnosis.h.
#include "tpm/diagnosis.h"

#include <dirent.h>
#include <fcntl.h>
#include <tss2/tss2_tcti.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>

#include "tpm/child_name.h"
#include "tpm/descriptor.h"

namespace spaces::tpm {
namespace {

struct CloseDirectory {
    void operator()(DIR* directory) const { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

bool isNumber(const char* text) { return *text != '\0' && text[strspn(text, "0123456789")] == 0; }

std::string readLink(const std::string& path) {
    std::array<char, 256> target{};
    const ssize_t size = readlink(path.c_str(), target.data(), target.size());
    return size > 0 ? std::string(target.data(), static_cast<size_t>(size)) : std::string();
}

bool holds(const std::string& process, const std::string& device) {
    const std::string folder = process + "/fd/";
    const Directory descriptors(opendir(folder.c_str()));
    if (!descriptors) return false;
    // A stream of this thread alone.
    while (const dirent* entry = readdir(descriptors.get()))  // NOLINT(concurrency-mt-unsafe)
        if (isNumber(entry->d_name) && readLink(folder + entry->d_name) == device) return true;
    return false;
}

std::string nameOf(const std::string& process) {
    const Descriptor file(open((process + "/comm").c_str(), O_RDONLY | O_CLOEXEC));
    std::array<char, 32> name{};
    const ssize_t size = file.isOpen() ? read(file.number(), name.data(), name.size()) : 0;
    return size > 1 ? std::string(name.data(), static_cast<size_t>(size) - 1) : "a process";
}

/// Of the processes that this one may look into, those that have the device open.
std::string holdersOf(const std::string& name) {
    std::string holders;
    const std::unique_ptr<char, decltype(&free)> real(realpath(name.c_str(), nullptr), free);
    const std::string device = real ? real.get() : name;
    const Directory processes(opendir("/proc"));
    if (!processes) return holders;
    while (const dirent* entry = readdir(processes.get())) {  // NOLINT(concurrency-mt-unsafe)
        const std::string process = std::string("/proc/") + entry->d_name;
        if (!isNumber(entry->d_name) || !holds(process, device)) continue;
        if (!holders.empty()) holders += ", ";
        holders += nameOf(process) + " (process " + entry->d_name + ")";
    }
    return holders;
}

/// The device that the device TCTI opens; empty for another child.
std::string deviceOf(const ChildName& child) {
    if (!child.is("device")) return {};
    if (!child.conf().empty()) return std::string(child.conf());
    return access("/dev/tpmrm0", F_OK) == 0 ? "/dev/tpmrm0" : "/dev/tpm0";
}

/// The conf of a child may hold anything; but where it is refused, that may be why.
const char* orderAdvice(std::string_view conf) {
    return conf.find(',') == conf.npos ? "" : "; options of spaces come before the child's name";
}

Diagnosis diagnoseBusy(const std::string& device) {
    const std::string holders = holdersOf(device);
    return {true,
            device + " is held by " + (holders.empty() ? "another process" : holders) +
                ": end it, wait for it with the option wait=SECONDS, or use /dev/tpmrm0, "
                "which several processes can share",
            device};
}

Diagnosis diagnoseDevice(const std::string& device) {
    const Descriptor file(open(device.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    // It may have been let go a moment ago.
    if (file.isOpen())
        return {true,
                device + " can be opened, but does not answer as a TPM 2.0: name the device of one",
                {}};
    switch (errno) {
        case EBUSY:
            return diagnoseBusy(device);
        case EACCES:
        case EPERM:
            return {false,
                    "no permission for " + device +
                        ": run as a user whom its owner and mode allow; /dev/tpmrm0 is mostly for "
                        "the group tss, which 'sudo usermod -aG tss USER' and a new login join",
                    {}};
        case ENOENT:
        case ENODEV:
        case ENXIO:
            return {false,
                    (errno == ENOENT ? "there is no " : "there is no TPM behind ") + device +
                        ": is a TPM enabled in the firmware, and its driver loaded?" +
                        orderAdvice(device),
                    {}};
        default:
            return {
                false, device + ": " + strerrordesc_np(errno) + "; name the device of a TPM", {}};
    }
}

/// The loader takes the name of a file as well; a short name is part of one.
std::string installAdvice(const std::string& name) {
    if (name.find('/') != name.npos || name.find(".so") != name.npos) return "correct the name";
    return "install libtss2-tcti-" + name + ".so.0 (Debian has libtss2-tcti-" + name +
           "0), or correct the name";
}

Diagnosis diagnoseChild(const ChildName& child, TSS2_RC rc) {
    const std::string name(child.name());
    if (rc == TSS2_TCTI_RC_NOT_SUPPORTED)
        return {
            false, "there is no library for the TCTI '" + name + "': " + installAdvice(name), {}};
    if (rc == TSS2_ESYS_RC_BAD_REFERENCE)  // the loader's, which finds no Tss2_Tcti_Info in it
        return {false, "the library '" + name + "' is no TCTI: correct the name", {}};
    if (rc == TSS2_TCTI_RC_BAD_VALUE)
        return {false,
                "the TCTI '" + name + "' does not accept its configuration '" +
                    std::string(child.conf()) + "'" + orderAdvice(child.conf()),
                {}};
    if (const std::string device = deviceOf(child); !device.empty()) return diagnoseDevice(device);
    return {true,
            "the TPM behind the TCTI '" + name +
                "' does not answer: is it started, and served at this address?",
            {}};
}

}  // namespace

Diagnosis diagnose(const std::string& child, TSS2_RC rc) noexcept try {
    return diagnoseChild(ChildName(child), rc);
} catch (const std::bad_alloc&) {
    return {};
}

bool isFree(const std::string& device) {
    return Descriptor(open(device.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC)).isOpen();
}

}  // namespace spaces::tpm
