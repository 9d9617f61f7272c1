// SPDX-License-Identifier: LGPL-2.1-or-later
//
// docs/examples/enhance.c writes what a session gives.
#include "tests/check.h"
#include "tests/support.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sys/wait.h>

namespace {
std::string program;

std::string planar_bytes(const tds_picture &p) {
    std::string out;
    for (const uint16_t sample : planar_samples(p)) {
        out += static_cast<char>(sample);
    }
    return out;
}
} // namespace

TEST("the C example and a session give the same pixels") {
    std::string hr_bytes;
    std::string lr_bytes;
    std::string want;
    std::vector<Samples> hr;
    std::vector<Samples> lr;
    for (int i = 0; i < 4; i++) {
        hr.emplace_back(54, 38, 8, 40 + i);
    }
    for (int i = 0; i < 6; i++) {
        lr.emplace_back(tds_lr_size(54, 2), tds_lr_size(38, 2), 8, 100 + i);
        if (i % 2) {
            lr.back().noise();
        }
    }
    Session session([](tds_settings &s) {
        s.width = 54;
        s.height = 38;
    });
    for (size_t i = 0; i < hr.size(); i++) {
        hr_bytes += planar_bytes(hr[i].picture(0));
    }
    for (size_t i = 0; i < lr.size(); i++) {
        lr_bytes += planar_bytes(lr[i].picture(0));
    }
    for (size_t h = 0, l = 0;;) {
        tds_picture out;
        const tds_result result = tds_session_receive(session.get(), &out);
        if (result == TDS_END) {
            break;
        }
        if (result == TDS_OK) {
            want += planar_bytes(out);
            tds_picture_release(&out);
            continue;
        }
        const unsigned wants = tds_session_wants(session.get());
        if (wants & 1U << TDS_HR) {
            if (h < hr.size()) {
                const tds_picture p = hr[h].picture(static_cast<int64_t>(h / 2 * 5 + h % 2 * 4));
                CHECK_EQ(tds_session_send(session.get(), TDS_HR, &p), TDS_OK);
                h++;
            } else {
                CHECK_EQ(tds_session_send(session.get(), TDS_HR, nullptr), TDS_OK);
            }
        } else if (l < lr.size()) {
            const tds_picture p = lr[l].picture(static_cast<int64_t>(l / 3 * 5 + 1 + l % 3));
            CHECK_EQ(tds_session_send(session.get(), TDS_LR, &p), TDS_OK);
            l++;
        } else {
            CHECK_EQ(tds_session_send(session.get(), TDS_LR, nullptr), TDS_OK);
        }
    }
    const std::string a = write_file("hr.yuv", hr_bytes);
    const std::string b = write_file("lr.yuv", lr_bytes);
    const std::string c = std::string(TEST_FOLDER) + "/out.yuv";
    const std::string command = program + " 54 38 2 5 " + a + " " + b + " " + c;
    CHECK_EQ(std::system(command.c_str()), 0);
    std::ifstream file(c, std::ios::binary);
    const std::string got((std::istreambuf_iterator<char>(file)), {});
    CHECK_EQ(got.size(), static_cast<size_t>(10 * 54 * 38 * 3 / 2));
    CHECK(got == want);
}

TEST("the C example refuses groups that are none") {
    for (const char *group : {"2", "4", "1", "0", "-3", "x"}) {
        const std::string command = program + " 54 38 2 " + group + " /dev/null /dev/null " +
                                    TEST_FOLDER + "/none.yuv 2>/dev/null";
        const int status = std::system(command.c_str());
        CHECK(WIFEXITED(status));
        CHECK_EQ(WEXITSTATUS(status), 2);
    }
}

int main(int argc, char **argv) {
    program = argc > 1 ? argv[1] : "";
    return check::run(1, argv);
}
