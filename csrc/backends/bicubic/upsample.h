// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Bicubic up-sampling by 2 or 4, as FFmpeg's swscale does it with
// flags=bicubic (Mitchell-Netravali with B = 0, C = 0.6).
//
// Sample positions. Luma and, down the picture, chroma: the two grids share
// their centre, so output sample y lies at (y + 1/2) / k - 1/2. Across the
// picture, chroma samples sit on the even luma columns, which is what H.265 and
// H.266 mean by chroma sample location type 0, their default, and what FFmpeg
// assumes of every decoded picture that says nothing else: output sample x lies
// at x / k - (k - 1) / (4 k). Beyond the edge the last sample is repeated.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tds {

enum class Siting { centre, left };

struct Plane {
    const void *source;
    ptrdiff_t source_stride; // bytes
    int32_t source_width, source_height;
    void *out;
    ptrdiff_t out_stride;
    int32_t out_width, out_height; // at most scale times the source; the rest is cropped
    int32_t scale;                 // 2 or 4
    int32_t bit_depth;             // 8: bytes, above: 16-bit samples
    Siting horizontal;
};

// Weights of the four source samples around output sample `phase` of each
// `scale`, in 1/32768; `base` is the second one's place, relative to the source
// sample of that number. Shared with the tests.
struct Phase {
    int16_t weight[4];
    int base;
};
Phase bicubic_phase(int scale, int phase, Siting siting);

// Output rows [from, to) of a plane. Threads may share a plane's rows.
void upsample_rows(const Plane &plane, int32_t from, int32_t to);

} // namespace tds
