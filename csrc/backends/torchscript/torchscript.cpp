// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The TorchScript backend: runs models as docs/model.md describes them, on the
// CPU or a CUDA device. Only this folder includes torch. It needs no CUDA
// headers: torch's device-neutral API is enough.
//
// pixels: between pictures and tensors. model: an archive and its methods. device: where it
// runs. Here: jobs, what is kept of pictures, and memory that does not suffice.
#include "backends/backend.h"
#include "backends/bicubic/workers.h"
#include "backends/cpus.h"
#include "backends/torchscript/device.h"
#include "backends/torchscript/failure.h"
#include "backends/torchscript/model.h"
#include "backends/torchscript/pixels.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <torch/version.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace tds {
namespace {

using at::Tensor;

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
            return say(TDS_ERROR_MEMORY, "out of memory: use a smaller model, a smaller picture or "
                                         "another device");
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
    std::string out = "[";
    for (const int64_t size : sizes) {
        out += out.size() > 1 ? ", " : "";
        out += std::to_string(size);
    }
    return out + "]";
}

int64_t rounded_up(int64_t value, int64_t step) {
    return (value + step - 1) / step * step;
}

at::ScalarType scalar_type(const std::string &precision) {
    return precision == "float16"    ? at::kHalf
           : precision == "bfloat16" ? at::kBFloat16
                                     : at::kFloat;
}

// A picture for every job that sees it. Packing and features wait until the first of those: then
// the pictures of a batch are worked on side by side.
struct Handle {
    tds_picture picture{};     // whose samples outlive this; not of what `keep` asked for
    tds_backend_facts facts{}; // contract 2
    Tensor packed;             // contract 2: at full size, float32
    Features features;
    bool ready = false;
};

// What both contracts share.
class Instance {
  public:
    explicit Instance(const tds_backend_config &config)
        : config_(config), device_(choose_device(config.device)),
          precision_(chosen_precision(config, device_)), type_(scalar_type(precision_)),
          threads_(config.threads > 0 ? config.threads
                                      : std::min(usable_cpus(), at::get_num_threads())),
          model_(loaded(config)) {
        const int64_t align = config.model->alignment;
        full_ = {config.width, config.height, rounded_up(config.width, align),
                 rounded_up(config.height, align)};
        const int64_t k = config.scale;
        low_ = {tds_lr_size(config.width, config.scale), tds_lr_size(config.height, config.scale),
                full_.padded_width / k, full_.padded_height / k};
        config_.model = nullptr; // the engine's, gone after open()
        config_.device = config_.precision = nullptr;
    }
    virtual ~Instance() = default;
    Instance(const Instance &) = delete;
    Instance &operator=(const Instance &) = delete;

    virtual void traits(tds_backend_traits &traits) const {
        // Pictures side by side, each on one processor, are done sooner than one after the
        // other on all; what a CUDA device gains from has no such number.
        traits.max_batch = device_.is_cuda() ? 0 : threads_;
        std::snprintf(traits.device, sizeof(traits.device), "%s", device_.str().c_str());
        std::snprintf(traits.precision, sizeof(traits.precision), "%s", precision_.c_str());
    }

    void enhance(const tds_backend_job *jobs, int32_t count) {
        for (int32_t i = 0; i < count; i++) {
            if (jobs[i].keep) {
                *jobs[i].keep = nullptr;
            }
        }
        try {
            int32_t done = 0;
            while (done < count) {
                const int32_t some = std::min(count - done, most_);
                if (attempt(jobs + done, some)) {
                    done += some;
                } else {
                    use_less_memory(some);
                }
            }
        } catch (...) {
            for (int32_t i = 0; i < count; i++) {
                keep(jobs[i], nullptr);
            }
            throw;
        }
    }

