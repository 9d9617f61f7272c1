// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tag/models.h"

#include "session/backend_loader.h"
#include "session/error.h"
#include "session/json.h"
#include "session/model_file.h"
#include "session/sha256.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <system_error>
#include <vector>

namespace tds {
namespace {

namespace fs = std::filesystem;

const char *variable(const char *name) {
    const char *value = std::getenv(name);
    return value && *value ? value : nullptr;
}

void add_folders(std::vector<fs::path> &folders, const char *path) {
    std::string rest = path ? path : "";
    while (!rest.empty()) {
        const size_t colon = rest.find(':');
        if (colon != 0) {
            folders.emplace_back(rest.substr(0, colon));
        }
        rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
    }
}

fs::path cache_folder() {
    if (const char *own = variable("TDS_CACHE")) {
        return own;
    }
    if (const char *base = variable("XDG_CACHE_HOME")) {
        return fs::path(base) / "tds";
    }
    const char *home = variable("HOME");
    return home ? fs::path(home) / ".cache" / "tds" : fs::path();
}

bool ends_with(const std::string &text, const std::string &end) {
    return text.size() >= end.size() &&
           text.compare(text.size() - end.size(), end.size(), end) == 0;
}

bool is_file(const fs::path &path) {
    std::error_code error;
    return fs::is_regular_file(path, error);
}

bool is_weights(const fs::path &path) {
    return path.extension() == ".safetensors";
}

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

std::string hash_of(const fs::path &path) {
    const std::vector<char> data = read_model_bytes(path.string());
    return sha256_hex(data.data(), data.size());
}

// The newest file of a folder whose name begins and ends so.
std::optional<fs::path> newest(const fs::path &folder, const std::string &begin,
                               const std::string &end) {
    std::optional<fs::path> found;
    fs::file_time_type time;
    std::error_code error;
    for (fs::directory_iterator at(folder, error), stop; !error && at != stop;
         at.increment(error)) {
        const std::string file = at->path().filename().string();
        std::error_code ignored;
        if (file.size() >= begin.size() + end.size() && file.compare(0, begin.size(), begin) == 0 &&
            ends_with(file, end)) {
            const fs::file_time_type when = at->last_write_time(ignored);
            if (!found || when > time) {
                found = at->path();
                time = when;
            }
        }
    }
    return found;
}

// Finds the models for one k.
class Finder {
  public:
    Finder(const tds_model_request &request, int32_t scale)
        : mark_("-k" + std::to_string(scale)), scale_(scale), weights_(request.weights != 0) {
        add_folders(folders_, variable("TDS_MODEL_PATH"));
        add_folders(folders_, request.folders);
        folders_.push_back(
            (fs::path(library_folder()) / ".." / "share" / "tds" / "models").lexically_normal());
        if (const fs::path cache = cache_folder(); !cache.empty()) {
            folders_.push_back(cache / "models");
            exported_ = cache / "exported";
        }
    }

    // The file of a name; nothing when there is none that this caller can use.
    std::optional<fs::path> find(const std::string &name) const {
        for (const fs::path &folder : folders_) {
            fs::path weights = folder / (name + mark_ + ".safetensors");
            if (is_file(weights)) {
                if (weights_) {
                    return weights;
                }
                // What Python has exported of just these; in `other` whatever is not its own.
                const std::string file = name + mark_ + "-" + hash_of(weights).substr(0, 16) + "-";
                for (const fs::path &place : {exported_, exported_ / "other"}) {
                    if (const auto archive = newest(place, file, ".pt")) {
                        return archive;
                    }
                }
            }
            fs::path archive = folder / (name + mark_ + ".pt");
            if (is_file(archive)) {
                return archive;
            }
        }
        // Where only Python is installed, its weights are in none of the folders.
        return weights_ ? std::nullopt : newest(exported_, name + mark_ + "-", ".pt");
    }

    // Why find() found nothing.
    [[noreturn]] void fail(const std::string &name) const {
        std::string places;
        for (const fs::path &folder : folders_) {
            const fs::path weights = folder / (name + mark_ + ".safetensors");
            if (!name.empty() && is_file(weights)) {
                throw Error(TDS_ERROR_MODEL, "of the model \"" + name +
                                                 "\" there are only weights, " + weights.string() +
                                                 ", which only Python reads; make an archive of "
                                                 "them with: tds export");
            }
            places += (places.empty() ? "" : ", ") + folder.string();
        }
        const std::string there = names();
        throw Error(TDS_ERROR_MODEL,
                    (name.empty() ? "no model is installed for k = "
                                  : "there is no model \"" + name + "\" for k = ") +
                        std::to_string(scale_) + " (searched: " + places +
                        (there.empty() ? "" : "; there is: " + there) +
                        "); name a file, or put NAME" + mark_ +
                        ".pt, as tds export makes it, into one of these or into a folder of "
                        "TDS_MODEL_PATH");
    }

    // Those that there are, with commas.
    std::string names() const {
        std::vector<std::string> all;
        const auto look = [&](const fs::path &folder, bool exported) {
            std::error_code error;
            for (fs::directory_iterator at(folder, error), stop; !error && at != stop;
                 at.increment(error)) {
                const std::string file = at->path().filename().string();
                const std::string stem = at->path().stem().string();
                const size_t place = stem.rfind(mark_);
                const bool model = ends_with(file, ".pt") || (weights_ && is_weights(at->path()));
                if (model && place != std::string::npos && place > 0 &&
                    (exported ? stem.substr(place + mark_.size(), 1) == "-"
                              : place + mark_.size() == stem.size())) {
                    all.push_back(stem.substr(0, place));
                }
            }
        };
        for (const fs::path &folder : folders_) {
            look(folder, false);
        }
        if (!weights_) {
            look(exported_, true);
        }
        std::sort(all.begin(), all.end());
        all.erase(std::unique(all.begin(), all.end()), all.end());
        std::string text;
        for (const std::string &name : all) {
            text += (text.empty() ? "" : ", ") + name;
        }
        return text;
    }

