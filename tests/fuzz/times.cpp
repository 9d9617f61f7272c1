// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The plan of a tag against two tracks: the bytes say which tag, and then what is shown, pushed,
// ended and asked for. Every picture comes out once, in order; times increase; nobody waits for
// a track that has ended.
#include "fuzz.h"
#include "tds/tds.h"

#include <array>
#include <cstring>
#include <vector>

namespace {

// Groups of 5, shared, with two leads; independent ones of uneven times; times not known; k = 1.
const char *const kTags[] = {
    R"({"tds":1,"scale":2,"width":64,"height":48,"codec":"hevc","config":"ra","boundaries":"shared",)"
    R"("groups":[[-5,1],[5,3]],"leads":[[0,1],[8,1]],"strengths":[[2,10],[1,7]],)"
    R"("timeline":{"time_base":"1/1000","start":0,"rate":"25","frames":17}})",
    R"({"tds":1,"scale":2,"width":64,"height":48,"boundaries":"independent","groups":[[5,2],[1,1]],)"
    R"("timeline":{"time_base":"1/1000","start":100,"rate":"25","frames":11,)"
    R"("deltas":[[33,1],[34,4],[10,5]]}})",
    R"({"tds":1,"scale":4,"width":64,"height":48,"boundaries":"independent","groups":[[5,2]],)"
    R"("timeline":{"time_base":"1/90000","start":0,"rate":"30000/1001","frames":10,"known":false}})",
    R"({"tds":1,"scale":1,"width":64,"height":48,"boundaries":"independent","groups":[[1,12]],)"
    R"("timeline":{"time_base":"1/25","start":0,"rate":"25","frames":12}})",
};

// Read once: nothing changes a tag.
const std::array<tds_tag *, 4> &tags() {
    static const std::array<tds_tag *, 4> all = [] {
        std::array<tds_tag *, 4> out{};
        for (size_t i = 0; i < out.size(); i++) {
            REQUIRE(tds_tag_parse(kTags[i], std::strlen(kTags[i]), "f", &out[i]) == TDS_OK);
        }
        return out;
    }();
    return all;
}

struct Track {
    std::vector<int64_t> pushed;
    size_t out = 0; // pictures
    int64_t newest = 0, last_out = 0;
    bool any_out = false, ended = false, finished = false;
};

// False when the tracks are refused.
bool next(tds_times *times, std::array<Track, 2> &tracks, tds_role role, int64_t most_lost) {
    Track &track = tracks[role];
    const unsigned wants = tds_times_wants(times, role);
    tds_event event;
    const tds_result result = tds_times_next(times, role, &event);
    if (result < 0) {
        REQUIRE(result == TDS_ERROR_INVALID && *tds_last_error());
        return false;
    }
    if (result == TDS_AGAIN) {
        REQUIRE(wants == 1U || wants == 2U || wants == 3U);
        for (const unsigned other : {0U, 1U}) {
            REQUIRE(!(wants & (1U << other)) || !tracks[other].ended);
        }
        return true;
    }
    if (result == TDS_END) {
        REQUIRE(track.ended && track.out == track.pushed.size());
        track.finished = true;
        return true;
    }
    REQUIRE(!track.finished);
    REQUIRE(event.strength == 0.0F || event.strength == 0.5F || event.strength == 1.0F ||
            event.strength == -1.0F);
    REQUIRE(!track.any_out || event.pts > track.last_out);
    track.any_out = true;
    track.last_out = event.pts;
    if (event.kind == TDS_EVENT_PICTURE) {
        REQUIRE(track.out < track.pushed.size());
        track.out++;
    } else {
        tds_times_report report;
        REQUIRE(tds_times_info(times, &report) == TDS_OK);
        REQUIRE(report.lost[role] <= most_lost);
    }
    return true;
}

void run(Bytes &program, tds_times *times, int64_t most_lost) {
    std::array<Track, 2> tracks;
    static constexpr int64_t steps[] = {0, 1, 33, 40, 160, 41, 4000, 80};
    while (!program.empty()) {
        const uint8_t op = program.next();
        const auto role = static_cast<tds_role>(op & 1);
        Track &track = tracks[role];
        int64_t time = track.newest + steps[op >> 1 & 7];
        if ((op >> 4 & 15) == 15) { // anywhere
            time = program.number(program.next() & 8 ? 8 : 3);
        }
        switch (op >> 4 & 7) {
        case 0:
        case 1:
        case 2: { // the next picture
            const tds_result result = tds_times_push(times, role, time);
            if (result == TDS_OK) {
                REQUIRE(!track.ended && (track.pushed.empty() || time > track.pushed.back()));
                track.pushed.push_back(time);
                track.newest = time;
            } else {
                REQUIRE(result < 0);
            }
            break;
        }
        case 3: // shown
            REQUIRE(tds_times_show(times, role, time) <= 0);
            break;
        case 7:
            if (op & 8 ? tds_times_end(times, role) == TDS_OK : false) {
                track.ended = true;
            }
            break;
        default:
            if (!next(times, tracks, role, most_lost)) {
                return;
            }
        }
    }
    for (const tds_role role : {TDS_HR, TDS_LR}) {
        if (!tracks[role].ended) {
            REQUIRE(tds_times_end(times, role) == TDS_OK);
            tracks[role].ended = true;
        }
    }
    for (const tds_role role : {TDS_HR, TDS_LR}) {
        int64_t guard = 100 + most_lost + static_cast<int64_t>(tracks[role].pushed.size());
        while (!tracks[role].finished) {
            REQUIRE(guard-- > 0);
            if (!next(times, tracks, role, most_lost)) {
                return;
            }
            REQUIRE(tds_times_wants(times, role) == 0);
        }
    }
    const std::string said = tds_times_notices(times);
    REQUIRE(said.empty() || said.back() == '\n');
}

} // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Bytes program(data, size);
    const uint8_t which = program.next();
    tds_times_settings settings{};
    tds_tag_values values{};
    if ((which & 7) < 4) {
        settings.tag = tags()[which & 3];
        REQUIRE(tds_tag_read(settings.tag, &values) == TDS_OK);
    }
    settings.unit = {1, 1000};
    settings.clock[0] = settings.clock[1] = {1, which & 8 ? 90000 : 1000};
    settings.offset_known = which >> 4 & 1;
    settings.offset = which & 32 ? program.number(2) : 0;
    tds_times *times = nullptr;
    REQUIRE(tds_times_open(&settings, &times) == TDS_OK);
    run(program, times, values.frames);
    tds_times_close(times);
    return 0;
}
