// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/backend_loader.h"

#include "backends/bicubic/bicubic.h"
#include "session/error.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

namespace tds {

std::string library_folder() {
    Dl_info info{};
    if (!dladdr(reinterpret_cast<const void *>(&tds_version), &info) || !info.dli_fname) {
        return ".";
    }
    const std::string path = info.dli_fname;
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : path.substr(0, slash);
}

namespace {

// Torch brings OpenMP, whose threads wait for each other by spinning, for a millisecond or, in
// another implementation, two hundred: on processors that others use too that multiplies the time
// by ten. It reads its settings once, when it is loaded. So while a backend is loaded they say
// that threads wait for some microseconds and then sleep, unless the user has said anything or
// OpenMP is there already. Threads of the host that read the environment at that moment are
// in no danger on glibc, which keeps what setenv() has replaced.
class BriefWaits {
  public:
    BriefWaits() {
        bool there = false;
        dl_iterate_phdr(
            [](dl_phdr_info *info, size_t, void *found) {
                const std::string name = info->dlpi_name ? info->dlpi_name : "";
                *static_cast<bool *>(found) |= name.find("libgomp") != std::string::npos ||
                                               name.find("libiomp") != std::string::npos ||
                                               name.find("libomp") != std::string::npos;
                return 0;
            },
            &there);
        ours_ = !there && !std::getenv("OMP_WAIT_POLICY") && !std::getenv("GOMP_SPINCOUNT") &&
                !std::getenv("KMP_BLOCKTIME");
        if (ours_) {
            setenv("GOMP_SPINCOUNT", "1000", 1);
            setenv("KMP_BLOCKTIME", "0", 1);
        }
    }
    ~BriefWaits() {
        if (ours_) { // programs that the host starts are none of our business
            unsetenv("GOMP_SPINCOUNT");
            unsetenv("KMP_BLOCKTIME");
        }
    }
    BriefWaits(const BriefWaits &) = delete;
    BriefWaits &operator=(const BriefWaits &) = delete;

  private:
    bool ours_ = false;
};

// What to do where the torch that is here is none that a backend was built with.
std::string way_out() {
    const std::string built = TDS_TORCH_VERSION;
    const std::string minor = built.substr(0, built.find('.', built.find('.') + 1));
    return built.empty() ? "; install the torch that it was built with, or build libtds again"
                         : "; pip install 'torch==" + minor + ".*', or build libtds again";
}

// Why dlopen() did not take a backend's library, and what helps.
std::string why_not(const std::string &name, const std::string &said) {
    const std::string begin = "the backend \"" + name + "\" does not load: " + said;
    return name == "torchscript" ? begin + way_out() : begin;
}

const tds_backend &open_library(const std::string &name) {
    const std::string file = "libtds_" + name + ".so";
    std::vector<std::string> folders;
    if (const char *path = std::getenv("TDS_BACKEND_PATH")) {
        std::string rest = path;
        while (!rest.empty()) {
            const size_t colon = rest.find(':');
            if (colon != 0) {
                folders.push_back(rest.substr(0, colon));
            }
            rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
        }
    }
    folders.push_back(library_folder());
    for (const std::string &folder : folders) {
        std::string path = folder;
        path.append("/").append(file);
        if (access(path.c_str(), F_OK) != 0) {
            continue;
        }
        // Local: the backend's libraries (torch) must not change what symbols
        // the host program sees. Never closed: torch cannot be unloaded.
        void *library = nullptr;
        {
            const BriefWaits brief;
            library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        }
        if (!library) {
            throw Error(TDS_ERROR_UNSUPPORTED, why_not(name, dlerror()));
        }
        const auto misfit =
            reinterpret_cast<const char *(*)(void)>(dlsym(library, TDS_BACKEND_MISFIT));
        if (const char *what = misfit ? misfit() : nullptr) {
            throw Error(TDS_ERROR_UNSUPPORTED, "the backend \"" + name + "\" does not fit: " +
                                                   what + (name == "torchscript" ? way_out() : ""));
        }
        const auto entry =
            reinterpret_cast<tds_backend_entry_function>(dlsym(library, TDS_BACKEND_ENTRY));
        const tds_backend *backend = entry ? entry() : nullptr;
        if (!backend || backend->abi != TDS_BACKEND_ABI || name != backend->name) {
            dlclose(library);
            throw Error(TDS_ERROR_UNSUPPORTED,
                        "the backend library " + path +
                            " does not belong to this libtds: build both from the same source");
        }
        return *backend;
    }
    std::string places;
    for (const std::string &folder : folders) {
        places += (places.empty() ? "" : ", ") + folder;
    }
    throw Error(TDS_ERROR_UNSUPPORTED,
                "the backend \"" + name + "\" is not installed: " + file + " is not in " + places +
                    (name == "torchscript"
                         ? "; this libtds was built where torch was not found: install "
                           "torch, then build and install libtds again"
                         : "; name its folder in TDS_BACKEND_PATH"));
}

} // namespace

const tds_backend &find_backend(const std::string &name) {
    if (name == "bicubic") {
        return *tds_bicubic_backend();
    }
    if (name.empty() ||
        name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") != std::string::npos) {
        invalid("no backend can be named \"" + name + "\": use bicubic, torchscript or auto");
    }
    static std::mutex mutex;
    static auto *found = new std::map<std::string, const tds_backend *>;
    const std::lock_guard<std::mutex> lock(mutex);
    const auto at = found->find(name);
    if (at != found->end()) {
        return *at->second;
    }
    const tds_backend &backend = open_library(name);
    (*found)[name] = &backend;
    return backend;
}

} // namespace tds
