// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The TorchScript backend: runs models as docs/model.md describes them, on the
// CPU or a CUDA device. The only file that includes torch. It needs no CUDA
// headers: torch's device-neutral API is enough.
#include "backends/backend.h"
#include "backends/bicubic/upsample.h"

#include <c10/core/StreamGuard.h>
#include <torch/cuda.h>
#include <torch/script.h>
#include <torch/torch.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using at::Tensor;

class Failure : public std::runtime_error {
  public:
    Failure(tds_result code, const std::string &text) : std::runtime_error(text), code_(code) {}
    tds_result code() const { return code_; }

  private:
    tds_result code_;
};

// Torch's messages carry a stack trace; people get the first line.
std::string first_line(const std::string &text) {
    const std::string line = text.substr(0, text.find('\n'));
    return line.empty() ? text.substr(0, 200) : line;
}

// An error of the TorchScript interpreter: the useful line is the last one.
std::string last_line(std::string text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) {
        text.pop_back();
    }
    return text.substr(text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1);
}

// The TorchScript interpreter turns every C++ exception into a std::runtime_error:
// only the text still tells what it was.
bool is_out_of_memory(const std::exception &e) {
    const std::string text = e.what();
    return dynamic_cast<const c10::OutOfMemoryError *>(&e) ||
           dynamic_cast<const std::bad_alloc *>(&e) ||
           text.find("out of memory") != std::string::npos ||
           text.find("can't allocate memory") != std::string::npos;
}

template <typename Function> tds_result guarded(tds_backend_error *error, Function function) {
    const auto say = [error](tds_result code, const std::string &text) {
        std::snprintf(error->text, sizeof(error->text), "%s", text.c_str());
        return code;
    };
    try {
        const c10::InferenceMode no_gradients;
        function();
        return TDS_OK;
    } catch (const Failure &e) {
        return say(e.code(), e.what());
    } catch (const std::exception &e) {
        if (is_out_of_memory(e)) {
            return say(TDS_ERROR_MEMORY, "out of memory, with one picture at a time as well: use a "
                                         "smaller model, a smaller picture or another device");
        }
        if (const auto *torch_error = dynamic_cast<const c10::Error *>(&e)) {
            return say(TDS_ERROR_BACKEND,
                       "torch: " + first_line(torch_error->what_without_backtrace()));
        }
        return say(TDS_ERROR_BACKEND, "the model failed: " + last_line(e.what()));
    } catch (...) {
        return say(TDS_ERROR_BACKEND, "the model failed for a reason torch does not name");
    }
}

// The number of CPU threads is torch's own and belongs to the whole process:
// it is changed only while a session that asks for it works. What it was is
// read by the first of several at once: a later one, in a thread new to torch,
// would read what the first has set.
class Working {
  public:
    explicit Working(int wanted) : asked_(wanted > 0) {
        if (!asked_) {
            return;
        }
        const std::lock_guard<std::mutex> lock(mutex());
        if (users()++ == 0) {
            before() = at::get_num_threads();
        }
        if (at::get_num_threads() != wanted) {
            at::set_num_threads(wanted);
        }
    }
    ~Working() {
        if (asked_) {
            const std::lock_guard<std::mutex> lock(mutex());
            users()--;
            at::set_num_threads(before());
        }
    }
    Working(const Working &) = delete;
    Working &operator=(const Working &) = delete;

  private:
    static std::mutex &mutex() {
        static std::mutex m;
        return m;
    }
    static int &users() {
        static int n = 0;
        return n;
    }
    static int &before() {
        static int n = 0;
        return n;
    }

    bool asked_;
};

// On a CUDA device: the default stream, which callers count on (`wait_for`), though torch's
// current one in this thread may be another; and float32 that is float32, since torch lets
// convolutions round to TF32 by default.
class OnDevice {
  public:
    explicit OnDevice(at::Device device) : cuda_(device.is_cuda()) {
        if (cuda_) {
            stream_.emplace(c10::Stream(c10::Stream::DEFAULT, device));
            tf32_ = at::globalContext().allowTF32CuDNN();
            at::globalContext().setAllowTF32CuDNN(false);
        }
    }
    ~OnDevice() {
        if (cuda_) {
            at::globalContext().setAllowTF32CuDNN(tf32_);
        }
    }
    OnDevice(const OnDevice &) = delete;
    OnDevice &operator=(const OnDevice &) = delete;

