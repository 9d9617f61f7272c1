// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tag/rate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace tds {
namespace {

constexpr tds_rational kUsual[] = {
    {240, 1},      {240000, 1001}, {200, 1}, {120, 1},      {120000, 1001}, {100, 1},
    {60, 1},       {60000, 1001},  {50, 1},  {48, 1},       {48000, 1001},  {30, 1},
    {30000, 1001}, {25, 1},        {24, 1},  {24000, 1001}, {20, 1},        {15, 1},
    {15000, 1001}, {12, 1},        {10, 1},  {5, 1},        {1, 1},
};

double value(tds_rational r) {
    return static_cast<double>(r.num) / r.den;
}

// The fraction nearest to x > 0 with terms of at most `most` (continued fractions).
tds_rational near(double x, int64_t most) {
    int64_t before_num = 0, before_den = 1, num = 1, den = 0;
    double rest = x;
    for (int i = 0; i < 32; i++) {
        const double whole = std::floor(rest);
        if (whole > static_cast<double>(most)) {
            break;
        }
        const auto w = static_cast<int64_t>(whole);
        const int64_t next_num = w * num + before_num;
        const int64_t next_den = w * den + before_den;
        if (next_num > most || next_den > most) {
            break;
        }
        before_num = num, before_den = den;
        num = next_num, den = next_den;
        if (rest - whole < 1e-9) {
            break;
        }
        rest = 1 / (rest - whole);
    }
    if (num < 1) { // slower than a picture in `most` seconds
        return {1, static_cast<int32_t>(most)};
    }
    return {static_cast<int32_t>(num), static_cast<int32_t>(std::max<int64_t>(den, 1))};
}

} // namespace

tds_rational frame_rate(std::vector<int64_t> times, tds_rational time_base) {
    std::sort(times.begin(), times.end());
    times.erase(std::unique(times.begin(), times.end()), times.end());
    times.resize(std::min<size_t>(times.size(), TDS_RATE_PICTURES));
    if (times.size() < 2) {
        return {25, 1};
    }
    // Unsigned: the difference of any two times.
    const auto gap_at = [&](size_t i) {
        return static_cast<uint64_t>(times[i]) - static_cast<uint64_t>(times[i - 1]);
    };
    uint64_t step = std::numeric_limits<uint64_t>::max();
    for (size_t i = 1; i < times.size(); i++) {
        step = std::min(step, gap_at(i));
    }
    double steps = 0, span = 0, uneven = 0;
    for (size_t i = 1; i < times.size(); i++) {
        const auto gap = static_cast<double>(gap_at(i));
        const double n = std::round(gap / static_cast<double>(step)); // more than 1: a hole
        steps += n;
        span += gap;
        uneven = std::max(uneven, std::fabs(gap / n - static_cast<double>(step)));
    }
    const double tick = value(time_base);
    if (uneven == 0) { // 40 ms are 25 exactly; 33 ms are none of them
        for (const tds_rational usual : kUsual) {
            if (static_cast<uint64_t>(usual.num) * static_cast<uint64_t>(time_base.num) * step ==
                static_cast<uint64_t>(usual.den) * static_cast<uint64_t>(time_base.den)) {
                return usual;
            }
        }
    }
    constexpr uint64_t limit = std::numeric_limits<int32_t>::max();
    if (uneven == 0 && step >= 100 && step <= limit) {
        uint64_t num = static_cast<uint64_t>(time_base.den);
        uint64_t den = static_cast<uint64_t>(time_base.num) * step;
        const uint64_t common = std::gcd(num, den);
        num /= common, den /= common;
        if (den <= limit) {
            return {static_cast<int32_t>(num), static_cast<int32_t>(den)};
        }
    }
    // What rounding may have done to the first and the last time together.
    uneven = std::max(uneven, 1.0);
    const double slowest = steps / ((span + uneven) * tick);
    const double fastest =
        span > uneven ? steps / ((span - uneven) * tick) : std::numeric_limits<double>::infinity();
    for (const tds_rational usual : kUsual) {
        if (value(usual) >= slowest && value(usual) <= fastest) {
            return usual;
        }
    }
    return near(steps / (span * tick), 100000);
}

} // namespace tds