    void upsample(const tds_picture &target, tds_picture &out) {
        const OnDevice here(device_);
        const Threads threads(threads_);
        deliver(upsampled(packed(target, low_), config_.scale, config_.bit_depth), out);
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
            p.stride[i] = rounded_up(row, align);
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

  protected:
    // Fills a handle for the jobs that use it. Called for several at the same time.
    virtual void get_ready(Handle &handle) const = 0;
    // The handles that a job uses.
    virtual std::vector<Handle *> handles(const tds_backend_job &job) const = 0;
    // Pictures [count, 6, H / 2, W / 2]. All handles are ready. Called for several at once.
    virtual Tensor run(const tds_backend_job *jobs, int32_t count) const = 0;
    // A result, clamped, as a handle that is ready.
    virtual std::unique_ptr<Handle> kept(const Tensor &picture,
                                         const tds_backend_job &job) const = 0;
    // Less memory for one picture, if there is a way: what it then does, in words.
    virtual std::string shrink() { return ""; }

    // In float32.
    Tensor packed(const tds_picture &picture, const Sizes &size) const {
        if (device_.is_cuda() || picture.memory == TDS_MEMORY_CUDA) {
            return pack_on_device(picture, size, device_);
        }
        Tensor out = at::empty({1, 6, size.padded_height / 2, size.padded_width / 2}, at::kFloat);
        pack_on_host(picture, size, out);
        return out;
    }

    tds_backend_config config_;
    at::Device device_;
    std::string precision_;
    at::ScalarType type_;
    int threads_;
    Model model_;
    Sizes full_{}, low_{};

  private:
    static std::string chosen_precision(const tds_backend_config &config, at::Device device) {
        const std::string asked = config.precision;
        if (asked != "auto") {
            return asked;
        }
        if (device.is_cuda()) {
            return config.model->cuda_precision;
        }
        return cpu_has_bfloat16() ? config.model->cpu_precision : "float32";
    }

    Model loaded(const tds_backend_config &config) const {
        const OnDevice here(device_);
        const Threads threads(threads_);
        return {*config.model, device_, type_};
    }

    void say(tds_log_level level, const std::string &text) const {
        config_.log(config_.log_context, level, text.c_str());
    }

    // The pictures that are worked on at the same time when `count` are to be made.
    int32_t at_once(int32_t count) const {
        return device_.is_cuda() ? count : std::min({count, most_, threads_});
    }

    // part(0) to part(count - 1). On the CPU side by side, the threads shared between them.
    void side_by_side(int32_t count, const std::function<void(int)> &part) {
        const int32_t several = device_.is_cuda() ? 1 : at_once(count);
        // Threads that share a picture wait for each other at every operation, OpenMP's by
        // spinning: with processors that others use too it takes ten times as long as alone.
        const int each = std::min(threads_ / std::max(several, 1), std::max(free_cpus(), 1));
        if (several <= 1) {
            const OnDevice here(device_);
            const Threads threads(each);
            for (int32_t i = 0; i < count; i++) {
                part(i);
            }
            return;
        }
        if (!workers_) {
            workers_ = std::make_unique<Workers>(std::min(most_, threads_));
        }
        workers_->run(count, [&](int i) {
            const c10::InferenceMode no_gradients;
            const Threads threads(each);
            part(i);
        });
    }

    // False when memory ran out.
    bool attempt(const tds_backend_job *jobs, int32_t count) {
        try {
            std::vector<Handle *> waiting;
            for (int32_t i = 0; i < count; i++) {
                for (Handle *handle : handles(jobs[i])) {
                    if (!handle->ready &&
                        std::find(waiting.begin(), waiting.end(), handle) == waiting.end()) {
                        waiting.push_back(handle);
                    }
                }
            }
            side_by_side(static_cast<int32_t>(waiting.size()),
                         [&](int i) { get_ready(*waiting[static_cast<size_t>(i)]); });
            if (device_.is_cuda()) {
                side_by_side(1, [&](int) { make(jobs, count); });
            } else {
                side_by_side(count, [&](int i) { make(jobs + i, 1); });
            }
            return true;
        } catch (const std::exception &e) {
            if (!is_out_of_memory(e)) {
                throw;
            }
            return false;
        }
    }

    // Not in the handler of the exception, which holds what it caught.
    void use_less_memory(int32_t count) {
        const int32_t several = at_once(count);
        std::string way;
        if (several > 1) {
            most_ = several / 2;
            workers_.reset();
            way = "going on with " + std::to_string(most_);
        } else {
            way = shrink();
        }
        if (way.empty()) {
            throw Failure(TDS_ERROR_MEMORY,
                          "out of memory, with one picture at a time as well: use "
                          "a smaller model, a smaller picture or another device");
        }
        say(TDS_LOG_WARNING, "out of memory on " + device_.str() + " with " +
                                 std::to_string(several) +
                                 (several > 1 ? " pictures" : " picture") + " at once: " + way);
    }

    static void keep(const tds_backend_job &job, std::unique_ptr<Handle> handle) {
        if (job.keep) {
            delete static_cast<Handle *>(*job.keep);
            *job.keep = handle.release();
        }
    }

    void make(const tds_backend_job *jobs, int32_t count) const {
        const Tensor pictures = run(jobs, count);
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
                keep(jobs[i], kept(picture.nan_to_num(0.0).clamp(0.0, 1.0), jobs[i]));
            }
        }
    }

    void deliver(const Tensor &picture, const tds_picture &out) const {
        if (device_.is_cuda() || out.memory == TDS_MEMORY_CUDA) {
            unpack_from_device(picture, out);
        } else {
            unpack_on_host(picture, full_, out);
        }
    }

    int32_t most_ = TDS_MAX_PENDING; // pictures at once, after what memory allowed so far
    std::unique_ptr<Workers> workers_;
};

