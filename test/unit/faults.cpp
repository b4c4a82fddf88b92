// SPDX-License-Identifier: BSD-2-Clause
// Every call to the child, and every allocation, fails once, in each way, at each position of a set
// of scripts, over a model of a TPM. What has to hold then is in play.h; the same over a real TPM
// is test/integration/faults.cpp.
#include <cstdlib>
#include <memory>

#include "unit/model_tpm.h"
#include "unit/play.h"

namespace spaces::test {
namespace {

/// A model as a child, and another one for private use.
class ModelBehind final : public TpmBehind {
  public:
    /// With the context gap so near, sessions that are saved have to be renewed where there is
    /// swapping; without, whoever saves sees to it.
    explicit ModelBehind(const Mode& mode)
        : tpm_(kName, {.gap = mode.swaps ? size_t{10} : size_t{0xFFFF}}) {}

    TSS2_RC open(TSS2_TCTI_CONTEXT** context) override { return ModelTpm::load(kName, context); }
    void close(TSS2_TCTI_CONTEXT** context) override { ModelTpm::unload(context); }
    void powerCycle() override { tpm_.powerCycle(); }
    Occupied occupied() override {
        return {tpm_.loadedObjects(), tpm_.loadedSessions(), tpm_.savedSessions()};
    }
    Packet privately(const Packet& command) override {
        static TSS2_TCTI_CONTEXT* const other = openAnother();
        Bytes answer(TPM2_MAX_RESPONSE_SIZE);
        size_t size = answer.size();
        Tss2_Tcti_Transmit(other, command.length(), command.all().data());
        Tss2_Tcti_Receive(other, &size, answer.data(), TSS2_TCTI_TIMEOUT_BLOCK);
        answer.resize(size);
        return Packet(answer);
    }

  private:
    static constexpr char kName[] = "model";

    /// For as long as the program runs.
    static TSS2_TCTI_CONTEXT* openAnother() {
        static ModelTpm* const tpm = new ModelTpm("private", {});
        TSS2_TCTI_CONTEXT* context = nullptr;
        EXPECT_NE(tpm, nullptr);
        ModelTpm::load("private", &context);
        return context;
    }

    ModelTpm tpm_;
};

using Each = std::tuple<Script, Mode, Fault>;

class Faults : public testing::TestWithParam<Each> {};

std::string nameOfEach(const testing::TestParamInfo<Each>& info) {
    const auto& [script, mode, fault] = info.param;
    return std::string(script.name) + mode.name + nameOf(fault);
}

/// At each position until there is none more. Returns how many there are.
size_t performEverywhere(const Script& script, const Mode& mode, const Fault& fault) {
    for (size_t position = 1;; ++position) {
        SCOPED_TRACE("position " + std::to_string(position));
        ModelBehind tpm(mode);
        const bool fired = perform(tpm, script, mode, fault, position);
        if (!fired || testing::Test::HasFailure()) return position - 1;
    }
}

TEST_P(Faults, CostWhatTheyAreAbout) {
    const auto& [script, mode, fault] = GetParam();
    const size_t positions = performEverywhere(script, mode, fault);
    EXPECT_GE(positions, fault.isOfMemory() ? 3u : fault.takes() ? 1u : 8u);
}

class NoFault : public testing::TestWithParam<std::tuple<Script, Mode>> {};

TEST_P(NoFault, CostsNothing) {
    const auto& [script, mode] = GetParam();
    ModelBehind tpm(mode);
    EXPECT_FALSE(perform(tpm, script, mode, {}, 0));
}

INSTANTIATE_TEST_SUITE_P(
    In, NoFault, testing::Combine(testing::ValuesIn(allScripts()), testing::ValuesIn(allModes())),
    [](const auto& info) {
        return std::string(std::get<Script>(info.param).name) + std::get<Mode>(info.param).name;
    });

std::vector<Fault> withMemory() {
    std::vector<Fault> all = allFaults();
    for (const auto kind : {Fault::Kind::Memory, Fault::Kind::NoMemory}) all.push_back({kind});
    return all;
}

INSTANTIATE_TEST_SUITE_P(In, Faults,
                         testing::Combine(testing::ValuesIn(allScripts()),
                                          testing::ValuesIn(allModes()),
                                          testing::ValuesIn(withMemory())),
                         nameOfEach);

}  // namespace
}  // namespace spaces::test

// What the linker puts in place of the loader.
extern "C" TSS2_RC __wrap_Tss2_TctiLdr_Initialize(const char*, TSS2_TCTI_CONTEXT** context) {
    return spaces::test::FaultyChild::load(context);
}

extern "C" void __wrap_Tss2_TctiLdr_Finalize(TSS2_TCTI_CONTEXT** context) {
    spaces::test::FaultyChild::unload(context);
}

int main(int argc, char** argv) {
    setenv("TSS2_LOG", "all+none", 0);  // of so many failures nobody reads the log
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
