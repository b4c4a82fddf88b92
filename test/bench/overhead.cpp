// SPDX-License-Identifier: BSD-2-Clause
// What the library itself costs: commands through spaces over a child TCTI that answers at once,
// and the same commands to that child alone. The difference is the library's own.
//
//     overhead.bench [Google Benchmark's options]
//     overhead.bench --run NAME COUNT      COUNT commands and nothing else, for a profiler
//
// NAME is COMMAND/child, or COMMAND/spaces:N for N spaces that take turns.
//
// Always holds: a command goes the way that ESAPI sends it: transmit, receive for the size,
// receive. Everything is made before the clock starts, answers included. A command that fails, that
// does not reach the child, or that reaches it with company ends the program: no error is measured
// as if it were work. A heap allocation for a command makes the program fail at its end.
#include <benchmark/benchmark.h>
#include <tss2/tss2_tcti.h>
#include <tss2/tss2_tctildr.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "support/command.h"
#include "tss2/tss2_tcti_spaces.h"
#include "wire/bytes.h"
#include "wire/response.h"

// ---- Counting allocations -----------------------------------------------------------------------

namespace {
uint64_t allocations = 0;
}

// The library is C++ throughout and asks for memory here alone.
void* operator new(size_t size) {
    ++allocations;
    if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
    throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace spaces::bench {
namespace {

using test::Bytes;
using test::Command;

[[noreturn]] void fail(const char* why, TSS2_RC rc) {
    fprintf(stderr, "overhead.bench: %s: 0x%x\n", why, rc);
    exit(EXIT_FAILURE);
}

// ---- The child ----------------------------------------------------------------------------------

/// Not the numbers that a space counts from: a handle that passes unchanged is not known here.
constexpr TPM2_HANDLE kFirstObject = TPM2_TRANSIENT_FIRST + 0x100;

/// A TCTI context that has each answer ready. It knows handles just well enough to refuse one that
/// it did not give out.
class Child {
  public:
    Child() {
        common_ = {0x6368696c64, 1, transmit, receive, nullptr, nullptr, nullptr, nullptr};
        const Bytes digest(34, 0x20);  // a TPM2B of 32 octets
        answers_.fill(header(TPM2_RC_COMMAND_CODE));
        at(TPM2_CC_GetRandom) = plain(digest);
        at(TPM2_CC_FlushContext) = plain({});
        at(TPM2_CC_LoadExternal) = plain(Bytes(4 + 36));      // handle, Name
        at(TPM2_CC_StartAuthSession) = plain(Bytes(4 + 34));  // handle, nonceTPM
        password_ = withSession(digest, Bytes(5));            // no nonce, no HMAC
        session_ = withSession(digest, Bytes(2 + 32 + 1 + 2 + 32));
    }

    TSS2_TCTI_CONTEXT* context() { return reinterpret_cast<TSS2_TCTI_CONTEXT*>(&common_); }

    void startOver() {
        objects_ = 0;
        sessions_ = 0;
        commands_ = 0;
    }
    uint64_t commands() const { return commands_; }

  private:
    static Bytes header(TPM2_RC code, TPM2_ST tag = TPM2_ST_NO_SESSIONS) {
        Bytes made(wire::kHeaderSize);
        wire::putHeader(made.data(), tag, made.size(), code);
        return made;
    }
    static Bytes sized(Bytes response) {
        wire::put32(&response[2], static_cast<uint32_t>(response.size()));
        return response;
    }
    static Bytes plain(const Bytes& rest) {
        Bytes made = header(TPM2_RC_SUCCESS);
        test::append(made, rest);
        return sized(made);
    }
    static Bytes withSession(const Bytes& parameters, const Bytes& authorization) {
        Bytes made = header(TPM2_RC_SUCCESS, TPM2_ST_SESSIONS);
        test::append(made, parameters.size(), 4);
        test::append(made, parameters);
        test::append(made, authorization);
        return sized(made);
    }
    Bytes& at(TPM2_CC code) { return answers_[code & 0xFF]; }

    const Bytes& answerTo(const uint8_t* command) {
        const TPM2_CC code = wire::get32(command + 6);
        switch (code) {
            case TPM2_CC_LoadExternal:
                wire::put32(&at(code)[wire::kHeaderSize], kFirstObject + objects_++);
                break;
            case TPM2_CC_StartAuthSession:
                wire::put32(&at(code)[wire::kHeaderSize], TPM2_HMAC_SESSION_FIRST + sessions_++);
                break;
            case TPM2_CC_FlushContext:
                if (wire::get32(command + 10) >= kFirstObject) --objects_;
                break;
            case TPM2_CC_HMAC:
                if (wire::get32(command + 10) - kFirstObject >= objects_) return unknown_;
                return wire::get32(command + 18) == TPM2_RS_PW ? password_ : session_;
            default:
                break;
        }
        return at(code);
    }

    static TSS2_RC transmit(TSS2_TCTI_CONTEXT* context, size_t, const uint8_t* command) {
        Child& child = *reinterpret_cast<Child*>(context);
        ++child.commands_;
        child.answer_ = &child.answerTo(command);
        return TSS2_RC_SUCCESS;
    }
    static TSS2_RC receive(TSS2_TCTI_CONTEXT* context, size_t* size, uint8_t* response, int32_t) {
        const Child& child = *reinterpret_cast<Child*>(context);
        *size = child.answer_->size();
        if (response != nullptr) memcpy(response, child.answer_->data(), *size);
        return TSS2_RC_SUCCESS;
    }

    TSS2_TCTI_CONTEXT_COMMON_V1 common_;  // first: the context is this object
    std::array<Bytes, 0x100> answers_;    // by the low octet of the command code
    Bytes password_;
    Bytes session_;
    Bytes unknown_ = header(TPM2_RC_REFERENCE_H0);
    const Bytes* answer_ = nullptr;
    uint32_t objects_ = 0;
    uint32_t sessions_ = 0;
    uint64_t commands_ = 0;
};

Child child;

// ---- Clients ------------------------------------------------------------------------------------

/// Who sends: a space, or the child's only user. Sends its commands one after the other, round
/// and round.
struct Client {
    TSS2_TCTI_CONTEXT* tcti = nullptr;
    std::unique_ptr<uint8_t[]> memory;
    std::vector<Bytes> commands;

    /// Returns the response, which stays until the next one.
    const uint8_t* send(const Bytes& command) {
        static std::array<uint8_t, TPM2_MAX_RESPONSE_SIZE> response;
        size_t size = 0;
        TSS2_RC rc = Tss2_Tcti_Transmit(tcti, command.size(), command.data());
        if (rc != TSS2_RC_SUCCESS) fail("transmit", rc);
        rc = Tss2_Tcti_Receive(tcti, &size, nullptr, TSS2_TCTI_TIMEOUT_BLOCK);
        if (rc != TSS2_RC_SUCCESS) fail("receive for the size", rc);
        rc = Tss2_Tcti_Receive(tcti, &size, response.data(), TSS2_TCTI_TIMEOUT_BLOCK);
        if (rc != TSS2_RC_SUCCESS) fail("receive", rc);
        rc = wire::get32(&response[6]);
        if (rc != TPM2_RC_SUCCESS) fail("the response", rc);
        return response.data();
    }

    TPM2_HANDLE make(const Command& command) {
        return wire::get32(send(command) + wire::kHeaderSize);
    }

    void openSpace() {
        size_t size = 0;
        Tss2_Tcti_Spaces_Init(nullptr, &size, nullptr);
        memory = std::make_unique<uint8_t[]>(size);  // zeroed
        tcti = reinterpret_cast<TSS2_TCTI_CONTEXT*>(memory.get());
        const TSS2_RC rc = Tss2_Tcti_Spaces_Init(tcti, &size, "at-once");
        if (rc != TSS2_RC_SUCCESS) fail("Init", rc);
    }
    void close() {
        if (memory) Tss2_Tcti_Finalize(tcti);
    }
};

// ---- What is measured ---------------------------------------------------------------------------

struct Workload {
    const char* name;
    void (*prepare)(Client& client);  // makes what the commands need, and then the commands
};

constexpr Workload kWorkloads[] = {
    {"GetRandom", [](Client& c) { c.commands = {test::getRandom(32)}; }},
    {"HMAC",  // one object of its own, password authorisation
     [](Client& c) {
         const TPM2_HANDLE key = c.make(test::loadExternalHmac("key"));
         c.commands = {test::hmac(key, "some data")};
     }},
    {"HMAC-session",  // the same, authorised by an HMAC session of its own
     [](Client& c) {
         const TPM2_HANDLE key = c.make(test::loadExternalHmac("key"));
         const TPM2_HANDLE session = c.make(test::startAuthSession());
         c.commands = {Command(TPM2_CC_HMAC)
                           .handle(key)
                           .session(session, Bytes(32), TPMA_SESSION_CONTINUESESSION, Bytes(32))
                           .tpm2b("some data")
                           .u16(TPM2_ALG_NULL)};
     }},
    {"Load-Flush",  // LoadExternal and FlushContext in turn
     [](Client& c) {
         const TPM2_HANDLE object = c.make(test::loadExternalHmac("key"));
         c.send(test::flushContext(object));
         c.commands = {test::loadExternalHmac("key"), test::flushContext(object)};
     }},
};
constexpr size_t kSpaces[] = {0, 1, 10, 100};  // 0: the child alone

/// The clients of one measurement, ready to go.
class Setting {
  public:
    Setting(const Workload& workload, size_t spaces) : clients_(std::max<size_t>(spaces, 1)) {
        child.startOver();
        for (Client& client : clients_) {
            if (spaces == 0)
                client.tcti = child.context();
            else
                client.openSpace();
            workload.prepare(client);
        }
    }
    ~Setting() {
        for (Client& client : clients_) client.close();
    }
    Setting(const Setting&) = delete;
    Setting& operator=(const Setting&) = delete;

    /// One command; the next client's turn comes when one has sent all of its commands.
    void step() {
        Client& client = clients_[client_];
        client.send(client.commands[command_]);
        if (++command_ < client.commands.size()) return;
        command_ = 0;
        if (++client_ == clients_.size()) client_ = 0;
    }

  private:
    std::vector<Client> clients_;
    size_t client_ = 0;
    size_t command_ = 0;
};

std::string nameOf(const Workload& workload, size_t spaces) {
    return std::string(workload.name) +
           (spaces == 0 ? "/child" : "/spaces:" + std::to_string(spaces));
}

bool allocated = false;

void measure(benchmark::State& state, const Workload& workload, size_t spaces) {
    Setting setting(workload, spaces);
    const uint64_t commandsBefore = child.commands();
    const uint64_t allocationsBefore = allocations;
    for (const auto& unused [[maybe_unused]] : state) setting.step();
    const uint64_t extra = child.commands() - commandsBefore - state.iterations();
    const auto made = static_cast<double>(allocations - allocationsBefore);
    if (extra != 0) fail("commands of the library's own", static_cast<TSS2_RC>(extra));
    allocated |= made != 0;
    state.counters["allocations"] = made / static_cast<double>(state.iterations());
}

/// `--run NAME COUNT`
int run(const std::string& name, unsigned long count) {
    for (const Workload& workload : kWorkloads) {
        for (const size_t spaces : kSpaces) {
            if (nameOf(workload, spaces) != name) continue;
            Setting setting(workload, spaces);
            for (unsigned long i = 0; i < count; ++i) setting.step();
            return EXIT_SUCCESS;
        }
    }
    fprintf(stderr, "overhead.bench: no measurement is called %s\n", name.c_str());
    return EXIT_FAILURE;
}

int measureAll(int argc, char** argv) {
    for (const Workload& workload : kWorkloads)
        for (const size_t spaces : kSpaces)
            benchmark::RegisterBenchmark(
                nameOf(workload, spaces).c_str(),
                [&workload, spaces](benchmark::State& state) { measure(state, workload, spaces); });
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return EXIT_FAILURE;
    benchmark::RunSpecifiedBenchmarks();
    if (!allocated) return EXIT_SUCCESS;
    fprintf(stderr, "overhead.bench: a command allocated memory, and none may\n");
    return EXIT_FAILURE;
}

}  // namespace
}  // namespace spaces::bench

// In place of the loader's, by the linker's --wrap.
extern "C" TSS2_RC __wrap_Tss2_TctiLdr_Initialize(const char*, TSS2_TCTI_CONTEXT** context) {
    *context = spaces::bench::child.context();
    return TSS2_RC_SUCCESS;
}
extern "C" void __wrap_Tss2_TctiLdr_Finalize(TSS2_TCTI_CONTEXT** context) { *context = nullptr; }

int main(int argc, char** argv) {
    unsetenv("TSS2_LOG");  // what the caller logs is no part of what is measured
    // The C library's locks are cheaper in a process that never had a second thread. Most have.
    std::thread([] {}).join();
    if (argc == 4 && strcmp(argv[1], "--run") == 0)
        return spaces::bench::run(argv[2], strtoul(argv[3], nullptr, 10));
    return spaces::bench::measureAll(argc, argv);
}
