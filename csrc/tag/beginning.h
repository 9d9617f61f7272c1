// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Where the tracks of a pair begin whose tag is gone, from their own times. Times in,
// corrections out; no engine, no pictures, no file.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace tds {

// A file that was cut or written in fragments may say one beginning for both tracks, though no
// two pictures but an HR frame and its down-sampled copy are of one time:
//
// - A fragmented MP4 without edit lists has the first picture of each track at the beginning of
//   the file; it lasts up to the second one, whose time is right.
// - Of an MP4 that was cut, FFmpeg shows each track from its first whole picture on, and lets
//   that be the beginning: one track is moved against the other.
struct Beginning {
    std::optional<int64_t> first[2]; // by role: when its first picture really is
    int64_t move_lr = 0;             // to be added to all times of LR
};

// What mends it: that with which the pictures of both tracks follow one another without a gap,
// in groups as those behind. Nothing, where they do as they are. `hr` and `lr`: the first times
// that are known, in order, at least one each. Throws Error where several would do.
Beginning find_beginning(const std::vector<int64_t> &hr, const std::vector<int64_t> &lr);

} // namespace tds
