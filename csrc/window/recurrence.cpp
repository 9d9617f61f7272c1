// SPDX-License-Identifier: LGPL-2.1-or-later
#include "window/recurrence.h"

#include <algorithm>
#include <utility>

namespace tds {
namespace {

// HR pictures waiting to go out. Two are needed: the one that opens a run and
// the one that closes it; more would only cost memory.
constexpr size_t kMaxHr = 2;

bool has_picture(const Event &event) {
    return event.picture != nullptr;
}

RecipePtr passed(const ShownPtr &picture) {
    auto recipe = std::make_shared<Recipe>();
    recipe->way = Recipe::Way::pass;
    recipe->picture = picture;
    return recipe;
}

} // namespace

Recurrence::Recurrence(Settings settings) : Window(false), settings_(std::move(settings)) {
    if (settings_.refine) {
        around_.emplace(*settings_.refine);
    }
}

// ------------------------------------------------------------- sending --

size_t Recurrence::lr_held() const {
    return pairing_.waiting(TDS_LR).size() + run_.size() + outstanding_;
}

size_t Recurrence::hr_markers() const {
    const auto merged =
        std::count_if(run_.begin(), run_.end(), [](const Event &e) { return e.hr_lost; });
    return pairing_.waiting(TDS_HR).size() - pairing_.waiting_hr() + static_cast<size_t>(merged);
}

RecipePtr Recurrence::next_hr() const {
    if (closing_) {
        return closing_->recipe;
    }
    const Event *waits = around_ ? nullptr : pairing_.next_hr();
    return waits ? passed(waits->picture) : nullptr;
}

bool Recurrence::hr_over() const {
    const auto is_hr = [](const Event *event) { return event->picture && event->picture->full; };
    if (!pairing_.ended(TDS_HR) || !around_) {
        return pairing_.ended(TDS_HR);
    }
    const std::vector<const Event *> waiting = around_->unresolved();
    return pairing_.waiting_hr() == 0 && std::none_of(waiting.begin(), waiting.end(), is_hr);
}

std::vector<const Event *> Recurrence::coming() const {
    std::vector<const Event *> out;
    if (around_) {
        out = around_->unresolved();
    }
    for (const Event &event : pairing_.waiting(TDS_LR)) {
        out.push_back(&event);
    }
    return out;
}

bool Recurrence::takes(tds_role role, bool lost) const {
    if (role == TDS_LR) {
        return lr_held() <= settings_.max_group;
    }
    return lost ? hr_markers() < settings_.max_group
                : pairing_.waiting_hr() + (closing_ ? 1 : 0) < kMaxHr;
}

// The next of the sequence; of an HR picture also how it is made.
std::optional<Neighbourhood::Resolved> Recurrence::next() {
    while (true) {
        if (around_) {
            around_->rest(!pairing_.ended(),
                          !pairing_.ended(TDS_HR) || !pairing_.waiting(TDS_HR).empty());
            std::optional<Neighbourhood::Resolved> found = around_->next();
            if (found) {
                around_->forget();
                return found;
            }
        }
        std::optional<Event> event = pairing_.next();
        if (!event) {
            return std::nullopt;
        }
        if (around_) {
            around_->add(std::move(*event));
            continue;
        }
        Target target;
        if (event->picture && event->picture->full) {
            target.pts = event->pts;
            target.recipe = passed(event->picture);
            target.status = TDS_STATUS_PASSED;
            target.reason = event->picture->corrupt ? TDS_REASON_CORRUPT : 0;
        }
        return Neighbourhood::Resolved{std::move(*event), std::move(target)};
    }
}

void Recurrence::advance() {
    while (!closing_) {
        std::optional<Neighbourhood::Resolved> found = next();
        if (!found) {
            return;
        }
        Event &event = found->event;
        if (event.picture && event.picture->full) {
            closing_ = std::move(found->target);
        } else {
            run_has_lost_hr_ = run_has_lost_hr_ || event.hr_lost;
            run_.push_back(std::move(event));
        }
    }
}

// Whether pictures of run_ can be planned now.
bool Recurrence::can_start() const {
    if (run_.empty()) {
        return false;
    }
    const bool hr_ended = hr_over();
    const bool last = next_hr() != nullptr;
    const bool full =
        run_.size() > settings_.max_group || (!last && hr_markers() >= settings_.max_group);
    if (full || closing_) {
        return true;
    }
    // Something to repeat must be known before a lost picture can go out.
    const auto is_picture = [](const Event *event) { return has_picture(*event); };
    if (!settings_.causal && !run_.front().picture && !first_ && !previous_ && !last &&
        std::none_of(run_.begin(), run_.end(), has_picture) &&
        !(hr_ended && pairing_.ended(TDS_LR))) {
        const std::vector<const Event *> later = coming();
        if (std::none_of(later.begin(), later.end(), is_picture)) {
            return false;
        }
    }
    if (!settings_.references || settings_.causal) {
        return true;
    }
    // With both references a run waits until it is whole, for its middle. With
    // one there is no recurrence: pictures go out as they come, once it is
    // certain which one that is.
    return last ? !first_ : hr_ended;
}

unsigned Recurrence::wants() const {
    unsigned wanted = 0;
    if (!pairing_.ended(TDS_HR) &&
        (pairing_.waiting(TDS_HR).empty() || (!around_ && !run_.empty() && !next_hr()))) {
        wanted |= 1U << TDS_HR;
    }
    if (!pairing_.ended(TDS_LR) && pairing_.waiting(TDS_LR).empty() && takes(TDS_LR, false)) {
        wanted |= 1U << TDS_LR;
    }
    return wanted;
}

// ------------------------------------------------------------ planning --

// The HR pictures around run_, and what is to be said of every picture between.
Recurrence::Boundaries Recurrence::boundaries() {
    const RecipePtr closing = next_hr();
    const bool hr_ended = hr_over();
    Boundaries between;
    if (settings_.references) {
        between.first = first_;
        between.last = settings_.causal ? nullptr : closing;
        // Cut where a run is too long to be held whole.
        if (!settings_.causal && ((between.both() && run_.size() > settings_.max_group) ||
                                  (!between.last && !hr_ended))) {
            long_run_ = true;
        }
    }
    // Without a model, or without a look ahead, a run does not wait for its end, which may
    // yet come.
    const bool waits = settings_.references && !settings_.causal;
    between.reason = long_run_ ? TDS_REASON_LONG_GROUP : 0;
    between.reason |= settings_.references ? 0 : TDS_REASON_NO_MODEL;
    between.reason |= first_ ? 0 : TDS_REASON_NO_FIRST;
    between.reason |= closing || settings_.causal || (!waits && !hr_ended) ? 0 : TDS_REASON_NO_LAST;
    const auto damaged = [](const RecipePtr &hr) { return hr && hr->picture->corrupt; };
    if (settings_.references &&
        (run_has_lost_hr_ || damaged(between.first) || damaged(between.last))) {
        between.reason |= TDS_REASON_REF_LOST;
    }
    return between;
}

size_t Recurrence::share(const Boundaries &between) const {
    return std::min(run_.size(), between.both() ? settings_.max_group : settings_.max_batch);
}

RecipePtr Recurrence::recipe(const Event &event, Reference first, Reference last) const {
    auto out = std::make_shared<Recipe>();
    out->picture = event.picture;
    const bool any = first.picture || last.picture || settings_.runs_without_reference;
    out->way = settings_.references && any && event.picture->strength > 0.0F ? Recipe::Way::model
                                                                             : Recipe::Way::bicubic;
    if (settings_.references) {
        out->references = {std::move(first), std::move(last)};
    }
    return out;
}

// A boundary as a target at run_[index], or as far behind it, sees it.
Reference Recurrence::boundary(const Boundaries &between, bool last, size_t index) const {
    Reference reference;
    const RecipePtr &hr = last ? between.last : between.first;
    if (hr) {
        reference.picture = hr->picture;
        reference.made = hr->way == Recipe::Way::model ? hr : nullptr; // as it is shown
        const auto at = static_cast<int64_t>(index);
        reference.distance = last ? std::max<int64_t>(static_cast<int64_t>(run_.size()) - at, 1)
                                  : -(static_cast<int64_t>(planned_) + at + 1);
    }
    return reference;
}

RecipePtr Recurrence::from_boundaries(const Event &event, size_t index,
                                      const Boundaries &between) const {
    return recipe(event, boundary(between, false, index), boundary(between, true, index));
}

// Plans the pictures that are there: the middle from both boundaries, the others from
// one of them and the enhanced middle; with one boundary, or none, all from that.
void Recurrence::make(Group &group, const Boundaries &between) {
    std::vector<size_t> present;
    for (size_t i = 0; i < group.size(); i++) {
        if (run_[i].picture) {
            present.push_back(i);
        }
    }
    // A middle that is not enhanced is no reference.
    const bool recurrent = between.both() && present.size() > 1 &&
                           run_[present[(present.size() - 1) / 2]].picture->strength > 0.0F;
    const size_t middle = recurrent ? (present.size() - 1) / 2 : present.size();
    Reference made; // the enhanced middle
    bool damaged = false;
    if (recurrent) {
        const Event &event = run_[present[middle]];
        made.picture = event.picture;
        made.made = from_boundaries(event, present[middle], between);
        damaged = event.picture->corrupt || (between.reason & TDS_REASON_REF_LOST) != 0;
    }
    for (size_t n = 0; n < present.size(); n++) {
        const Event &event = run_[present[n]];
        Target &target = group[present[n]];
        const bool before = recurrent && n < middle;
        const bool after = recurrent && n > middle;
        made.distance =
            recurrent ? static_cast<int64_t>(present[middle]) - static_cast<int64_t>(present[n])
                      : 0;
        target.recipe = recurrent && n == middle
                            ? made.made
                            : recipe(event, after ? made : boundary(between, false, present[n]),
                                     before ? made : boundary(between, true, present[n]));
        const bool enhanced = target.recipe->way == Recipe::Way::model;
        target.status = enhanced ? TDS_STATUS_ENHANCED : TDS_STATUS_UPSAMPLED;
        target.reason =
            between.reason | (event.told ? TDS_REASON_LOST : 0) |
            (event.picture->corrupt ? TDS_REASON_CORRUPT : 0) |
            ((before || after) && damaged ? TDS_REASON_REF_LOST : 0) |
            (settings_.references && event.picture->strength <= 0.0F ? TDS_REASON_STRENGTH : 0);
    }
}

// The nearest picture again, of those planned with it or before it; the earlier one when
// two are as near. Any other only where there is none: whether it has arrived yet depends
// on who calls when. nullptr where there is none at all.
RecipePtr Recurrence::nearest(const Group &group, size_t index, const Boundaries &between) const {
    const int64_t pts = group[index].pts;
    RecipePtr best;
    uint64_t least = 0;
    const auto nearer = [&](int64_t other) {
        const uint64_t d = distance(other, pts);
        if (best && d >= least) {
            return false;
        }
        least = d;
        return true;
    };
    if (first_ && nearer(first_->picture->pts)) {
        best = first_;
    }
    if (previous_ && nearer(previous_->picture->pts)) {
        best = previous_;
    }
    if (settings_.causal) {
        for (size_t i = 0; i < index; i++) {
            if (run_[i].picture && nearer(group[i].pts)) {
                best = group[i].recipe;
            }
        }
        return best;
    }
    for (size_t i = 0; i < group.size(); i++) {
        if (run_[i].picture && nearer(group[i].pts)) {
            best = group[i].recipe;
        }
    }
    const RecipePtr closing = next_hr();
    if (closing && nearer(closing->picture->pts)) {
        best = closing;
    }
    if (!best) {
        size_t place = 0;
        const auto same_run = [&](const Event &e) {
            if (e.picture && !e.picture->full && (!closing || e.pts < closing->picture->pts) &&
                nearer(e.pts)) {
                best = from_boundaries(e, place, between);
            }
            place++;
        };
        std::for_each(run_.begin(), run_.end(), same_run);
        for (const Event *event : coming()) {
            same_run(*event);
        }
    }
    return best;
}

void Recurrence::repeat(Group &group, const Boundaries &between) {
    for (size_t i = 0; i < group.size(); i++) {
        if (run_[i].picture) {
            continue;
        }
        Target &target = group[i];
        target.status = TDS_STATUS_REPEATED;
        target.reason = TDS_REASON_LOST | (long_run_ ? TDS_REASON_LONG_GROUP : 0);
        target.recipe = nearest(group, i, between);
        if (!target.recipe) {
            target.recipe = std::make_shared<Recipe>();
            target.reason |= TDS_REASON_NO_FIRST | TDS_REASON_NO_LAST;
        }
    }
}

// The HR picture that closes a run, once that run is out.
Group Recurrence::pass(Target closing) {
    first_ = closing.recipe;
    previous_ = nullptr;
    planned_ = 0;
    long_run_ = run_has_lost_hr_ = false;
    return {std::move(closing)};
}

Group Recurrence::plan() {
    // One that is out was made: its recipe would only keep what it was made from.
    if (first_ && !first_->references.empty()) {
        auto made = std::make_shared<Recipe>();
        made->way = first_->way;
        made->picture = first_->picture;
        first_ = std::move(made);
    }
    if (closing_ && !can_start()) {
        Target closing = std::move(*closing_);
        closing_.reset();
        return pass(std::move(closing));
    }
    const Boundaries between = boundaries();
    Group group(share(between));
    for (size_t i = 0; i < group.size(); i++) {
        group[i].pts = run_[i].pts;
    }
    make(group, between);
    repeat(group, between);
    for (const Target &target : group) {
        if (target.recipe->picture && !target.recipe->picture->full) {
            previous_ = target.recipe;
        }
    }
    run_.erase(run_.begin(), run_.begin() + static_cast<ptrdiff_t>(group.size()));
    planned_ += group.size();
    outstanding_ = group.size();
    return group;
}

} // namespace tds
