// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The plan of a tag against what two tracks show: tds_times of tds.h. Times in,
// events out; no engine, no pictures, no file.
#pragma once

#include "tag/tag.h"

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tds {

class Times {
  public:
    // `tag`: that of the settings; it must outlive this. Throws Error.
    Times(const Tag *tag, const tds_times_settings &settings);

    void show(tds_role role, int64_t pts);
    void push(tds_role role, int64_t pts);
    void end(tds_role role);
    tds_result next(tds_role role, tds_event &event);
    unsigned wants(tds_role role) const;
    tds_times_report report() const;
    const std::string &notices() const { return notices_; }

  private:
    // What was added to the plan's times to give a track's: between `low` and `high`, in
    // 1/scale_ of a unit. A range, since times that were rounded tell it only so far; each
    // picture that belongs to the plan narrows it.
    struct Shift {
        Wide low = 0, high = 0;
    };

    // The plan's frames that one track has a picture of.
    class Due {
      public:
        Due(const Tag &tag, tds_role role, Wide factor);
        bool there() const { return there_; }
        void advance();
        int64_t index() const { return index_; }
        Wide time() const { return time_; } // in 1/scale_ of a unit
        bool lead() const { return lead_; }
        float strength() const { return frame_.strength; }

      private:
        Tag::Cursor cursor_;
        tds_role role_;
        Wide factor_;
        tds_tag_frame frame_{};
        bool there_ = false, lead_ = false;
        int64_t index_ = -1;
        Wide time_ = 0;
    };

    struct Track {
        Wide tolerance = 0; // in 1/scale_ of a unit
        Shift shift;
        std::deque<int64_t> pending;       // pushed and not given
        std::vector<int64_t> first;        // the first times that are known, in order
        std::deque<int64_t> recent;        // the latest times that were pushed
        std::unique_ptr<Due> due;          // there where the plan is used, or was
        std::optional<int64_t> latest;     // shown or pushed
        std::optional<int64_t> match;      // the plan's frame that pending.front() is
        std::optional<int64_t> late_start; // pts of the first picture, whose own time is too early
        int64_t last = 0;                  // pushed
        int64_t last_given = 0;            // pts
        int64_t lost = 0, unplanned = 0;
        int strange = 0;       // pictures in a row that the plan does not know
        bool resolved = false; // pending.front() was looked up
        bool pushed = false, given = false, ended = false, done = false;
    };

    // How well the first times of a track fit a shift.
    struct Fit {
        int64_t matched = 0, strange = 0, missing = 0;
        Shift shift;
        bool all() const { return strange == 0; }
        bool whole() const { return strange == 0 && missing == 0; }
        int64_t score() const { return matched - 2 * strange - missing; }
    };

    static size_t other(size_t role) { return 1 - role; }
    Due due(size_t role) const;
    Shift known() const;
    Wide value(const Shift &shift) const;
    void know(size_t role, int64_t pts);
    bool within(size_t role, const Shift &shift, int64_t pts, Wide plan) const;
    bool narrow(size_t role, Shift &shift, int64_t pts, Wide plan) const;
    Shift around(size_t role, int64_t pts, Wide plan) const;
    Fit fit(size_t role, const Shift &shift, Due due) const;
    bool shows_its_beginning(size_t role) const;
    bool enough() const;
    int together(int64_t from, int wanted, std::optional<std::array<Fit, 2>> &best,
                 std::optional<Fit> &hr_alone) const;
    std::optional<Fit> lr_apart(const Shift &hr) const;
    std::optional<std::array<Fit, 2>> from_the_beginning() const;
    std::optional<std::array<Fit, 2>> likely() const;
    bool find_again(size_t role);
    void settle();
    void begin_without_a_plan();
    bool whole_plan(const Shift &shift) const;
    bool within_one_shift() const;
    void use(const std::array<Fit, 2> &fits);
    void move_lr(int64_t by);
    bool began_early(size_t role, int64_t pts, const Due &due) const;
    void resolve(size_t role);
    bool lose(size_t role, int64_t until, int64_t before, tds_event &event);
    float strength(const Due &due) const;
    void next_picture(size_t role, tds_event &event);
    std::optional<int64_t> begin() const;
    std::optional<int64_t> end() const;
    int64_t moved(size_t role, int64_t pts) const;
    void tell(const std::string &sentence);
    std::string seconds(int64_t pts) const;
    void finish();

    const Tag *tag_;
    tds_rational unit_;
    int64_t offset_;
    bool offset_known_;
    Wide factor_ = 1; // plan ticks * factor_ = units * scale_
    Wide scale_ = 1;
    std::array<Track, 2> tracks_;
    bool settled_ = false, planned_ = false, strengths_ = false, finished_ = false;
    int64_t next_ = 0;    // the plan's frame after the last one that was matched
    int64_t move_lr_ = 0; // added to LR times to put them on HR's
    int64_t late_ = 0, early_ = 0;
    std::string notices_;
};

} // namespace tds
