// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Pairing, order and backpressure. Knows no codec, no torch and no CUDA: it
// asks a backend for pictures and moves them.
//
// How it works. Each stream has a queue. merge() moves events out of the two
// queues in time order, as soon as no earlier one can still come. LR pictures
// go to `run_`; an HR picture closes the run before it and waits in `closing_`
// until that run is out. A run (or as much of it as may be worked on) becomes a
// `Group`, whose pictures are made when they are asked for, a batch at a time.
#pragma once

#include "backends/backend.h"
#include "session/picture.h"

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tds {

// One opened backend. Outlives everything that holds a handle of it.
class Engine;

// A picture prepared by the backend as a reference, at its first use.
class Reference {
  public:
    Reference(Engine &engine, FramePtr frame);                          // a boundary
    Reference(Engine &engine, void *handle, int64_t pts, bool damaged); // an enhanced middle
    ~Reference();
    Reference(const Reference &) = delete;
    Reference &operator=(const Reference &) = delete;

    void *handle(); // prepares
    const FramePtr &frame() const { return frame_; }
    int64_t pts() const { return pts_; }
    bool damaged() const { return damaged_; }

  private:
    Engine &engine_;
    FramePtr frame_;
    void *handle_ = nullptr;
    int64_t pts_;
    bool damaged_;
};
using ReferencePtr = std::shared_ptr<Reference>;

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
    // What a stream says about one time: a picture, or that one was lost.
    struct Event {
        int64_t pts;
        FramePtr frame;    // nullptr: lost
        bool told = false; // send_lost() named this time in one of the streams
        bool hr_lost = false;
    };
    struct Queue {
        std::deque<Event> events;
        std::optional<int64_t> newest;
        bool ended = false;
    };
    // How one LR picture is made; enough to make it again.
    struct Recipe {
        FramePtr target;
        ReferencePtr first, last;
    };
    struct Entry {
        int64_t pts;
        Recipe recipe;
        FramePtr copy_of; // repeats this HR picture
        tds_status status = TDS_STATUS_UPSAMPLED;
        unsigned reason = 0;
        void *opaque = nullptr;
        bool done = false;
        tds_picture out;
    };
    struct Group {
        std::vector<Entry> entries;
        size_t next = 0;                                         // to hand out
        int middle = -1;                                         // enhanced first; -1: none
        std::vector<size_t> from_middle_first, from_middle_last; // which wait for it
        ~Group();
    };

    FramePtr take(tds_role role, const tds_picture &picture);
    void merge();
    bool can_start() const;
    bool can_receive() const;
    void start_group();
    void work();
    void make(const std::vector<size_t> &batch, bool keep_middle);
    void allocate(tds_picture &picture);
    void prepare_output(Entry &entry);
    void hand_out(Entry &entry, tds_picture *picture);
    const Event *next_hr() const; // the first HR picture not handed out
    size_t lr_held() const;
    size_t hr_markers() const;
    void log(tds_log_level level, const std::string &message) const;

    tds_settings settings_;
    std::string backend_name_, model_name_, model_sha256_;
    int32_t lr_width_, lr_height_;
    std::unique_ptr<Engine> engine_;
    Pool pool_;

    Queue hr_, lr_;
    std::deque<Event> run_;        // in time order, after first_, before closing_
    std::optional<Event> closing_; // an HR picture whose turn comes after run_
    ReferencePtr first_;           // the HR picture before run_
    ReferencePtr last_;            // next_hr() as a reference, once a group has used it
    Recipe previous_;              // the last LR picture of this run that was made
    bool long_run_ = false;        // run_ is what is left of a longer one
    bool run_has_lost_hr_ = false;
    std::unique_ptr<Group> group_;
    tds_info counts_{};
};

} // namespace tds
