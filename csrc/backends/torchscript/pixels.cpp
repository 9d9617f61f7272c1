// SPDX-License-Identifier: LGPL-2.1-or-later
#include "backends/torchscript/pixels.h"

#include "backends/bicubic/upsample.h"
#include "backends/torchscript/failure.h"

#include <ATen/Parallel.h>
#include <torch/cuda.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace tds {

using at::Tensor;

int64_t plane_columns(const tds_picture &p, int plane) {
    return plane == 0 || p.layout == TDS_LAYOUT_SEMIPLANAR ? p.width : p.width / 2;
}
int64_t plane_rows(const tds_picture &p, int plane) {
    return plane == 0 ? p.height : p.height / 2;
}
int planes_of(const tds_picture &p) {
    return p.layout == TDS_LAYOUT_SEMIPLANAR ? 2 : 3;
}

namespace {

// ------------------------------------------------------------ CPU pixels --
//
// One pass between 4:2:0 samples of any stride and the packed floats of
// docs/model.md: the tensor operations of the device path would take several.

const uint8_t *row_of(const tds_picture &p, int plane, int64_t y) {
    return static_cast<const uint8_t *>(p.data[plane]) + y * p.stride[plane];
}

// One binary for old and new x86 processors, as in the bicubic backend.
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(TDS_SANITIZE)
#define TDS_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define TDS_CLONES
#endif

// Every second sample to one row, those between to another.
template <typename T>
TDS_CLONES void split_row(const T *__restrict in, int64_t n, int shift, float most,
                          float *__restrict even, float *__restrict odd) {
    for (int64_t x = 0; x < n; x++) {
        even[x] = static_cast<float>(in[2 * x] >> shift) / most;
        odd[x] = static_cast<float>(in[2 * x + 1] >> shift) / most;
    }
}

template <typename T>
TDS_CLONES void plain_row(const T *__restrict in, int64_t n, float most, float *__restrict out) {
    for (int64_t x = 0; x < n; x++) {
        out[x] = static_cast<float>(in[x]) / most;
    }
}

template <typename T> void pack(const tds_picture &p, const Sizes &size, float *out) {
    const bool semi = p.layout == TDS_LAYOUT_SEMIPLANAR;
    const int shift = sizeof(T) == 2 && semi ? 16 - p.bit_depth : 0;
    const auto most = static_cast<float>((1 << p.bit_depth) - 1);
    const int64_t w = size.width / 2;
    const int64_t pw = size.padded_width / 2;
    const int64_t ph = size.padded_height / 2;
    const auto row = [&p](int plane, int64_t y) {
        return reinterpret_cast<const T *>(row_of(p, plane, y));
    };
    at::parallel_for(0, ph, 32, [&](int64_t begin, int64_t end) {
        for (int64_t y = begin; y < end; y++) {
            const auto to = [&](int64_t channel) { return out + (channel * ph + y) * pw; };
            for (int64_t i = 0; i < 2; i++) {
                float *even = to(2 * i);
                float *odd = to(2 * i + 1);
                split_row(row(0, std::min(2 * y + i, size.height - 1)), w, shift, most, even, odd);
                // The last sample of a row is in an odd column: all padding repeats it.
                std::fill(even + w, even + pw, odd[w - 1]);
                std::fill(odd + w, odd + pw, odd[w - 1]);
            }
            const int64_t cy = std::min(y, size.height / 2 - 1);
            if (semi) {
                split_row(row(1, cy), w, shift, most, to(4), to(5));
            } else {
                plain_row(row(1, cy), w, most, to(4));
                plain_row(row(2, cy), w, most, to(5));
            }
            for (int64_t c = 4; c < 6; c++) {
                std::fill(to(c) + w, to(c) + pw, to(c)[w - 1]);
            }
        }
    });
}

// Clamped to 0..1 (what is not a number becomes 0) and rounded to the nearest
// code, halves to even as torch.round does: adding 1.5 * 2^23 leaves no fraction.
inline float code(float value, float most) {
    float v = value > 0.0F ? value : 0.0F;
    v = v < 1.0F ? v : 1.0F;
    constexpr float magic = 12582912.0F;
    return (v * most + magic) - magic;
}

template <typename T>
TDS_CLONES void join_row(const float *__restrict even, const float *__restrict odd, int64_t n,
                         int shift, float most, T *__restrict out) {
    for (int64_t x = 0; x < n; x++) {
        out[2 * x] = static_cast<T>(static_cast<int32_t>(code(even[x], most)) << shift);
        out[2 * x + 1] = static_cast<T>(static_cast<int32_t>(code(odd[x], most)) << shift);
    }
}

template <typename T>
TDS_CLONES void plain_codes(const float *__restrict in, int64_t n, float most, T *__restrict out) {
    for (int64_t x = 0; x < n; x++) {
        out[x] = static_cast<T>(static_cast<int32_t>(code(in[x], most)));
    }
}

template <typename T> void unpack(const float *in, const Sizes &size, const tds_picture &p) {
    const bool semi = p.layout == TDS_LAYOUT_SEMIPLANAR;
    const int shift = sizeof(T) == 2 && semi ? 16 - p.bit_depth : 0;
    const auto most = static_cast<float>((1 << p.bit_depth) - 1);
    const int64_t w = size.width / 2;
    const int64_t pw = size.padded_width / 2;
    const int64_t ph = size.padded_height / 2;
    const auto row = [&p](int plane, int64_t y) {
        return reinterpret_cast<T *>(const_cast<uint8_t *>(row_of(p, plane, y)));
    };
    at::parallel_for(0, size.height / 2, 32, [&](int64_t begin, int64_t end) {
        for (int64_t y = begin; y < end; y++) {
            const auto from = [&](int64_t channel) { return in + (channel * ph + y) * pw; };
            join_row(from(0), from(1), w, shift, most, row(0, 2 * y));
            join_row(from(2), from(3), w, shift, most, row(0, 2 * y + 1));
            if (semi) {
                join_row(from(4), from(5), w, shift, most, row(1, y));
            } else {
                plain_codes(from(4), w, most, row(1, y));
                plain_codes(from(5), w, most, row(2, y));
            }
        }
    });
}

// --------------------------------------------------------- device pixels --

at::ScalarType sample_type(const tds_picture &p) {
    return p.bit_depth > 8 ? at::kShort : at::kByte;
}

// Waits until the samples of a CUDA picture are there. On the default stream,
// where torch works too, they come in order by themselves.
void wait_for(const tds_picture &p) {
    if (p.memory == TDS_MEMORY_CUDA && p.cuda_stream) {
        torch::cuda::synchronize(p.device_index);
    }
}

// The samples of a plane where they lie; no copy.
Tensor view_plane(const tds_picture &p, int plane) {
    const int64_t bytes = p.bit_depth > 8 ? 2 : 1;
    if (p.stride[plane] < 0 && p.memory == TDS_MEMORY_CUDA) {
        throw Failure(TDS_ERROR_UNSUPPORTED,
                      "a CUDA picture with a negative stride: copy it first");
    }
    const at::Device device =
        p.memory == TDS_MEMORY_CUDA
            ? at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(p.device_index))
            : at::Device(at::kCPU);
    return at::from_blob(p.data[plane], {plane_rows(p, plane), plane_columns(p, plane)},
                         {p.stride[plane] / bytes, 1}, at::dtype(sample_type(p)).device(device));
}

