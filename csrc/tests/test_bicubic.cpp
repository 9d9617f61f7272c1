// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The up-sampler against a plain floating-point one. (Against FFmpeg's own it
// is compared in tests/test_engine_bicubic.py.)
#include "backends/bicubic/upsample.h"
#include "backends/bicubic/workers.h"
#include "backends/cpus.h"
#include "tests/check.h"
#include "tests/support.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <new>
#include <thread>

namespace {

double kernel(double x) { // Mitchell-Netravali, B = 0, C = 0.6
    x = std::fabs(x);
    if (x < 1) {
        return 1.4 * x * x * x - 2.4 * x * x + 1;
    }
    return x < 2 ? -0.6 * x * x * x + 3 * x * x - 4.8 * x + 2.4 : 0;
}

double at(const std::vector<double> &plane, int w, int h, int x, int y) {
    return plane[static_cast<size_t>(std::clamp(y, 0, h - 1) * w + std::clamp(x, 0, w - 1))];
}

// Across, overshoot beyond white is clipped, as FFmpeg does it.
double interpolated(const std::vector<double> &plane, int w, int h, double x, double y,
                    double most) {
    const int x0 = static_cast<int>(std::floor(x));
    const int y0 = static_cast<int>(std::floor(y));
    double out = 0;
    for (int j = -1; j <= 2; j++) {
        double row = 0;
        for (int i = -1; i <= 2; i++) {
            row += kernel(x - (x0 + i)) * at(plane, w, h, x0 + i, y0 + j);
        }
        out += kernel(y - (y0 + j)) * std::min(row, most + 1);
    }
    return std::clamp(out, 0.0, most);
}

void compare(int32_t width, int32_t height, int scale, int depth, bool parts) {
    Session session([&](tds_settings &s) {
        s.width = width;
        s.height = height;
        s.scale = scale;
        s.bit_depth = depth;
        s.threads = parts ? 3 : 1;
    });
    const int32_t lw = tds_lr_size(width, scale);
    const int32_t lh = tds_lr_size(height, scale);
    Samples lr(lw, lh, depth, 0);
    lr.noise();
    const tds_picture p = lr.picture(0);
    CHECK_EQ(tds_session_send(session.get(), TDS_LR, &p), TDS_OK);
    CHECK_EQ(tds_session_send(session.get(), TDS_HR, nullptr), TDS_OK);
    tds_picture out;
    CHECK_EQ(tds_session_receive(session.get(), &out), TDS_OK);
    const std::vector<uint16_t> in_samples = planar_samples(p);
    const std::vector<uint16_t> out_samples = planar_samples(out);
    tds_picture_release(&out);
    const double most = (1 << depth) - 1;
    size_t in_at = 0;
    size_t out_at = 0;
    double worst = 0;
    for (int plane = 0; plane < 3; plane++) {
        const int w = plane ? lw / 2 : lw;
        const int h = plane ? lh / 2 : lh;
        const int ow = plane ? width / 2 : width;
        const int oh = plane ? height / 2 : height;
        const std::vector<double> samples(in_samples.begin() + static_cast<ptrdiff_t>(in_at),
                                          in_samples.begin() + static_cast<ptrdiff_t>(in_at) +
                                              w * h);
        in_at += static_cast<size_t>(w * h);
        const double k = scale;
        for (int y = 0; y < oh; y++) {
            for (int x = 0; x < ow; x++) {
                const double sx = (x + 0.5) / k - 0.5;
                const double sy = (y + 0.5) / k - 0.5;
                const double want = interpolated(samples, w, h, sx, sy, most);
                worst = std::max(worst, std::fabs(want - out_samples[out_at++]));
            }
        }
    }
    CHECK_EQ(out_at, out_samples.size());
    if (worst > 0.75) { // half a code of rounding, and what 16 bits leave out
        std::fprintf(stderr, "%dx%d k=%d %d bits: off by %.2f\n", width, height, scale, depth,
                     worst);
        CHECK(worst <= 0.75);
    }
}

} // namespace

TEST("every size, k and depth: what the formula gives, to less than a code value") {
    for (const int scale : {2, 4}) {
        for (const int depth : {8, 10}) {
            compare(64, 48, scale, depth, false);
            compare(54, 38, scale, depth, false); // cropped
            compare(16, 16, scale, depth, false); // 4x4 in at k = 4: nothing but edges
            compare(130, 402, scale, depth, true);
        }
    }
}

