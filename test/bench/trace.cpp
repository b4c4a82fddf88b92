/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The work that doc/trace.svg shows: two spaces with two objects each, of which a TPM holds three.
 *
 *     make test/bench/trace
 *     test/bench/trace FILE && test/bench/trace.py <FILE >doc/trace.svg
 *
 * What always holds here: every command succeeds, or the program ends with an error.
 */
#include <cstdio>
#include <stdexcept>

#include "support/client.h"
#include "support/command.h"
#include "support/response.h"

namespace {

void work(const std::string& file) {
    using namespace spaces::test;
    const Simulator sim;
    const std::string options = "swap=on,trace=" + file;
    Client a = Client::space(sim, options), b = Client::space(sim, options);
    for (const char* key : {"one", "two"})
        for (Client* space : {&a, &b}) space->ok(loadExternalHmac(key));
    for (int round = 0; round < 3; round++)
        for (const TPM2_HANDLE object : {TPM2_TRANSIENT_FIRST, TPM2_TRANSIENT_FIRST + 1})
            for (Client* space : {&a, &b}) space->ok(hmac(object, "some data"));
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 2) throw std::runtime_error("which file?");
    work(argv[1]);
    return 0;
} catch (const std::exception& problem) {
    std::fprintf(stderr, "trace: %s\n", problem.what());
    return 1;
}
