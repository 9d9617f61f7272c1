// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/model_file.h"

#include "session/error.h"
#include "session/json.h"
#include "session/torch_archive.h"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>

namespace tds {
namespace {

constexpr int32_t kContract = 2; // the newest of docs/model.md
constexpr int32_t kMaxOffset = 8;

[[noreturn]] void fail(const std::string &path, const std::string &what) {
    throw Error(TDS_ERROR_MODEL, "model file " + path + ": " + what);
}

[[noreturn]] void wrong_kind(const ModelFile &file, const char *key, const char *kind) {
    fail(file.path, std::string("\"") + key + "\" in its tds.json is not " + kind);
}

int32_t integer(const ModelFile &file, const char *key, const Json &value) {
    const double number = value.is_number() ? value.get<double>() : 0.5;
    if (number != std::floor(number) || std::fabs(number) > 1e6) {
        wrong_kind(file, key, "a small whole number");
    }
    return static_cast<int32_t>(number);
}

void read_string(const ModelFile &file, const Json &json, const char *key, std::string &out) {
    if (const Json *value = find(json, key)) {
        if (!value->is_string()) {
            wrong_kind(file, key, "a string");
        }
        out = value->get<std::string>();
    }
}

void read_bool(const ModelFile &file, const Json &json, const char *key, bool &out) {
    if (const Json *value = find(json, key)) {
        if (!value->is_boolean()) {
            wrong_kind(file, key, "true or false");
        }
        out = value->get<bool>();
    }
}

void read_precision(const ModelFile &file, const Json &json, const char *key, std::string &out) {
    read_string(file, json, key, out);
    if (out != "float32" && out != "float16" && out != "bfloat16") {
        fail(file.path,
             std::string("its ") + key + " is \"" + out + "\", not float32, float16 or bfloat16");
    }
}

void read_references(ModelFile &file, const Json &json) {
    const Json *slots = find(json, "references");
    if (!slots || !slots->is_array() || slots->empty() ||
        slots->size() > static_cast<size_t>(TDS_BACKEND_MAX_REFERENCES)) {
        fail(file.path, "its \"references\" is not a list of 1 to " +
                            std::to_string(TDS_BACKEND_MAX_REFERENCES) + " slots");
    }
    file.references.clear();
    for (const Json &json_slot : *slots) {
        const std::string name = json_slot.is_string() ? json_slot.get<std::string>() : "";
        Slot slot;
        if (name == "full-before" || name == "full-after") {
            slot.after = name == "full-after";
        } else if (name.size() == 2 && (name[0] == '-' || name[0] == '+') && name[1] >= '1' &&
                   name[1] <= '0' + kMaxOffset) {
            slot.offset = (name[0] == '-' ? -1 : 1) * (name[1] - '0');
        } else {
            fail(file.path, "\"references\" in its tds.json has a slot that is none of -1 to -8, "
                            "+1 to +8, full-before and full-after");
        }
        file.references.push_back(slot);
    }
}

void read_metadata(ModelFile &file) {
    Json json;
    try {
        json = parse_json(file.json);
    } catch (const std::runtime_error &error) {
        fail(file.path, std::string("its tds.json is ") + error.what());
    }
    if (!json.is_object()) {
        fail(file.path, "its tds.json is not a JSON object");
    }
    const Json *contract = find(json, "tds_model");
    if (!contract) {
        fail(file.path, "its tds.json has no \"tds_model\", the version of the model contract");
    }
    file.contract = integer(file, "tds_model", *contract);
    if (file.contract < 1 || file.contract > kContract) {
        fail(file.path, "it follows version " + std::to_string(file.contract) +
                            " of the model contract and this engine knows versions 1 to " +
                            std::to_string(kContract) + ": use a newer engine or another model");
    }
    for (const char *key : {"name", "version"}) {
        std::string &value = key[0] == 'n' ? file.name : file.version;
        read_string(file, json, key, value);
        if (value.empty()) {
            fail(file.path, std::string("its tds.json has no \"") + key + "\"");
        }
    }
    read_string(file, json, "torch", file.torch);
    const Json *scale = find(json, "scale");
    if (!scale) {
        fail(file.path, "its tds.json has no \"scale\"");
    }
    file.scale = integer(file, "scale", *scale);
    if (file.scale != 1 && file.scale != 2 && file.scale != 4) {
        fail(file.path, "its scale is " + std::to_string(file.scale) + ", not 1, 2 or 4");
    }
    if (const Json *depths = find(json, "bit_depths")) {
        if (!depths->is_array()) {
            wrong_kind(file, "bit_depths", "a list");
        }
        file.bit_depths.clear();
        for (const Json &depth : *depths) {
            file.bit_depths.push_back(integer(file, "bit_depths", depth));
        }
    }
    file.alignment = 2 * file.scale;
    if (const Json *alignment = find(json, "alignment")) {
        file.alignment = integer(file, "alignment", *alignment);
        if (file.alignment <= 0 || file.alignment > 1024 ||
            file.alignment % (2 * file.scale) != 0) {
            fail(file.path, "its alignment is " + std::to_string(file.alignment) +
                                ", not a multiple of " + std::to_string(2 * file.scale) +
                                " up to 1024");
        }
    }
    read_bool(file, json, "features", file.features);
    read_bool(file, json, "no_reference", file.no_reference);
    read_precision(file, json, "cuda_precision", file.cuda_precision);
    if (file.contract == 1) {
        return;
    }
    file.features = file.no_reference = true;
    read_precision(file, json, "cpu_precision", file.cpu_precision);
    if (const Json *halo = find(json, "halo")) {
        file.halo = integer(file, "halo", *halo);
        if (file.halo < 0 || file.halo > 4096) {
            fail(file.path, "its halo is " + std::to_string(file.halo) + ", not 0 to 4096");
        }
    }
    read_references(file, json);
    read_bool(file, json, "recurrence", file.recurrence);
    const auto &slots = file.references;
    if (file.recurrence && (file.scale == 1 || slots.size() != 2 || slots[0].offset != 0 ||
                            slots[0].after || slots[1].offset != 0 || !slots[1].after)) {
        fail(file.path, "its tds.json asks for \"recurrence\", which is for k = 2 and 4 with the "
                        "\"references\" full-before and full-after");
    }
}

} // namespace

std::vector<char> read_model_bytes(const std::string &path) {
    const std::unique_ptr<FILE, int (*)(FILE *)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    if (!file) {
        fail(path, std::string("cannot be opened: ") + std::strerror(errno));
    }
    std::vector<char> data;
    size_t used = 0;
    while (!std::feof(file.get()) && !std::ferror(file.get())) {
        data.resize(used + (used < (1 << 16) ? (1 << 16) : used));
        used += std::fread(data.data() + used, 1, data.size() - used, file.get());
    }
    if (std::ferror(file.get())) { // a folder opens, and fails here
        fail(path, std::string("cannot be read: ") + std::strerror(errno));
    }
    data.resize(used);
    return data;
}

ModelFile parse_model(const std::string &path, std::vector<char> data) {
    ModelFile file;
    file.path = path;
    file.data = std::move(data);
    try {
        const TorchArchive archive({file.data.data(), file.data.size()});
        const Zip::Entry *entry = archive.find("extra/tds.json");
        if (!entry) {
            throw std::runtime_error("a TorchScript archive without tds.json inside, so not a TDS "
                                     "model: save it with _extra_files={\"tds.json\": ...}");
        }
        archive.check();
        read(*entry, file.json);
    } catch (const std::runtime_error &error) {
        fail(path, error.what());
    }
    read_metadata(file);
    return file;
}

} // namespace tds
