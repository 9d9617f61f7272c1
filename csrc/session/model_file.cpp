// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/model_file.h"

#include "session/error.h"
#include "session/json.h"

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

// ----------------------------------------------------------------- zip --
//
// A TorchScript archive is a zip file (APPNOTE.TXT, PKWARE) whose entries are
// stored, not compressed, mostly with 64-bit records. Only its directory is
// needed here.

class Zip {
  public:
    struct Entry {
        std::string name;
        uint16_t method;
        uint64_t size, offset;
    };

    // False when `data` is no zip archive that can be read.
    bool open(const std::vector<char> &data) {
        data_ = reinterpret_cast<const uint8_t *>(data.data());
        size_ = data.size();
        constexpr uint64_t end_size = 22;
        if (size_ < end_size) {
            return false;
        }
        // The end record is last, before a comment of at most 65535 bytes.
        uint64_t end = size_ - end_size;
        const uint64_t stop = end > 65535 ? end - 65535 : 0;
        while (number(end, 4) != 0x06054b50) {
            if (end == stop) {
                return false;
            }
            end--;
        }
        uint64_t count = number(end + 10, 2);
        uint64_t at = number(end + 16, 4);
        if (end >= 20 && number(end - 20, 4) == 0x07064b50) {
            const uint64_t end64 = number(end - 20 + 8, 8);
            if (!fits(end64, 56) || number(end64, 4) != 0x06064b50) {
                return false;
            }
            count = number(end64 + 32, 8);
            at = number(end64 + 48, 8);
        }
        for (uint64_t i = 0; i < count; i++) {
            if (!fits(at, 46) || number(at, 4) != 0x02014b50) {
                return false;
            }
            Entry entry;
            entry.method = static_cast<uint16_t>(number(at + 10, 2));
            uint64_t packed = number(at + 20, 4);
            entry.size = number(at + 24, 4);
            const uint64_t name = number(at + 28, 2);
            const uint64_t extra = number(at + 30, 2);
            const uint64_t comment = number(at + 32, 2);
            entry.offset = number(at + 42, 4);
            if (!fits(at, 46 + name + extra + comment)) {
                return false;
            }
            entry.name.assign(reinterpret_cast<const char *>(data_ + at + 46), name);
            wide(at + 46 + name, extra, entry, packed);
            entries_.push_back(entry);
            at += 46 + name + extra + comment;
        }
        return true;
    }

    // The entry FOLDER/`suffix`, where FOLDER is the archive's own single folder.
    const Entry *find(const std::string &suffix) const {
        for (const Entry &entry : entries_) {
            const size_t slash = entry.name.find('/');
            if (slash != std::string::npos &&
                entry.name.compare(slash + 1, std::string::npos, suffix) == 0) {
                return &entry;
            }
        }
        return nullptr;
    }

    bool has_folder(const std::string &folder) const {
        for (const Entry &entry : entries_) {
            const size_t slash = entry.name.find('/');
            if (slash != std::string::npos &&
                entry.name.compare(slash + 1, folder.size(), folder) == 0) {
                return true;
            }
        }
        return false;
    }

    bool read(const Entry &entry, std::string &out) const {
        if (entry.method != 0 || !fits(entry.offset, 30) || number(entry.offset, 4) != 0x04034b50) {
            return false;
        }
        const uint64_t begin =
            entry.offset + 30 + number(entry.offset + 26, 2) + number(entry.offset + 28, 2);
        if (!fits(begin, entry.size)) {
            return false;
        }
        out.assign(reinterpret_cast<const char *>(data_ + begin), entry.size);
        return true;
    }

  private:
    bool fits(uint64_t at, uint64_t size) const { return at <= size_ && size <= size_ - at; }

    uint64_t number(uint64_t at, int bytes) const {
        uint64_t value = 0;
        for (int i = bytes - 1; i >= 0; i--) {
            value = value << 8 | data_[at + static_cast<uint64_t>(i)];
        }
        return value;
    }

    // The 64-bit values of the extra field 0x0001 stand in for those that are all ones.
    void wide(uint64_t at, uint64_t size, Entry &entry, uint64_t packed) const {
        const uint64_t end = at + size;
        while (at + 4 <= end) {
            const uint64_t id = number(at, 2);
            const uint64_t length = number(at + 2, 2);
            uint64_t field = at + 4;
            at += 4 + length;
            if (id != 1 || at > end) {
                continue;
            }
            for (uint64_t *value : {&entry.size, &packed, &entry.offset}) {
                if (*value == 0xffffffff && field + 8 <= at) {
                    *value = number(field, 8);
                    field += 8;
                }
            }
        }
    }

    const uint8_t *data_ = nullptr;
    uint64_t size_ = 0;
    std::vector<Entry> entries_;
};

// ------------------------------------------------------------ metadata --

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
        data.resize(used + (used < (1 << 20) ? (1 << 20) : used));
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
    Zip zip;
    if (!zip.open(file.data) || !zip.find("constants.pkl") || !zip.has_folder("code/")) {
        fail(path, "not a TorchScript archive, or a damaged one: export the model with "
                   "torch.jit.save");
    }
    const Zip::Entry *entry = zip.find("extra/tds.json");
    if (!entry) {
        fail(path, "a TorchScript archive without tds.json inside, so not a TDS model: save it "
                   "with _extra_files={\"tds.json\": ...}");
    }
    if (!zip.read(*entry, file.json)) {
        fail(path, "its tds.json cannot be read: the file is damaged");
    }
    read_metadata(file);
    return file;
}

} // namespace tds
