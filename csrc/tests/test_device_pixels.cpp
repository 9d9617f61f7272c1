// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The conversions of the CUDA path, run on the CPU: they are tensor operations
// that do not care where they run, and must give what the CPU path gives.
#include "backends/torchscript/pixels.h"

#undef CHECK // torch has one of its own
#include "tests/check.h"
#include "tests/support.h"

#include <algorithm>
#include <cmath>

namespace {

using at::Tensor;
using tds::pack_on_device;
using tds::Sizes;
using tds::unpack_from_device;
using tds::upsampled;

struct Case {
    int32_t width, height, align;
    int depth;
    tds_layout layout;
    bool flipped;
};

std::vector<Case> cases() {
    std::vector<Case> out;
    for (const int depth : {8, 10}) {
        for (const tds_layout layout : {TDS_LAYOUT_PLANAR, TDS_LAYOUT_SEMIPLANAR}) {
            for (const int32_t align : {2, 16, 64}) {
                for (const bool flipped : {false, true}) {
                    out.push_back({54, 38, align, depth, layout, flipped});
                }
            }
        }
    }
    return out;
}

Sizes sizes(const Case &c) {
    const auto up = [&](int64_t v) { return (v + c.align - 1) / c.align * c.align; };
    return {c.width, c.height, up(c.width), up(c.height)};
}

Tensor by_rows(const tds_picture &p, const Sizes &size) {
    Tensor out = at::empty({1, 6, size.padded_height / 2, size.padded_width / 2});
    tds::pack_on_host(p, size, out);
    return out;
}

} // namespace

TEST("packing: the two paths agree, and follow docs/model.md") {
    for (const Case &c : cases()) {
        Samples samples(c.width, c.height, c.depth, 0, c.layout, c.flipped);
        samples.noise();
        const tds_picture p = samples.picture(0);
        const Tensor rows = by_rows(p, sizes(c));
        CHECK(at::allclose(rows, pack_on_device(p, sizes(c), at::kCPU), 1e-6, 1e-7));
        const auto plain = planar_samples(p);
        const auto a = rows.accessor<float, 4>();
        const auto most = static_cast<float>((1 << c.depth) - 1);
        for (int64_t y = 0; y < sizes(c).padded_height; y++) {
            for (int64_t x = 0; x < sizes(c).padded_width; x++) {
                const auto at = static_cast<size_t>(std::min<int64_t>(y, c.height - 1) * c.width +
                                                    std::min<int64_t>(x, c.width - 1));
                CHECK_EQ(a[0][y % 2 * 2 + x % 2][y / 2][x / 2], plain[at] / most);
            }
        }
        const size_t cb = static_cast<size_t>(c.width * c.height);
        CHECK_EQ(a[0][4][1][2], plain[cb + static_cast<size_t>(c.width / 2 + 2)] / most);
        CHECK_EQ(a[0][5][1][2], plain[cb * 5 / 4 + static_cast<size_t>(c.width / 2 + 2)] / most);
    }
}

TEST("unpacking: the two paths agree, and give back what was packed") {
    for (const Case &c : cases()) {
        Samples samples(c.width, c.height, c.depth, 0, c.layout, c.flipped);
        samples.noise();
        const tds_picture p = samples.picture(0);
        const Tensor packed = by_rows(p, sizes(c));
        Samples one(c.width, c.height, c.depth, 1, c.layout, c.flipped);
        Samples two(c.width, c.height, c.depth, 2, c.layout, c.flipped);
        const tds_picture a = one.picture(0);
        const tds_picture b = two.picture(0);
        const auto both = [&](const Tensor &t) {
            tds::unpack_on_host(t, sizes(c), a);
            unpack_from_device(t, b);
            CHECK(planar_samples(a) == planar_samples(b));
        };
        both(packed);
        CHECK(planar_samples(a) == planar_samples(p));
        both(packed * 3 - 1); // beyond 0 and 1
        both(at::full_like(packed, std::nan("")));
        CHECK_EQ(planar_samples(a)[7], 0);
        Tensor halves = at::empty_like(packed);
        halves.copy_(at::arange(packed.numel()).reshape_as(packed) / 2.0 /
                     ((1 << c.depth) - 1)); // between two codes
        both(halves);
    }
}

TEST("up-sampling by tensor operations follows the bicubic backend") {
    for (const int depth : {8, 10}) {
        for (const int scale : {2, 4}) {
            Samples samples(54, 38, depth, 0);
            samples.noise();
            const tds_picture p = samples.picture(0);
            Session session([&](tds_settings &s) {
                s.width = 54 * scale;
                s.height = 38 * scale;
                s.scale = scale;
                s.bit_depth = depth;
            });
            CHECK_EQ(tds_session_send(session.get(), TDS_LR, &p), TDS_OK);
            CHECK_EQ(tds_session_send(session.get(), TDS_HR, nullptr), TDS_OK);
            tds_picture out;
            CHECK_EQ(tds_session_receive(session.get(), &out), TDS_OK);
            const auto want = planar_samples(out);
            Samples mine(54 * scale, 38 * scale, depth, 0);
            const tds_picture m = mine.picture(0);
            const Tensor up = upsampled(by_rows(p, {54, 38, 54, 38}), scale, depth);
            unpack_from_device(up, m);
            const auto got = planar_samples(m);
            tds_picture_release(&out);
            for (size_t i = 0; i < want.size(); i++) {
                CHECK(std::abs(want[i] - got[i]) <= 1);
            }
        }
    }
}

int main(int argc, char **argv) {
    const c10::InferenceMode no_gradients;
    return check::run(argc, argv);
}
