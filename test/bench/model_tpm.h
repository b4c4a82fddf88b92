// SPDX-License-Identifier: BSD-2-Clause
// A TPM that is only its slots: a child TCTI that keeps track of objects, sequences and sessions
// as a TPM does, saves and loads their contexts, and does no cryptography. It stands in for the
// loader's child by the linker's --wrap, one at a time.
// Always holds: it answers every command it knows as a TPM would, handles and warnings included,
// and all others with TPM_RC_COMMAND_CODE. A successful use tells which thing was used and how
// often that has changed, so a context that is lost, stale or somebody else's is seen. A command
// costs O(slots) and no memory.
#pragma once

#include <tss2/tss2_tcti.h>
#include <tss2/tss2_tpm2_types.h>

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>

namespace spaces::bench {

class ModelTpm {
  public:
    static constexpr unsigned kObjectSlots = 3;
    static constexpr unsigned kSessionSlots = 3;
    static constexpr unsigned kSessions = 64;   // loaded and saved
    static constexpr size_t kObjectBlob = 900;  // about an ECC key's, with all that is around it
    static constexpr size_t kSessionBlob = 300;
    static constexpr size_t kContextHead = 18;  // sequence, savedHandle, hierarchy, size
    static constexpr uint32_t kMostSerials = 1 << 16;

    /// What the commands that use something answer, in a TPM2B: the number of the thing, counted
    /// from 1 in the order of making, and how often it has changed since.
    struct Used {
        uint32_t serial;
        uint32_t changes;
    };

    /// There may be one at a time.
    ModelTpm();
    ~ModelTpm();
    ModelTpm(const ModelTpm&) = delete;
    ModelTpm& operator=(const ModelTpm&) = delete;

    /// Made of a LoadExternal, Load or HashSequenceStart; of a StartAuthSession. The next number.
    uint32_t nextSerial() const { return serials_ + 1; }
    bool isLoaded(uint32_t serial) const { return loaded_[serial]; }

    uint64_t commands() const { return commands_; }
    TSS2_TCTI_CONTEXT* context() { return reinterpret_cast<TSS2_TCTI_CONTEXT*>(&common_); }

  private:
    enum class Place : uint8_t { None, Loaded, Saved };

    struct Thing {
        Place place = Place::None;
        bool sequence = false;
        Used used = {};
        uint64_t saved = 0;  // a session: the sequence number of its only good context
    };

    static TSS2_RC transmit(TSS2_TCTI_CONTEXT* context, size_t size, const uint8_t* command);
    static TSS2_RC receive(TSS2_TCTI_CONTEXT* context, size_t* size, uint8_t* response,
                           int32_t timeout);

    void execute(const uint8_t* command);
    void makeObject(bool sequence);
    void makeSession();
    void use(const uint8_t* command, TPM2_CC code);
    void flush(TPM2_HANDLE handle);
    void save(TPM2_HANDLE handle);
    void load(const uint8_t* context);
    void loadSession(const uint8_t* context, const Used& used);

    Thing* findLoaded(TPM2_HANDLE handle);
    Thing* freeSlot();
    size_t loadedSessions() const;
    void setPlace(Thing& thing, Place place);
    void answer(TPM2_RC code);
    void answerHandle(TPM2_HANDLE handle);

    TSS2_TCTI_CONTEXT_COMMON_V1 common_{};  // first: the context is this object
    std::array<Thing, kObjectSlots> objects_{};
    std::array<Thing, kSessions> sessions_{};
    std::bitset<kMostSerials> loaded_;
    uint32_t serials_ = 0;
    uint64_t saves_ = 0;
    uint64_t commands_ = 0;
    std::array<uint8_t, TPM2_MAX_RESPONSE_SIZE> response_{};
    size_t responseSize_ = 0;
};

}  // namespace spaces::bench
