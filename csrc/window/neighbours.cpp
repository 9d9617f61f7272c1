// SPDX-License-Identifier: LGPL-2.1-or-later
#include "window/neighbours.h"

#include <utility>

namespace tds {
namespace {

constexpr size_t kMaxHr = 2; // HR pictures that wait to be merged

} // namespace

Neighbours::Neighbours(Settings settings)
    : Window(settings.plain), settings_(settings), around_(std::move(settings)) {}

bool Neighbours::takes(tds_role role, bool lost) const {
    const size_t waiting = pairing_.waiting(role).size();
    if (role == TDS_LR) {
        return waiting <= settings_.max_group;
    }
    return lost ? waiting - pairing_.waiting_hr() <= settings_.max_group
                : pairing_.waiting_hr() < kMaxHr;
}

unsigned Neighbours::wants() const {
    unsigned wanted = 0;
    for (const tds_role role : {TDS_HR, TDS_LR}) {
        if (!pairing_.ended(role) && pairing_.waiting(role).empty()) {
            wanted |= 1U << role;
        }
    }
    return wanted;
}

// A plain stream gathers a whole batch, since the run that a pair waits for is missing.
size_t Neighbours::gathered() const {
    return settings_.plain && settings_.full && !settings_.causal ? settings_.max_batch : 1;
}

int32_t Neighbours::latency() const {
    return static_cast<int32_t>(around_.ahead() + static_cast<int64_t>(gathered()) - 1);
}

bool Neighbours::ready() const {
    return resolved_.size() >= gathered() || (pairing_.ended() && !resolved_.empty());
}

// No further than what is ready needs, and not while a group is worked on: what waits in
// the queues costs no more than its samples.
void Neighbours::advance() {
    while (outstanding_ == 0) {
        around_.rest(!pairing_.ended(),
                     !pairing_.ended(TDS_HR) || !pairing_.waiting(TDS_HR).empty());
        while (resolved_.size() < settings_.max_batch) {
            std::optional<Neighbourhood::Resolved> next = around_.next();
            if (!next) {
                break;
            }
            resolved_.push_back(std::move(next->target));
        }
        if (resolved_.size() >= gathered()) {
            return;
        }
        std::optional<Event> event = pairing_.next();
        if (!event) {
            return;
        }
        around_.add(std::move(*event));
    }
}

Group Neighbours::plan() {
    Group group;
    group.swap(resolved_);
    outstanding_ = group.size();
    around_.forget();
    return group;
}

} // namespace tds
