/* SPDX-License-Identifier: BSD-2-Clause
 *
 * For TEST_P: a simulator and a child TCTI of each kind that reaches it.
 * What always holds here: the child is found at the same place however often what serves it is
 * ended and started again.
 */
#ifndef SPACES_TEST_INTEGRATION_OVER_CHILDREN_H
#define SPACES_TEST_INTEGRATION_OVER_CHILDREN_H

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>

#include "support/bridge.h"
#include "support/client.h"

namespace spaces::test {

class OverChildren : public testing::TestWithParam<const char*> {
  protected:
    OverChildren() : kind(GetParam()) {
        if (kind == "device") where = folder + "/tpm0";
        startBridge();
        if (kind == "mssim") where = bridge->line();
        child = kind == "device"  ? "device:" + where
                : kind == "mssim" ? "mssim:host=127.0.0.1,port=" + where
                                  : sim.conf();
        conf = Client::spaceConf(child);
    }
    ~OverChildren() override { std::filesystem::remove_all(folder); }

    /** Nothing for swtpm, which needs none. */
    void startBridge() {
        if (kind == "swtpm") return;
        bridge.reset();
        bridge = std::make_unique<Bridge>((kind + "-bridge").c_str(), sim.port(), where);
    }

    /** The TPM is gone, and with it what is in it. */
    void endTpm() {
        sim.kill();
        bridge.reset();
    }
    void startTpm() {
        sim.restart();
        startBridge();
    }

    static std::string makeFolder() {
        char name[] = "/tmp/spaces-child.XXXXXX";
        if (::mkdtemp(name) == nullptr) throw std::runtime_error("mkdtemp");
        return name;
    }

    const std::string kind;
    const std::string folder = makeFolder();
    Simulator sim;
    std::string where;  ///< what the bridge is told
    std::unique_ptr<Bridge> bridge;
    std::string child;  ///< the child's name and conf
    std::string conf;   ///< that of a space over it
};

/** The kinds, for INSTANTIATE_TEST_SUITE_P, and what they are called. */
inline auto everyChild() { return testing::Values("swtpm", "device", "mssim"); }
inline std::string childName(const testing::TestParamInfo<const char*>& info) { return info.param; }

}  // namespace spaces::test

#endif
