// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The TorchScript backend: runs models as docs/model.md describes them, on the
// CPU or a CUDA device. Only this folder includes torch. It needs no CUDA
// headers: torch's device-neutral API is enough.
#include "backends/backend.h"
#include "backends/torchscript/failure.h"
#include "backends/torchscript/pixels.h"

#include <ATen/Parallel.h>
#include <c10/core/StreamGuard.h>
#include <caffe2/serialize/read_adapter_interface.h>
#include <torch/cuda.h>
#include <torch/script.h>
#include <torch/version.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace tds {
namespace {

using at::Tensor;

// Torch's messages carry source code or a stack trace; people get the first line.
std::string first_line(const std::string &text) {
    const size_t begin = text.find_first_not_of(" \n");
    std::string line =
        begin == std::string::npos ? "" : text.substr(begin, text.find('\n', begin) - begin);
    while (!line.empty() && (line.back() == ':' || line.back() == '.')) {
        line.pop_back();
    }
    return line;
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

std::string sizes_text(at::IntArrayRef sizes) {
    std::string out;
    for (const int64_t size : sizes) {
        out += (out.empty() ? "[" : ", ") + std::to_string(size);
    }
    return out.empty() ? "[]" : out + "]";
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

// The model file for torch's reader. Not as a stream: a stream made here has the locales of
// the C++ runtime here, which may be another than torch's.
class Bytes : public caffe2::serialize::ReadAdapterInterface {
  public:
    Bytes(const void *data, size_t size) : data_(static_cast<const char *>(data)), size_(size) {}
    size_t size() const override { return size_; }
    size_t read(uint64_t at, void *out, size_t count, const char *) const override {
        count = at < size_ ? std::min<size_t>(count, size_ - at) : 0;
        std::memcpy(out, data_ + at, count);
        return count;
    }

  private:
    const char *data_;
    size_t size_;
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
            module_ = torch::jit::load(std::make_shared<Bytes>(model.data, model.size), device_);
        } catch (const std::exception &e) {
            if (is_out_of_memory(e)) {
                throw;
            }
            const std::string made = model.torch;
            throw Failure(TDS_ERROR_MODEL,
                          "model file " + path_ + ", made by torch " +
                              (made.empty() ? "of a version it does not name" : made) +
                              ": torch " TORCH_VERSION " cannot load it (" + first_line(e.what()) +
                              "); install the torch that made it, or export the model again from "
                              "its weights, with: tds export");
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
        pack_on_host(picture, size, out);
        return out.to(type_);
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
            pack_on_host(*jobs[i].target, low_, out.select(0, i));
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
            throw Failure(TDS_ERROR_BACKEND, "the model gave a tensor of " +
                                                 sizes_text(pictures.sizes()) + " where " +
                                                 sizes_text(wanted) + " is due");
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
        unpack_on_host(picture, full_, out);
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

const tds_backend table = {TDS_BACKEND_ABI, "torchscript", devices,  open, close, prepare, drop,
                           enhance,         upsample,      allocate, copy};

} // namespace
} // namespace tds

extern "C" TDS_API const tds_backend *tds_backend_entry(void) {
    return &tds::table;
}
