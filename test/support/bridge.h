/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A bridge program, for the children other than swtpm's: ready once constructed, ended with the
 * object.
 *
 *     Bridge bridge("mssim-bridge", sim.port());
 *     Client space(Client::spaceConf("mssim:host=127.0.0.1,port=" + bridge.line()));
 */
#ifndef SPACES_TEST_SUPPORT_BRIDGE_H
#define SPACES_TEST_SUPPORT_BRIDGE_H

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace spaces::test {

class Bridge {
  public:
    /** `port`: swtpm's, or that of something that behaves like it.  `link`: device-bridge's, or
     *  the port of mssim-bridge, if it is to have a certain one. */
    Bridge(const char* name, uint16_t port, const std::string& link = "");
    ~Bridge();
    Bridge(const Bridge&) = delete;
    Bridge& operator=(const Bridge&) = delete;

    /** What the program said when it was ready. */
    const std::string& line() const { return line_; }

  private:
    void readLine(int fd);

    pid_t pid_;
    std::string line_;
};

}  // namespace spaces::test

#endif
