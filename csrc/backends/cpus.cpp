// SPDX-License-Identifier: LGPL-2.1-or-later
#include "backends/cpus.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include <sched.h>
#include <unistd.h>

namespace tds {
namespace {

// The beginning of a small file; "" when it cannot be read.
std::string content(const std::string &path) {
    const std::unique_ptr<FILE, int (*)(FILE *)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    std::array<char, 4096> text{};
    return file ? std::string(text.data(), std::fread(text.data(), 1, text.size(), file.get()))
                : "";
}

// Rounded up; 0 for no limit ("max", -1, no file).
int cpus(const std::string &quota, const std::string &period) {
    const long long time = std::strtoll(quota.c_str(), nullptr, 10);
    const long long of = std::strtoll(period.c_str(), nullptr, 10);
    return time > 0 && of > 0 ? static_cast<int>(std::min((time + of - 1) / of, 65536LL)) : 0;
}

// The least limit of `folder` and of all above it up to `root`, by how one folder is read.
template <typename Function> int least(const std::string &root, std::string path, Function limit) {
    int out = 0;
    while (true) {
        const int here = limit(root + path);
        out = here > 0 && (out == 0 || here < out) ? here : out;
        if (path.empty()) {
            return out;
        }
        path.erase(path.rfind('/'));
    }
}

} // namespace

int quota_cpus(const std::string &cgroups, const std::string &own) {
    int out = 0;
    for (size_t at = 0; at < own.size();) {
        // "0::/path", or in version 1 "4:cpu,cpuacct:/path"
        const size_t end = std::min(own.find('\n', at), own.size());
        const std::string line = own.substr(at, end - at);
        at = end + 1;
        const size_t first = line.find(':');
        const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
        if (second == std::string::npos || second + 1 >= line.size() || line[second + 1] != '/') {
            continue;
        }
        const std::string kinds =
            std::string(",").append(line, first + 1, second - first - 1).append(",");
        std::string path = line.substr(second + 1);
        path = path == "/" ? "" : path;
        int here = 0;
        if (kinds == ",,") {
            here = least(cgroups, path, [](const std::string &folder) {
                const std::string text = content(folder + "/cpu.max"); // "QUOTA PERIOD"
                const size_t space = std::min(text.find(' '), text.size());
                return cpus(text.substr(0, space), text.substr(space));
            });
        } else if (kinds.find(",cpu,") != std::string::npos) {
            here = least(cgroups + "/cpu", path, [](const std::string &folder) {
                return cpus(content(folder + "/cpu.cfs_quota_us"),
                            content(folder + "/cpu.cfs_period_us"));
            });
        }
        out = here > 0 && (out == 0 || here < out) ? here : out;
    }
    return out;
}

int usable_cpus() {
    cpu_set_t mine;
    CPU_ZERO(&mine);
    int count = sched_getaffinity(0, sizeof(mine), &mine) == 0 // fails beyond 1024 processors
                    ? CPU_COUNT(&mine)
                    : static_cast<int>(std::thread::hardware_concurrency());
    const int quota = quota_cpus("/sys/fs/cgroup", content("/proc/self/cgroup"));
    count = quota > 0 ? std::min(count, quota) : count;
    return std::max(count, 1);
}

int running_threads(const std::string &loadavg) {
    // "0.84 1.11 0.57 3/245 12345"
    const size_t slash = loadavg.find('/');
    const size_t space = slash == std::string::npos ? slash : loadavg.rfind(' ', slash);
    const long count =
        space == std::string::npos ? 1 : std::strtol(loadavg.c_str() + space, nullptr, 10);
    return static_cast<int>(std::min(std::max(count, 1L), 1L << 20));
}

int free_cpus() {
    const long there = sysconf(_SC_NPROCESSORS_ONLN);
    return static_cast<int>(there) - running_threads(content("/proc/loadavg")) + 1;
}

} // namespace tds