TEST("weights sum up to one, so flat areas stay flat") {
    for (const int scale : {2, 4}) {
        for (int phase = 0; phase < scale; phase++) {
            const tds::Phase p = tds::bicubic_phase(scale, phase);
            CHECK_EQ(p.weight[0] + p.weight[1] + p.weight[2] + p.weight[3], 32768);
        }
    }
    for (const int depth : {8, 10}) {
        for (const int value : {0, 1, 16, 128, (1 << depth) - 1}) {
            Session session([&](tds_settings &s) { s.bit_depth = depth; });
            Samples lr(16, 16, depth, value);
            const tds_picture p = lr.picture(0);
            CHECK_EQ(tds_session_send(session.get(), TDS_LR, &p), TDS_OK);
            CHECK_EQ(tds_session_send(session.get(), TDS_HR, nullptr), TDS_OK);
            tds_picture out;
            CHECK_EQ(tds_session_receive(session.get(), &out), TDS_OK);
            for (const uint16_t sample : planar_samples(out)) {
                CHECK_EQ(static_cast<int>(sample), value);
            }
            tds_picture_release(&out);
        }
    }
}

TEST("threads: what one part throws comes out once all are done, and they go on") {
    tds::Workers workers(4);
    for (int failing = 0; failing < 16; failing++) {
        std::atomic<int> inside{0};
        bool thrown = false;
        try {
            workers.run(16, [&](int part) {
                inside++;
                if (part == failing) {
                    inside--;
                    throw std::bad_alloc();
                }
                inside--;
            });
        } catch (const std::bad_alloc &) {
            thrown = true;
            CHECK_EQ(inside.load(), 0);
        }
        CHECK(thrown);
        std::atomic<int> done{0};
        workers.run(100, [&](int) { done++; });
        CHECK_EQ(done.load(), 100);
    }
}

TEST("as many threads as this process may use: affinity, and quotas of control groups") {
    namespace fs = std::filesystem;
    CHECK(tds::usable_cpus() >= 1);
    CHECK(tds::usable_cpus() <= static_cast<int>(std::thread::hardware_concurrency()));
    const fs::path root = fs::path(TEST_FOLDER) / "cgroup";
    fs::remove_all(root);
    const auto put = [&](const char *name, const char *text) {
        fs::create_directories((root / name).parent_path());
        std::ofstream(root / name) << text;
    };
    const auto quota = [&](const char *own) { return tds::quota_cpus(root.string(), own); };
    CHECK_EQ(quota("0::/\n"), 0); // nothing is mounted
    put("cpu.max", "max 100000\n");
    put("a/cpu.max", "250000 100000\n");
    put("a/b/cpu.max", "max 100000\n");
    put("a/c/cpu.max", "50000 100000\n");
    CHECK_EQ(quota("0::/\n"), 0);
    CHECK_EQ(quota("0::/a\n"), 3); // two and a half, rounded up
    CHECK_EQ(quota("0::/a/b\n"), 3);
    CHECK_EQ(quota("0::/a/c\n"), 1);
    CHECK_EQ(quota("0::/nowhere/d\n"), 0);
    CHECK_EQ(quota("0::/../a\n"), 0); // as a namespace shows what lies outside of it
    CHECK_EQ(quota(""), 0);
    CHECK_EQ(quota("0:\n:\n::\n"), 0);
    put("cpu/cpu.cfs_quota_us", "-1\n"); // version 1
    put("cpu/x/cpu.cfs_quota_us", "200000\n");
    put("cpu/x/cpu.cfs_period_us", "100000\n");
    CHECK_EQ(quota("5:memory:/x\n4:cpu,cpuacct:/x\n0::/\n"), 2);
    CHECK_EQ(quota("4:cpu,cpuacct:/\n"), 0);
}

TEST("threads that want to run") {
    CHECK_EQ(tds::running_threads("0.84 1.11 0.57 3/245 12345\n"), 3);
    CHECK_EQ(tds::running_threads("0.84 1.11 0.57 0/245 12345\n"), 1);
    CHECK_EQ(tds::running_threads(""), 1);
    CHECK_EQ(tds::running_threads("3/245"), 1);
    CHECK(tds::free_cpus() <= static_cast<int>(std::thread::hardware_concurrency()));
}

int main(int argc, char **argv) {
    return check::run(argc, argv);
}
