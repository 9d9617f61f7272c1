// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The decoder's end of the push protocol: whatever a decoder hands it, what goes out is the
// protocol of tds/push.h, and an enhancer that goes away ends it with a sentence.
#include "tds/push.h"
#include "fuzz.h"

#include <csignal>
#include <cstring>
#include <poll.h>
#include <string>
#include <vector>

namespace {

uint64_t number(const std::string &data, size_t at, int bytes) {
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--) {
        value = value << 8 | static_cast<uint8_t>(data[at + static_cast<size_t>(i)]);
    }
    return value;
}

// All that can be read without waiting.
void drain(int descriptor, std::string &data) {
    char buffer[4096];
    pollfd there{descriptor, POLLIN, 0};
    while (poll(&there, 1, 0) > 0) {
        const ssize_t n = read(descriptor, buffer, sizeof(buffer));
        if (n <= 0) {
            return;
        }
        data.append(buffer, static_cast<size_t>(n));
    }
}

void check_messages(const std::string &data, int64_t sent) {
    size_t at = 0;
    int64_t pictures = 0;
    bool last = false;
    for (int count = 0; at < data.size(); count++) {
        REQUIRE(!last && data.size() - at >= 16);
        REQUIRE(data.compare(at, 4, "TDSP") == 0 && data[at + 4] == 1);
        REQUIRE(data[at + 6] == 0 && data[at + 7] == 0);
        const int type = data[at + 5];
        const uint64_t size = number(data, at + 8, 8);
        at += 16;
        REQUIRE(size <= data.size() - at);
        REQUIRE((type == tds::PictureSender::HELLO) == (count == 0));
        if (type == tds::PictureSender::HELLO) {
            REQUIRE(size == 64 && (data[at] == 0 || data[at] == 1) && data[at + 63] == 0);
        } else if (type == tds::PictureSender::PICTURE) {
            const uint64_t width = number(data, at, 4);
            const uint64_t height = number(data, at + 4, 4);
            const uint64_t depth = number(data, at + 8, 4);
            REQUIRE(width >= 2 && height >= 2 && width % 2 == 0 && height % 2 == 0);
            REQUIRE(depth >= 8 && depth <= 16);
            REQUIRE(size == 32 + width * height * 3 / 2 * (depth == 8 ? 1 : 2));
            REQUIRE(number(data, at + 16, 8) == static_cast<uint64_t>(pictures));
            pictures++;
        } else if (type == tds::PictureSender::END) {
            REQUIRE(size == 8 && number(data, at, 8) == static_cast<uint64_t>(pictures));
            last = true;
        } else {
            REQUIRE(type == tds::PictureSender::FAIL);
            last = true;
        }
        at += size;
    }
    REQUIRE(pictures == sent);
}

} // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Bytes program(data, size);
    int ends[2];
    const uint8_t how = program.next();
    if (how & 1) {
        std::signal(SIGPIPE, SIG_IGN); // as a program has it that writes to a pipe
    }
    REQUIRE((how & 1 ? pipe(ends) : socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) == 0);
    const std::vector<uint16_t> plane(64 * 64 + 64, 0x1ff);
    std::string received;
    bool gone = false;
    int64_t sent = 0;
    {
        tds::PictureSender sender;
        sender.address = "fd:" + std::to_string(ends[1]);
        sender.role = how & 2 ? "lr" : how & 4 ? "" : "hr";
        sender.program = std::string(how >> 3, 'p');
        bool good = true;
        while (!program.empty()) {
            const uint8_t op = program.next();
            if (op % 8 < 5) {
                const int width = program.next() % 67 - 1;
                const int height = program.next() % 67 - 1;
                const int depth = op & 128 ? 8 : op >> 3 & 15;
                const uint16_t *planes[3] = {plane.data(), plane.data(), plane.data()};
                const ptrdiff_t strides[3] = {0, 1, 0};
                if (width > 64 || height > 64) {
                    continue;
                }
                const bool done = sender.send(planes, strides, width, height, depth, op, op & 64);
                REQUIRE(!done || good);
                REQUIRE(done || !sender.error().empty());
                good = good && done;
            } else if (op % 8 == 5) {
                REQUIRE(!sender.fail(program.rest()));
                good = false;
            } else if (op % 8 == 6 && (op & 16) && !gone) {
                close(ends[0]);
                gone = true;
                good = good && !sender.end() && false;
            } else {
                good = sender.end() && false; // nothing can be sent after it
            }
            if (!gone) {
                drain(ends[0], received);
            }
        }
        sender.end();
        sent = sender.sent();
    }
    if (!gone) {
        drain(ends[0], received);
        close(ends[0]);
        check_messages(received, sent);
    }
    close(ends[1]); // which the sender has closed, where it got to open it
    return 0;
}