// -------------------------------------------------------------- contract 1 --

class Contract1 : public Instance {
  public:
    explicit Contract1(const tds_backend_config &config)
        : Instance(config), no_reference_(config.model->no_reference) {}

    void traits(tds_backend_traits &traits) const override {
        Instance::traits(traits);
        traits.references = 2;
        traits.runs_without_reference = no_reference_;
    }

  private:
    void get_ready(Handle &handle) const override {
        handle.features = model_.reference(packed(handle.picture, full_).to(type_));
        handle.ready = true;
    }

    std::vector<Handle *> handles(const tds_backend_job &job) const override {
        std::vector<Handle *> out;
        for (int i = 0; i < 2; i++) {
            if (job.references[i]) {
                out.push_back(static_cast<Handle *>(job.references[i]));
            }
        }
        return out;
    }

    std::unique_ptr<Handle> kept(const Tensor &picture, const tds_backend_job &) const override {
        auto handle = std::make_unique<Handle>();
        handle->features = model_.reference(picture.to(type_));
        handle->ready = true;
        return handle;
    }

    // One input for a whole batch, tensor by tensor.
    static Features joined(const std::vector<Features> &all) {
        Features out = all[0];
        for (size_t t = 0; all.size() > 1 && t < out.size(); t++) {
            std::vector<Tensor> parts;
            for (const Features &features : all) {
                parts.push_back(features.at(t));
            }
            out[t] = at::cat(parts);
        }
        return out;
    }

    Tensor run(const tds_backend_job *jobs, int32_t count) const override {
        std::vector<Tensor> targets;
        std::vector<Features> first;
        std::vector<Features> last;
        Tensor side = at::empty({count, 5}, at::kFloat);
        for (int32_t i = 0; i < count; i++) {
            const tds_backend_job &job = jobs[i];
            targets.push_back(packed(*job.target, low_).to(type_));
            const auto *a = static_cast<const Handle *>(job.references[job.references[0] ? 0 : 1]);
            const auto *b = static_cast<const Handle *>(job.references[job.references[1] ? 1 : 0]);
            const float facts[5] = {
                job.references[0] ? 1.0F : 0.0F, job.references[1] ? 1.0F : 0.0F, job.position,
                static_cast<float>(config_.hr_qp), static_cast<float>(config_.lr_qp)};
            std::memcpy(side.data_ptr<float>() + static_cast<ptrdiff_t>(i) * 5, facts,
                        sizeof(facts));
            if (a) {
                first.push_back(a->features);
                last.push_back(b->features);
            } else {
                first.push_back(
                    model_.reference(upsampled(targets.back(), config_.scale, config_.bit_depth)));
                last.push_back(first.back());
            }
        }
        return model_.between(joined(first), count > 1 ? at::cat(targets) : targets[0],
                              joined(last), side.to(device_, type_));
    }

    int32_t no_reference_;
};

// -------------------------------------------------------------- contract 2 --

class Contract2 : public Instance {
  public:
    explicit Contract2(const tds_backend_config &config)
        : Instance(config), references_(config.model->references), align_(config.model->alignment),
          halo_(rounded_up(config.model->halo, align_)) {}

    void traits(tds_backend_traits &traits) const override {
        Instance::traits(traits);
        traits.references = references_;
        traits.prepares_targets = 1;
        traits.runs_without_reference = 1;
    }

  private:
    void get_ready(Handle &handle) const override {
        if (!handle.packed.defined()) {
            handle.packed = at_full_size(handle.picture, handle.facts.scale);
        }
        if (tile_ == 0) {
            handle.features = features(handle.packed, handle.facts);
        }
        handle.ready = true;
    }