Tensor upload_plane(const tds_picture &p, int plane, at::Device device) {
    if (p.memory == TDS_MEMORY_CUDA) {
        return view_plane(p, plane).to(device);
    }
    // Through pinned memory where the copy is to a device.
    Tensor staged = at::empty({plane_rows(p, plane), plane_columns(p, plane)},
                              at::dtype(sample_type(p)).pinned_memory(device.is_cuda()));
    const auto row = static_cast<size_t>(plane_columns(p, plane)) * (p.bit_depth > 8 ? 2 : 1);
    for (int64_t y = 0; y < plane_rows(p, plane); y++) {
        std::memcpy(static_cast<uint8_t *>(staged.data_ptr()) + static_cast<size_t>(y) * row,
                    row_of(p, plane, y), row);
    }
    return staged.to(device, /*non_blocking=*/true);
}

} // namespace

void pack_on_host(const tds_picture &picture, const Sizes &size, const Tensor &packed) {
    if (picture.bit_depth > 8) {
        pack<uint16_t>(picture, size, packed.data_ptr<float>());
    } else {
        pack<uint8_t>(picture, size, packed.data_ptr<float>());
    }
}

void unpack_on_host(const Tensor &packed, const Sizes &size, const tds_picture &picture) {
    const Tensor floats = packed.to(at::kFloat).contiguous();
    if (picture.bit_depth > 8) {
        unpack<uint16_t>(floats.data_ptr<float>(), size, picture);
    } else {
        unpack<uint8_t>(floats.data_ptr<float>(), size, picture);
    }
}

