// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/chroma.h"

#include "backends/bicubic/upsample.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace tds {
namespace {

// A chroma plane of host memory.
template <typename T> struct View {
    View(const tds_picture &p, int plane)
        : columns(p.width >> chroma_across(p.chroma)), rows(p.height >> chroma_down(p.chroma)),
          data(static_cast<uint8_t *>(p.data[plane])), stride(p.stride[plane]) {}
    View(std::vector<T> &samples, int32_t width, int32_t height)
        : columns(width), rows(height), data(reinterpret_cast<uint8_t *>(samples.data())),
          stride(static_cast<ptrdiff_t>(sizeof(T)) * width) {}
    T *row(int32_t y) const { return reinterpret_cast<T *>(data + y * stride); }

    int32_t columns, rows;
    uint8_t *data;
    ptrdiff_t stride;
};

template <typename T> void average(const View<T> &from, const View<T> &to, bool across) {
    for (int32_t y = 0; y < to.rows; y++) {
        const T *a = from.row(2 * y);
        const T *b = from.row(2 * y + 1);
        T *out = to.row(y);
        if (across) {
            for (int32_t x = 0; x < to.columns; x++) {
                const int sum = a[2 * x] + a[2 * x + 1] + b[2 * x] + b[2 * x + 1];
                out[x] = static_cast<T>((sum + 2) >> 2);
            }
        } else {
            for (int32_t x = 0; x < to.columns; x++) {
                out[x] = static_cast<T>((a[x] + b[x] + 1) >> 1);
            }
        }
    }
}

// `in` at `scale` times its size, as far as `out` goes.
template <typename T>
void enlarge(const View<T> &in, const View<T> &out, int32_t scale, int32_t bit_depth) {
    if (scale == 1) {
        for (int32_t y = 0; y < out.rows; y++) {
            std::memcpy(out.row(y), in.row(y), sizeof(T) * static_cast<size_t>(out.columns));
        }
        return;
    }
    const Plane plane = {in.data,    in.stride,   in.columns, in.rows, out.data,
                         out.stride, out.columns, out.rows,   scale,   bit_depth};
    upsample_rows(plane, 0, out.rows);
}

// Adds a change of 4:2:0, brought up by 2 down and, where out is as wide as luma, across.
template <typename T>
void add(const std::vector<int16_t> &change, int32_t columns, int32_t rows, const View<T> &out,
         bool across, int32_t most) {
    constexpr int kPad = 2;
    constexpr int kFraction = 4; // bits between the two passes
    const Phase phases[2] = {bicubic_phase(2, 0), bicubic_phase(2, 1)};
    std::vector<int32_t> padded(static_cast<size_t>(columns + 2 * kPad));
    std::vector<int32_t> wide(static_cast<size_t>(2 * columns));
    int32_t *line = padded.data() + kPad;
    int32_t *both = wide.data();
    const auto put = [most](T &sample, int32_t value) {
        const int32_t sum = sample + ((value + (1 << (kFraction - 1))) >> kFraction);
        sample = static_cast<T>(std::clamp(sum, 0, most));
    };
    for (int32_t y = 0; y < out.rows; y++) {
        const Phase &down = phases[y % 2];
        const int16_t *r[4];
        for (int i = 0; i < 4; i++) {
            const int32_t at = std::clamp(y / 2 + down.base - 1 + i, 0, rows - 1);
            r[i] = change.data() + static_cast<size_t>(at) * static_cast<size_t>(columns);
        }
        const int16_t *w = down.weight;
        for (int32_t x = 0; x < columns; x++) {
            const int32_t sum = w[0] * r[0][x] + w[1] * r[1][x] + w[2] * r[2][x] + w[3] * r[3][x];
            line[x] = (sum + (1 << (14 - kFraction))) >> (15 - kFraction);
        }
        T *to = out.row(y);
        if (!across) {
            for (int32_t x = 0; x < out.columns; x++) {
                put(to[x], line[x]);
            }
            continue;
        }
        std::fill(padded.begin(), padded.begin() + kPad, line[0]);
        std::fill(padded.end() - kPad, padded.end(), line[columns - 1]);
        for (int p = 0; p < 2; p++) {
            const int32_t *in = line + phases[p].base - 1;
            const int16_t *v = phases[p].weight;
            for (int32_t x = 0; x < columns; x++) {
                const int32_t sum =
                    v[0] * in[x] + v[1] * in[x + 1] + v[2] * in[x + 2] + v[3] * in[x + 3];
                both[2 * x + p] = (sum + (1 << 14)) >> 15;
            }
        }
        for (int32_t x = 0; x < out.columns; x++) {
            put(to[x], both[x]);
        }
    }
}

template <typename T>
void finish(const tds_picture &target, int32_t scale, const tds_picture *given,
            const tds_picture *made, tds_picture &out) {
    std::vector<T> enlarged;
    std::vector<int16_t> change;
    for (int plane = 1; plane < 3; plane++) {
        enlarge(View<T>(target, plane), View<T>(out, plane), scale, target.bit_depth);
        if (!made) {
            continue;
        }
        const View<T> after(*made, plane);
        View<T> before(*given, plane);
        if (scale > 1) {
            enlarged.resize(static_cast<size_t>(after.columns) * static_cast<size_t>(after.rows));
            const View<T> to(enlarged, after.columns, after.rows);
            enlarge(before, to, scale, target.bit_depth);
            before = to;
        }
        change.resize(static_cast<size_t>(after.columns) * static_cast<size_t>(after.rows));
        for (int32_t y = 0; y < after.rows; y++) {
            int16_t *row =
                change.data() + static_cast<size_t>(y) * static_cast<size_t>(after.columns);
            for (int32_t x = 0; x < after.columns; x++) {
                row[x] = static_cast<int16_t>(after.row(y)[x] - before.row(y)[x]);
            }
        }
        add(change, after.columns, after.rows, View<T>(out, plane), chroma_across(out.chroma) == 0,
            (1 << out.bit_depth) - 1);
    }
}

} // namespace

void average_chroma(const tds_picture &from, tds_picture &to) {
    const bool across = chroma_across(from.chroma) == 0;
    for (int plane = 1; plane < 3; plane++) {
        if (from.bit_depth > 8) {
            average(View<uint16_t>(from, plane), View<uint16_t>(to, plane), across);
        } else {
            average(View<uint8_t>(from, plane), View<uint8_t>(to, plane), across);
        }
    }
}

void finish_chroma(const tds_picture &target, int32_t scale, const tds_picture *given,
                   const tds_picture *made, tds_picture &out) {
    if (target.bit_depth > 8) {
        finish<uint16_t>(target, scale, given, made, out);
    } else {
        finish<uint8_t>(target, scale, given, made, out);
    }
}

} // namespace tds
