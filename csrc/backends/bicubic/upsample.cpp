// SPDX-License-Identifier: LGPL-2.1-or-later
#include "backends/bicubic/upsample.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

// One binary for old and new x86 processors. Not under a sanitizer: its runtime
// is not there yet when the loader chooses a clone.
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(TDS_SANITIZE)
#define TDS_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define TDS_CLONES
#endif

namespace tds {
namespace {

double weight(double distance) {
    constexpr double B = 0.0;
    constexpr double C = 0.6;
    const double d = std::fabs(distance);
    if (d < 1) {
        return ((12 - 9 * B - 6 * C) * d * d * d + (-18 + 12 * B + 6 * C) * d * d + 6 - 2 * B) / 6;
    }
    if (d < 2) {
        return ((-B - 6 * C) * d * d * d + (6 * B + 30 * C) * d * d + (-12 * B - 48 * C) * d +
                8 * B + 24 * C) /
               6;
    }
    return 0;
}

// (a * b + 16384) / 32768: one instruction of SSSE3, AVX2 and NEON.
inline int16_t scaled(int16_t a, int16_t b) {
    return static_cast<int16_t>((((static_cast<int32_t>(a) * b) >> 14) + 1) >> 1);
}

inline int16_t sum4(int16_t a, int16_t b, int16_t c, int16_t d) {
    return static_cast<int16_t>(a + b + c + d);
}

// Between the two passes samples carry fraction bits: as many as leave room for
// the overshoot (1.15 each way) in 16 bits.
constexpr int fraction_bits(int bit_depth) {
    return bit_depth > 8 ? 4 : 6;
}

TDS_CLONES void widen8(const uint8_t *__restrict in, int16_t *__restrict out, int n) {
    for (int i = 0; i < n; i++) {
        out[i] = static_cast<int16_t>(in[i] << fraction_bits(8));
    }
}

TDS_CLONES void widen16(const uint16_t *__restrict in, int16_t *__restrict out, int n,
                        uint16_t most) {
    for (int i = 0; i < n; i++) {
        const uint16_t v = in[i] < most ? in[i] : most;
        out[i] = static_cast<int16_t>(v << fraction_bits(10));
    }
}

// As in swscale, overshoot beyond white does not reach the second pass.
TDS_CLONES void filter_across(const int16_t *__restrict in, int16_t *__restrict out, int n,
                              int16_t w0, int16_t w1, int16_t w2, int16_t w3, int16_t most) {
    for (int i = 0; i < n; i++) {
        const int16_t v = sum4(scaled(in[i], w0), scaled(in[i + 1], w1), scaled(in[i + 2], w2),
                               scaled(in[i + 3], w3));
        out[i] = std::min(v, most);
    }
}

TDS_CLONES void interleave2(const int16_t *__restrict a, const int16_t *__restrict b,
                            int16_t *__restrict out, int n) {
    for (int i = 0; i < n; i++) {
        out[2 * i] = a[i];
        out[2 * i + 1] = b[i];
    }
}

TDS_CLONES void down8(const int16_t *__restrict a, const int16_t *__restrict b,
                      const int16_t *__restrict c, const int16_t *__restrict d,
                      uint8_t *__restrict out, int n, int16_t w0, int16_t w1, int16_t w2,
                      int16_t w3) {
    constexpr int shift = fraction_bits(8);
    for (int i = 0; i < n; i++) {
        const int16_t v =
            sum4(scaled(a[i], w0), scaled(b[i], w1), scaled(c[i], w2), scaled(d[i], w3));
        const auto r = static_cast<int16_t>(static_cast<int16_t>(v + (1 << (shift - 1))) >> shift);
        out[i] = static_cast<uint8_t>(std::min<int16_t>(std::max<int16_t>(r, 0), 255));
    }
}

TDS_CLONES void down16(const int16_t *__restrict a, const int16_t *__restrict b,
                       const int16_t *__restrict c, const int16_t *__restrict d,
                       uint16_t *__restrict out, int n, int16_t w0, int16_t w1, int16_t w2,
                       int16_t w3, int16_t most) {
    constexpr int shift = fraction_bits(10);
    for (int i = 0; i < n; i++) {
        const int16_t v =
            sum4(scaled(a[i], w0), scaled(b[i], w1), scaled(c[i], w2), scaled(d[i], w3));
        const auto r = static_cast<int16_t>(static_cast<int16_t>(v + (1 << (shift - 1))) >> shift);
        out[i] = static_cast<uint16_t>(std::min<int16_t>(std::max<int16_t>(r, 0), most));
    }
}

constexpr int kPad = 4; // samples repeated on each side of a row

// Scratch rows, one set a thread: they fit the first-level cache.
struct Scratch {
    std::vector<int16_t> line;
    std::vector<int16_t> phases[4];
    std::vector<int16_t> pair[2];
    std::vector<int16_t> rows[4]; // source rows, filtered across
    int row_number[4];
};

void filter_row(const Plane &plane, const Phase *phases, int32_t y, Scratch &s,
                std::vector<int16_t> &out) {
    const int w = plane.source_width;
    const auto *row = static_cast<const uint8_t *>(plane.source) + y * plane.source_stride;
    int16_t *line = s.line.data() + kPad;
    if (plane.bit_depth > 8) {
        widen16(reinterpret_cast<const uint16_t *>(row), line, w,
                static_cast<uint16_t>((1 << plane.bit_depth) - 1));
    } else {
        widen8(row, line, w);
    }
    std::fill(s.line.begin(), s.line.begin() + kPad, line[0]);
    std::fill(s.line.begin() + kPad + w, s.line.end(), line[w - 1]);
    const auto most =
        static_cast<int16_t>((1 << (plane.bit_depth + fraction_bits(plane.bit_depth))) - 1);
    for (int p = 0; p < plane.scale; p++) {
        const Phase &phase = phases[p];
        filter_across(line + phase.base - 1, s.phases[p].data(), w, phase.weight[0],
                      phase.weight[1], phase.weight[2], phase.weight[3], most);
    }
    if (plane.scale == 2) {
        interleave2(s.phases[0].data(), s.phases[1].data(), out.data(), w);
    } else {
        interleave2(s.phases[0].data(), s.phases[2].data(), s.pair[0].data(), w);
        interleave2(s.phases[1].data(), s.phases[3].data(), s.pair[1].data(), w);
        interleave2(s.pair[0].data(), s.pair[1].data(), out.data(), 2 * w);
    }
}

} // namespace

Phase bicubic_phase(int scale, int phase) {
    const double k = scale;
    const double at = (phase + 0.5) / k - 0.5;
    Phase out{};
    out.base = static_cast<int>(std::floor(at));
    double weights[4];
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        weights[i] = weight(at - (out.base - 1 + i));
        sum += weights[i];
    }
    int left = 32768;
    for (int i = 0; i < 4; i++) {
        out.weight[i] = static_cast<int16_t>(std::lround(weights[i] / sum * 32768));
        left -= out.weight[i];
    }
    // Exactly 1 in sum, so that flat areas stay flat.
    int16_t &largest = *std::max_element(out.weight, out.weight + 4);
    largest = static_cast<int16_t>(largest + left);
    return out;
}