    Tensor at_full_size(const tds_picture &picture, int32_t scale) const {
        if (scale == 1) {
            return packed(picture, full_);
        }
        const Sizes low{picture.width, picture.height, picture.width, picture.height};
        return fitted(upsampled(packed(picture, low), scale, config_.bit_depth), full_);
    }

    Features features(const Tensor &picture, const tds_backend_facts &facts) const {
        const float row[4] = {static_cast<float>(facts.scale), facts.enhanced ? 1.0F : 0.0F,
                              static_cast<float>(facts.qp), static_cast<float>(facts.type)};
        Tensor side = at::empty({1, 4}, at::kFloat);
        std::memcpy(side.data_ptr<float>(), row, sizeof(row));
        return model_.features(picture, side.to(device_));
    }

    std::vector<Handle *> handles(const tds_backend_job &job) const override {
        std::vector<Handle *> out{static_cast<Handle *>(job.handle)};
        for (int32_t r = 0; r < references_; r++) {
            if (job.references[r]) {
                out.push_back(static_cast<Handle *>(job.references[r]));
            }
        }
        return out;
    }

    std::unique_ptr<Handle> kept(const Tensor &picture, const tds_backend_job &job) const override {
        auto handle = std::make_unique<Handle>();
        handle->packed = picture.to(at::kFloat);
        handle->facts = {1, 1, static_cast<int32_t>(job.side[0][4]),
                         static_cast<int32_t>(job.side[0][5])};
        get_ready(*handle);
        return handle;
    }

    // The target, or what slot r shows: the target too where nothing is present.
    static const Handle &shown(const tds_backend_job &job, int32_t r) {
        const void *handle = r >= 0 && job.references[r] ? job.references[r] : job.handle;
        return *static_cast<const Handle *>(handle);
    }

    static Tensor pictures(const tds_backend_job *jobs, int32_t count, int32_t r) {
        std::vector<Tensor> parts;
        for (int32_t i = 0; i < count; i++) {
            parts.push_back(shown(jobs[i], r).packed);
        }
        return count > 1 ? at::cat(parts) : parts[0];
    }

    static Features features(const tds_backend_job *jobs, int32_t count, int32_t r) {
        Features out = shown(jobs[0], r).features;
        for (size_t t = 0; count > 1 && t < out.size(); t++) {
            std::vector<Tensor> parts;
            for (int32_t i = 0; i < count; i++) {
                parts.push_back(shown(jobs[i], r).features.at(t));
            }
            out[t] = at::cat(parts);
        }
        return out;
    }

    Tensor run(const tds_backend_job *jobs, int32_t count) const override {
        const int64_t rows = 1 + references_;
        Tensor side = at::empty({count, rows, TDS_BACKEND_FACTS}, at::kFloat);
        const auto numbers = static_cast<size_t>(rows * TDS_BACKEND_FACTS);
        for (int32_t i = 0; i < count; i++) {
            std::memcpy(side.data_ptr<float>() + static_cast<size_t>(i) * numbers, jobs[i].side,
                        numbers * sizeof(float));
        }
        side = side.to(device_);
        if (tile_ > 0) {
            std::vector<Tensor> made;
            for (int32_t i = 0; i < count; i++) {
                made.push_back(by_tiles(jobs[i], side.slice(0, i, i + 1)));
            }
            return at::cat(made);
        }
        std::vector<Tensor> references;
        std::vector<Features> reference_features;
        for (int32_t r = 0; r < references_; r++) {
            references.push_back(pictures(jobs, count, r));
            reference_features.push_back(features(jobs, count, r));
        }
        return model_.enhance(pictures(jobs, count, -1), features(jobs, count, -1), references,
                              reference_features, side);
    }

    // A tile at a time, from pictures alone, with as much around it as changes its samples.
    Tensor by_tiles(const tds_backend_job &job, const Tensor &side) const {
        const int64_t height = full_.padded_height;
        const int64_t width = full_.padded_width;
        Tensor out =
            at::empty({1, 6, height / 2, width / 2}, at::device(device_).dtype(at::kFloat));
        const auto cut = [](const Tensor &picture, int64_t y, int64_t y_end, int64_t x,
                            int64_t x_end) {
            return picture.slice(2, y / 2, y_end / 2).slice(3, x / 2, x_end / 2);
        };
        for (int64_t y = 0; y < height; y += tile_) {
            for (int64_t x = 0; x < width; x += tile_) {
                const int64_t y_end = std::min(y + tile_, height);
                const int64_t x_end = std::min(x + tile_, width);
                const int64_t top = std::max<int64_t>(y - halo_, 0);
                const int64_t left = std::max<int64_t>(x - halo_, 0);
                std::vector<Tensor> seen;
                for (int32_t r = -1; r < references_; r++) {
                    seen.push_back(cut(shown(job, r).packed, top, std::min(y_end + halo_, height),
                                       left, std::min(x_end + halo_, width)));
                }
                const Tensor made = model_.whole(at::stack(seen, 1), side);
                cut(out, y, y_end, x, x_end)
                    .copy_(cut(made, y - top, y_end - top, x - left, x_end - left));
            }
        }
        return out;
    }

