// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The tag of docs/container.md, read once for all doors: JSON text in, checked
// values out. Frames are kept as the runs they were written in.
#pragma once

#include "tds/tds.h"

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tds {

// Products of a time, its time base and a rate need more than 64 bits.
__extension__ typedef __int128 Wide;

// floor(a / b + 1/2); b > 0.
inline Wide divide_half_up(Wide a, Wide b) {
    const Wide twice = 2 * a + b;
    const Wide q = twice / (2 * b);
    return q - (twice % (2 * b) < 0 ? 1 : 0);
}

class Tag {
  public:
    // Throws Error: TDS_ERROR_INVALID, or TDS_ERROR_UNSUPPORTED for another version.
    Tag(const char *json, size_t size, const std::string &where);

    const tds_tag_values &values() const { return values_; }
    const std::vector<int64_t> &runs(tds_runs which) const {
        return runs_.at(static_cast<size_t>(which));
    }

    // Walks the frames in display order. The tag must outlive it.
    class Cursor {
      public:
        explicit Cursor(const Tag &tag);
        bool next(tds_tag_frame &frame);         // false at the end
        int64_t index() const { return index_; } // of the frame that next() gives
        void skip(int64_t frames);               // costs the runs that are passed, not the frames

      private:
        // Where in a run-length list.
        struct Place {
            size_t run = 0;     // index of its value
            int64_t within = 0; // entries of the run already taken
        };
        static bool take(const std::vector<int64_t> &runs, Place &place, int64_t &value);
        static int64_t take_many(const std::vector<int64_t> &runs, Place &place, int64_t entries);
        void enter_group();
        void set_group(int64_t size);

        const Tag *tag_;
        int64_t index_ = 0;
        Place group_, delta_, lead_, strength_;
        int64_t time_;
        int64_t in_group_ = 0, group_length_ = 0; // frames that are this group's own
        bool own_first_ = true;
        int64_t next_lead_ = -1;
    };

  private:
    void read(const char *json, size_t size);

    tds_tag_values values_{};
    std::array<std::vector<int64_t>, 4> runs_; // by tds_runs
    std::array<std::string, 6> text_;          // what values_ points to
};

// Whether `name` may stand for a model in a tag: a plain name, never what could be a path.
bool is_model_name(const std::string &name);

} // namespace tds
