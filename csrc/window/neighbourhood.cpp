// SPDX-License-Identifier: LGPL-2.1-or-later
#include "window/neighbourhood.h"

#include <algorithm>
#include <utility>

namespace tds {
namespace {

bool contains(const std::vector<int64_t> &taken, int64_t position) {
    return std::find(taken.begin(), taken.end(), position) != taken.end();
}

bool is_whole(const Event &event) {
    return event.picture && !event.picture->corrupt;
}

// Whether there is a full-size picture that can be seen, or one is missing.
bool shows_full(const Event &event) {
    return is_whole(event) && event.picture->full;
}
bool misses_full(const Event &event) {
    return event.hr_lost || (event.picture && event.picture->full && event.picture->corrupt);
}

} // namespace

Neighbourhood::Neighbourhood(Settings settings) : settings_(std::move(settings)) {
    for (const Model *model : {&settings_.full, &settings_.low}) {
        size_t before = 0;
        std::vector<int64_t> taken;
        for (const Slot &slot : model->value_or(std::vector<Slot>())) {
            int64_t offset = slot.offset;
            if (offset == 0 && slot.after) {
                // In a pair the next HR picture may be as far away as a run is long.
                offset = settings_.plain ? 1 : static_cast<int64_t>(settings_.max_group) + 1;
                while (settings_.plain && contains(taken, offset)) {
                    offset++;
                }
            }
            before += offset <= 0 ? 1 : 0;
            back_ = std::max(back_, -offset);
            if (offset > 0 && (!settings_.plain || offset <= TDS_MAX_LOOK_AHEAD)) {
                taken.push_back(offset);
                ahead_ = std::max(ahead_, offset);
            }
        }
        full_before_ = std::max(full_before_, before);
    }
    if (settings_.causal) {
        ahead_ = 0;
    }
}

// ------------------------------------------------------------ sequence --

void Neighbourhood::add(Event event) {
    Place place;
    if (event.picture) {
        place.cut = newest_ && settings_.cut && settings_.cut(*newest_, *event.picture);
        newest_ = event.picture;
    }
    place.event = std::move(event);
    places_.push_back(std::move(place));
}

std::optional<Neighbourhood::Resolved> Neighbourhood::next() {
    if (next_ >= frontier()) {
        return std::nullopt;
    }
    std::optional<Target> target = resolve(next_);
    if (!target) {
        return std::nullopt;
    }
    if (target->recipe->picture) {
        previous_ = target->recipe;
    }
    return Resolved{at(next_++).event, std::move(*target)};
}

std::vector<const Event *> Neighbourhood::unresolved() const {
    std::vector<const Event *> out;
    for (int64_t position = next_; position < frontier(); position++) {
        out.push_back(&at(position).event);
    }
    return out;
}

// Drops what no target to come can see.
void Neighbourhood::forget() {
    // An HR picture that is out was made: its recipe would only keep what it was made from.
    const int64_t seen = std::min(next_, frontier());
    for (int64_t position = front_; position < seen; position++) {
        Place &place = places_[static_cast<size_t>(position - front_)];
        if (place.refined && !place.refined->references.empty()) {
            auto made = std::make_shared<Recipe>();
            made->way = Recipe::Way::model;
            made->picture = place.event.picture;
            place.refined = std::move(made);
        }
    }
    while (!places_.empty() && front_ < next_ - back_) {
        Place &place = places_.front();
        if (place.cut) {
            older_.clear();
            older_reason_ = TDS_REASON_CUT;
            older_lost_ = false;
        }
        if (shows_full(place.event)) {
            older_.emplace_back(front_, std::move(place));
            older_lost_ = false;
        } else {
            older_lost_ = older_lost_ || misses_full(place.event);
        }
        if (older_.size() > full_before_) {
            older_.pop_front();
        }
        places_.pop_front();
        front_++;
    }
}

// ----------------------------------------------------------- resolving --

std::optional<Target> Neighbourhood::resolve(int64_t position) {
    const Event &event = at(position).event;
    if (!event.picture) {
        return resolve_lost(position);
    }
    Target target;
    target.pts = event.pts;
    target.recipe = recipe(position, target.reason);
    if (!target.recipe) {
        return std::nullopt;
    }
    const bool full = event.picture->full;
    switch (target.recipe->way) {
    case Recipe::Way::model:
        target.status = full ? TDS_STATUS_REFINED : TDS_STATUS_ENHANCED;
        break;
    case Recipe::Way::pass:
        target.status = TDS_STATUS_PASSED;
        break;
    default:
        target.status = TDS_STATUS_UPSAMPLED;
    }
    target.reason |= event.told ? TDS_REASON_LOST : 0;
    target.reason |= event.picture->corrupt ? TDS_REASON_CORRUPT : 0;
    return target;
}

// The nearest picture again, the earlier one when two are as near.
std::optional<Target> Neighbourhood::resolve_lost(int64_t position) {
    const int64_t pts = at(position).event.pts;
    Target target;
    target.pts = pts;
    target.status = TDS_STATUS_REPEATED;
    target.reason = TDS_REASON_LOST;
    target.recipe = previous_;
    const int64_t stop = position + ahead_;
    for (int64_t later = position + 1; later <= stop; later++) {
        if (later >= frontier()) {
            if (!more_) {
                break;
            }
            return std::nullopt;
        }
        const Event &event = at(later).event;
        if (previous_ && distance(previous_->picture->pts, pts) <= distance(event.pts, pts)) {
            break;
        }
        if (event.picture) {
            unsigned not_said = 0; // it is what this one is a copy of that has reasons
            target.recipe = recipe(later, not_said);
            if (!target.recipe) {
                return std::nullopt;
            }
            break;
        }
    }
    if (!target.recipe) {
        target.recipe = std::make_shared<Recipe>();
        target.reason |= TDS_REASON_NO_FIRST | TDS_REASON_NO_LAST;
    }
    return target;
}

// How the picture at a place is made. It is resolved more than once only as long as
// something is missing, and for HR pictures, which others see refined.
RecipePtr Neighbourhood::recipe(int64_t position, unsigned &reason) {
    const Place &place = at(position);
    const ShownPtr &picture = place.event.picture;
    const bool full = picture->full;
    const Model &model = full ? settings_.full : settings_.low;
    auto out = std::make_shared<Recipe>();
    out->picture = picture;
    if (!model || picture->strength <= 0.0F) {
        out->way = full ? Recipe::Way::pass : Recipe::Way::bicubic;
        if (!model && (!full || settings_.plain)) {
            reason |= TDS_REASON_NO_MODEL;
        } else if (!full) {
            reason |= TDS_REASON_STRENGTH;
        }
        return out;
    }
    out->way = Recipe::Way::model;
    if (!find_references(position, *model, *out, reason)) {
        return nullptr;
    }
    if (full && settings_.low) {
        places_[static_cast<size_t>(position - front_)].refined = out;
    }
    return out;
}

bool Neighbourhood::find_references(int64_t position, const std::vector<Slot> &slots,
                                    Recipe &recipe, unsigned &reason) {
    const bool low = !recipe.picture->full;
    std::vector<int64_t> taken;
    bool before = false; // a full-size picture before the target, or after it, is seen
    bool after = false;
    unsigned why = 0;
    for (const Slot &slot : slots) {
        const Found found = find(position, slot, taken);
        if (!found.certain) {
            return false;
        }
        why |= found.reason;
        Reference reference;
        if (found.place) {
            taken.push_back(found.position);
            reference.picture = found.place->event.picture;
            reference.distance = found.position - position;
            (reference.distance < 0 ? before : after) |= reference.picture->full;
            if (low && settings_.full && reference.picture->full &&
                reference.picture->strength > 0.0F) {
                reference.made = found.place->refined;
                if (!reference.made) {
                    unsigned not_said = 0;
                    reference.made = this->recipe(found.position, not_said);
                }
                if (!reference.made) {
                    return false;
                }
            }
        }
        recipe.references.push_back(std::move(reference));
    }
    // That a stream begins or ends is worth a word where LR pictures lack a boundary.
    if (before || !low) {
        why &= ~static_cast<unsigned>(TDS_REASON_NO_FIRST);
    }
    if (after || !low) {
        why &= ~static_cast<unsigned>(TDS_REASON_NO_LAST);
    }
    reason |= why;
    return true;
}

Neighbourhood::Found Neighbourhood::find(int64_t position, const Slot &slot,
                                         const std::vector<int64_t> &taken) const {
    const bool later = slot.offset > 0 || (slot.offset == 0 && slot.after);
    if (later && settings_.causal) {
        return {};
    }
    if (slot.offset != 0) {
        Found found = find_at(position, slot.offset);
        if (found.place && contains(taken, found.position)) {
            found.place = nullptr;
        }
        return found;
    }
    return slot.after ? find_after(position, taken) : find_before(position, taken);
}

Neighbourhood::Found Neighbourhood::find_at(int64_t position, int32_t offset) const {
    Found found;
    if (settings_.plain && offset > TDS_MAX_LOOK_AHEAD) {
        return found;
    }
    const int64_t step = offset > 0 ? 1 : -1;
    for (int64_t p = position; p != position + offset; p += step) {
        const int64_t to = p + step;
        if (to < front_) {
            return found; // the stream begins here: what a target reaches is kept
        }
        if (to >= frontier()) {
            found.certain = !more_;
            return found;
        }
        if (at(step > 0 ? to : p).cut) {
            found.reason = TDS_REASON_CUT;
            return found;
        }
    }
    found.position = position + offset;
    if (is_whole(at(found.position).event)) {
        found.place = &at(found.position);
    } else {
        found.reason = TDS_REASON_REF_LOST;
    }
    return found;
}

Neighbourhood::Found Neighbourhood::find_before(int64_t position,
                                                const std::vector<int64_t> &taken) const {
    Found found;
    for (int64_t p = position; p > front_; p--) {
        if (at(p).cut) {
            found.reason |= TDS_REASON_CUT;
            return found;
        }
        const Place &place = at(p - 1);
        if (shows_full(place.event) && !contains(taken, p - 1)) {
            found.place = &place;
            found.position = p - 1;
            return found;
        }
        found.reason |= misses_full(place.event) ? TDS_REASON_REF_LOST : 0;
    }
    if (at(front_).cut) {
        found.reason |= TDS_REASON_CUT;
        return found;
    }
    found.reason |= older_lost_ ? TDS_REASON_REF_LOST : 0;
    for (auto older = older_.rbegin(); older != older_.rend(); ++older) {
        if (!contains(taken, older->first)) {
            found.place = &older->second;
            found.position = older->first;
            return found;
        }
        if (older->second.cut) {
            found.reason |= TDS_REASON_CUT;
            return found;
        }
    }
    found.reason |= older_reason_;
    return found;
}

Neighbourhood::Found Neighbourhood::find_after(int64_t position,
                                               const std::vector<int64_t> &taken) const {
    Found found;
    const int64_t reach =
        settings_.plain ? TDS_MAX_LOOK_AHEAD : static_cast<int64_t>(settings_.max_group) + 1;
    for (int64_t p = position + 1; p <= position + reach; p++) {
        if (p >= frontier()) {
            found.certain = !more_full_;
            found.reason |= TDS_REASON_NO_LAST;
            return found;
        }
        const Place &place = at(p);
        if (place.cut) {
            found.reason |= TDS_REASON_CUT;
            return found;
        }
        if (shows_full(place.event) && !contains(taken, p)) {
            found.place = &place;
            found.position = p;
            return found;
        }
        found.reason |= misses_full(place.event) ? TDS_REASON_REF_LOST : 0;
    }
    found.reason |= settings_.plain ? 0 : TDS_REASON_LONG_GROUP;
    return found;
}

} // namespace tds