    // Half as large a tile, down to some blocks: below that it is the halo that needs memory.
    std::string shrink() override {
        const int64_t before =
            tile_ > 0 ? tile_ : std::max(full_.padded_width, full_.padded_height);
        const int64_t tile = rounded_up(before / 2, align_);
        if (tile >= before || tile < 64) {
            return "";
        }
        tile_ = tile;
        return "going on in tiles of " + std::to_string(tile) + "x" + std::to_string(tile);
    }

    int32_t references_;
    int64_t align_, halo_;
    int64_t tile_ = 0; // luma samples a side; 0: whole pictures
};

// ----------------------------------------------------------------- table --

tds_result devices(char *buffer, size_t size, tds_backend_error *error) {
    return guarded(error, [&] { std::snprintf(buffer, size, "%s", device_names().c_str()); });
}

tds_result open(const tds_backend_config *config, void **instance, tds_backend_traits *traits,
                tds_backend_error *error) {
    return guarded(error, [&] {
        if (!config->model) {
            throw Failure(TDS_ERROR_INVALID, "the torchscript backend needs a model");
        }
        std::unique_ptr<Instance> backend;
        if (config->model->contract == 1) {
            backend = std::make_unique<Contract1>(*config);
        } else {
            backend = std::make_unique<Contract2>(*config);
        }
        backend->traits(*traits);
        *instance = backend.release();
    });
}

void close(void *instance) {
    delete static_cast<Instance *>(instance);
}

tds_result prepare(void *, const tds_picture *picture, const tds_backend_facts *facts,
                   void **handle, tds_backend_error *error) {
    return guarded(error, [&] {
        auto fresh = std::make_unique<Handle>();
        fresh->picture = *picture;
        fresh->facts = *facts;
        *handle = fresh.release();
    });
}

void drop(void *, void *handle) {
    delete static_cast<Handle *>(handle);
}

tds_result enhance(void *instance, const tds_backend_job *jobs, int32_t count,
                   tds_backend_error *error) {
    return guarded(error, [&] { static_cast<Instance *>(instance)->enhance(jobs, count); });
}

tds_result upsample(void *instance, const tds_picture *target, tds_picture *out,
                    tds_backend_error *error) {
    return guarded(error, [&] { static_cast<Instance *>(instance)->upsample(*target, *out); });
}

tds_result allocate(void *instance, tds_picture *picture, tds_backend_error *error) {
    return guarded(error, [&] { static_cast<Instance *>(instance)->allocate(*picture); });
}

tds_result copy(void *instance, const tds_picture *from, tds_picture *to,
                tds_backend_error *error) {
    return guarded(error, [&] { static_cast<Instance *>(instance)->copy(*from, *to); });
}

const tds_backend table = {TDS_BACKEND_ABI, "torchscript", devices,  open, close, prepare, drop,
                           enhance,         upsample,      allocate, copy};

} // namespace
} // namespace tds

extern "C" TDS_API const tds_backend *tds_backend_entry(void) {
    return &tds::table;
}

#ifdef TORCH_ABI_VERSION
extern "C" __attribute__((weak)) uint64_t aoti_torch_abi_version();
#endif

// Torch's C++ interface is another one in every minor version, also where no symbol is missing.
extern "C" TDS_API const char *tds_backend_misfit(void) {
#ifdef TORCH_ABI_VERSION // else torch does not say which it is
    static std::string text;
    const auto words = [](uint64_t version) {
        return std::to_string(version >> 56) + "." + std::to_string(version >> 48 & 0xFF);
    };
    const std::string built = words(TORCH_ABI_VERSION);
    const std::string here =
        aoti_torch_abi_version ? words(aoti_torch_abi_version()) : "an older one";
    if (here != built) {
        text = "torch here is " + here + ", and it was built with " + built;
        return text.c_str();
    }
#endif
    return nullptr;
}
