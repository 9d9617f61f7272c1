// SPDX-License-Identifier: LGPL-2.1-or-later
//
// No decoder: reads y4m and hands its pictures to a TDS enhancer through
// tds/push.h, the very header the patched VTM and HM use. The tests run the
// protocol and the launcher with it where no reference decoder is installed.
//
//   push_y4m SESSION ROLE IN.y4m [FAULT]
//
// FAULT: what goes wrong after how many pictures, as in die=3:
//   die=N   ends at once by SIGKILL        exit=N  exits with status 3, no END
//   hang=N  stops writing, still runs      half=N  sends half a picture, then dies
//   fail=N  says FAIL with a sentence      late=N  sends all and END, exits with 4
//   slow=MS waits MS milliseconds before each picture
#include <tds/push.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <unistd.h>

namespace {

int fault_at(int argc, char **argv, const char *name) {
    const size_t length = std::strlen(name);
    if (argc > 4 && !std::strncmp(argv[4], name, length) && argv[4][length] == '=')
        return std::atoi(argv[4] + length + 1);
    return -1;
}

// Half a picture: what a decoder that is killed inside a write leaves behind.
void send_half(const std::string &address, int width, int height, int ordinal) {
    const int fd = std::atoi(address.c_str() + 3);
    std::vector<unsigned char> bytes(16 + 32 + static_cast<size_t>(width) * height / 2);
    const unsigned long long payload =
        32ULL + static_cast<unsigned long long>(width) * height * 3 / 2;
    std::memcpy(bytes.data(), "TDSP\1\2\0\0", 8);
    for (int i = 0; i < 8; i++)
        bytes[8 + i] = static_cast<unsigned char>(payload >> (8 * i));
    const unsigned head[] = {static_cast<unsigned>(width), static_cast<unsigned>(height), 8, 0,
                             static_cast<unsigned>(ordinal)};
    for (int i = 0; i < 5; i++)
        for (int b = 0; b < 4; b++)
            bytes[16 + 4 * i + b] = static_cast<unsigned char>(head[i] >> (8 * b));
    if (::write(fd, bytes.data(), bytes.size()) < 0)
        std::perror("write");
}

} // namespace

int main(int argc, char **argv) {
    if (argc < 4) {
        std::fprintf(stderr, "push_y4m SESSION ROLE IN.y4m [FAULT=N]\n");
        return 2;
    }
    tds::PictureSender sender;
    sender.address = argv[1];
    sender.role = argv[2];
    sender.program = "push_y4m";

    FILE *file = std::fopen(argv[3], "rb");
    char line[1024];
    int width = 0, height = 0;
    if (!file || !std::fgets(line, sizeof line, file) ||
        std::sscanf(line, "YUV4MPEG2 W%d H%d", &width, &height) != 2) {
        std::fprintf(stderr, "%s: no y4m\n", argv[3]);
        return 2;
    }
    const bool deep = std::strstr(line, "420p10") != nullptr;
    const size_t luma = static_cast<size_t>(width) * height;
    // Samples as VTM and HM hold them: 16 bits, in a buffer with margins.
    const ptrdiff_t margin = 24;
    const ptrdiff_t strides[3] = {width + 2 * margin, width / 2 + 2 * margin,
                                  width / 2 + 2 * margin};
    std::vector<unsigned char> bytes(luma * 3 / 2 * (deep ? 2 : 1));
    std::vector<short> samples[3];
    for (int p = 0; p < 3; p++)
        samples[p].resize(strides[p] * (height >> (p ? 1 : 0)) + 2 * margin, -1);

    for (int n = 0; std::fgets(line, sizeof line, file); n++) {
        if (std::fread(bytes.data(), 1, bytes.size(), file) != bytes.size())
            return 2;
        if (fault_at(argc, argv, "die") == n)
            std::raise(SIGKILL);
        if (fault_at(argc, argv, "exit") == n) {
            std::fprintf(stderr, "push_y4m: asked to give up\n");
            std::_Exit(3);
        }
        if (fault_at(argc, argv, "hang") == n)
            ::pause();
        if (fault_at(argc, argv, "half") == n) {
            send_half(sender.address, width, height, n);
            std::raise(SIGKILL);
        }
        if (fault_at(argc, argv, "fail") == n) {
            sender.fail("asked to give up");
            return 1;
        }
        if (fault_at(argc, argv, "slow") >= 0)
            ::usleep(1000 * fault_at(argc, argv, "slow"));

        const unsigned char *from = bytes.data();
        const short *planes[3];
        for (int p = 0; p < 3; p++) {
            const int w = width >> (p ? 1 : 0), h = height >> (p ? 1 : 0);
            for (int y = 0; y < h; y++)
                for (int x = 0; x < w; x++) {
                    samples[p][margin + y * strides[p] + x] =
                        static_cast<short>(deep ? from[0] | from[1] << 8 : from[0]);
                    from += deep ? 2 : 1;
                }
            planes[p] = samples[p].data() + margin;
        }
        if (!sender.send(planes, strides, width, height, deep ? 10 : 8, n)) {
            std::fprintf(stderr, "push_y4m: %s\n", sender.error().c_str());
            return 1;
        }
    }
    if (!sender.end()) {
        std::fprintf(stderr, "push_y4m: %s\n", sender.error().c_str());
        return 1;
    }
    return fault_at(argc, argv, "late") >= 0 ? 4 : 0;
}
