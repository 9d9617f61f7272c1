// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Samples, work and backpressure. A session knows no codec, no torch and no CUDA: its window
// (csrc/window) says what is made from what, and it asks a backend for that.
//
// How it works. A picture that is sent is held with its samples and goes to the window
// as a fact. The window gives groups of targets in display order; their pictures are made when
// they are asked for, a batch at a time, what others are made from first. What is held goes
// when neither the window nor a group nor the caller needs it.
#pragma once

#include "backends/backend.h"
#include "session/opening.h"
#include "session/picture.h"
#include "window/scene_cut.h"
#include "window/window.h"

#include <memory>
#include <string>
#include <vector>

namespace tds {

// What a backend has prepared of a picture, or is about to.
class Prepared {
  public:
    explicit Prepared(Engine &engine) : engine_(engine) {}
    ~Prepared() {
        if (handle_) {
            engine_.drop(handle_);
        }
    }
    Prepared(const Prepared &) = delete;
    Prepared &operator=(const Prepared &) = delete;
    void **place() { return &handle_; }

  private:
    Engine &engine_;
    void *handle_ = nullptr;
};

// A picture with its samples, and what was made of it for others.
struct Held : public Shown {
    Held(FramePtr samples, bool is_full, float how_much)
        : Shown(samples->picture().pts, is_full, samples->picture().corrupt != 0, how_much),
          frame(std::move(samples)) {}

    const FramePtr frame;
    // The 4:2:0 picture that a backend sees, whose luma is that of `frame`; at first use. Not there
    // where `frame` is 4:2:0 itself.
    FramePtr small;
    // By the engine for full-size targets and by the one for LR targets, at first use.
    std::unique_ptr<Prepared> for_full, for_low;
    std::unique_ptr<Thumbnail> luma; // at first use
    // As a model made it, where others see it so.
    FramePtr made;
    FramePtr made_small; // of HR pictures, as `small`
    std::unique_ptr<Prepared> made_for_low;
};

class Session {
  public:
    explicit Session(const tds_settings &settings); // throws Error
    ~Session();

    tds_result send(tds_role role, const tds_picture *picture);
    tds_result send_lost(tds_role role, int64_t pts);
    tds_result receive(tds_picture *picture);
    unsigned wants() const;
    void flush();
    void info(tds_info *info) const;

  private:
    // What a backend is asked to make, and where it goes. small: the 4:2:0 picture that it makes,
    // with the luma of `out`; not there where `out` is 4:2:0 itself.
    struct Job {
        tds_backend_job job;
        Held *target;
        tds_picture *out;
        FramePtr small;
    };

    // A target, and its samples once it is done.
    struct Output {
        Target target;
        bool done = false;
        tds_picture picture;
    };

    static void check_role(tds_role role);
    void check_stream(tds_role role) const;
    void check_memory(const char *name, const tds_picture &picture) const;
    float strength_of(tds_role role, const tds_picture &picture) const;
    FramePtr take(tds_role role, const tds_picture &picture);
    bool cut(const Shown &before, const Shown &after);
    std::unique_ptr<Window> new_window();
    void drop_all();

    Engine &engine() const; // for all but making pictures by a model
    const Opened &opened(bool full) const { return full ? full_ : low_; }
    void allocate(tds_picture &picture);     // an output
    void allocate_own(tds_picture &picture); // any other
    tds_picture blank(int64_t pts) const;
    bool is_420() const { return settings_.chroma == TDS_CHROMA_420; }
    FramePtr small(const tds_picture &picture, bool fill);
    const tds_picture &seen(Held &picture);

    void work();
    bool others_see(const Recipe &recipe) const;
    static bool is_there(const Output &output);
    std::vector<RecipePtr> missing(const Output &output) const;
    void make_for_others(const std::vector<RecipePtr> &recipes, bool full);
    void make(const std::vector<Output *> &batch);
    void make_without_model(const Recipe &recipe, tds_picture &out);
    void run(std::vector<Job> &jobs, bool full);
    Job job(const Recipe &recipe, tds_picture &out);
    tds_backend_facts facts(const Held &picture, bool made) const;
    void *prepared(Held &picture, bool for_full);
    void *prepared(const Reference &reference, bool for_full);
    static void *prepared(std::unique_ptr<Prepared> &place, const Opened &opened,
                          const tds_picture &picture, const tds_backend_facts &facts);
    tds_picture made_for_others(const Output &output);
    void hand_out(Output &output, tds_picture *picture);

    tds_settings settings_;
    int32_t lr_width_, lr_height_;
    Opened full_, low_; // for full-size targets and for LR targets; no engine: there are none
    Pool pool_;
    SceneCuts cuts_;

    std::unique_ptr<Window> window_;
    std::vector<Output> group_;
    size_t next_ = 0; // of group_, to hand out
    tds_info counts_{};
};

} // namespace tds