void upsample_rows(const Plane &plane, int32_t from, int32_t to) {
    const int k = plane.scale;
    const auto w = static_cast<size_t>(plane.source_width);
    Phase phases[4];
    for (int p = 0; p < k; p++) {
        phases[p] = bicubic_phase(k, p);
    }
    thread_local Scratch s;
    s.line.resize(w + 2 * kPad);
    for (int i = 0; i < 4; i++) {
        s.phases[i].resize(w);
        s.rows[i].resize(w * static_cast<size_t>(k));
        s.row_number[i] = -1;
    }
    for (auto &pair : s.pair) {
        pair.resize(2 * w);
    }
    for (int32_t y = from; y < to; y++) {
        const Phase &phase = phases[y % k];
        const int16_t *rows[4];
        for (int i = 0; i < 4; i++) {
            const int32_t wanted =
                std::clamp(y / k + phase.base - 1 + i, 0, plane.source_height - 1);
            const int slot = wanted % 4; // four rows in a row never share a slot
            if (s.row_number[slot] != wanted) {
                filter_row(plane, phases, wanted, s, s.rows[slot]);
                s.row_number[slot] = wanted;
            }
            rows[i] = s.rows[slot].data();
        }
        auto *out = static_cast<uint8_t *>(plane.out) + y * plane.out_stride;
        const int16_t *v = phase.weight;
        if (plane.bit_depth > 8) {
            down16(rows[0], rows[1], rows[2], rows[3], reinterpret_cast<uint16_t *>(out),
                   plane.out_width, v[0], v[1], v[2], v[3],
                   static_cast<int16_t>((1 << plane.bit_depth) - 1));
        } else {
            down8(rows[0], rows[1], rows[2], rows[3], out, plane.out_width, v[0], v[1], v[2], v[3]);
        }
    }
}

} // namespace tds
