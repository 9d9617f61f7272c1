// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tag/beginning.h"

#include "session/error.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace tds {
namespace {

constexpr int kFarthest = 64; // frames that a beginning may be moved

using Time = std::vector<int64_t>;

// Seconds are of no interest here: all is counted in frames of `frame` units.
double frames_between(int64_t from, int64_t to, double frame) {
    return static_cast<double>(to - from) / frame;
}

// Steps between the times of one track behind its first picture, which may last too long.
void steps_of(const Time &times, std::vector<double> &steps) {
    for (size_t i = 2; i < times.size(); i++) {
        steps.push_back(static_cast<double>(times[i] - times[i - 1]));
    }
}

// How long a frame is, in units; 0 where the times tell of none: too few, or too irregular.
double frame_of(const Time &hr, const Time &lr) {
    std::vector<double> steps;
    steps_of(hr, steps);
    steps_of(lr, steps);
    if (steps.empty()) {
        return 0;
    }
    // Of groups of 3 with shared boundaries no track has two frames in a row: both together do.
    const double least = *std::min_element(steps.begin(), steps.end());
    Time both(hr.begin() + 1, hr.end());
    both.insert(both.end(), lr.begin() + 1, lr.end());
    std::sort(both.begin(), both.end());
    double shortest = least;
    for (size_t i = 1; i < both.size(); i++) {
        const auto step = static_cast<double>(both[i] - both[i - 1]);
        shortest = step > least / 4 ? std::min(shortest, step) : shortest;
    }
    // Of times that were rounded, the mean: first of steps of one frame, then of all.
    double frame = shortest;
    for (const double most : {1.5, 1e9}) {
        double sum = 0, count = 0;
        for (const double step : steps) {
            const double n = std::round(step / frame);
            if (step < most * shortest && n > 0) {
                if (std::fabs(step - n * frame) > frame / 4) {
                    return 0;
                }
                sum += step;
                count += n;
            }
        }
        frame = count > 0 ? sum / count : frame;
    }
    return frame;
}

// How well the pictures of both tracks follow one another.
struct Order {
    int holes = 0;  // frames that neither track has, between two that one has
    int unlike = 0; // what the first group is, and no later one
    bool operator<(const Order &other) const {
        return holes != other.holes ? holes < other.holes : unlike < other.unlike;
    }
};

Order order_of(const Time &hr, const Time &lr, double frame) {
    Order order;
    Time both = hr;
    both.insert(both.end(), lr.begin(), lr.end());
    std::sort(both.begin(), both.end());
    const int64_t known = std::min(hr.back(), lr.back());
    for (size_t i = 1; i < both.size() && both[i] <= known; i++) {
        order.holes += std::max(
            0, static_cast<int>(std::lround(frames_between(both[i - 1], both[i], frame))) - 1);
    }
    // The first group against the others: how far apart its HR pictures are, and the LR pictures
    // strictly between them, where there are any.
    std::set<long> steps, runs;
    long first_step = 0, first_run = 0;
    for (size_t i = 1; i < hr.size() && hr[i] <= known; i++) {
        const long step = std::lround(frames_between(hr[i - 1], hr[i], frame));
        const long run = std::count_if(lr.begin(), lr.end(), [&](int64_t t) {
            return frames_between(hr[i - 1], t, frame) > 0.5 &&
                   frames_between(t, hr[i], frame) > 0.5;
        });
        if (i == 1) {
            first_step = step;
        } else {
            steps.insert(step);
        }
        if (run > 0 && first_run == 0) {
            first_run = run;
        } else if (run > 0) {
            runs.insert(run);
        }
    }
    order.unlike = (!steps.empty() && steps.count(first_step) == 0 ? 1 : 0) +
                   (!runs.empty() && runs.count(first_run) == 0 ? 1 : 0);
    return order;
}

// The LR pictures strictly between the first two HR ones, and the fewest between two others.
bool first_group_is_short(const Time &hr, const Time &lr) {
    const auto between = [&](size_t i) {
        return std::count_if(lr.begin(), lr.end(),
                             [&](int64_t t) { return t > hr[i] && t < hr[i + 1]; });
    };
    bool any = false;
    for (size_t i = 1; i + 1 < hr.size() && hr[i + 1] <= lr.back(); i++) {
        if (between(i) > 0) {
            any = true;
            if (between(i) <= between(0)) {
                return false;
            }
        }
    }
    return any;
}

[[noreturn]] void refuse() {
    invalid("its HR and LR tracks are said to begin at one time, which cutting or fragments have "
            "made so, and without the tag their times do not tell where each really begins; cut "
            "it again with the tag (ffmpeg -movflags use_metadata_tags), or into Matroska");
}

} // namespace

Beginning find_beginning(const Time &hr, const Time &lr) {
    Beginning none;
    if (hr.empty() || lr.empty() || hr[0] != lr[0]) {
        return none;
    }
    if (lr.size() > 1 && hr.size() > 1 &&
        std::includes(hr.begin(), hr.end(), lr.begin(), lr.end())) {
        refuse(); // no picture lies between two others
    }
    const double frame = hr.size() > 1 && lr.size() > 1 ? frame_of(hr, lr) : 0;
    if (frame == 0) {
        if (first_group_is_short(hr, lr)) {
            refuse();
        }
        return none;
    }
    const Order as_it_is = order_of(hr, lr, frame);
    if (as_it_is.holes == 0) {
        return none;
    }
    std::optional<Order> best;
    std::vector<Beginning> found; // of the best order
    const auto consider = [&](const Beginning &candidate) {
        Time h = hr, l = lr;
        h[0] = candidate.first[0].value_or(h[0]);
        l[0] = candidate.first[1].value_or(l[0]);
        for (int64_t &time : l) {
            time += candidate.move_lr;
        }
        const Order order = order_of(h, l, frame);
        if (order.holes < as_it_is.holes && (!best || !(*best < order))) {
            if (!best || order < *best) {
                found.clear();
            }
            best = order;
            found.push_back(candidate);
        }
    };
    const Time *tracks[2] = {&hr, &lr};
    for (int n = 1; n <= kFarthest; n++) {
        const int64_t apart = std::llround(n * frame);
        for (size_t role = 0; role < 2; role++) {
            if (frames_between(hr[0] + apart, (*tracks[role])[1], frame) > 0.5) {
                Beginning later;
                later.first[role] = hr[0] + apart;
                consider(later);
            }
        }
        for (const int64_t move : {apart, -apart}) {
            Beginning moved;
            moved.move_lr = move;
            consider(moved);
        }
    }
    if (found.size() > 1) {
        refuse();
    }
    return found.empty() ? none : found[0];
}

} // namespace tds
