// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The enhancer inside a program that decodes: one process, no pipe, no file.
//
//   lib=$(pkg-config --variable=libdir tds)
//   c++ -std=c++17 embed.cpp $(pkg-config --cflags --libs tds) -Wl,-rpath,$lib -o embed
//   ./embed HR.y4m LR.y4m 5 fast > out.y4m     (5: N of the plan, both ends of a group HR)
//
// The Python package has a libtds: PKG_CONFIG_PATH is then lib/pkgconfig in the folder that
// python -c "import tds._tds; print(tds._tds.native_dir())" says. `fast` is a model, by name or
// file (tds_model_choose); without it LR pictures are up-sampled by bicubic.
//
// `Decoder` is what you replace: anything that gives pictures in output order.
// Here it reads y4m. VTM and HM cannot be used so, because two of them do not
// work in one process (docs/vtm.md): use tds postdec for those.
#include <tds/tds.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

// Your decoder: the next picture in output order, or false at the end. The
// samples must stay as they are until the next call; the session copies them.
class Decoder {
  public:
    virtual ~Decoder() = default;
    virtual bool next(tds_picture &picture) = 0;
};

class Y4M : public Decoder {
  public:
    explicit Y4M(const char *path) : file_(std::fopen(path, "rb")) {
        char line[1024];
        if (!file_ || !std::fgets(line, sizeof line, file_) ||
            std::sscanf(line, "YUV4MPEG2 W%d H%d", &width, &height) != 2)
            throw std::runtime_error(std::string(path) + " is no y4m file");
        bit_depth = std::strstr(line, "420p10") ? 10 : 8;
        sample_ = bit_depth == 8 ? 1 : 2;
        samples_.resize(static_cast<size_t>(width) * height * 3 / 2 * sample_);
    }
    ~Y4M() override {
        if (file_)
            std::fclose(file_);
    }

    bool next(tds_picture &picture) override {
        char line[256];
        if (!std::fgets(line, sizeof line, file_))
            return false;
        if (std::fread(samples_.data(), 1, samples_.size(), file_) != samples_.size())
            throw std::runtime_error("half a picture");
        const size_t luma = static_cast<size_t>(width) * height * sample_;
        tds_picture_init(&picture);
        picture.width = width;
        picture.height = height;
        picture.bit_depth = bit_depth;
        picture.data[0] = samples_.data();
        picture.data[1] = samples_.data() + luma;
        picture.data[2] = samples_.data() + luma + luma / 4;
        picture.stride[0] = width * sample_;
        picture.stride[1] = picture.stride[2] = width / 2 * sample_;
        return true;
    }

    int width = 0, height = 0, bit_depth = 8;

  private:
    FILE *file_;
    int sample_ = 1;
    std::vector<unsigned char> samples_;
};

static void check(tds_result result) {
    if (result < 0)
        throw std::runtime_error(tds_last_error());
}

static void write(const tds_picture &picture) {
    std::fputs("FRAME\n", stdout);
    for (int plane = 0; plane < 3; plane++) {
        const int width = picture.width >> (plane ? 1 : 0),
                  height = picture.height >> (plane ? 1 : 0);
        const char *row = static_cast<const char *>(picture.data[plane]);
        for (int y = 0; y < height; y++, row += picture.stride[plane])
            std::fwrite(row, picture.bit_depth == 8 ? 1 : 2, width, stdout);
    }
}

static void run(const char *hr_path, const char *lr_path, int group, const char *model) {
    Y4M hr(hr_path), lr(lr_path);
    Decoder *const decoders[2] = {&hr, &lr};

    tds_settings settings;
    tds_default_settings(&settings);
    settings.width = hr.width;
    settings.height = hr.height;
    settings.bit_depth = hr.bit_depth;
    settings.scale = tds_scale_of(hr.width, hr.height, lr.width, lr.height);
    if (!settings.scale)
        throw std::runtime_error("these two streams do not belong together");
    static tds_model_choice choice; // paths are long
    if (model) {
        tds_model_request request{};
        request.model = model;
        request.scale = settings.scale;
        check(tds_model_choose(&request, &choice));
        std::fputs(choice.notices, stderr);
        settings.model = choice.path;
    }
    tds_session *session = nullptr;
    check(tds_session_open(&settings, &session));

    std::printf("YUV4MPEG2 W%d H%d F25:1 Ip C%s\n", hr.width, hr.height,
                hr.bit_depth == 8 ? "420mpeg2" : "420p10");
    int64_t sent[2] = {0, 0};
    for (;;) {
        tds_picture picture;
        tds_picture_init(&picture);
        const tds_result got = tds_session_receive(session, &picture);
        check(got);
        if (got == TDS_END)
            break;
        if (got == TDS_OK) {
            write(picture);
            tds_picture_release(&picture);
            continue;
        }
        // The session says which stream to decode next, so nothing needs a queue.
        const unsigned wants = tds_session_wants(session);
        for (const tds_role role : {TDS_HR, TDS_LR}) {
            if (!(wants & (1u << role)))
                continue;
            if (!decoders[role]->next(picture)) {
                check(tds_session_send(session, role, nullptr));
                continue;
            }
            // The place in output order and the plan give the display time, in frames.
            const int64_t n = sent[role]++, inner = group - 2;
            picture.pts = role == TDS_HR ? n / 2 * group + n % 2 * (group - 1)
                                         : n / inner * group + 1 + n % inner;
            const tds_result taken = tds_session_send(session, role, &picture);
            check(taken);
            if (taken != TDS_OK)
                throw std::runtime_error("the session refuses what it asked for");
        }
    }
    tds_info info;
    check(tds_session_info(session, &info));
    std::fprintf(stderr, "%lld passed, %lld enhanced, %lld up-sampled\n",
                 static_cast<long long>(info.passed), static_cast<long long>(info.enhanced),
                 static_cast<long long>(info.upsampled));
    tds_session_close(session);
}

int main(int argc, char **argv) {
    if ((argc != 4 && argc != 5) || std::atoi(argv[3]) < 3) {
        std::fprintf(stderr, "embed HR.y4m LR.y4m N [MODEL] > out.y4m\n");
        return 2;
    }
    try {
        run(argv[1], argv[2], std::atoi(argv[3]), argv[4]); // NULL at the end of argv
    } catch (const std::exception &e) {
        std::fprintf(stderr, "embed: %s\n", e.what());
        return 1;
    }
    return 0;
}
