// SPDX-License-Identifier: BSD-2-Clause
// What the name of a child TCTI tells: NAME or NAME:CONF, behind any number of captures (pcap:),
// which pass everything on.
#pragma once

#include <string_view>

namespace spaces::tpm {

class ChildName {
  public:
    explicit constexpr ChildName(std::string_view nameAndConf) : name_(nameAndConf) {
        constexpr std::string_view kCapture = "pcap:";
        while (name_.starts_with(kCapture)) {
            name_.remove_prefix(kCapture.size());
            isCaptured_ = true;
        }
        const size_t colon = name_.find(':');
        if (colon == std::string_view::npos) return;
        conf_ = name_.substr(colon + 1);
        name_ = name_.substr(0, colon);
    }

    constexpr std::string_view name() const { return name_; }
    constexpr std::string_view conf() const { return conf_; }
    constexpr bool isCaptured() const { return isCaptured_; }

    /// By its short name, or by a library's that has it: libtss2-tcti-device.so.0, with its folder.
    constexpr bool is(std::string_view tcti) const {
        if (name_ == tcti) return true;
        constexpr std::string_view kPrefix = "tcti-";
        const size_t at = name_.rfind(kPrefix);
        return at != std::string_view::npos && name_.substr(at + kPrefix.size()).starts_with(tcti);
    }

  private:
    std::string_view name_, conf_;
    bool isCaptured_ = false;
};

}  // namespace spaces::tpm
