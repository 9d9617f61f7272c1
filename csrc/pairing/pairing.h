// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Pairing: the events of two streams become one sequence, in the order of their times.
// Knows no engine and no samples.
#pragma once

#include "pairing/sequence.h"

#include <deque>
#include <functional>
#include <optional>

namespace tds {

class Pairing {
  public:
    // A plain stream is a pair whose LR stream has ended before it began.
    explicit Pairing(bool plain = false) { lr_.ended = plain; }

    // Throws Error unless an event at `pts` may come next in this stream; `what` begins the
    // sentence that says why ("lost HR picture").
    void check(tds_role role, int64_t pts, const char *what) const;
    // A checked event. `take`, if there is one, gives its picture, once there is room for it:
    // what was taken cannot be given back.
    void send(tds_role role, Event event, const std::function<ShownPtr()> &take = {});
    void end(tds_role role);
    bool ended(tds_role role) const { return queue(role).ended; }
    bool ended() const {
        return hr_.ended && lr_.ended && hr_.events.empty() && lr_.events.empty();
    }

    // The next event that is certain: the other stream has something at its time or later, or has
    // ended. Both streams speak of one time at most once: an LR picture where there is an HR
    // picture is dropped, and stands in where that one was lost.
    std::optional<Event> next();

    const std::deque<Event> &waiting(tds_role role) const { return queue(role).events; }
    const Event *next_hr() const; // the first HR picture that waits
    size_t waiting_hr() const;    // HR pictures that wait, without those lost
    int64_t dropped_lr() const { return dropped_lr_; }

  private:
    struct Queue {
        std::deque<Event> events;
        std::optional<int64_t> newest;
        bool ended = false;
    };
    const Queue &queue(tds_role role) const { return role == TDS_HR ? hr_ : lr_; }
    Queue &queue(tds_role role) { return role == TDS_HR ? hr_ : lr_; }

    Queue hr_, lr_;
    int64_t dropped_lr_ = 0;
};

} // namespace tds
