// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>

namespace tds {

// How many processors this process may use at once: those of its affinity, and no more than
// the CPU quota of its control group or of one above it (a container's limit) pays for,
// rounded up. At least 1.
int usable_cpus();

// The quota alone; 0: there is none. `cgroups` is where they are mounted, `own` the text of
// /proc/self/cgroup.
int quota_cpus(const std::string &cgroups, const std::string &own);

// How many processors of the machine nobody uses at this moment, the calling thread's own
// counted as free: 0 or less when more wants to run than there are processors.
int free_cpus();

// Threads that want to run, the calling one among them, by the text of /proc/loadavg; 1 when it
// does not say.
int running_threads(const std::string &loadavg);

} // namespace tds
