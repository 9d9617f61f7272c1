// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Real models through real sessions. make_models.py writes them.
#include "tests/check.h"
#include "tests/support.h"

#include <algorithm>
#include <cmath>

namespace {

std::string model(const char *name) {
    return std::string(TEST_FOLDER) + "/" + name + ".pt";
}

Session with(const char *name, std::function<void(tds_settings &)> change = {}) {
    const std::string path = model(name);
    return Session([&](tds_settings &s) {
        s.model = path.c_str();
        s.device = "cpu";
        if (change) {
            change(s);
        }
    });
}

double mix(double first, double target, double last) {
    return (first + 2 * target + 4 * last) / 7;
}

int hr(int64_t t) {
    return value_of(TDS_HR, t);
}
int lr(int64_t t) {
    return value_of(TDS_LR, t);
}

} // namespace

TEST("recurrence, order and references, seen in the pixels; the middle is not rounded") {
    for (const char *name : {"mix", "features"}) {
        for (const int batch : {1, 2, 4}) {
            Session session = with(name, [&](tds_settings &s) { s.max_batch = batch; });
            const auto out =
                feed(session, {{0}, {6}, {8}}, {{1}, {2}, {3}, {4}, {5}, {7}, {9}}, Order::wanted);
            CHECK_EQ(text(out), "0p 1e(0,3) 2e(0,3) 3e(0,6) 4e(3,6) 5e(3,6) 6p 7e(6,8) 8p "
                                "9e(8,)[no-last] ");
            const double middle = mix(hr(0), lr(3), hr(6));
            const double want[] = {mix(hr(0), lr(1), middle), mix(hr(0), lr(2), middle), middle,
                                   mix(middle, lr(4), hr(6)), mix(middle, lr(5), hr(6))};
            for (size_t i = 0; i < 5; i++) {
                CHECK_EQ(out[i + 1].value, static_cast<int>(std::lround(want[i])));
            }
            CHECK_EQ(out[7].value, static_cast<int>(std::lround(mix(hr(6), lr(7), hr(8)))));
            // The missing last reference is stood in for by the first.
            CHECK_EQ(out[9].value, static_cast<int>(std::lround(mix(hr(8), lr(9), hr(8)))));
            tds_info info;
            CHECK_EQ(tds_session_info(session.get(), &info), TDS_OK);
            CHECK_EQ(info.references, 4); // three boundaries and one middle
            CHECK_EQ(std::string(info.device), "cpu");
            CHECK_EQ(std::string(info.precision), "float32");
            CHECK_EQ(std::string(info.model_name), name);
            CHECK_EQ(std::string(info.model_sha256).size(), 64U);
        }
    }
}

TEST("every sample in its place: any layout, depth, stride and padding") {
    for (const char *name : {"mix", "mix4", "aligned"}) {
        for (const int depth : {8, 10}) {
            for (const tds_layout layout : {TDS_LAYOUT_PLANAR, TDS_LAYOUT_SEMIPLANAR}) {
                const int scale = name[3] == '4' ? 4 : 2;
                const int32_t w = 54;
                const int32_t h = 38;
                const auto quiet = [](void *, tds_log_level, const char *) {};
                Session session = with(name, [&](tds_settings &s) {
                    s.width = w;
                    s.height = h;
                    s.scale = scale;
                    s.bit_depth = depth;
                    s.output_layout = layout;
                    s.threads = depth == 8 ? 1 : 0;
                    s.log = quiet;
                });
                Samples a(w, h, depth, 0, layout, true);
                Samples b(w, h, depth, 30, layout);
                const int32_t lw = tds_lr_size(w, scale);
                const int32_t lh = tds_lr_size(h, scale);
                Samples target(lw, lh, depth, 0, layout, true);
                a.noise();
                target.noise();
                const tds_picture pa = a.picture(0);
                const tds_picture pb = b.picture(2);
                const tds_picture pt = target.picture(1);
                CHECK_EQ(tds_session_send(session.get(), TDS_HR, &pa), TDS_OK);
                CHECK_EQ(tds_session_send(session.get(), TDS_HR, &pb), TDS_OK);
                CHECK_EQ(tds_session_send(session.get(), TDS_LR, &pt), TDS_OK);
                CHECK_EQ(tds_session_send(session.get(), TDS_LR, nullptr), TDS_OK);
                tds_picture out;
                CHECK_EQ(tds_session_receive(session.get(), &out), TDS_OK);
                CHECK(planar_samples(out) == planar_samples(pa));
                tds_picture_release(&out);
                CHECK_EQ(tds_session_receive(session.get(), &out), TDS_OK);
                const auto got = planar_samples(out);
                tds_picture_release(&out);
                const auto sa = planar_samples(pa);
                const auto sb = planar_samples(pb);
                const auto st = planar_samples(pt);
                size_t i = 0;
                for (int plane = 0; plane < 3; plane++) {
                    const int pw = plane ? w / 2 : w;
                    const int rows = plane ? h / 2 : h;
                    const size_t base =
                        plane == 0 ? 0 : static_cast<size_t>(lw * lh * (3 + plane) / 4);
                    const int tw = plane ? lw / 2 : lw;
                    for (int y = 0; y < rows; y++) {
                        for (int x = 0; x < pw; x++, i++) {
                            // Repetition of packed samples: luma keeps its phase.
                            const int tx = plane ? x / scale : x / (2 * scale) * 2 + x % 2;
                            const int ty = plane ? y / scale : y / (2 * scale) * 2 + y % 2;
                            const double want =
                                mix(sa[i], st[base + static_cast<size_t>(ty * tw + tx)], sb[i]);
                            if (std::fabs(want - got[i]) > 0.51) {
                                CHECK_EQ(static_cast<double>(got[i]), want);
                            }
                        }
                    }
                }
                CHECK_EQ(i, got.size());
            }
        }
    }
}

