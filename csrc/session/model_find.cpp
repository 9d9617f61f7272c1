// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Finds an exported model by name: the C side of python/tds/models/registry.py, for programs that
// have no Python. Weights (.safetensors) are not usable here; only archives are.
#include "session/model_find.h"

#include "session/backend_loader.h"
#include "session/error.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

namespace tds {
namespace {

namespace fs = std::filesystem;

const char *variable(const char *name) {
    const char *value = std::getenv(name);
    return value && *value ? value : nullptr;
}

std::vector<fs::path> search_path() {
    std::vector<fs::path> folders;
    if (const char *path = variable("TDS_MODEL_PATH")) {
        std::string rest = path;
        while (!rest.empty()) {
            const size_t colon = rest.find(':');
            if (colon != 0) {
                folders.emplace_back(rest.substr(0, colon));
            }
            rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
        }
    }
    folders.push_back(
        (fs::path(library_folder()) / ".." / "share" / "tds" / "models").lexically_normal());
    fs::path cache;
    if (const char *own = variable("TDS_CACHE")) {
        cache = own;
    } else if (const char *base = variable("XDG_CACHE_HOME")) {
        cache = fs::path(base) / "tds";
    } else if (const char *home = variable("HOME")) {
        cache = fs::path(home) / ".cache" / "tds";
    }
    if (!cache.empty()) {
        folders.push_back(cache / "models");
        folders.push_back(cache / "exported"); // what Python has exported from weights
    }
    return folders;
}

bool ends_with(const std::string &text, const std::string &end) {
    return text.size() >= end.size() &&
           text.compare(text.size() - end.size(), end.size(), end) == 0;
}

struct Archive {
    std::string name;
    fs::path path;
    fs::file_time_type time;
};

// The archives for k in a folder: NAME-kK.pt, or NAME-kK-HASH.pt in the cache; the newest first
// where one name has several.
std::vector<Archive> archives_in(const fs::path &folder, const std::string &scale) {
    std::vector<Archive> found;
    std::error_code error;
    for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
        const std::string file = at->path().filename().string();
        if (!ends_with(file, ".pt")) {
            continue;
        }
        const std::string stem = file.substr(0, file.size() - 3);
        const size_t mark = stem.rfind(scale);
        if (mark == std::string::npos || mark == 0) {
            continue;
        }
        const size_t after = mark + scale.size();
        std::error_code ignored;
        if (after == stem.size() || stem[after] == '-') {
            found.push_back({stem.substr(0, mark), at->path(), at->last_write_time(ignored)});
        }
    }
    std::sort(found.begin(), found.end(), [](const Archive &a, const Archive &b) {
        return a.name != b.name ? a.name < b.name : a.time > b.time;
    });
    return found;
}

bool uses_cuda(const std::string &device) {
    if (device != "auto") {
        return device.compare(0, 4, "cuda") == 0;
    }
    char devices[256] = "";
    tds_backend_error error{};
    try {
        const tds_backend &backend = find_backend("torchscript");
        return backend.devices(devices, sizeof(devices), &error) == TDS_OK &&
               std::string(devices).find("cuda") != std::string::npos;
    } catch (const Error &) {
        return false; // no torch: opening the session will say so
    }
}

} // namespace

std::string find_model(const char *name, int32_t scale, const char *device) {
    if (scale != 1 && scale != 2 && scale != 4) {
        invalid("no model is for k = " + std::to_string(scale) + ": k is 1, 2 or 4");
    }
    std::string wanted = name ? name : "";
    if (wanted.find('/') != std::string::npos || ends_with(wanted, ".pt") ||
        ends_with(wanted, ".ts") || ends_with(wanted, ".safetensors")) {
        std::error_code error;
        if (!fs::is_regular_file(wanted, error)) {
            throw Error(TDS_ERROR_MODEL, wanted + ": there is no such model file");
        }
        if (ends_with(wanted, ".safetensors")) {
            throw Error(TDS_ERROR_MODEL,
                        wanted + " holds weights, which only Python reads; make an archive of it "
                                 "with: tds export");
        }
        return wanted;
    }

    const std::string mark = "-k" + std::to_string(scale);
    std::vector<Archive> there; // of several with one name the first on the path
    std::string weights, places;
    for (const fs::path &folder : search_path()) {
        places += (places.empty() ? "" : ", ") + folder.string();
        for (Archive &archive : archives_in(folder, mark)) {
            if (std::none_of(there.begin(), there.end(),
                             [&](const Archive &a) { return a.name == archive.name; })) {
                there.push_back(std::move(archive));
            }
        }
        std::error_code error;
        const fs::path file = folder / (wanted + mark + ".safetensors");
        if (!wanted.empty() && weights.empty() && fs::is_regular_file(file, error)) {
            weights = file.string();
        }
    }

    std::vector<std::string> names{wanted};
    if (!name) {
        names = {"fast", "standard"};
        if (!there.empty() && uses_cuda(device ? device : "auto")) {
            std::reverse(names.begin(), names.end());
        }
    }
    for (const std::string &candidate : names) {
        for (const Archive &archive : there) {
            if (archive.name == candidate) {
                return archive.path.string();
            }
        }
    }
    if (!weights.empty()) {
        throw Error(TDS_ERROR_MODEL, "of the model \"" + wanted + "\" there are only weights, " +
                                         weights +
                                         ", which only Python reads; make an archive of them "
                                         "with: tds export");
    }
    std::string names_there;
    for (const Archive &archive : there) {
        names_there += (names_there.empty() ? "" : ", ") + archive.name;
    }
    throw Error(TDS_ERROR_MODEL,
                (name ? "there is no model \"" + wanted + "\" for k = "
                      : std::string("no model is installed for k = ")) +
                    std::to_string(scale) + " (searched: " + places +
                    (names_there.empty() ? "" : "; there is: " + names_there) +
                    "); name a file, or put NAME" + mark +
                    ".pt, as tds export makes it, into one of these or into a folder of "
                    "TDS_MODEL_PATH");
}

} // namespace tds
