// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tag/times.h"

#include "session/error.h"
#include "tag/beginning.h"

#include <algorithm>
#include <cstdio>

namespace tds {
namespace {

constexpr int64_t kMaxTime = int64_t{1} << 61; // units, so that sums stay within 64 bits
constexpr size_t kKnown = 64;                  // first times of a track that are kept
// Times that settle the shifts: fewer do when all fit as they are.
constexpr size_t kEnough[2] = {4, 8};
constexpr size_t kEnoughThatFit[2] = {3, 4};
constexpr size_t kHeld = 24;       // pictures that wait for it at most, both tracks together
constexpr size_t kHeldUntold = 64; // likewise, where there is no plan and both begin at one time
constexpr int kStrange = 8;        // in a row, then the plan is left aside
constexpr size_t kRecent = 32;     // last times of a track that are kept

bool usable(tds_rational r) {
    return r.num > 0 && r.den > 0;
}

Wide absolute(Wide x) {
    return x < 0 ? -x : x;
}

} // namespace

// ----------------------------------------------------------------- due --

Times::Due::Due(const Tag &tag, tds_role role, Wide factor)
    : cursor_(tag), role_(role), factor_(factor) {
    advance();
}

void Times::Due::advance() {
    while ((there_ = cursor_.next(frame_))) {
        lead_ = role_ == TDS_LR && frame_.role == TDS_HR && frame_.lead;
        if (frame_.role == role_ || lead_) {
            index_ = cursor_.index() - 1;
            time_ = frame_.time * factor_;
            return;
        }
    }
}

// --------------------------------------------------------------- times --

Times::Times(const Tag *tag, const tds_times_settings &settings)
    : tag_(tag), unit_(settings.unit), offset_(settings.offset),
      offset_known_(settings.offset_known != 0) {
    if (!usable(unit_) || !usable(settings.clock[0]) || !usable(settings.clock[1])) {
        invalid("a time base is a positive fraction");
    }
    if (offset_ > kMaxTime || offset_ < -kMaxTime) {
        invalid("the offset is beyond what can be counted");
    }
    planned_ = tag_ && tag_->values().times_known && tag_->values().frames > 0;
    if (!planned_) {
        return;
    }
    const tds_tag_values &v = tag_->values();
    factor_ = static_cast<Wide>(v.time_base.num) * unit_.den;
    scale_ = static_cast<Wide>(v.time_base.den) * unit_.num;
    for (const int64_t time : {v.start, v.end}) {
        if (absolute(time * factor_ / scale_) > kMaxTime) {
            invalid("the times of the tag are beyond what can be counted in this time base");
        }
    }
    strengths_ = v.has_strengths;
    for (size_t role = 0; role < 2; role++) {
        const tds_rational clock = settings.clock[role];
        const Wide tick = static_cast<Wide>(clock.num) * unit_.den * v.time_base.den / clock.den;
        // Half a tick of the coarser clock, and of the milliseconds that the file may have been
        // through; never so much that two frames could be taken for each other.
        const Wide second = static_cast<Wide>(unit_.den) * v.time_base.den;
        tracks_[role].tolerance = std::min(std::max({tick, factor_, second / 1000}) / 2,
                                           second * v.rate.den / v.rate.num / 4);
    }
}

void Times::know(size_t role, int64_t pts) {
    Track &track = tracks_[role];
    if (pts > kMaxTime || pts < -kMaxTime) {
        invalid("a time is beyond what can be counted");
    }
    const auto at = std::lower_bound(track.first.begin(), track.first.end(), pts);
    if (!settled_ && (at == track.first.end() || *at != pts) &&
        (track.first.size() < kKnown || at != track.first.end())) {
        track.first.insert(at, pts);
        track.first.resize(std::min(track.first.size(), kKnown));
    }
    track.latest = std::max(track.latest.value_or(pts), pts);
}

void Times::show(tds_role role, int64_t pts) {
    if (settled_ && planned_) {
        invalid("times are shown before the first event is asked for");
    }
    know(role, pts);
}

void Times::push(tds_role role, int64_t pts) {
    Track &track = tracks_[role];
    if (track.ended) {
        invalid("a picture after the end of its track");
    }
    if (track.pushed && pts <= track.last) {
        throw Error(TDS_ERROR_ORDER, "a time stamp that does not increase within its track");
    }
    know(role, pts);
    track.pending.push_back(pts);
    if (planned_) {
        track.recent.push_back(pts);
        if (track.recent.size() > kRecent) {
            track.recent.pop_front();
        }
    }
    track.pushed = true;
    track.last = pts;
}

void Times::end(tds_role role) {
    tracks_[role].ended = true;
}

// ------------------------------------------------------ finding shifts --

bool Times::within(size_t role, const Shift &shift, int64_t pts, Wide plan) const {
    const Wide apart = pts * scale_ - plan;
    const Wide tolerance = tracks_[role].tolerance;
    return apart + tolerance >= shift.low && apart - tolerance <= shift.high;
}

// As within(), and what the picture tells about the shift is kept.
bool Times::narrow(size_t role, Shift &shift, int64_t pts, Wide plan) const {
    if (!within(role, shift, pts, plan)) {
        return false;
    }
    const Shift seen = around(role, pts, plan);
    shift = {std::max(shift.low, seen.low), std::min(shift.high, seen.high)};
    return true;
}

Times::Shift Times::around(size_t role, int64_t pts, Wide plan) const {
    const Wide apart = pts * scale_ - plan;
    return {apart - tracks_[role].tolerance, apart + tracks_[role].tolerance};
}

// Goes through the first times of a track from `due` on, where the first of them may be.
Times::Fit Times::fit(size_t role, const Shift &shift, Due due) const {
    Fit fit;
    fit.shift = shift;
    const Track &track = tracks_[role];
    int64_t passed = 0; // pictures of the plan since the one before
    for (const int64_t pts : track.first) {
        while (due.there() && due.time() + fit.shift.high < pts * scale_ - track.tolerance) {
            passed += due.lead() ? 0 : 1;
            due.advance();
        }
        if (due.there() && narrow(role, fit.shift, pts, due.time())) {
            // A long gap is none of a track: the times behind it were shown apart.
            fit.missing += fit.matched > 0 && passed <= kStrange ? passed : 0;
            fit.matched++;
            passed = 0;
            due.advance();
        } else {
            fit.strange++;
        }
    }
    return fit;
}

Times::Due Times::due(size_t role) const {
    return Due(*tag_, static_cast<tds_role>(role), factor_);
}

// The shift that the caller knows of, as rounding leaves it.
Times::Shift Times::known() const {
    const Wide slack = std::max(tracks_[0].tolerance, tracks_[1].tolerance);
    return {offset_ * scale_ - slack, offset_ * scale_ + slack};
}

// The likeliest of a range.
Wide Times::value(const Shift &shift) const {
    const Wide offset = offset_ * scale_;
    return shift.low <= offset && offset <= shift.high ? offset
                                                       : shift.low + (shift.high - shift.low) / 2;
}

// Without a plan: whether the track's first times tell where it begins. Where the tracks begin
// apart that is so from their first pictures on; else some groups of both have to be seen.
bool Times::shows_its_beginning(size_t role) const {
    const Track &track = tracks_[role];
    const Track &hr = tracks_[TDS_HR];
    const Track &theirs = tracks_[other(role)];
    if (track.ended || (theirs.ended && theirs.first.empty())) {
        return true;
    }
    if (track.first.empty() ||
        (!theirs.first.empty() && track.first.front() == theirs.first.front() &&
         track.first.size() < kEnough[role])) {
        return false;
    }
    return role == TDS_HR || theirs.first.empty() || track.first.front() != theirs.first.front() ||
           track.first.back() >= hr.first[std::min(hr.first.size(), kEnough[TDS_HR]) - 1];
}

bool Times::enough() const {
    const Track &hr = tracks_[TDS_HR];
    const Track &lr = tracks_[TDS_LR];
    if (!planned_) {
        return (shows_its_beginning(TDS_HR) && shows_its_beginning(TDS_LR)) ||
               hr.pending.size() + lr.pending.size() >= kHeldUntold;
    }
    const auto have = [&](const size_t(&least)[2]) {
        return (hr.ended || hr.first.size() >= least[TDS_HR]) &&
               (lr.ended || lr.first.size() >= least[TDS_LR]);
    };
    return have(kEnough) || hr.pending.size() + lr.pending.size() >= kHeld ||
           (have(kEnoughThatFit) && likely());
}

// The shift that fits if nothing unusual has happened: the one the caller knows of, or that of a
// video that begins with its plan.
std::optional<std::array<Times::Fit, 2>> Times::likely() const {
    if (!offset_known_) {
        if (const auto fits = from_the_beginning()) {
            return fits;
        }
    }
    std::array<Fit, 2> fits{fit(TDS_HR, known(), due(TDS_HR)), fit(TDS_LR, known(), due(TDS_LR))};
    if (fits[TDS_HR].all() && fits[TDS_LR].all()) {
        return fits;
    }
    return std::nullopt;
}

// Shifts of both tracks together that put the first times on the plan's, from the frame `from` on.
// `wanted` whole ones are looked for; returns how many there are, and in `best` the first whole
// one, else the one that fits best.
int Times::together(int64_t from, int wanted, std::optional<std::array<Fit, 2>> &best,
                    std::optional<Fit> &hr_alone) const {
    const size_t anchor = tracks_[TDS_HR].first.empty() ? TDS_LR : TDS_HR;
    const size_t second = other(anchor);
    const std::vector<int64_t> &ours = tracks_[anchor].first;
    const std::vector<int64_t> &theirs = tracks_[second].first;
    if (ours.empty()) {
        return 0;
    }
    int found = 0;
    int64_t score = 0;
    Due behind = due(second);
    for (Due at = due(anchor); at.there() && found < wanted; at.advance()) {
        if (at.index() < from) {
            continue;
        }
        const Shift shift = around(anchor, ours[0], at.time());
        // The later the plan's frame, the later those of the other track that come into it.
        while (!theirs.empty() && behind.there() &&
               behind.time() + shift.high < theirs[0] * scale_ - tracks_[second].tolerance) {
            behind.advance();
        }
        std::array<Fit, 2> fits;
        fits[anchor] = fit(anchor, shift, at);
        if (best && !fits[anchor].whole() && fits[anchor].score() <= score) {
            continue; // no need to look at the other track
        }
        fits[second] = fit(second, fits[anchor].shift, behind);
        if (anchor == TDS_HR && fits[anchor].whole() && !hr_alone) {
            hr_alone = fits[anchor];
        }
        // One shift for both: what the second track tells of it holds for the first.
        fits[anchor].shift = fits[second].shift;
        const bool whole = fits[0].whole() && fits[1].whole();
        const int64_t sum = fits[0].score() + fits[1].score();
        if (found == 0 && (whole || !best || sum > score)) {
            best = fits;
            score = sum;
        }
        found += whole ? 1 : 0;
    }
    return found;
}

// A shift of the LR track alone, the one nearest to that of HR.
std::optional<Times::Fit> Times::lr_apart(const Shift &hr) const {
    std::optional<Fit> best;
    const Track &lr = tracks_[TDS_LR];
    if (lr.first.size() < (lr.ended ? 2 : kEnoughThatFit[TDS_LR])) {
        return best;
    }
    const auto distance = [&](const Shift &shift) { return absolute(value(shift) - value(hr)); };
    for (Due at = due(TDS_LR); at.there(); at.advance()) {
        const Shift shift = around(TDS_LR, lr.first[0], at.time());
        if (best && distance(shift) > distance(best->shift)) {
            break; // the shifts only get smaller, and have passed that of HR
        }
        const Fit fitting = fit(TDS_LR, shift, at);
        if (fitting.whole()) {
            best = fitting;
        }
    }
    return best;
}

// Which shift puts the first times on the plan's: the likely one where all times fit so; else
// one of both tracks, as when a part was cut out; else, for LR, one of its own. Of several that
// fit the one nearest to the plan's beginning: a regular plan fits in many places.
void Times::settle() {
    if (!planned_) {
        begin_without_a_plan();
        settled_ = true;
        return;
    }
    settled_ = true;
    std::array<Fit, 2> fits;
    std::optional<std::array<Fit, 2>> others;
    std::optional<Fit> hr_alone;
    if (const auto fitting = likely()) {
        fits = *fitting;
        strengths_ = strengths_ && (offset_known_ || whole_plan(fits[TDS_HR].shift) ||
                                    together(0, 2, others, hr_alone) < 2);
    } else if (const int places = together(0, strengths_ ? 2 : 1, others, hr_alone);
               places > 0 && others) {
        fits = *others;
        strengths_ = strengths_ && (places == 1 || whole_plan(fits[TDS_HR].shift));
    } else {
        fits = {fit(TDS_HR, known(), due(TDS_HR)), fit(TDS_LR, known(), due(TDS_LR))};
        const Fit hr = fits[TDS_HR].all() ? fits[TDS_HR] : hr_alone.value_or(fits[TDS_HR]);
        const std::optional<Fit> lr = hr.all() ? lr_apart(hr.shift) : std::nullopt;
        if (lr) {
            fits = {hr, *lr};
        } else if (others && fits[0].score() + fits[1].score() <
                                 (*others)[0].score() + (*others)[1].score()) {
            fits = *others;
        }
        strengths_ = strengths_ && fits[TDS_HR].whole() && whole_plan(fits[TDS_HR].shift);
    }
    if (tag_->values().has_strengths && !strengths_) {
        tell("which frames of the tag's plan these are is not certain, so that the strengths it "
             "gives are not used");
    }
    use(fits);
}

// Of a pair whose tag is gone.
void Times::begin_without_a_plan() {
    const Beginning beginning = find_beginning(tracks_[TDS_HR].first, tracks_[TDS_LR].first);
    for (const tds_role role : {TDS_HR, TDS_LR}) {
        if (const std::optional<int64_t> &first = beginning.first[role]) {
            tracks_[role].late_start = first;
            tell(std::string("the first picture of its ") + (role == TDS_HR ? "HR" : "LR") +
                 " track has the time of the other track's, as where edit lists are lost; by the "
                 "pictures behind it is that of " +
                 seconds(*first) + " s");
        }
    }
    move_lr(beginning.move_lr);
}

// The fit of a video that begins with its plan.
std::optional<std::array<Times::Fit, 2>> Times::from_the_beginning() const {
    const auto first = [&](size_t role) {
        return tracks_[role].first.empty() ? INT64_MAX : tracks_[role].first[0];
    };
    const size_t anchor = first(TDS_LR) < first(TDS_HR) ? TDS_LR : TDS_HR;
    const Due begin = due(anchor);
    if (first(anchor) == INT64_MAX || !begin.there()) {
        return std::nullopt;
    }
    std::array<Fit, 2> fits;
    fits[anchor] = fit(anchor, around(anchor, first(anchor), begin.time()), begin);
    fits[other(anchor)] = fit(other(anchor), fits[anchor].shift, due(other(anchor)));
    fits[anchor].shift = fits[other(anchor)].shift;
    if (!fits[0].all() || !fits[1].all()) {
        return std::nullopt;
    }
    return fits;
}

// Whether the tracks, as far as their end was shown, begin and end with the plan.
bool Times::whole_plan(const Shift &shift) const {
    const tds_tag_values &v = tag_->values();
    const auto at = [&](int64_t pts, int64_t plan) {
        return within(TDS_HR, shift, pts, plan * factor_) ||
               within(TDS_LR, shift, pts, plan * factor_);
    };
    const std::optional<int64_t> first = begin(), last = end();
    return first && last && at(*first, v.start) && at(*last, v.end);
}

void Times::use(const std::array<Fit, 2> &fits) {
    for (size_t role = 0; role < 2; role++) {
        Track &track = tracks_[role];
        track.shift = fits[role].shift;
        track.due = std::make_unique<Due>(due(role));
        if (fits[role].strange > fits[role].matched) {
            planned_ = false;
        }
    }
    if (!planned_) {
        tell("the times of its tracks are not those of the plan in its tag, which is left aside: "
             "pictures that are missing are not known as such");
        return;
    }
    const Wide apart = value(tracks_[TDS_LR].shift) - value(tracks_[TDS_HR].shift);
    if (!within_one_shift()) {
        move_lr(-static_cast<int64_t>(divide_half_up(apart, scale_)));
    }
    // What the plan has before the first picture is not missing: the video begins later.
    if (const std::optional<int64_t> first = begin()) {
        const Shift &shift = tracks_[TDS_HR].shift;
        const Wide tolerance = std::max(tracks_[0].tolerance, tracks_[1].tolerance);
        const Wide begin = *first * scale_ - tolerance - shift.high;
        Tag::Cursor cursor(*tag_);
        tds_tag_frame frame;
        while (cursor.next(frame) && frame.time * factor_ < begin) {
            late_++;
        }
        for (Track &track : tracks_) {
            while (track.due->there() && track.due->index() < late_) {
                track.due->advance();
            }
        }
    }
}

void Times::move_lr(int64_t by) {
    move_lr_ = by;
    if (by != 0) {
        tell("the times of its LR track are " + seconds(by < 0 ? -by : by) + " s too " +
             (by < 0 ? "late" : "early") + " against those of HR; they are moved back");
    }
}

// Whether one shift may be that of both tracks.
bool Times::within_one_shift() const {
    const Shift &hr = tracks_[TDS_HR].shift;
    const Shift &lr = tracks_[TDS_LR].shift;
    return tracks_[TDS_HR].first.empty() || tracks_[TDS_LR].first.empty() ||
           (hr.low <= lr.high && lr.low <= hr.high);
}

// After the seam of two parts, or when the first times fitted in a wrong place: a shift of both
// tracks that puts the latest times on the plan's, further on.
bool Times::find_again(size_t role) {
    if (move_lr_ != 0) {
        return false;
    }
    const Track &lost = tracks_[role]; // its pictures that the plan does not know, and who waits
    const size_t strange = static_cast<size_t>(lost.strange) + lost.pending.size() - 1;
    const int64_t from = lost.recent[lost.recent.size() - std::min(strange, lost.recent.size())];
    size_t known = 0;
    for (Track &track : tracks_) {
        track.first.assign(std::lower_bound(track.recent.begin(), track.recent.end(), from),
                           track.recent.end());
        known += track.first.size();
    }
    std::optional<std::array<Fit, 2>> fits;
    std::optional<Fit> hr_alone;
    if (known < kStrange || together(next_, 1, fits, hr_alone) == 0 || !fits) {
        return false;
    }
    for (size_t r = 0; r < 2; r++) {
        Track &track = tracks_[r];
        track.shift = (*fits)[r].shift;
        track.due = std::make_unique<Due>(due(r));
        track.resolved = false;
        track.strange = 0;
        // From the oldest picture that waits on.
        const int64_t front = track.pending.empty() ? track.last + 1 : track.pending.front();
        const Wide first = front * scale_ - track.tolerance - track.shift.high;
        while (track.due->there() && track.due->time() < first) {
            track.due->advance();
        }
    }
    strengths_ = false; // in which of several such places is not certain
    return true;
}

// -------------------------------------------------------------- events --

// Whether the first picture of a track is the plan's frame `due` although its time is too early:
// where an edit list was lost, a track begins with that of HR and its first picture lasts longer.
bool Times::began_early(size_t role, int64_t pts, const Due &due) const {
    const Track &track = tracks_[role];
    if (track.given || !due.there() || due.lead() || track.first.size() < 2 ||
        track.first[0] != pts || tracks_[other(role)].first.empty() ||
        tracks_[other(role)].first[0] != pts) {
        return false;
    }
    Due after = due;
    after.advance();
    return after.there() && within(role, track.shift, track.first[1], after.time());
}

// Finds the plan's frame that a track's oldest picture is.
void Times::resolve(size_t role) {
    Track &track = tracks_[role];
    if (track.resolved) {
        return;
    }
    track.resolved = true;
    track.match.reset();
    const int64_t pts = track.pending.front();
    const Wide first = pts * scale_ - track.tolerance - track.shift.high;
    Due at = *track.due;
    while (at.there() && at.time() < first) {
        at.advance();
    }
    if (at.there() && narrow(role, track.shift, pts, at.time())) {
        track.match = at.index();
        next_ = std::max(next_, at.index() + 1);
        track.strange = 0;
        return;
    }
    if (began_early(role, pts, at)) {
        track.match = at.index();
        track.late_start =
            static_cast<int64_t>(divide_half_up(at.time() + value(tracks_[TDS_HR].shift), scale_));
        next_ = std::max(next_, at.index() + 1);
        return;
    }
    track.unplanned++;
    // What was due before it is taken to be it: no picture is doubled for times that differ.
    *track.due = at;
    if (++track.strange >= kStrange / 2 && find_again(role)) {
        track.resolved = false;
        resolve(role);
        return;
    }
    if (track.strange == kStrange) {
        planned_ = false;
        tell("from " + seconds(moved(role, pts)) +
             " s on the times of its tracks are not those "
             "of the plan in its tag, which is left aside from there");
    }
}

// The next picture of the plan that this track lacks, before the frame `until` and before `pts`.
bool Times::lose(size_t role, int64_t until, int64_t before, tds_event &event) {
    Track &track = tracks_[role];
    while (track.due->there() && track.due->index() < until) {
        const Due due = *track.due;
        const int64_t pts =
            static_cast<int64_t>(divide_half_up(due.time() + value(tracks_[TDS_HR].shift), scale_));
        if (pts >= before) {
            return false;
        }
        track.due->advance();
        if (due.lead() || (track.given && pts <= track.last_given)) {
            continue;
        }
        track.lost++;
        track.given = true;
        track.last_given = pts;
        event = {TDS_EVENT_LOST, pts, due.index(), strength(due)};
        return true;
    }
    return false;
}

float Times::strength(const Due &due) const {
    return strengths_ ? due.strength() : -1.0F;
}

tds_result Times::next(tds_role role, tds_event &event) {
    if (!settled_) {
        if (!enough()) {
            return TDS_AGAIN;
        }
        settle();
    }
    Track &track = tracks_[role];
    if (!track.pending.empty()) {
        next_picture(role, event);
        return TDS_OK;
    }
    if (!track.ended) {
        return TDS_AGAIN;
    }
    // What the plan has after this track's last picture is missing as far as the other track goes.
    if (planned_ && !track.done) {
        const std::optional<int64_t> last = end();
        if (last && lose(role, tag_->values().frames, *last + 1, event)) {
            return TDS_OK;
        }
        if (!tracks_[other(role)].ended) {
            return TDS_AGAIN;
        }
    }
    track.done = true;
    finish();
    return TDS_END;
}

void Times::next_picture(size_t role, tds_event &event) {
    Track &track = tracks_[role];
    int64_t pts = moved(role, track.pending.front());
    if (planned_) {
        resolve(role);
    }
    if (!track.given) {
        pts = track.late_start.value_or(pts);
    }
    event = {TDS_EVENT_PICTURE, pts, -1, -1.0F};
    if (planned_ && track.match) {
        if (lose(role, *track.match, pts, event)) {
            return;
        }
        while (track.due->index() < *track.match) {
            track.due->advance();
        }
        event.frame = *track.match;
        event.strength = strength(*track.due);
        track.due->advance();
    }
    track.pending.pop_front();
    track.resolved = false;
    track.given = true;
    track.last_given = pts;
}

unsigned Times::wants(tds_role role) const {
    const auto bit = [](size_t r) { return 1U << r; };
    if (!settled_ && !enough()) {
        unsigned roles = 0;
        for (size_t r = 0; r < 2; r++) {
            const bool more =
                planned_ ? tracks_[r].first.size() < kEnough[r] : !shows_its_beginning(r);
            roles |= more && !tracks_[r].ended ? bit(r) : 0;
        }
        return roles;
    }
    const Track &track = tracks_[role];
    if (!track.pending.empty() || track.done) {
        return 0;
    }
    if (!track.ended) {
        return bit(role);
    }
    return planned_ && !tracks_[other(role)].ended ? bit(other(role)) : 0;
}

// The span of the tracks, as far as it is known: HR's times.
std::optional<int64_t> Times::begin() const {
    std::optional<int64_t> time;
    for (size_t role = 0; role < 2; role++) {
        if (!tracks_[role].first.empty()) {
            const int64_t first = moved(role, tracks_[role].first[0]);
            time = std::min(time.value_or(first), first);
        }
    }
    return time;
}

std::optional<int64_t> Times::end() const {
    std::optional<int64_t> time;
    for (size_t role = 0; role < 2; role++) {
        if (const std::optional<int64_t> &latest = tracks_[role].latest) {
            const int64_t last = moved(role, *latest);
            time = std::max(time.value_or(last), last);
        }
    }
    return time;
}

int64_t Times::moved(size_t role, int64_t pts) const {
    return role == TDS_LR ? pts + move_lr_ : pts;
}

// ------------------------------------------------------------- notices --

void Times::tell(const std::string &sentence) {
    notices_ += sentence + "\n";
}

std::string Times::seconds(int64_t pts) const {
    char text[32];
    std::snprintf(text, sizeof(text), "%.3f", static_cast<double>(pts) * unit_.num / unit_.den);
    return text;
}

// Once both tracks have ended: what the plan has behind them, and what was missing.
void Times::finish() {
    if (finished_ || !tracks_[0].done || !tracks_[1].done) {
        return;
    }
    finished_ = true;
    if (tag_ && tag_->values().frames > 0 && !tracks_[0].pushed && !tracks_[1].pushed) {
        tell("its tag tells of " + std::to_string(tag_->values().frames) +
             " frames, and none of them is in its tracks");
        return;
    }
    if (!tracks_[0].due) {
        return;
    }
    if (const int64_t lost = tracks_[0].lost + tracks_[1].lost; lost > 0) {
        tell(std::to_string(tracks_[TDS_HR].lost) + " HR and " +
             std::to_string(tracks_[TDS_LR].lost) +
             " LR pictures of the plan are missing in its tracks; others stand for them");
    }
    if (!planned_) {
        return;
    }
    if (tracks_[0].unplanned + tracks_[1].unplanned > 0) {
        tell(std::to_string(tracks_[TDS_HR].unplanned) + " HR and " +
             std::to_string(tracks_[TDS_LR].unplanned) +
             " LR pictures are at times that its plan does not know; they are shown there");
    }
    const int64_t frames = tag_->values().frames;
    if (const std::optional<int64_t> last = end()) {
        const Wide end = *last * scale_ - tracks_[TDS_HR].shift.low +
                         std::max(tracks_[0].tolerance, tracks_[1].tolerance);
        // The dues stand at the first frames behind the span.
        int64_t next = frames;
        for (const Track &track : tracks_) {
            if (track.due->there() && track.due->time() > end) {
                next = std::min(next, track.due->index());
            }
        }
        early_ = frames - next;
    } else {
        early_ = frames - late_;
    }
    if (!offset_known_ && late_ + early_ > 0) {
        tell("its tag tells of " + std::to_string(frames) + " frames, and its tracks hold " +
             std::to_string(frames - late_ - early_) + " of them, so that the video " +
             (late_ == 0    ? "ends early"
              : early_ == 0 ? "begins late"
                            : "begins late and ends early"));
    }
}

tds_times_report Times::report() const {
    tds_times_report report{};
    for (size_t role = 0; role < 2; role++) {
        report.lost[role] = tracks_[role].lost;
        report.unplanned[role] = tracks_[role].unplanned;
        report.shift[role] =
            planned_ ? static_cast<int64_t>(divide_half_up(value(tracks_[role].shift), scale_)) : 0;
    }
    report.late = late_;
    report.early = early_;
    report.planned = planned_;
    return report;
}

} // namespace tds
