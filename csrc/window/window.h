// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What is made from what, and when. A window takes the events of the streams and gives
// groups of targets in display order, each with its references, its status and why. It
// knows no engine and no samples: tests read its groups as text.
#pragma once

#include "pairing/pairing.h"

#include <memory>
#include <vector>

namespace tds {

struct Recipe;
using RecipePtr = std::shared_ptr<const Recipe>;

// A picture as a target sees it.
struct Reference {
    ShownPtr picture;     // nullptr: not present
    RecipePtr made;       // not nullptr: as a model made it, by this, and not as it was decoded
    int64_t distance = 0; // in pictures, below 0 before the target; contract 2
};

// How a picture comes to be; enough to make it again.
struct Recipe {
    enum class Way { nothing, pass, bicubic, model };
    Way way = Way::nothing; // black
    ShownPtr picture;       // the target as it was decoded
    std::vector<Reference> references;
};

// A picture to hand out.
struct Target {
    int64_t pts = 0;
    RecipePtr recipe;
    tds_status status = TDS_STATUS_REPEATED;
    unsigned reason = 0;
};
using Group = std::vector<Target>;

// Times that a caller may set far apart: a difference of two fits, whatever they are.
inline uint64_t distance(int64_t a, int64_t b) {
    return a > b ? static_cast<uint64_t>(a) - static_cast<uint64_t>(b)
                 : static_cast<uint64_t>(b) - static_cast<uint64_t>(a);
}

class Window {
  public:
    explicit Window(bool plain) : pairing_(plain) {}
    virtual ~Window() = default;
    Window(const Window &) = delete;
    Window &operator=(const Window &) = delete;

    void check(tds_role role, int64_t pts, const char *what) const {
        pairing_.check(role, pts, what);
    }
    // Whether there is room for an event of this stream. What wants() names always has.
    virtual bool takes(tds_role role, bool lost) const = 0;
    void send(tds_role role, Event event, const std::function<ShownPtr()> &take = {}) {
        pairing_.send(role, std::move(event), take);
        advance();
    }
    void end(tds_role role) {
        pairing_.end(role);
        advance();
    }

    // Whether plan() gives a group. The group before it is out by then.
    virtual bool ready() const = 0;
    virtual Group plan() = 0;
    // One more target of the group was handed out; `last`: and it was the last one.
    void handed_out(bool last) {
        outstanding_ = last ? 0 : outstanding_ - 1;
        if (last) {
            advance();
        }
    }
    // The streams that are needed before a group is ready, bits (1 << role).
    virtual unsigned wants() const = 0;
    bool ended() const { return pairing_.ended(); }
    int64_t dropped_lr() const { return pairing_.dropped_lr(); }

  protected:
    virtual void advance() = 0; // takes what is certain from pairing_

    Pairing pairing_;
    size_t outstanding_ = 0; // targets of the group that are not out
};

} // namespace tds
