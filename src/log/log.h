// SPDX-License-Identifier: BSD-2-Clause
// Messages in the manner of tpm2-tss: TSS2_LOG=tcti+LEVEL chooses what is printed, TSS2_LOGFILE
// where. A line is LEVEL:tcti:FILE:LINE:FUNCTION() MESSAGE.
// Always holds: command and response bytes are printed at debug and trace only, since they can
// hold secrets; a process with more rights than its user ignores both variables; a log file that
// has to be made is readable by its owner alone. Functions here may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace spaces::log {

enum class Level { None, Error, Warning, Info, Debug, Trace };

/// The level that a TSS2_LOG value gives the module "tcti": entries MODULE+LEVEL separated by
/// commas, the last that names "tcti" or "all" wins, Warning when none does. May be null.
Level parseLevel(const char* setting);

/// True if messages of this level are printed. The environment is read once.
bool enabled(Level level);

[[gnu::format(printf, 5, 6)]] void print(Level level, const char* file, int line,
                                         const char* function, const char* format, ...);

/// A title and the bytes in hexadecimal, sixteen to a row.
void printBytes(Level level, const char* file, int line, const char* function, const char* title,
                std::span<const uint8_t> bytes);

}  // namespace spaces::log

#define SPACES_LOG(level, ...)                                                    \
    do {                                                                          \
        if (spaces::log::enabled(level))                                          \
            spaces::log::print(level, __FILE__, __LINE__, __func__, __VA_ARGS__); \
    } while (0)
#define LOG_ERROR(...) SPACES_LOG(spaces::log::Level::Error, __VA_ARGS__)
#define LOG_WARNING(...) SPACES_LOG(spaces::log::Level::Warning, __VA_ARGS__)
#define LOG_INFO(...) SPACES_LOG(spaces::log::Level::Info, __VA_ARGS__)
#define LOG_DEBUG(...) SPACES_LOG(spaces::log::Level::Debug, __VA_ARGS__)
#define LOG_BYTES(title, bytes)                                                              \
    do {                                                                                     \
        if (spaces::log::enabled(spaces::log::Level::Debug))                                 \
            spaces::log::printBytes(spaces::log::Level::Debug, __FILE__, __LINE__, __func__, \
                                    title, bytes);                                           \
    } while (0)