  private:
    bool cuda_;
    bool tf32_ = false;
    std::optional<c10::StreamGuard> stream_;
};

// The profiling executor would compile the model again for each new shape (the
// engine has one a batch size), which costs seconds, and makes the convolutions
// that models consist of no faster. Only while a model runs: freezing it needs
// the same switch on.
class Running {
  public:
    Running(int threads, at::Device device) : threads_(threads), device_(device) {}

  private:
    Working threads_;
    OnDevice device_;
    torch::jit::GraphOptimizerEnabledGuard plain_{false};
};

// ------------------------------------------------------------ CPU pixels --
//
// One pass between 4:2:0 samples of any stride and the packed floats of
// docs/model.md: the tensor operations of the device path would take several.

struct Sizes {
    int64_t width, height;               // of the picture
    int64_t padded_width, padded_height; // of the tensor
};

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

// Waits until the samples of a CUDA picture are there. On the default stream,
// where torch works too, they come in order by themselves.
void wait_for(const tds_picture &p) {
    if (p.memory == TDS_MEMORY_CUDA && p.cuda_stream) {
        torch::cuda::synchronize(p.device_index);
    }
}

int64_t plane_columns(const tds_picture &p, int plane) {
    return plane == 0 || p.layout == TDS_LAYOUT_SEMIPLANAR ? p.width : p.width / 2;
}
int64_t plane_rows(const tds_picture &p, int plane) {
    return plane == 0 ? p.height : p.height / 2;
}
int planes_of(const tds_picture &p) {
    return p.layout == TDS_LAYOUT_SEMIPLANAR ? 2 : 3;
}
at::ScalarType sample_type(const tds_picture &p) {
    return p.bit_depth > 8 ? at::kShort : at::kByte;
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

// Packed floats [1, 6, h / 2, w / 2], made on `device`.
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

// Packed [B, 6, h / 2, w / 2] to [B, 6, H / 2, W / 2] by bicubic.
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

// ---------------------------------------------------------------- device --

bool cuda_works(int index) {
    try {
        at::zeros({1}, at::device(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index))))
            .add_(1)
            .cpu();
        return true;
    } catch (const std::exception &) {
        return false;
    }
}