TEST("side information: presence, position, QPs; nothing at all is stood in for by bicubic") {
    Session session = with("side", [](tds_settings &s) {
        s.hr_qp = 22;
        s.lr_qp = 27;
    });
    const auto planes = [&](tds_picture &p) {
        const auto *y = static_cast<const uint8_t *>(p.data[0]);
        return std::vector<int>{y[0],
                                y[1],
                                y[p.stride[0]],
                                y[p.stride[0] + 1],
                                *static_cast<const uint8_t *>(p.data[1]),
                                *static_cast<const uint8_t *>(p.data[2])};
    };
    const auto sent = [&](tds_role role, int64_t t) { CHECK_EQ(session.send(role, {t}), TDS_OK); };
    const int qp_hr = static_cast<int>(std::lround(23.0 / 64 * 255));
    const int qp_lr = static_cast<int>(std::lround(28.0 / 64 * 255));
    sent(TDS_HR, 10);
    sent(TDS_HR, 14);
    sent(TDS_LR, 11);
    sent(TDS_LR, 15);
    tds_picture p;
    CHECK_EQ(tds_session_receive(session.get(), &p), TDS_OK);
    tds_picture_release(&p);
    CHECK_EQ(tds_session_receive(session.get(), &p), TDS_OK); // 11, a quarter of the way
    CHECK(planes(p) == (std::vector<int>{255, 255, 64, qp_hr, qp_lr, hr(10)}));
    tds_picture_release(&p);
    CHECK_EQ(tds_session_receive(session.get(), &p), TDS_OK);
    tds_picture_release(&p);
    CHECK_EQ(tds_session_send(session.get(), TDS_HR, nullptr), TDS_OK);
    CHECK_EQ(tds_session_receive(session.get(), &p), TDS_OK); // 15, from the first alone
    CHECK(planes(p) == (std::vector<int>{255, 0, 128, qp_hr, qp_lr, hr(14)}));
    tds_picture_release(&p);
    CHECK_EQ(tds_session_flush(session.get()), TDS_OK);
    CHECK_EQ(tds_session_send(session.get(), TDS_HR, nullptr), TDS_OK);
    sent(TDS_LR, 1);
    CHECK_EQ(tds_session_receive(session.get(), &p), TDS_OK); // from nothing
    CHECK_EQ(p.status, TDS_STATUS_ENHANCED);
    CHECK(planes(p) == (std::vector<int>{0, 0, 128, qp_hr, qp_lr, lr(1)}));
    tds_picture_release(&p);
}

TEST("without any reference, a model that needs one is not run: bicubic's own picture") {
    Samples target(16, 16, 8, 0);
    target.noise();
    const tds_picture p = target.picture(0);
    std::vector<std::vector<uint16_t>> got;
    for (const bool model_given : {true, false}) {
        Session session = model_given ? with("mix") : Session();
        CHECK_EQ(tds_session_send(session.get(), TDS_LR, &p), TDS_OK);
        CHECK_EQ(tds_session_send(session.get(), TDS_HR, nullptr), TDS_OK);
        tds_picture out;
        CHECK_EQ(tds_session_receive(session.get(), &out), TDS_OK);
        CHECK_EQ(out.status, TDS_STATUS_UPSAMPLED);
        got.push_back(planar_samples(out));
        tds_picture_release(&out);
    }
    for (size_t i = 0; i < got[0].size(); i++) {
        CHECK(std::abs(got[0][i] - got[1][i]) <= 1);
    }
}

