// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What is around each picture of a sequence, and what models of contract 2 make it from: the
// references that their slots name (docs/model.md), none of which is itself made in the same step,
// but for HR pictures of a pair, which may be refined before LR pictures use them.
#pragma once

#include "window/slot.h"
#include "window/window.h"

#include <deque>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace tds {

class Neighbourhood {
  public:
    // What a kind of picture is made by: its slots, or no model, which passes full-size
    // pictures and up-samples LR ones.
    using Model = std::optional<std::vector<Slot>>;
    // Whether a scene ends between two pictures that follow each other. Asked once for each
    // two, in display order.
    using Cut = std::function<bool(const Shown &before, const Shown &after)>;

    struct Settings {
        bool plain = false;
        bool causal = false;
        Model full, low; // of HR pictures, or of a plain stream, and of LR pictures
        size_t max_group = 64, max_batch = 4;
        Cut cut;
    };
    explicit Neighbourhood(Settings settings);

    // The sequence, in order of time.
    void add(Event event);
    // What may come after what was added: anything, and a full-size picture.
    void rest(bool any, bool full) {
        more_ = any;
        more_full_ = full;
    }

    // The next of the sequence and how it is made, each once; nothing as long as what is still to
    // come may change the answer.
    struct Resolved {
        Event event;
        Target target;
    };
    std::optional<Resolved> next();
    // What was added and is not resolved.
    std::vector<const Event *> unresolved() const;
    // Drops what no target to come can see.
    void forget();
    int64_t ahead() const { return ahead_; } // places after a target that it may want

  private:
    // A time of the sequence.
    struct Place {
        Event event;
        bool cut = false;  // a scene begins here
        RecipePtr refined; // of an HR picture, once it is known
    };
    // What was found for a slot, or why nothing was.
    struct Found {
        const Place *place = nullptr;
        int64_t position = 0;
        bool certain = true;
        unsigned reason = 0;
    };

    int64_t frontier() const { return front_ + static_cast<int64_t>(places_.size()); }
    const Place &at(int64_t position) const {
        return places_[static_cast<size_t>(position - front_)];
    }

    // All of these give nothing as long as what is still to come may change the answer.
    std::optional<Target> resolve(int64_t position);
    std::optional<Target> resolve_lost(int64_t position);
    RecipePtr recipe(int64_t position, unsigned &reason);
    bool find_references(int64_t position, const std::vector<Slot> &slots, Recipe &recipe,
                         unsigned &reason);
    Found find(int64_t position, const Slot &slot, const std::vector<int64_t> &taken) const;
    Found find_at(int64_t position, int32_t offset) const;
    Found find_before(int64_t position, const std::vector<int64_t> &taken) const;
    Found find_after(int64_t position, const std::vector<int64_t> &taken) const;

    Settings settings_;
    int64_t back_ = 0;       // places before a target that its slots reach
    int64_t ahead_ = 0;      // places after it
    size_t full_before_ = 0; // full-size pictures before it that may be wanted
    bool more_ = true, more_full_ = true;

    // The sequence. Of what lies before front_, only full-size pictures are kept.
    std::deque<Place> places_;
    std::deque<std::pair<int64_t, Place>> older_;
    unsigned older_reason_ = TDS_REASON_NO_FIRST; // why there is none before older_
    bool older_lost_ = false;                     // one is missing after the last of older_
    int64_t front_ = 0;
    ShownPtr newest_;    // the last picture of the sequence
    int64_t next_ = 0;   // the first place that has no target yet
    RecipePtr previous_; // of the last picture that has one
};

} // namespace tds
