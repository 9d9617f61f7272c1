// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What pairing and the window know of pictures: facts, no samples.
#pragma once

#include "tds/tds.h"

#include <memory>

namespace tds {

// A picture of either stream. The session's own kind, which holds the samples, derives
// from it; a shared pointer is what keeps it.
struct Shown {
    Shown(int64_t time, bool is_full, bool is_corrupt = false, float how_much = 1.0F)
        : pts(time), full(is_full), corrupt(is_corrupt), strength(how_much) {}
    virtual ~Shown() = default;
    Shown(const Shown &) = delete;
    Shown &operator=(const Shown &) = delete;

    const int64_t pts;
    const bool full;      // of HR, or of a plain stream
    const bool corrupt;   // as the sender said
    const float strength; // 0: no model is to change it
};
using ShownPtr = std::shared_ptr<Shown>;

// What a stream says about one time: a picture, or that one was lost.
struct Event {
    int64_t pts = 0;
    ShownPtr picture;  // nullptr: lost
    bool told = false; // send_lost() named this time in one of the streams
    bool hr_lost = false;
};

} // namespace tds