Tensor pack_on_device(const tds_picture &p, const Sizes &size, at::Device device) {
    wait_for(p);
    const bool semi = p.layout == TDS_LAYOUT_SEMIPLANAR;
    const double most = (1 << p.bit_depth) - 1;
    const auto values = [&](Tensor t) {
        if (p.bit_depth > 8 && semi) { // in the high bits; as signed 16 bits they may be negative
            t = t.to(at::kInt).bitwise_and(0xffff).bitwise_right_shift(16 - p.bit_depth);
        }
        return t.to(at::kFloat).div(most);
    };
    const auto padded = [&](const Tensor &t, int64_t rows, int64_t columns) {
        return at::replication_pad2d(t, {0, columns - t.size(3), 0, rows - t.size(2)});
    };
    const Tensor luma = values(upload_plane(p, 0, device)).unsqueeze(0).unsqueeze(0);
    Tensor chroma;
    if (semi) {
        chroma = values(upload_plane(p, 1, device))
                     .reshape({p.height / 2, p.width / 2, 2})
                     .permute({2, 0, 1})
                     .unsqueeze(0);
    } else {
        chroma = at::stack({values(upload_plane(p, 1, device)), values(upload_plane(p, 2, device))})
                     .unsqueeze(0);
    }
    return at::cat({at::pixel_unshuffle(padded(luma, size.padded_height, size.padded_width), 2),
                    padded(chroma, size.padded_height / 2, size.padded_width / 2)},
                   1);
}

void unpack_from_device(const Tensor &packed, const tds_picture &p) {
    const bool semi = p.layout == TDS_LAYOUT_SEMIPLANAR;
    const double most = (1 << p.bit_depth) - 1;
    const Tensor values = packed.to(at::kFloat).nan_to_num(0.0).clamp(0.0, 1.0).mul(most).round();
    const auto codes = [&](const Tensor &t) {
        const Tensor whole = t.to(at::kInt);
        return (p.bit_depth > 8 && semi ? whole.bitwise_left_shift(16 - p.bit_depth) : whole)
            .to(sample_type(p));
    };
    const Tensor luma = at::pixel_shuffle(values.slice(1, 0, 4), 2).select(0, 0).select(0, 0);
    const Tensor chroma =
        values.select(0, 0).slice(0, 4, 6).slice(1, 0, p.height / 2).slice(2, 0, p.width / 2);
    std::vector<Tensor> planes = {codes(luma.slice(0, 0, p.height).slice(1, 0, p.width))};
    if (semi) {
        planes.push_back(codes(chroma.permute({1, 2, 0}).reshape({p.height / 2, p.width})));
    } else {
        planes.push_back(codes(chroma.select(0, 0)));
        planes.push_back(codes(chroma.select(0, 1)));
    }
    for (int i = 0; i < planes_of(p); i++) {
        const Tensor &plane = planes[static_cast<size_t>(i)];
        if (p.memory == TDS_MEMORY_CUDA) {
            view_plane(p, i).copy_(plane);
            continue;
        }
        const Tensor host = plane.contiguous().cpu();
        const auto row = static_cast<size_t>(plane_columns(p, i)) * (p.bit_depth > 8 ? 2 : 1);
        for (int64_t y = 0; y < plane_rows(p, i); y++) {
            std::memcpy(
                const_cast<uint8_t *>(row_of(p, i, y)),
                static_cast<const uint8_t *>(host.data_ptr()) + static_cast<size_t>(y) * row, row);
        }
    }
    if (p.memory == TDS_MEMORY_CUDA) {
        // The caller may use any stream: hand over finished samples.
        torch::cuda::synchronize(p.device_index);
    }
}

