// SPDX-License-Identifier: LGPL-2.1-or-later
#include "pairing/pairing.h"

#include "session/error.h"

#include <algorithm>
#include <string>

namespace tds {

void Pairing::check(tds_role role, int64_t pts, const char *what) const {
    const Queue &own = queue(role);
    const char *name = role == TDS_HR ? "HR" : "LR";
    if (own.ended) {
        invalid(std::string(what) + " after the end of the " + name +
                " stream: flush the session to start again");
    }
    if (pts == TDS_NO_PTS) {
        invalid(std::string(what) + " without a time stamp: set pts, pairing is by time alone");
    }
    if (own.newest && pts <= *own.newest) {
        throw Error(TDS_ERROR_ORDER, std::string(what) + " at time " + std::to_string(pts) +
                                         " after one at " + std::to_string(*own.newest) +
                                         ": times must increase within a stream");
    }
}

void Pairing::send(tds_role role, Event event, const std::function<ShownPtr()> &take) {
    Queue &own = queue(role);
    own.events.push_back(std::move(event));
    if (take) {
        try {
            own.events.back().picture = take();
        } catch (...) {
            own.events.pop_back();
            throw;
        }
    }
    own.newest = own.events.back().pts;
}

void Pairing::end(tds_role role) {
    queue(role).ended = true;
}

std::optional<Event> Pairing::next() {
    const bool hr = !hr_.events.empty();
    const bool lr = !lr_.events.empty();
    if ((!hr && !lr) || (!hr && !hr_.ended) || (!lr && !lr_.ended)) {
        return std::nullopt;
    }
    const bool take_hr = hr && (!lr || hr_.events.front().pts <= lr_.events.front().pts);
    const bool take_lr = lr && (!hr || lr_.events.front().pts <= hr_.events.front().pts);
    Event event = take_hr ? hr_.events.front() : lr_.events.front();
    if (take_hr && take_lr) { // both speak of this time
        const Event &low = lr_.events.front();
        if (event.picture) {
            dropped_lr_ += low.picture ? 1 : 0;
        } else {
            event.picture = low.picture;
        }
    }
    if (take_hr) {
        hr_.events.pop_front();
    }
    if (take_lr) {
        lr_.events.pop_front();
    }
    return event;
}

const Event *Pairing::next_hr() const {
    const auto at = std::find_if(hr_.events.begin(), hr_.events.end(),
                                 [](const Event &e) { return e.picture != nullptr; });
    return at == hr_.events.end() ? nullptr : &*at;
}

size_t Pairing::waiting_hr() const {
    return static_cast<size_t>(std::count_if(hr_.events.begin(), hr_.events.end(),
                                             [](const Event &e) { return e.picture != nullptr; }));
}

} // namespace tds