  private:
    std::string mark_;
    int32_t scale_;
    bool weights_;
    std::vector<fs::path> folders_;
    fs::path exported_;
};

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

bool is_file_name(const std::string &name) {
    return name.find('/') != std::string::npos || ends_with(name, ".pt") ||
           ends_with(name, ".pth") || ends_with(name, ".ts") || ends_with(name, ".safetensors");
}

// The hashes that may stand for a model: of its file and, of an archive, of the weights it was
// made of; and the k of an archive, 0 when it is not known here.
struct Facts {
    std::string file, weights;
    int32_t scale = 0;

    bool has(const std::string &hash) const { return hash == file || hash == weights; }
};

Facts facts_of(const fs::path &path) {
    Facts facts;
    std::vector<char> data = read_model_bytes(path.string());
    facts.file = sha256_hex(data.data(), data.size());
    if (is_weights(path)) { // whoever makes an archive of them reads what is inside
        return facts;
    }
    const ModelFile file = parse_model(path.string(), std::move(data));
    facts.scale = file.scale;
    const Json json = parse_json(file.json);
    if (const Json *weights = find(json, "weights_sha256"); weights && weights->is_string()) {
        facts.weights = lower(weights->get<std::string>());
    }
    return facts;
}

void check_file(const fs::path &path, bool weights) {
    if (!is_file(path)) {
        throw Error(TDS_ERROR_MODEL, path.string() + ": there is no such model file");
    }
    if (is_weights(path) && !weights) {
        throw Error(TDS_ERROR_MODEL,
                    path.string() + " holds weights, which only Python reads; make an archive of "
                                    "it with: tds export");
    }
}

// The k = 1 model that belongs to a choice: the same name, or the same file but for its k.
std::string k1_of(const tds_model_request &request, const ModelChoice &choice) {
    if (!choice.name.empty()) {
        const auto found = Finder(request, 1).find(choice.name);
        return found ? found->string() : "";
    }
    const fs::path path = choice.path;
    const std::string stem = path.stem().string();
    const std::string mark = "-k" + std::to_string(request.scale);
    if (!ends_with(stem, mark)) {
        return "";
    }
    const fs::path beside = path.parent_path() / (stem.substr(0, stem.size() - mark.size()) +
                                                  "-k1" + path.extension().string());
    return is_file(beside) ? beside.string() : "";
}

} // namespace

ModelChoice choose_model(const tds_model_request &request, const Tag *tag) {
    const int32_t scale = request.scale;
    if (scale != 1 && scale != 2 && scale != 4) {
        invalid("no model is for k = " + std::to_string(scale) + ": k is 1, 2 or 4");
    }
    const std::string wanted = request.model ? request.model : "";
    const std::string named = tag && tag->values().model ? tag->values().model : "";
    const std::string named_hash =
        tag && tag->values().model_sha256 ? tag->values().model_sha256 : "";
    const Finder finder(request, scale);
    ModelChoice choice;
    const auto tell = [&](const std::string &sentence) { choice.notices += sentence + "\n"; };

    if (is_file_name(wanted)) {
        check_file(wanted, request.weights != 0);
        choice.path = wanted;
    } else {
        std::vector<std::string> names;
        if (!wanted.empty()) {
            names = {wanted};
        } else {
            names = {"fast", "standard"};
            if (uses_cuda(request.device ? request.device : "auto")) {
                std::reverse(names.begin(), names.end());
            }
            if (!named.empty()) {
                names.insert(names.begin(), named);
            }
        }
        for (const std::string &name : names) {
            if (const auto found = finder.find(name)) {
                choice.path = found->string();
                choice.name = name;
                break;
            }
        }
        if (choice.path.empty()) {
            finder.fail(wanted.empty() ? "" : wanted);
        }
        if (wanted.empty() && !named.empty() && choice.name != named) {
            tell("the video was made for the model " + named + ", which is not here for k = " +
                 std::to_string(scale) + "; " + choice.name + " is used");
        }
    }

    // Its hash, where one is asked for.
    const bool of_name = !named.empty() && choice.name == named;
    if (request.sha256 || is_file_name(wanted) || (of_name && !named_hash.empty())) {
        const Facts facts = facts_of(choice.path);
        if (facts.scale != 0 && facts.scale != scale) {
            const std::string there = finder.names();
            throw Error(TDS_ERROR_MODEL,
                        choice.path + " is a model for k = " + std::to_string(facts.scale) +
                            ", and this video needs one for k = " + std::to_string(scale) +
                            (there.empty() ? "" : "; there is: " + there));
        }
        if (request.sha256 && !facts.has(lower(request.sha256))) {
            throw Error(TDS_ERROR_INVALID, choice.path + " has sha256 " + facts.file + ", not " +
                                               request.sha256 + " as asked for");
        }
        choice.of_tag = of_name && facts.has(named_hash);
        if (of_name && !named_hash.empty() && !choice.of_tag) {
            tell("the model " + named +
                 " that is installed is another version than the one the "
                 "video was made for; the installed one is used");
        }
    }
    if (tag && tag->values().has_strengths && !choice.of_tag) {
        tell("the strengths that the video gives for its frames are for the model " +
             (named.empty() ? "it was made with" : named) + " alone and are not used");
    }
    if (request.refine_hr) {
        choice.hr_path = k1_of(request, choice);
        if (choice.hr_path.empty()) {
            tell("HR pictures are to be enhanced too, and there is no model of that name for "
                 "k = 1; they pass as they are");
        }
    }
    return choice;
}

} // namespace tds
