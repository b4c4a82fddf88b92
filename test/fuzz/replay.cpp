// SPDX-License-Identifier: BSD-2-Clause
// What makes a test of a fuzz target: runs it once for each file that is named.
// Always holds: a file that cannot be read, or none at all, is a failure.
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int main(int count, char** names) {
    for (int i = 1; i < count; ++i) {
        std::ifstream file(names[i], std::ios::binary);
        const std::vector<char> input{std::istreambuf_iterator<char>(file), {}};
        if (!file.is_open() || file.bad()) {
            fprintf(stderr, "%s cannot be read\n", names[i]);
            return 1;
        }
        // The last one named is the one that failed.
        printf("%s\n", names[i]);
        fflush(stdout);
        LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
    }
    printf("%d inputs\n", count - 1);
    return count > 1 ? 0 : 1;
}
