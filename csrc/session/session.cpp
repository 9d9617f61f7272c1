// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/session.h"

#include "session/chroma.h"
#include "session/error.h"
#include "window/neighbours.h"
#include "window/recurrence.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>

namespace tds {
namespace {

void log_to_stderr(void *, tds_log_level level, const char *message) {
    if (level <= TDS_LOG_WARNING) {
        std::fprintf(stderr, "tds: %s\n", message);
    }
}

const char *name_of(tds_role role) {
    return role == TDS_HR ? "HR picture" : "LR picture";
}

int32_t device_index(const tds_backend_traits &traits) {
    const char *colon = std::strchr(traits.device, ':');
    return colon ? static_cast<int32_t>(std::strtol(colon + 1, nullptr, 10)) : 0;
}

// Every picture of a window is one that its session holds.
Held &held(const ShownPtr &picture) {
    return static_cast<Held &>(*picture);
}

float position(int64_t pts, const ShownPtr &first, const ShownPtr &last) {
    if (!first || !last) {
        return 0.5F;
    }
    return static_cast<float>(static_cast<double>(distance(pts, first->pts)) /
                              static_cast<double>(distance(last->pts, first->pts)));
}

} // namespace

// ------------------------------------------------------------- opening --

Session::Session(const tds_settings &settings) : settings_(settings) {
    check_settings(settings_);
    if (!settings_.log) {
        settings_.log = log_to_stderr;
    }
    lr_width_ = tds_lr_size(settings_.width, settings_.scale);
    lr_height_ = tds_lr_size(settings_.height, settings_.scale);
    const bool plain = settings_.kind == TDS_KIND_PLAIN;
    if (!plain) {
        low_ = open_model(settings_, false);
    }
    const bool no_model =
        settings_.backend && std::strcmp(settings_.backend, "bicubic") == 0; // said so
    if (plain || (settings_.hr_model && !no_model)) {
        full_ = open_model(settings_, true);
    }
    // The caller's strings need not outlive this call.
    settings_.backend = settings_.model = settings_.model_sha256 = nullptr;
    settings_.hr_model = settings_.hr_model_sha256 = nullptr;
    settings_.device = settings_.precision = nullptr;
    window_ = new_window();
}

Session::~Session() {
    drop_all();
}

Engine &Session::engine() const {
    return low_.engine ? *low_.engine : *full_.engine;
}

std::unique_ptr<Window> Session::new_window() {
    const auto max_group = static_cast<size_t>(settings_.max_group);
    auto max_batch = static_cast<size_t>(settings_.max_batch);
    const bool plain = settings_.kind == TDS_KIND_PLAIN;
    Neighbours::Settings around;
    around.plain = plain;
    around.causal = settings_.causal != 0;
    around.max_group = max_group;
    around.max_batch = max_batch;
    around.cut = [this](const Shown &before, const Shown &after) { return cut(before, after); };
    if (full_.contract != 0) {
        around.full = full_.references;
    }
    if (low_.contract > 1) {
        around.low = low_.references;
    }
    if (!plain && (low_.contract == 1 || low_.recurrence || full_.contract + low_.contract == 0)) {
        Recurrence::Settings s;
        const tds_backend_traits &traits = low_.engine->traits();
        s.references = low_.contract != 0;
        s.runs_without_reference = traits.runs_without_reference != 0;
        s.causal = settings_.causal != 0;
        s.max_group = max_group;
        s.max_batch = traits.max_batch > 0
                          ? std::min(max_batch, static_cast<size_t>(traits.max_batch))
                          : max_batch;
        if (full_.contract != 0) {
            s.refine = std::move(around);
        }
        return std::make_unique<Recurrence>(std::move(s));
    }
    return std::make_unique<Neighbours>(std::move(around));
}

// What is prepared goes before the engines do.
void Session::drop_all() {
    for (Output &output : group_) {
        tds_picture_release(&output.picture);
    }
    group_.clear();
    next_ = 0;
    window_.reset();
}

void Session::flush() {
    counts_.dropped_lr += window_->dropped_lr();
    std::unique_ptr<Window> fresh = new_window();
    drop_all();
    cuts_ = SceneCuts();
    window_ = std::move(fresh);
}

void Session::info(tds_info *info) const {
    const Opened &main = settings_.kind == TDS_KIND_PLAIN ? full_ : low_;
    const bool refines = settings_.kind == TDS_KIND_PAIR && full_.engine;
    *info = counts_;
    info->dropped_lr += window_->dropped_lr();
    info->backend = main.engine->name();
    info->device = main.engine->traits().device;
    info->precision = main.engine->traits().precision;
    info->model_name = main.name.c_str();
    info->model_sha256 = main.sha256.c_str();
    info->contract = main.contract;
    info->hr_model_name = refines ? full_.name.c_str() : "";
    info->hr_model_sha256 = refines ? full_.sha256.c_str() : "";
    info->latency =
        settings_.kind == TDS_KIND_PLAIN ? static_cast<const Neighbours &>(*window_).latency() : -1;
    for (const Opened *opened : {&full_, &low_}) {
        info->references += opened->engine ? opened->engine->prepared() : 0;
    }
}

// ------------------------------------------------------------- sending --

void Session::check_role(tds_role role) {
    if (role != TDS_HR && role != TDS_LR) {
        invalid("the role is neither TDS_HR nor TDS_LR");
    }
}

void Session::check_stream(tds_role role) const {
    if (role == TDS_LR && settings_.kind == TDS_KIND_PLAIN) {
        invalid("LR picture in a plain session, which has one stream: send its pictures as HR");
    }
}

void Session::check_memory(const char *name, const tds_picture &picture) const {
    if (picture.memory != TDS_MEMORY_CUDA) {
        return;
    }
    if (!is_420()) {
        throw Error(TDS_ERROR_UNSUPPORTED, std::string(name) + " of " +
                                               chroma_name(settings_.chroma) +
                                               " in CUDA memory: download it first");
    }
    // Here, not when it is worked on: a picture that is taken stays in the way.
    for (const Opened *opened : {&full_, &low_}) {
        if (opened->engine && (!opened->engine->has_device_memory() ||
                               std::strncmp(opened->engine->traits().device, "cuda", 4) != 0)) {
            throw Error(TDS_ERROR_UNSUPPORTED, std::string(name) + " in CUDA memory: the backend " +
                                                   opened->engine->name() +
                                                   " works in host memory, download it first");
        }
    }
    if (std::any_of(std::begin(picture.stride), std::end(picture.stride),
                    [](ptrdiff_t stride) { return stride < 0; })) {
        throw Error(TDS_ERROR_UNSUPPORTED,
                    std::string(name) + " in CUDA memory with a negative stride: copy it first");
    }
}

float Session::strength_of(tds_role role, const tds_picture &picture) const {
    const float strength = picture.strength < 0.0F ? settings_.strength : picture.strength;
    if (!(strength <= 1.0F)) {
        invalid("picture with strength " + std::to_string(picture.strength) + ", not 0 to 1");
    }
    const bool by_contract_1 = low_.contract == 1 && (role == TDS_LR || full_.contract == 0);
    if (by_contract_1 && strength > 0.0F && strength < 1.0F) {
        invalid("picture with strength " + std::to_string(strength) + ": model " + low_.name +
                " follows version 1 of the model contract, which knows strengths 0 and 1 only");
    }
    return strength;
}

void Session::allocate(tds_picture &picture) {
    if (settings_.allocate) {
        const tds_result result = settings_.allocate(settings_.allocate_context, &picture);
        if (result != TDS_OK) {
            throw Error(result < 0 ? result : TDS_ERROR_MEMORY,
                        "the caller's allocate function gave no picture");
        }
    } else {
        allocate_own(picture);
    }
}

void Session::allocate_own(tds_picture &picture) {
    if (picture.memory == TDS_MEMORY_CUDA) {
        engine().allocate(picture);
    } else {
        pool_.allocate(picture);
    }
}

// The picture as the session's own; nothing is taken when this throws.
FramePtr Session::take(tds_role role, const tds_picture &picture) {
    tds_picture own = picture;
    own.first_pts = own.last_pts = TDS_NO_PTS;
    own.status = TDS_STATUS_PASSED;
    own.reason = 0;
    if (picture.release) {
        return std::make_shared<Frame>(own);
    }
    std::fill(std::begin(own.data), std::end(own.data), nullptr);
    std::fill(std::begin(own.stride), std::end(own.stride), 0);
    own.owner = nullptr;
    if (role == TDS_HR) {
        allocate(own); // it may become an output
    } else {
        allocate_own(own);
    }
    auto frame = std::make_shared<Frame>(own);
    engine().copy(picture, own);
    return frame;
}

tds_result Session::send(tds_role role, const tds_picture *picture) {
    check_role(role);
    const bool hr = role == TDS_HR;
    if (!picture) {
        window_->end(role);
        return TDS_OK;
    }
    check_stream(role);
    window_->check(role, picture->pts, name_of(role));
    validate(*picture, hr ? "HR" : "LR", hr ? settings_.width : lr_width_,
             hr ? settings_.height : lr_height_, settings_.bit_depth, settings_.chroma);
    check_memory(name_of(role), *picture);
    const float strength = strength_of(role, *picture);
    if (!window_->takes(role, false)) {
        return TDS_AGAIN;
    }
    Event event;
    event.pts = picture->pts;
    window_->send(role, event,
                  [&] { return std::make_shared<Held>(take(role, *picture), hr, strength); });
    return TDS_OK;
}

tds_result Session::send_lost(tds_role role, int64_t pts) {
    check_role(role);
    check_stream(role);
    window_->check(role, pts, role == TDS_HR ? "lost HR picture" : "lost LR picture");
    if (!window_->takes(role, true)) {
        return TDS_AGAIN;
    }
    Event event;
    event.pts = pts;
    event.told = true;
    event.hr_lost = role == TDS_HR;
    window_->send(role, event);
    return TDS_OK;
}

bool Session::cut(const Shown &before, const Shown &after) {
    const Shown *pictures[] = {&before, &after};
    for (const Shown *picture : pictures) {
        auto &h = const_cast<Held &>(static_cast<const Held &>(*picture));
        if (h.frame->picture().memory != TDS_MEMORY_HOST) {
            return false;
        }
        if (!h.luma) {
            h.luma = std::make_unique<Thumbnail>(thumbnail(h.frame->picture()));
        }
    }
    return cuts_.between(*static_cast<const Held &>(before).luma,
                         *static_cast<const Held &>(after).luma);
}

// ------------------------------------------------------------- working --

// The 4:2:0 picture with the luma of one that is not. fill: and with the mean of its chroma. It
// must not be used longer than that one.
FramePtr Session::small(const tds_picture &picture, bool fill) {
    tds_picture out = picture;
    out.chroma = TDS_CHROMA_420;
    out.owner = nullptr;
    out.release = nullptr;
    pool_.allocate(out, 1);
    FramePtr frame = std::make_shared<Frame>(out);
    if (fill) {
        average_chroma(picture, out);
    }
    return frame;
}

// What a backend sees of a picture.
const tds_picture &Session::seen(Held &picture) {
    if (!is_420() && !picture.small) {
        picture.small = small(picture.frame->picture(), true);
    }
    return is_420() ? picture.frame->picture() : picture.small->picture();
}

void *Session::prepared(Held &picture, bool for_full) {
    return prepared(for_full ? picture.for_full : picture.for_low, opened(for_full), seen(picture),
                    facts(picture, false));
}

// A reference that a model made is made by now, and is one of LR targets only.
void *Session::prepared(const Reference &reference, bool for_full) {
    Held &picture = held(reference.picture);
    if (!reference.made) {
        return prepared(picture, for_full);
    }
    if (picture.made_for_low) {
        return *picture.made_for_low->place();
    }
    const FramePtr &frame = picture.made_small ? picture.made_small : picture.made;
    return prepared(picture.made_for_low, low_, frame->picture(), facts(picture, true));
}

void *Session::prepared(std::unique_ptr<Prepared> &place, const Opened &opened,
                        const tds_picture &picture, const tds_backend_facts &facts) {
    if (!place) {
        auto fresh = std::make_unique<Prepared>(*opened.engine);
        *fresh->place() = opened.engine->prepare(picture, facts);
        place = std::move(fresh);
    }
    return *place->place();
}

tds_backend_facts Session::facts(const Held &held, bool made) const {
    const tds_picture &picture = held.frame->picture();
    tds_backend_facts out{made || held.full ? 1 : settings_.scale, made ? 1 : 0, -1, -1};
    out.qp = held.full ? settings_.hr_qp : settings_.lr_qp;
    if (settings_.picture_facts != 0) {
        out.qp = picture.qp >= 0 ? picture.qp : out.qp;
        out.type = picture.type;
    }
    return out;
}

Session::Job Session::job(const Recipe &recipe, tds_picture &out) {
    Held &target = held(recipe.picture);
    const bool full = target.full;
    const auto row = [](float *side, const tds_backend_facts &facts) {
        side[2] = static_cast<float>(facts.scale);
        side[3] = static_cast<float>(facts.enhanced);
        side[4] = static_cast<float>(facts.qp);
        side[5] = static_cast<float>(facts.type);
    };
    tds_backend_job job{};
    job.target = &seen(target);
    if (opened(full).engine->traits().prepares_targets != 0) {
        job.handle = prepared(target, full);
    }
    const tds_backend_facts own = facts(target, false);
    job.side[0][0] = 1.0F;
    job.side[0][6] = target.strength;
    row(job.side[0], own);
    for (size_t r = 0; r < recipe.references.size(); r++) {
        const Reference &reference = recipe.references[r];
        float *side = job.side[1 + r];
        if (!reference.picture) {
            row(side, own);
            continue;
        }
        job.references[r] = prepared(reference, full);
        side[0] = 1.0F;
        side[1] = static_cast<float>(reference.distance);
        row(side, facts(held(reference.picture), reference.made != nullptr));
    }
    if (opened(full).contract == 1) {
        job.position =
            position(target.pts, recipe.references[0].picture, recipe.references[1].picture);
    }
    return {job, &target, &out, is_420() ? nullptr : small(out, false)};
}

// An output without samples.
tds_picture Session::blank(int64_t pts) const {
    tds_picture out;
    tds_picture_init(&out);
    out.width = settings_.width;
    out.height = settings_.height;
    out.bit_depth = settings_.bit_depth;
    out.layout = settings_.output_layout;
    out.chroma = settings_.chroma;
    out.memory = settings_.output_memory;
    out.device_index = out.memory == TDS_MEMORY_CUDA ? device_index(engine().traits()) : 0;
    out.pts = pts;
    return out;
}

void Session::make_without_model(const Recipe &recipe, tds_picture &out) {
    switch (recipe.way) {
    case Recipe::Way::pass:
        engine().copy(held(recipe.picture).frame->picture(), out);
        return;
    case Recipe::Way::bicubic:
        if (is_420()) {
            engine().upsample(held(recipe.picture).frame->picture(), out);
        } else {
            const FramePtr kept = small(out, false);
            tds_picture luma = kept->picture();
            engine().upsample(seen(held(recipe.picture)), luma);
            finish_chroma(held(recipe.picture).frame->picture(), settings_.scale, nullptr, nullptr,
                          out);
        }
        counts_.batches += low_.contract == 0 ? 1 : 0;
        return;
    case Recipe::Way::model: // it was made for others
        engine().copy(held(recipe.picture).made->picture(), out);
        return;
    case Recipe::Way::nothing:
        break;
    }
    if (out.memory == TDS_MEMORY_HOST) {
        fill_black(out);
        return;
    }
    tds_picture black = out;
    black.memory = TDS_MEMORY_HOST;
    black.device_index = 0;
    pool_.allocate(black);
    const Frame frame(black);
    fill_black(black);
    engine().copy(black, out);
}

// Makes pictures that others are made from: the enhanced middle of a run, which becomes an
// output and of which the backend keeps what others see, or HR pictures, which others
// see as the pictures they become.
void Session::make_for_others(const std::vector<RecipePtr> &recipes, bool full) {
    std::vector<FramePtr> frames;
    std::vector<std::unique_ptr<Prepared>> kept(recipes.size());
    std::vector<tds_picture> outs(recipes.size());
    std::vector<Job> jobs;
    for (size_t i = 0; i < recipes.size(); i++) {
        outs[i] = blank(recipes[i]->picture->pts);
        if (full) {
            allocate_own(outs[i]);
        } else {
            allocate(outs[i]);
        }
        frames.push_back(std::make_shared<Frame>(outs[i]));
        jobs.push_back(job(*recipes[i], outs[i]));
        if (!full) {
            kept[i] = std::make_unique<Prepared>(*low_.engine);
            jobs.back().job.keep = kept[i]->place();
        }
    }
    run(jobs, full);
    for (size_t i = 0; i < recipes.size(); i++) {
        Held &picture = held(recipes[i]->picture);
        picture.made = frames[i];
        picture.made_small = full ? jobs[i].small : nullptr;
        picture.made_for_low = std::move(kept[i]);
    }
}

void Session::run(std::vector<Job> &jobs, bool full) {
    std::vector<tds_backend_job> asked;
    std::vector<tds_picture> outs(jobs.size());
    for (size_t i = 0; i < jobs.size(); i++) {
        asked.push_back(jobs[i].job);
        if (jobs[i].small) {
            outs[i] = jobs[i].small->picture();
        }
        asked.back().out = jobs[i].small ? &outs[i] : jobs[i].out;
    }
    opened(full).engine->enhance(asked.data(), static_cast<int32_t>(asked.size()));
    counts_.batches++;
    for (size_t i = 0; i < jobs.size(); i++) {
        if (jobs[i].small) {
            finish_chroma(jobs[i].target->frame->picture(),
                          jobs[i].target->full ? 1 : settings_.scale, asked[i].target, &outs[i],
                          *jobs[i].out);
        }
    }
}

// Makes the pictures of `batch`. On an error none of them is made, and the
// next call of receive tries again.
void Session::make(const std::vector<Output *> &batch) {
    const bool full = settings_.kind == TDS_KIND_PLAIN;
    try {
        std::vector<Job> jobs;
        for (Output *output : batch) {
            const Recipe &recipe = *output->target.recipe;
            output->picture = blank(output->target.pts);
            allocate(output->picture);
            if (recipe.way == Recipe::Way::model && !held(recipe.picture).made) {
                jobs.push_back(job(recipe, output->picture));
            } else {
                make_without_model(recipe, output->picture);
            }
        }
        if (!jobs.empty()) {
            run(jobs, full);
        }
    } catch (...) {
        for (Output *output : batch) {
            tds_picture_release(&output->picture);
        }
        throw;
    }
    for (Output *output : batch) {
        output->done = true;
    }
}

// An HR picture of a pair that a model refines: LR pictures may be made from it.
bool Session::others_see(const Recipe &recipe) const {
    return settings_.kind == TDS_KIND_PAIR && recipe.way == Recipe::Way::model &&
           recipe.picture->full;
}

// Whether an output can be handed out: it passes, is done, or was made for others.
bool Session::is_there(const Output &output) {
    const Recipe &recipe = *output.target.recipe;
    return output.done || output.target.status == TDS_STATUS_PASSED ||
           (recipe.way == Recipe::Way::model && held(recipe.picture).made);
}

// What must be made before an output is, and is not yet.
std::vector<RecipePtr> Session::missing(const Output &output) const {
    std::vector<RecipePtr> out;
    const auto need = [&](const RecipePtr &recipe) {
        const Held &picture = held(recipe->picture);
        if (!picture.made && !picture.made_for_low) {
            out.push_back(recipe);
        }
    };
    if (others_see(*output.target.recipe)) {
        need(output.target.recipe);
    }
    for (const Reference &reference : output.target.recipe->references) {
        if (!reference.made) {
            continue;
        }
        for (const Reference &of : reference.made->references) { // of a run's middle
            if (of.made) {
                need(of.made);
            }
        }
        need(reference.made);
    }
    return out;
}

// Makes the next pictures of the group, as many as go at once, and before them those that
// they are made from.
void Session::work() {
    const auto limit = static_cast<size_t>(settings_.max_batch);
    std::vector<RecipePtr> first;
    size_t count = 0;
    for (size_t i = next_; i < group_.size() && count < limit; i++) {
        if (is_there(group_[i])) {
            continue;
        }
        count++;
        for (const RecipePtr &recipe : missing(group_[i])) {
            const bool known = std::any_of(first.begin(), first.end(), [&](const RecipePtr &r) {
                return r->picture == recipe->picture;
            });
            if (!known) {
                first.push_back(recipe);
            }
        }
    }
    // HR pictures first: the middle of a run is made from them.
    const auto low = std::stable_partition(first.begin(), first.end(),
                                           [](const RecipePtr &r) { return r->picture->full; });
    const auto in_batches = [&](auto begin, auto end, bool full) {
        while (begin != end) {
            const auto stop =
                begin + std::min<ptrdiff_t>(static_cast<ptrdiff_t>(limit), end - begin);
            make_for_others({begin, stop}, full);
            begin = stop;
        }
    };
    in_batches(first.begin(), low, true);
    in_batches(low, first.end(), false);
    std::vector<Output *> batch;
    for (size_t i = next_; i < group_.size() && batch.size() < limit; i++) {
        if (!is_there(group_[i]) && missing(group_[i]).empty()) {
            batch.push_back(&group_[i]);
        }
    }
    if (!batch.empty() && !is_there(group_[next_])) {
        make(batch);
    }
}

// The samples of an output that was made for others: its own, where nobody sees them any
// more.
tds_picture Session::made_for_others(const Output &output) {
    Held &picture = held(output.target.recipe->picture);
    if (!others_see(*output.target.recipe) && output.target.status != TDS_STATUS_REPEATED) {
        const FramePtr frame = std::move(picture.made);
        return frame->give();
    }
    tds_picture out = blank(output.target.pts);
    allocate(out);
    const FramePtr owner = std::make_shared<Frame>(out);
    engine().copy(picture.made->picture(), out);
    return owner->give();
}

void Session::hand_out(Output &output, tds_picture *picture) {
    const Target &target = output.target;
    const ShownPtr &shown = target.recipe->picture;
    int64_t *counts[] = {&counts_.passed, &counts_.enhanced, &counts_.upsampled, &counts_.repeated,
                         &counts_.refined};
    tds_picture out;
    if (target.status == TDS_STATUS_PASSED) {
        out = share(held(shown).frame);
    } else if (output.done) {
        out = output.picture;
        tds_picture_init(&output.picture); // handed over
    } else {
        out = made_for_others(output);
    }
    out.pts = target.pts;
    out.status = target.status;
    out.reason = target.reason;
    out.opaque =
        target.status != TDS_STATUS_REPEATED ? held(shown).frame->picture().opaque : nullptr;
    for (const Reference &reference : target.recipe->references) {
        const int64_t pts = reference.picture ? reference.picture->pts : TDS_NO_PTS;
        if (reference.picture && pts < shown->pts) {
            out.first_pts = std::max(out.first_pts, pts); // TDS_NO_PTS is the least
        } else if (reference.picture && (out.last_pts == TDS_NO_PTS || pts < out.last_pts)) {
            out.last_pts = pts;
        }
    }
    ++*counts[target.status];
    *picture = out;
}

tds_result Session::receive(tds_picture *picture) {
    if (group_.empty()) {
        if (!window_->ready()) {
            return window_->ended() ? TDS_END : TDS_AGAIN;
        }
        for (Target &target : window_->plan()) {
            group_.push_back({std::move(target), false, {}});
            tds_picture_init(&group_.back().picture);
        }
    }
    if (!is_there(group_[next_])) {
        work();
    }
    hand_out(group_[next_], picture);
    const bool last = ++next_ == group_.size();
    if (last) {
        group_.clear();
        next_ = 0;
    }
    window_->handed_out(last);
    return TDS_OK;
}

unsigned Session::wants() const {
    return !group_.empty() || window_->ready() ? 0 : window_->wants();
}

} // namespace tds
