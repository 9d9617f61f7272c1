// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/opening.h"

#include "session/backend_loader.h"
#include "session/error.h"
#include "session/picture.h"
#include "session/sha256.h"

#include <algorithm>
#include <cstring>
#include <iterator>

namespace tds {
namespace {

bool one_of(const std::string &value, std::initializer_list<const char *> names) {
    return std::any_of(names.begin(), names.end(), [&](const char *n) { return value == n; });
}

bool is_cuda(const std::string &device) {
    if (device == "cuda") {
        return true;
    }
    return device.size() > 5 && device.size() < 9 && device.compare(0, 5, "cuda:") == 0 &&
           device.find_first_not_of("0123456789", 5) == std::string::npos;
}

void check_range(const char *what, int32_t value, int32_t low, int32_t high) {
    if (value < low || value > high) {
        invalid(std::string(what) + " is " + std::to_string(value) + ", not " +
                std::to_string(low) + " to " + std::to_string(high));
    }
}

void check_hash(const char *what, const char *value) {
    const std::string hash = value ? value : std::string(64, '0');
    if (hash.size() != 64 ||
        hash.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
        invalid(std::string(what) + " is \"" + hash + "\", not 64 hexadecimal digits");
    }
}

void check_kind(const tds_settings &s) {
    if (s.kind != TDS_KIND_PAIR && s.kind != TDS_KIND_PLAIN) {
        invalid("kind is neither TDS_KIND_PAIR nor TDS_KIND_PLAIN");
    }
    if (s.kind == TDS_KIND_PLAIN && s.scale != 1) {
        invalid("a plain session has scale 1, not " + std::to_string(s.scale));
    }
    if (s.kind == TDS_KIND_PLAIN && s.hr_model) {
        invalid("a plain session has no HR pictures for hr_model: name its model with model");
    }
}

void check_model(const ModelFile &file, const tds_settings &s, bool full, int32_t scale) {
    const auto fail = [&](const std::string &what) {
        throw Error(TDS_ERROR_MODEL, "model file " + file.path + ": " + what);
    };
    if (full && file.contract == 1) {
        fail("it follows version 1 of the model contract, whose models make LR pictures; " +
             std::string(s.kind == TDS_KIND_PLAIN ? "a plain stream needs"
                                                  : "HR pictures are refined by") +
             " one of version 2 for k = 1 (NAME-k1)");
    }
    if (file.scale != scale) {
        const std::string k = std::to_string(scale);
        fail("it is for k = " + std::to_string(file.scale) + " and " +
             (full ? "full-size pictures have" : "this video has") + " k = " + k +
             ": name a model for that k (NAME-k" + k + ")");
    }
    if (file.contract == 1 && s.strength > 0.0F && s.strength < 1.0F) {
        fail("it follows version 1 of the model contract, which knows strengths 0 and 1 only");
    }
}

} // namespace

void check_settings(const tds_settings &s) {
    if (s.reserved_chroma != 0 || std::any_of(std::begin(s.reserved), std::end(s.reserved),
                                              [](uint64_t v) { return v != 0; })) {
        invalid("reserved fields of the settings are set: start with tds_default_settings()");
    }
    check_range("width", s.width, TDS_MIN_SIZE, TDS_MAX_SIZE);
    check_range("height", s.height, TDS_MIN_SIZE, TDS_MAX_SIZE);
    if (s.width % 2 != 0 || s.height % 2 != 0) {
        invalid("the size " + std::to_string(s.width) + "x" + std::to_string(s.height) +
                " is odd: 4:2:0 pictures need an even width and height");
    }
    if (s.scale != 1 && s.scale != 2 && s.scale != 4) {
        invalid("scale is " + std::to_string(s.scale) + ", not 1, 2 or 4");
    }
    if (s.bit_depth != 8 && s.bit_depth != 10) {
        invalid("bit_depth is " + std::to_string(s.bit_depth) + ", not 8 or 10");
    }
    check_range("threads", s.threads, 0, TDS_MAX_THREADS);
    check_range("max_group", s.max_group, 1, TDS_MAX_PENDING - 1);
    check_range("max_batch", s.max_batch, 1, TDS_MAX_PENDING);
    check_range("hr_qp", s.hr_qp, -1, TDS_MAX_QP);
    check_range("lr_qp", s.lr_qp, -1, TDS_MAX_QP);
    if (!(s.strength >= 0.0F && s.strength <= 1.0F)) {
        invalid("strength is " + std::to_string(s.strength) + ", not 0 to 1");
    }
    const std::string precision = s.precision ? s.precision : "auto";
    if (!one_of(precision, {"auto", "float32", "float16", "bfloat16"})) {
        invalid("precision is \"" + precision + "\", not auto, float32, float16 or bfloat16");
    }
    const std::string device = s.device ? s.device : "auto";
    if (!one_of(device, {"auto", "cpu"}) && !is_cuda(device)) {
        invalid("device is \"" + device + "\", not auto, cpu, cuda or cuda:N");
    }
    if (s.output_memory != TDS_MEMORY_HOST && s.output_memory != TDS_MEMORY_CUDA) {
        invalid("output_memory is neither TDS_MEMORY_HOST nor TDS_MEMORY_CUDA");
    }
    if (s.output_layout != TDS_LAYOUT_PLANAR && s.output_layout != TDS_LAYOUT_SEMIPLANAR) {
        invalid("output_layout is neither TDS_LAYOUT_PLANAR nor TDS_LAYOUT_SEMIPLANAR");
    }
    if (s.chroma != TDS_CHROMA_420 && s.chroma != TDS_CHROMA_422 && s.chroma != TDS_CHROMA_444) {
        invalid("chroma is " + std::to_string(static_cast<int>(s.chroma)) +
                ", not TDS_CHROMA_420, TDS_CHROMA_422 or TDS_CHROMA_444");
    }
    if (s.chroma != TDS_CHROMA_420 &&
        (s.output_memory != TDS_MEMORY_HOST || s.output_layout != TDS_LAYOUT_PLANAR)) {
        throw Error(TDS_ERROR_UNSUPPORTED,
                    std::string(chroma_name(s.chroma)) +
                        " pictures are made in host memory and planar, not elsewhere");
    }
    check_hash("model_sha256", s.model_sha256);
    check_hash("hr_model_sha256", s.hr_model_sha256);
    check_kind(s);
}

Opened open_model(const tds_settings &settings, bool full) {
    const bool hr = full && settings.kind == TDS_KIND_PAIR;
    const char *model_path = hr ? settings.hr_model : settings.model;
    const char *sha256 = hr ? settings.hr_model_sha256 : settings.model_sha256;
    const int32_t scale = full ? 1 : settings.scale;
    std::string backend = settings.backend ? settings.backend : "auto";
    if (backend == "auto") {
        backend = model_path ? "torchscript" : "bicubic";
        if (model_path && !full) {
            try {
                find_backend(backend);
            } catch (const Error &error) { // a build or a machine without torch
                const std::string text =
                    std::string(error.what()) + ": LR pictures are up-sampled by bicubic";
                settings.log(settings.log_context, TDS_LOG_WARNING, text.c_str());
                backend = "bicubic";
            }
        }
    }

    tds_backend_config config{};
    config.width = settings.width;
    config.height = settings.height;
    config.scale = scale;
    config.bit_depth = settings.bit_depth;
    config.hr_qp = settings.hr_qp;
    config.lr_qp = settings.lr_qp;
    config.device = settings.device ? settings.device : "auto";
    config.precision = settings.precision ? settings.precision : "auto";
    config.threads = settings.threads;
    config.log = settings.log;
    config.log_context = settings.log_context;

    Opened out;
    ModelFile file;
    tds_backend_model model{};
    if (backend != "bicubic") {
        if (!model_path) {
            invalid("the backend \"" + backend + "\" needs a model: set the model file");
        }
        std::vector<char> data = read_model_bytes(model_path);
        out.sha256 = sha256_hex(data.data(), data.size());
        if (sha256) {
            std::string wanted = sha256;
            std::transform(wanted.begin(), wanted.end(), wanted.begin(), [](char c) {
                return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
            });
            if (wanted != out.sha256) {
                throw Error(TDS_ERROR_MODEL,
                            std::string("model file ") + model_path + ": its sha256 is " +
                                out.sha256 + ", not " + wanted +
                                " as asked for: fetch the file again, or name the right one");
            }
        }
        file = parse_model(model_path, std::move(data));
        check_model(file, settings, full, scale);
        if (std::find(file.bit_depths.begin(), file.bit_depths.end(), settings.bit_depth) ==
            file.bit_depths.end()) {
            const std::string text = "model " + file.name + " was not trained for " +
                                     std::to_string(settings.bit_depth) +
                                     "-bit video: it runs, and may gain less";
            settings.log(settings.log_context, TDS_LOG_WARNING, text.c_str());
        }
        out.name = file.name;
        out.contract = file.contract;
        out.references = file.references;
        out.recurrence = file.recurrence;
        model.path = file.path.c_str();
        model.data = file.data.data();
        model.size = file.data.size();
        model.torch = file.torch.c_str();
        model.contract = file.contract;
        model.alignment = file.alignment;
        model.references = static_cast<int32_t>(file.references.size());
        model.halo = file.halo;
        model.features = file.features ? 1 : 0;
        model.no_reference = file.no_reference ? 1 : 0;
        model.cuda_precision = file.cuda_precision.c_str();
        model.cpu_precision = file.cpu_precision.c_str();
        config.model = &model;
    }
    out.engine = std::make_unique<Engine>(find_backend(backend), config);
    if (settings.output_memory == TDS_MEMORY_CUDA &&
        std::strncmp(out.engine->traits().device, "cuda", 4) != 0) {
        throw Error(TDS_ERROR_UNSUPPORTED, std::string("outputs in CUDA memory need a backend on a "
                                                       "CUDA device, and ") +
                                               out.engine->name() + " runs on " +
                                               out.engine->traits().device);
    }
    return out;
}

} // namespace tds
