// SPDX-License-Identifier: BSD-2-Clause
// Every call to the child fails once, in each way, at each position of a set of scripts, over a
// real TPM: some of it here, by chance, all of it by `make check-faults`. What has to hold then is
// in unit/play.h; the same over a model of a TPM, and allocations, are test/unit/faults.cpp.
// SPACES_FAULTS is how many runs of each script there are in each mode, 0 for all, SPACES_SEED
// which.
#include <tss2/tss2_tctildr.h>

#include <cstdlib>
#include <iostream>
#include <map>
#include <random>

#include "support/client.h"
#include "support/simulator.h"
#include "unit/play.h"

// The loader's own, behind what the linker puts in its place.
extern "C" {
TSS2_RC __real_Tss2_TctiLdr_Initialize(const char* name, TSS2_TCTI_CONTEXT** context);
void __real_Tss2_TctiLdr_Finalize(TSS2_TCTI_CONTEXT** context);
}

namespace spaces::test {
namespace {

/// A swtpm, and another one with the same seeds.
class SwtpmBehind final : public TpmBehind {
  public:
    TSS2_RC open(TSS2_TCTI_CONTEXT** context) override {
        return __real_Tss2_TctiLdr_Initialize(sim_.conf().c_str(), context);
    }
    void close(TSS2_TCTI_CONTEXT** context) override { __real_Tss2_TctiLdr_Finalize(context); }
    void powerCycle() override { sim_.reset(AfterReset::none); }
    Packet privately(const Packet& command) override { return Packet(other_.send(command)); }
    unsigned whichPrivately() const override { return number_; }
    Occupied occupied() override {
        Client bare = Client::bare(sim_);
        return {handles(bare, TPM2_TRANSIENT_FIRST).size(),
                handles(bare, TPM2_LOADED_SESSION_FIRST).size(),
                handles(bare, TPM2_ACTIVE_SESSION_FIRST).size()};
    }

    /// Empty, and with all hierarchies on.
    void begin() { sim_.reset(AfterReset::startupClear); }

  private:
    Simulator sim_{Record::nothing};
    Simulator private_{Record::nothing, sim_};
    Client other_ = Client::bare(private_);
    static inline unsigned made_ = 0;
    const unsigned number_ = ++made_;
};

uint64_t setting(const char* name, uint64_t otherwise) {
    const char* value = std::getenv(name);
    return value == nullptr || *value == '\0' ? otherwise : std::stoull(value);
}

class Faults : public testing::TestWithParam<std::tuple<Script, Mode>> {
  protected:
    static void SetUpTestSuite() {
        std::cout << "SPACES_SEED=" << seed << " SPACES_FAULTS=" << runs << "\n";
    }

    /// True if it came to that.
    bool performAt(const Fault& fault, size_t position) {
        const testing::ScopedTrace trace(__FILE__, __LINE__,
                                         nameOf(fault) + " at " + std::to_string(position));
        tpm.begin();
        return perform(tpm, script, mode, fault, position);
    }
    /// The same for all faults that happen to any command.
    size_t positionsOf(const Fault& fault) {
        const bool special = fault.kind == Fault::Kind::Transmit ||
                             fault.kind == Fault::Kind::Taken || fault.kind == Fault::Kind::Flushed;
        size_t& count = counted_[special ? fault.kind : Fault::Kind::Code];
        if (count > 0) return count;
        tpm.begin();
        return count = countPositions(tpm, script, mode, fault);
    }
    void performSome() {
        std::mt19937_64 random(seed);
        const std::vector<Fault> faults = allFaults();
        for (uint64_t run = 0; run < runs && !HasFailure(); ++run) {
            const Fault& fault = faults[random() % faults.size()];
            EXPECT_TRUE(performAt(fault, 1 + random() % positionsOf(fault)));
        }
    }
    void performAll() {
        for (const Fault& fault : allFaults())
            for (size_t position = 1; !HasFailure(); ++position)
                if (!performAt(fault, position)) break;
    }

    const Script script = std::get<Script>(GetParam());
    const Mode mode = std::get<Mode>(GetParam());
    std::map<Fault::Kind, size_t> counted_;

    SwtpmBehind tpm;
    static inline const uint64_t seed = setting("SPACES_SEED", std::random_device()());
    static inline const uint64_t runs = setting("SPACES_FAULTS", 24);
};

TEST_P(Faults, CostWhatTheyAreAbout) {
    if (runs == 0)
        performAll();
    else
        performSome();
}

INSTANTIATE_TEST_SUITE_P(
    In, Faults, testing::Combine(testing::ValuesIn(allScripts()), testing::ValuesIn(allModes())),
    [](const auto& info) {
        return std::string(std::get<Script>(info.param).name) + std::get<Mode>(info.param).name;
    });

}  // namespace
}  // namespace spaces::test

extern "C" TSS2_RC __wrap_Tss2_TctiLdr_Initialize(const char* name, TSS2_TCTI_CONTEXT** context) {
    using spaces::test::FaultyChild;
    return name == std::string(FaultyChild::kName) ? FaultyChild::load(context)
                                                   : __real_Tss2_TctiLdr_Initialize(name, context);
}

extern "C" void __wrap_Tss2_TctiLdr_Finalize(TSS2_TCTI_CONTEXT** context) {
    using spaces::test::FaultyChild;
    if (FaultyChild::owns(*context))
        FaultyChild::unload(context);
    else
        __real_Tss2_TctiLdr_Finalize(context);
}

int main(int argc, char** argv) {
    setenv("TSS2_LOG", "all+none", 0);  // of so many failures nobody reads the log
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
