// SPDX-License-Identifier: LGPL-2.1-or-later
#include "backends/bicubic/bicubic.h"

#include "backends/bicubic/upsample.h"
#include "backends/bicubic/workers.h"
#include "backends/cpus.h"
#include "session/error.h"
#include "session/picture.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

namespace tds {
namespace {

// Rows a thread gets at least: below it, waking one costs more than it saves.
constexpr int32_t kSlice = 64;

struct Bicubic {
    explicit Bicubic(const tds_backend_config &config)
        : scale(config.scale), workers(threads(config)) {}

    static int threads(const tds_backend_config &config) {
        // More than a few threads wait for memory, not for the processor.
        const int wanted = config.threads > 0 ? config.threads : std::min(usable_cpus(), 8);
        return std::min(wanted, std::max(1, config.height / kSlice));
    }

    void upsample(const tds_picture &target, tds_picture &out) {
        if (scale == 1) {
            copy_host(target, out);
            return;
        }
        // Interleaved chroma goes through planes of our own.
        const tds_picture in = planar(target, true);
        const std::unique_ptr<Frame> in_owner = owner(in, target);
        tds_picture to = planar(out, false);
        const std::unique_ptr<Frame> to_owner = owner(to, out);

        Plane planes[3];
        for (int i = 0; i < 3; i++) {
            const int shift = i == 0 ? 0 : 1;
            planes[i] = {in.data[i], in.stride[i], in.width >> shift, in.height >> shift,
                         to.data[i], to.stride[i], to.width >> shift, to.height >> shift,
                         scale,      in.bit_depth};
        }
        struct Part {
            const Plane *plane;
            int32_t from, to;
        };
        std::vector<Part> parts;
        const int32_t slice =
            workers.threads() == 1 ? out.height : (out.height / workers.threads() + 2) / 2 * 2;
        for (const Plane &plane : planes) {
            for (int32_t y = 0; y < plane.out_height; y += slice) {
                parts.push_back({&plane, y, std::min(y + slice, plane.out_height)});
            }
        }
        workers.run(static_cast<int>(parts.size()), [&](int i) {
            const Part &part = parts[static_cast<size_t>(i)];
            upsample_rows(*part.plane, part.from, part.to);
        });
        if (to_owner) {
            copy_host(to, out);
        }
    }

    int32_t scale;
    Workers workers;
    Pool pool;

  private:
    tds_picture planar(const tds_picture &picture, bool fill) {
        tds_picture out = picture;
        if (picture.layout != TDS_LAYOUT_PLANAR) {
            out.layout = TDS_LAYOUT_PLANAR;
            pool.allocate(out);
            if (fill) {
                copy_host(picture, out);
            }
        }
        return out;
    }
    static std::unique_ptr<Frame> owner(const tds_picture &made, const tds_picture &given) {
        return made.layout == given.layout ? nullptr : std::make_unique<Frame>(made);
    }
};

template <typename Function> tds_result guarded(tds_backend_error *error, Function function) {
    try {
        function();
        return TDS_OK;
    } catch (const Error &e) {
        std::snprintf(error->text, sizeof(error->text), "%s", e.what());
        return e.code();
    } catch (const std::bad_alloc &) {
        std::snprintf(error->text, sizeof(error->text), "out of memory");
        return TDS_ERROR_MEMORY;
    }
}

tds_result devices(char *buffer, size_t size, tds_backend_error *) {
    std::snprintf(buffer, size, "cpu");
    return TDS_OK;
}

tds_result open(const tds_backend_config *config, void **instance, tds_backend_traits *traits,
                tds_backend_error *error) {
    return guarded(error, [&] {
        const std::string device = config->device;
        if (device != "auto" && device != "cpu") {
            throw Error(TDS_ERROR_DEVICE,
                        "the bicubic backend runs on the CPU only, not on \"" + device + "\"");
        }
        *instance = new Bicubic(*config);
        traits->max_batch = 1;
        std::snprintf(traits->device, sizeof(traits->device), "cpu");
        std::snprintf(traits->precision, sizeof(traits->precision), "integer");
    });
}

void close(void *instance) {
    delete static_cast<Bicubic *>(instance);
}

tds_result upsample(void *instance, const tds_picture *target, tds_picture *out,
                    tds_backend_error *error) {
    return guarded(error, [&] { static_cast<Bicubic *>(instance)->upsample(*target, *out); });
}

tds_result enhance(void *instance, const tds_backend_job *jobs, int32_t count,
                   tds_backend_error *error) {
    for (int32_t i = 0; i < count; i++) {
        const tds_result result = upsample(instance, jobs[i].target, jobs[i].out, error);
        if (result != TDS_OK) {
            return result;
        }
    }
    return TDS_OK;
}

const tds_backend backend = {TDS_BACKEND_ABI, "bicubic", devices,  open,    close,  nullptr,
                             nullptr,         enhance,   upsample, nullptr, nullptr};

} // namespace
} // namespace tds

const tds_backend *tds_bicubic_backend(void) {
    return &tds::backend;
}