TEST("models that are not what they say fail in one sentence") {
    const auto fails = [](const char *name, tds_result code, const char *word) {
        const std::string path = model(name);
        tds_settings s;
        tds_default_settings(&s);
        s.width = s.height = 32;
        s.model = path.c_str();
        s.device = "cpu";
        tds_session *raw = nullptr;
        tds_result result = tds_session_open(&s, &raw);
        if (result == TDS_OK) {
            for (const int64_t t : {0, 2}) {
                Samples samples(32, 32, 8, 0);
                const tds_picture p = samples.picture(t);
                CHECK_EQ(tds_session_send(raw, TDS_HR, &p), TDS_OK);
            }
            Samples samples(16, 16, 8, 0);
            const tds_picture p = samples.picture(1);
            CHECK_EQ(tds_session_send(raw, TDS_LR, &p), TDS_OK);
            CHECK_EQ(tds_session_send(raw, TDS_LR, nullptr), TDS_OK);
            tds_picture out;
            CHECK_EQ(tds_session_receive(raw, &out), TDS_OK);
            tds_picture_release(&out);
            result = tds_session_receive(raw, &out);
        }
        const std::string why = tds_last_error();
        tds_session_close(raw);
        CHECK_EQ(result, code);
        if (why.find(word) == std::string::npos || why.find('\n') != std::string::npos) {
            CHECK_EQ(why, word);
        }
    };
    fails("wrong", TDS_ERROR_BACKEND, "[1, 6, 8, 8]");
    fails("raises", TDS_ERROR_BACKEND, "this model always fails");
    fails("starving", TDS_ERROR_MEMORY, "out of memory");
    fails("promises", TDS_ERROR_MODEL, "\"reference\"");
    write_file("hollow.pt",
               zip_archive({{"m/constants.pkl", kEmptyPickle},
                            {"m/code/a.py", "x"},
                            {"m/extra/tds.json",
                             R"({"tds_model":1,"name":"h","version":"1","scale":2})"}}));
    fails("hollow", TDS_ERROR_MODEL, "cannot load it");
}

TEST("too little memory for several pictures: fewer at once, and a warning says so") {
    static int warnings;
    warnings = 0;
    Session session = with("hungry", [](tds_settings &s) {
        s.threads = 2;
        s.log = [](void *, tds_log_level level, const char *message) {
            warnings += level == TDS_LOG_WARNING && std::strstr(message, "out of memory") ? 1 : 0;
        };
    });
    const auto out =
        feed(session, {{0}, {6}, {12}}, {{1}, {2}, {3}, {4}, {5}, {7}, {8}, {9}}, Order::wanted);
    CHECK_EQ(out.size(), 11U);
    CHECK_EQ(out[1].value,
             static_cast<int>(std::lround(mix(hr(0), lr(1), mix(hr(0), lr(3), hr(6))))));
    CHECK_EQ(warnings, 1); // two at once, from then on one
}

TEST("a CUDA device that is not there is named") {
    char devices[256];
    CHECK_EQ(tds_backend_devices("torchscript", devices, sizeof(devices)), TDS_OK);
    CHECK_EQ(std::string(devices).substr(0, 3), "cpu");
    const std::string path = model("mix");
    tds_settings s;
    tds_default_settings(&s);
    s.width = s.height = 32;
    s.model = path.c_str();
    s.device = "cuda:63";
    tds_session *session = nullptr;
    CHECK_EQ(tds_session_open(&s, &session), TDS_ERROR_DEVICE);
    CHECK(std::string(tds_last_error()).find("cuda:63") != std::string::npos);
}

TEST("half precisions run on the CPU, close to float32") {
    for (const char *precision : {"bfloat16", "float16"}) {
        Session session = with("features", [&](tds_settings &s) { s.precision = precision; });
        const auto out = feed(session, {{0}, {4}}, {{1}, {2}, {3}}, Order::wanted);
        tds_info info;
        CHECK_EQ(tds_session_info(session.get(), &info), TDS_OK);
        CHECK_EQ(std::string(info.precision), precision);
        const double middle = mix(hr(0), lr(2), hr(4));
        CHECK(std::fabs(out[2].value - middle) <= 2);
    }
}

int main(int argc, char **argv) {
    return check::run(argc, argv);
}
