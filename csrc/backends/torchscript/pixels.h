// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Between pictures and the packed floats that models take (docs/model.md, "Pixels"):
// tensors [1, 6, H / 2, W / 2], 0 to 1, padded by repeating the edge.
#pragma once

#include "tds/tds.h"

#include <ATen/ATen.h>

namespace tds {

struct Sizes {
    int64_t width, height;               // of the picture
    int64_t padded_width, padded_height; // of the tensor
};

// In host memory, one pass over the samples of any stride. `packed`: contiguous float32.
void pack_on_host(const tds_picture &picture, const Sizes &size, const at::Tensor &packed);
// Clamped to 0..1 (what is not a number becomes 0) and rounded, halves to even.
void unpack_on_host(const at::Tensor &packed, const Sizes &size, const tds_picture &picture);

// The same by tensor operations, to and from any memory; `packed` may lie anywhere and be of
// any type. An unpacked picture in CUDA memory is finished when this returns.
at::Tensor pack_on_device(const tds_picture &picture, const Sizes &size, at::Device device);
void unpack_from_device(const at::Tensor &packed, const tds_picture &picture);

// Packed [B, 6, h / 2, w / 2] to [B, 6, k h / 2, k w / 2] as the bicubic backend does it.
at::Tensor upsampled(const at::Tensor &packed, int64_t k, int bit_depth);

// Packed [B, 6, h / 2, w / 2], cut to the picture's size and padded by repeating its edge.
at::Tensor fitted(const at::Tensor &packed, const Sizes &size);

int planes_of(const tds_picture &picture);
int64_t plane_columns(const tds_picture &picture, int plane);
int64_t plane_rows(const tds_picture &picture, int plane);

} // namespace tds
