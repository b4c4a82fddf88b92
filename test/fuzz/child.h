// SPDX-License-Identifier: BSD-2-Clause
// The child TCTI of the fuzz targets: a model of a TPM behind a connection that does what it is
// told, in place of one that the loader would load. A program with it needs no loader: it defines
// the loader's two functions.
// Always holds: while nothing else is asked for, the model's own answers come through; what the
// library may not do to a child ends the program: a second command before the first one's response
// is taken, a size query or small buffer, a command that is not as its header says, calls into a
// closed child, more commands than anything can be worth.
#pragma once

#include <functional>
#include <string>

#include "fuzz/input.h"
#include "unit/model_tpm.h"

namespace spaces::fuzz {

class Child {
  public:
    /// What becomes of one command.
    struct Deed {
        TSS2_RC transmitFails = TSS2_RC_SUCCESS;  // it is not executed
        TSS2_RC receiveFails = TSS2_RC_SUCCESS;   // it is executed
        unsigned tryAgain = 0;                    // so often there is no response yet
        /// Writes over the response. It may say that it is larger than it can be.
        std::function<void(Bytes& response)> alter;
    };

    /// In what child TCTIs differ.
    struct Manner {
        bool tells = false;    // it has a poll handle, readable when there is a response
        bool forgets = false;  // once canceled, it gives no response before another command comes
    };

    /// Until it is destroyed, the loader finds it under this name.
    Child(const std::string& name, const test::ModelTpm::Size& size, Manner manner);
    Child(const std::string& name, const test::ModelTpm::Size& size)
        : Child(name, size, Manner{false, false}) {}
    ~Child();
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    test::ModelTpm tpm;

    /// Asked for each command.
    std::function<Deed(const Bytes& command)> script;
    /// Asked when it is opened and when it is to set a locality or cancel.
    std::function<TSS2_RC()> otherwise;

    /// While it is true the library waits without end, so nothing may be late any more.
    void hurry(bool on);

    /// A client's next step begins. What the library does for one ends after so many commands.
    void beginStep() { commands_ = 0; }
    static constexpr size_t kMostCommands = 20000;

    // For the loader's functions.
    static TSS2_RC load(const char* name, TSS2_TCTI_CONTEXT** context);
    static void unload(TSS2_TCTI_CONTEXT** context);

  private:
    struct Context {
        TSS2_TCTI_CONTEXT_COMMON_V2 common;
        Child* child;
    };

    static Child& of(TSS2_TCTI_CONTEXT* context);
    static TSS2_RC transmit(TSS2_TCTI_CONTEXT* context, size_t size, const uint8_t* command);
    static TSS2_RC receive(TSS2_TCTI_CONTEXT* context, size_t* size, uint8_t* response, int32_t);
    static TSS2_RC cancel(TSS2_TCTI_CONTEXT* context);
    static TSS2_RC setLocality(TSS2_TCTI_CONTEXT* context, uint8_t locality);
    static TSS2_RC getPollHandles(TSS2_TCTI_CONTEXT* context, TSS2_TCTI_POLL_HANDLE* handles,
                                  size_t* count);

    TSS2_RC sayOtherwise() const { return otherwise ? otherwise() : TSS2_RC_SUCCESS; }
    void execute(const Bytes& command);
    void setReadable(bool readable) const;

    const std::string name_;
    Context context_{};
    TSS2_TCTI_CONTEXT* model_ = nullptr;  // while it is open
    Deed deed_;
    Bytes response_;
    bool pending_ = false;
    bool forgotten_ = false;  // pending, and canceled
    bool hurried_ = false;
    const Manner manner_;
    const int handle_;
    size_t commands_ = 0;
};

}  // namespace spaces::fuzz