at::Device choose_device(const std::string &name) {
    const int count =
        torch::cuda::is_available() ? static_cast<int>(torch::cuda::device_count()) : 0;
    if (name == "cpu") {
        return at::kCPU;
    }
    if (name == "auto") {
        for (int i = 0; i < count; i++) {
            if (cuda_works(i)) {
                return {at::kCUDA, static_cast<c10::DeviceIndex>(i)};
            }
        }
        return at::kCPU;
    }
    const int index = name == "cuda" ? 0 : std::atoi(name.c_str() + 5);
    if (!at::hasCUDA()) {
        throw Failure(TDS_ERROR_DEVICE, "device " + name +
                                            ": the installed torch has no CUDA; install a CUDA "
                                            "build of torch, or use device cpu");
    }
    if (index >= count) {
        throw Failure(TDS_ERROR_DEVICE,
                      "device " + name + ": there " +
                          (count == 1 ? "is 1 CUDA device"
                                      : "are " + std::to_string(count) + " CUDA devices") +
                          " here; use device cpu or auto");
    }
    if (!cuda_works(index)) {
        throw Failure(TDS_ERROR_DEVICE, "device " + name + " is there but does not work");
    }
    return {at::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

// ----------------------------------------------------------------- model --

// What a reference is to the model: its features, or the packed picture alone.
struct Handle {
    std::vector<Tensor> tensors;
};

class TorchScript {
  public:
    explicit TorchScript(const tds_backend_config &config)
        : config_(config), device_(choose_device(config.device)), path_(config.model->path),
          features_(config.model->features != 0) {
        const Working working(config_.threads);
        std::string precision = config.precision;
        if (precision == "auto") {
            precision = device_.is_cuda() ? config.model->cuda_precision : "float32";
        }
        precision_ = precision;
        type_ = precision == "float16"    ? at::kHalf
                : precision == "bfloat16" ? at::kBFloat16
                                          : at::kFloat;
        const int64_t align = config.model->alignment;
        const auto up = [align](int64_t v) { return (v + align - 1) / align * align; };
        full_ = {config.width, config.height, up(config.width), up(config.height)};
        const int64_t k = config.scale;
        low_ = {tds_lr_size(config.width, config.scale), tds_lr_size(config.height, config.scale),
                full_.padded_width / k, full_.padded_height / k};
        load(*config.model);
        config_.model = nullptr; // the engine's, gone after open()
        config_.device = config_.precision = nullptr;
    }

    const std::string &precision() const { return precision_; }
    at::Device device() const { return device_; }

    Handle *prepare(const tds_picture &picture) {
        const Running running(config_.threads, device_);
        return prepared(packed(picture, full_)).release();
    }

    void enhance(const tds_backend_job *jobs, int32_t count) {
        const Running running(config_.threads, device_);
        int32_t done = 0;
        while (done < count) {
            const int32_t batch = std::min(count - done, most_);
            bool too_large = false;
            try {
                run(jobs + done, batch);
                done += batch;
            } catch (const std::exception &e) {
                if (batch == 1 || !is_out_of_memory(e)) {
                    throw;
                }
                too_large = true; // out of the handler first: it holds what it caught
            }
            if (too_large) {
                most_ = batch / 2;
                say(TDS_LOG_WARNING,
                    "out of memory on " + device_.str() + " with " + std::to_string(batch) +
                        " pictures at once: going on with " + std::to_string(most_));
            }
        }
    }

    void upsample(const tds_picture &target, tds_picture &out) {
        const Running running(config_.threads, device_);
        deliver(upsampled(packed(target, low_), config_.scale, config_.bit_depth).slice(0, 0, 1),
                out);
    }

    void copy(const tds_picture &from, tds_picture &to) {
        const OnDevice here(device_);
        const Sizes size{from.width, from.height, from.width, from.height};
        unpack_from_device(pack_on_device(from, size, device_), to);
    }

    void allocate(tds_picture &p) {
        if (!device_.is_cuda()) {
            throw Failure(TDS_ERROR_UNSUPPORTED,
                          "a picture in CUDA memory in a session on the CPU: download it first, or "
                          "open the session on a CUDA device");
        }
        const OnDevice here(device_);
        constexpr int64_t align = 256;
        int64_t offset[3] = {0, 0, 0};
        int64_t bytes = 0;
        for (int i = 0; i < planes_of(p); i++) {
            const int64_t row = plane_columns(p, i) * (p.bit_depth > 8 ? 2 : 1);
            p.stride[i] = (row + align - 1) / align * align;
            offset[i] = bytes;
            bytes += p.stride[i] * plane_rows(p, i);
        }
        auto owner =
            std::make_unique<Tensor>(at::empty({bytes}, at::dtype(at::kByte).device(device_)));
        for (int i = 0; i < planes_of(p); i++) {
            p.data[i] = static_cast<uint8_t *>(owner->data_ptr()) + offset[i];
        }
        p.device_index = device_.index();
        p.cuda_stream = nullptr;
        p.owner = owner.release();
        p.release = [](void *tensor) { delete static_cast<Tensor *>(tensor); };
    }

  private:
    void say(tds_log_level level, const std::string &text) const {
        config_.log(config_.log_context, level, text.c_str());
    }

    void load(const tds_backend_model &model) {
        try {
            std::istringstream stream(
                std::string(static_cast<const char *>(model.data), model.size));
            module_ = torch::jit::load(stream, device_);
        } catch (const std::exception &e) {
            if (is_out_of_memory(e)) {
                throw;
            }
            throw Failure(TDS_ERROR_MODEL,
                          "model file " + path_ + ": torch cannot load it: " + last_line(e.what()));
        }
        if (!module_.find_method("forward")) {
            throw Failure(TDS_ERROR_MODEL,
                          "model file " + path_ + ": it has no method \"forward\"");
        }
        if (features_) {
            for (const char *name : {"reference", "enhance"}) {
                if (!module_.find_method(name)) {
                    throw Failure(TDS_ERROR_MODEL, "model file " + path_ +
                                                       ": its tds.json promises features, but it "
                                                       "has no method \"" +
                                                       name + "\"");
                }
            }
        }
        module_.eval();
        module_.to(type_);
        try {
            // Weights become constants: no look-up a call, and convolutions fold
            // what follows them.
            std::vector<std::string> keep;
            if (features_) {
                keep = {"reference", "enhance"};
            }
            module_ = torch::jit::freeze(module_, keep);
        } catch (const std::exception &e) {
            say(TDS_LOG_DEBUG, "model " + path_ + " runs unfrozen: " + first_line(e.what()));
        }
    }

    Tensor packed(const tds_picture &picture, const Sizes &size) const {
        if (device_.is_cuda() || picture.memory == TDS_MEMORY_CUDA) {
            return pack_on_device(picture, size, device_).to(type_);
        }
        Tensor out = at::empty({1, 6, size.padded_height / 2, size.padded_width / 2}, at::kFloat);
        pack_into(picture, size, out);
        return out.to(type_);
    }

    static void pack_into(const tds_picture &picture, const Sizes &size, const Tensor &out) {
        if (picture.bit_depth > 8) {
            pack<uint16_t>(picture, size, out.data_ptr<float>());
        } else {
            pack<uint8_t>(picture, size, out.data_ptr<float>());
        }
    }

    Tensor targets(const tds_backend_job *jobs, int32_t count) const {
        if (count == 1) {
            return packed(*jobs[0].target, low_);
        }
        if (device_.is_cuda()) {
            std::vector<Tensor> parts;
            for (int32_t i = 0; i < count; i++) {
                parts.push_back(packed(*jobs[i].target, low_));
            }
            return at::cat(parts);
        }
        Tensor out =
            at::empty({count, 6, low_.padded_height / 2, low_.padded_width / 2}, at::kFloat);
        for (int32_t i = 0; i < count; i++) {
            if (jobs[i].target->memory == TDS_MEMORY_CUDA) {
                throw Failure(TDS_ERROR_UNSUPPORTED, "a CUDA picture in a session on the CPU");
            }
            pack_into(*jobs[i].target, low_, out.select(0, i));
        }
        return out.to(type_);
    }

    std::unique_ptr<Handle> prepared(const Tensor &picture) {
        auto handle = std::make_unique<Handle>();
        if (!features_) {
            handle->tensors = {picture};
            return handle;
        }
        const c10::IValue result = module_.get_method("reference")({picture});
        if (!result.isTensorList()) {
            throw Failure(TDS_ERROR_BACKEND,
                          "the model's method \"reference\" gave no list of tensors");
        }
        handle->tensors = result.toTensorVector();
        return handle;
    }

    // One input for a whole batch, tensor by tensor.
    c10::IValue joined(const std::vector<const Handle *> &handles) const {
        std::vector<Tensor> out;
        for (size_t t = 0; t < handles[0]->tensors.size(); t++) {
            if (handles.size() == 1) {
                out.push_back(handles[0]->tensors[t]);
                continue;
            }
            std::vector<Tensor> parts;
            for (const Handle *handle : handles) {
                parts.push_back(handle->tensors.at(t));
            }
            out.push_back(at::cat(parts));
        }
        return features_ ? c10::IValue(out) : c10::IValue(out[0]);
    }

    void run(const tds_backend_job *jobs, int32_t count) {
        const Tensor target = targets(jobs, count);
        std::vector<const Handle *> first;
        std::vector<const Handle *> last;
        std::vector<std::unique_ptr<Handle>> stand_ins;
        Tensor side = at::empty({count, 5}, at::kFloat);
        for (int32_t i = 0; i < count; i++) {
            const tds_backend_job &job = jobs[i];
            const float facts[5] = {
                job.references[0] ? 1.0F : 0.0F, job.references[1] ? 1.0F : 0.0F, job.position,
                static_cast<float>(config_.hr_qp), static_cast<float>(config_.lr_qp)};
            std::memcpy(side.data_ptr<float>() + static_cast<ptrdiff_t>(i) * 5, facts,
                        sizeof(facts));
            const auto *a = static_cast<const Handle *>(job.references[job.references[0] ? 0 : 1]);
            const auto *b = static_cast<const Handle *>(job.references[job.references[1] ? 1 : 0]);
            if (!a) {
                stand_ins.push_back(prepared(
                    upsampled(target.slice(0, i, i + 1), config_.scale, config_.bit_depth)));
                a = b = stand_ins.back().get();
            }
            first.push_back(a);
            last.push_back(b);
        }
        side = side.to(device_, type_);

        c10::IValue result;
        if (features_) {
            result = module_.get_method("enhance")({joined(first), target, joined(last), side});
        } else {
            result = module_.forward({joined(first), target, joined(last), side});
        }
        if (!result.isTensor()) {
            throw Failure(TDS_ERROR_BACKEND, "the model gave no tensor");
        }
        Tensor pictures = result.toTensor();
        const std::vector<int64_t> wanted = {count, 6, full_.padded_height / 2,
                                             full_.padded_width / 2};
        if (pictures.sizes() != at::IntArrayRef(wanted)) {
            std::ostringstream text;
            text << "the model gave a tensor of " << pictures.sizes() << " where "
                 << at::IntArrayRef(wanted) << " is due";
            throw Failure(TDS_ERROR_BACKEND, text.str());
        }
        for (int32_t i = 0; i < count; i++) {
            const Tensor picture = pictures.slice(0, i, i + 1);
            deliver(picture, *jobs[i].out);
            if (jobs[i].keep) {
                *jobs[i].keep =
                    prepared(picture.nan_to_num(0.0).clamp(0.0, 1.0).to(type_)).release();
            }
        }
    }

    void deliver(const Tensor &picture, const tds_picture &out) const {
        if (device_.is_cuda() || out.memory == TDS_MEMORY_CUDA) {
            unpack_from_device(picture, out);
            return;
        }
        const Tensor floats = picture.to(at::kFloat).contiguous();
        if (out.bit_depth > 8) {
            unpack<uint16_t>(floats.data_ptr<float>(), full_, out);
        } else {
            unpack<uint8_t>(floats.data_ptr<float>(), full_, out);
        }
    }

    tds_backend_config config_;
    at::Device device_;
    std::string path_, precision_;
    at::ScalarType type_ = at::kFloat;
    bool features_;
    Sizes full_{}, low_{};
    torch::jit::Module module_;
    int32_t most_ = TDS_MAX_PENDING; // pictures at once, after what memory allowed so far
};

// ----------------------------------------------------------------- table --

tds_result devices(char *buffer, size_t size, tds_backend_error *error) {
    return guarded(error, [&] {
        std::string names = "cpu";
        const int count =
            torch::cuda::is_available() ? static_cast<int>(torch::cuda::device_count()) : 0;
        for (int i = 0; i < count; i++) {
            names += ",cuda:" + std::to_string(i);
        }
        std::snprintf(buffer, size, "%s", names.c_str());
    });
}

tds_result open(const tds_backend_config *config, void **instance, tds_backend_traits *traits,
                tds_backend_error *error) {
    return guarded(error, [&] {
        if (!config->model) {
            throw Failure(TDS_ERROR_INVALID, "the torchscript backend needs a model");
        }
        if (config->model->contract != 1) {
            throw Failure(TDS_ERROR_UNSUPPORTED,
                          std::string("model file ") + config->model->path +
                              ": it follows version " + std::to_string(config->model->contract) +
                              " of the model contract and this backend runs version 1");
        }
        auto backend = std::make_unique<TorchScript>(*config);
        traits->references = 2;
        traits->runs_without_reference = config->model->no_reference;
        std::snprintf(traits->device, sizeof(traits->device), "%s",
                      backend->device().str().c_str());
        std::snprintf(traits->precision, sizeof(traits->precision), "%s",
                      backend->precision().c_str());
        *instance = backend.release();
    });
}

void close(void *instance) {
    delete static_cast<TorchScript *>(instance);
}

tds_result prepare(void *instance, const tds_picture *picture, const tds_backend_facts *,
                   void **handle, tds_backend_error *error) {
    return guarded(error,
                   [&] { *handle = static_cast<TorchScript *>(instance)->prepare(*picture); });
}

void drop(void *, void *handle) {
    delete static_cast<Handle *>(handle);
}

tds_result enhance(void *instance, const tds_backend_job *jobs, int32_t count,
                   tds_backend_error *error) {
    return guarded(error, [&] { static_cast<TorchScript *>(instance)->enhance(jobs, count); });
}

tds_result upsample(void *instance, const tds_picture *target, tds_picture *out,
                    tds_backend_error *error) {
    return guarded(error, [&] { static_cast<TorchScript *>(instance)->upsample(*target, *out); });
}

tds_result allocate(void *instance, tds_picture *picture, tds_backend_error *error) {
    return guarded(error, [&] { static_cast<TorchScript *>(instance)->allocate(*picture); });
}

tds_result copy(void *instance, const tds_picture *from, tds_picture *to,
                tds_backend_error *error) {
    return guarded(error, [&] { static_cast<TorchScript *>(instance)->copy(*from, *to); });
}

const tds_backend backend = {TDS_BACKEND_ABI, "torchscript", devices,  open, close, prepare, drop,
                             enhance,         upsample,      allocate, copy};

} // namespace

extern "C" TDS_API const tds_backend *tds_backend_entry(void) {
    return &backend;
}