Tensor upsampled(const Tensor &packed, int64_t k, int bit_depth) {
    if (k == 1) {
        return packed;
    }
    // All k phases at once: one convolution, whose channels are then put
    // between each other. Phases reach from two samples before to two after.
    Tensor weights = at::zeros({k, 5});
    for (int p = 0; p < k; p++) {
        const tds::Phase phase = tds::bicubic_phase(static_cast<int>(k), p);
        for (int i = 0; i < 4; i++) {
            weights[p][phase.base + 1 + i] = static_cast<float>(phase.weight[i]) / 32768.0F;
        }
    }
    weights = weights.to(packed.device());
    // Overshoot beyond white is clipped between the passes, as the bicubic backend does it.
    const double white =
        static_cast<double>(1 << bit_depth) / static_cast<double>((1 << bit_depth) - 1);
    const auto plane = [&](const Tensor &in) {
        const int64_t h = in.size(2);
        const int64_t w = in.size(3);
        const Tensor across =
            at::conv2d(at::replication_pad2d(in, {2, 2, 0, 0}), weights.reshape({k, 1, 1, 5}))
                .permute({0, 2, 3, 1})
                .reshape({-1, 1, h, w * k})
                .clamp_max(white);
        return at::conv2d(at::replication_pad2d(across, {0, 0, 2, 2}),
                          weights.reshape({k, 1, 5, 1}))
            .permute({0, 2, 1, 3})
            .reshape({-1, 1, h * k, w * k});
    };
    const Tensor in = packed.to(at::kFloat);
    const Tensor luma = plane(at::pixel_shuffle(in.slice(1, 0, 4), 2));
    const Tensor cb = plane(in.slice(1, 4, 5));
    const Tensor cr = plane(in.slice(1, 5, 6));
    return at::cat({at::pixel_unshuffle(luma, 2), cb, cr}, 1)
        .clamp(0.0, 1.0)
        .to(packed.scalar_type());
}

Tensor fitted(const Tensor &packed, const Sizes &size) {
    if (packed.size(2) * 2 == size.padded_height && packed.size(3) * 2 == size.padded_width &&
        size.height == size.padded_height && size.width == size.padded_width) {
        return packed;
    }
    const auto fit = [](const Tensor &plane, int64_t height, int64_t width, int64_t rows,
                        int64_t columns) {
        return at::replication_pad2d(plane.slice(2, 0, height).slice(3, 0, width),
                                     {0, columns - width, 0, rows - height});
    };
    const Tensor luma = fit(at::pixel_shuffle(packed.slice(1, 0, 4), 2), size.height, size.width,
                            size.padded_height, size.padded_width);
    const Tensor chroma = fit(packed.slice(1, 4, 6), size.height / 2, size.width / 2,
                              size.padded_height / 2, size.padded_width / 2);
    return at::cat({at::pixel_unshuffle(luma, 2), chroma}, 1);
}

} // namespace tds
