// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Bicubic up-sampling by 2 or 4, as FFmpeg's swscale does it with
// flags=bicubic (Mitchell-Netravali with B = 0, C = 0.6).
//
// Sample positions. In every plane the two grids share their centre: output
// sample x lies at (x + 1/2) / k - 1/2, chroma on its own grid just as luma.
// That is what FFmpeg does, down and up, with pictures that do not say where
// their chroma lies (and most do not), and what the models' own up-sampling
// does; the encoder's down-sampling has to match. Beyond the edge the last
// sample is repeated.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tds {

struct Plane {
    const void *source;
    ptrdiff_t source_stride; // bytes
    int32_t source_width, source_height;
    void *out;
    ptrdiff_t out_stride;
    int32_t out_width, out_height; // at most scale times the source; the rest is cropped
    int32_t scale;                 // 2 or 4
    int32_t bit_depth;             // 8: bytes, above: 16-bit samples
};

// Weights of the four source samples around output sample `phase` of each
// `scale`, in 1/32768; `base` is the second one's place, relative to the source
// sample of that number. Shared with the tests.
struct Phase {
    int16_t weight[4];
    int base;
};
Phase bicubic_phase(int scale, int phase);

// Output rows [from, to) of a plane. Threads may share a plane's rows.
void upsample_rows(const Plane &plane, int32_t from, int32_t to);

} // namespace tds
