// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The tag, the times of its tracks, the frame rate and the choice of the model, as text.
#include "tds/tds.h"
#include "tests/check.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace {

// A tag of groups of 5 that share nothing, 25 frames a second, ticks of a millisecond.
std::string tag_text(int frames, const std::string &more = "", const std::string &groups = "",
                     const std::string &timeline = R"("time_base":"1/1000","start":0,"rate":"25")",
                     const std::string &boundaries = "independent") {
    std::string runs = groups;
    if (runs.empty()) {
        const int whole = frames / 5;
        const int rest = frames % 5;
        runs = whole ? "[5," + std::to_string(whole) + "]" : "";
        runs += rest ? (whole ? ",[" : "[") + std::to_string(rest) + ",1]" : "";
    }
    return R"({"tds":1,"scale":2,"width":64,"height":48,"bit_depth":8,"codec":"hevc","config":"ai",)"
           R"("hr_qp":32,"lr_qp":-1,"group":5,"boundaries":")" +
           boundaries + R"(","groups":[)" + runs + R"(],"timeline":{)" + timeline +
           R"(,"frames":)" + std::to_string(frames) + "}" + more + "}";
}

using Tag = std::unique_ptr<tds_tag, void (*)(tds_tag *)>;

Tag parse(const std::string &text) {
    tds_tag *tag = nullptr;
    const tds_result result = tds_tag_parse(text.data(), text.size(), "a.mp4", &tag);
    if (result != TDS_OK) {
        check::fail(__FILE__, __LINE__, tds_last_error());
    }
    return {tag, tds_tag_free};
}

// What is said of a tag that is refused.
std::string refused(const std::string &text, tds_result code = TDS_ERROR_INVALID) {
    tds_tag *tag = nullptr;
    CHECK_EQ(tds_tag_parse(text.data(), text.size(), "a.mp4", &tag), code);
    CHECK(tag == nullptr);
    const std::string said = tds_last_error();
    CHECK_EQ(said.substr(0, 7), "a.mp4: ");
    for (const char c : said) {
        CHECK(static_cast<unsigned char>(c) >= 0x20);
    }
    return said;
}

bool has(const std::string &text, const std::string &part) {
    return text.find(part) != std::string::npos;
}

std::string replaced(std::string text, const std::string &from, const std::string &to) {
    const size_t at = text.find(from);
    CHECK(at != std::string::npos);
    return text.replace(at, from.size(), to);
}

// "H0 L40 L80 h120": role (in upper case: HR with a small copy is H*), time.
std::string frames_text(const tds_tag *tag, int64_t first = 0, size_t count = 1000) {
    std::vector<tds_tag_frame> frames(count);
    frames.resize(tds_tag_frames(tag, first, frames.data(), count));
    std::string text;
    for (const tds_tag_frame &f : frames) {
        text += text.empty() ? "" : " ";
        text += f.role == TDS_HR ? "H" : "L";
        text += f.lead ? "*" : "";
        text += f.time == TDS_NO_PTS ? "?" : std::to_string(f.time);
        text += f.strength == 1 ? "" : f.strength == 0 ? "!0" : "!1/2";
    }
    return text;
}

// ------------------------------------------------------------------ the tag --

TEST("a tag's values and frames") {
    const Tag tag = parse(tag_text(
        12,
        R"(,"leads":[[0,1],[5,2]],"model":"fast","unknown":[{}],"strengths":[[2,2],[0,1],[1,9]],)"
        R"("hr":"refine","encoder":"x265","model_sha256":")" +
            std::string(64, 'a') + "\""));
    tds_tag_values v;
    CHECK_EQ(tds_tag_read(tag.get(), &v), TDS_OK);
    CHECK_EQ(v.scale, 2);
    CHECK_EQ(v.width, 64);
    CHECK_EQ(v.hr_qp, 32);
    CHECK_EQ(v.lr_qp, -1);
    CHECK_EQ(std::string(v.encoder), "x265");
    CHECK_EQ(std::string(v.preset), "");
    CHECK_EQ(std::string(v.model), "fast");
    CHECK_EQ(std::string(v.model_sha256), std::string(64, 'a'));
    CHECK_EQ(v.refine_hr, 1);
    CHECK_EQ(v.has_strengths, 1);
    CHECK_EQ(v.regular, 1);
    CHECK_EQ(v.rate.num, 25);
    CHECK_EQ(v.end, 440);
    CHECK_EQ(v.hr_frames, 6);
    CHECK_EQ(v.lr_frames, 6);
    CHECK_EQ(v.leads, 3);
    CHECK_EQ(frames_text(tag.get()),
             "H*0 L40 L80!0 L120!1/2 H160!1/2 H*200!1/2 L240!1/2 L280!1/2 L320!1/2 H360!1/2 "
             "H*400!1/2 H440!1/2");
    const int64_t *pairs = nullptr;
    CHECK_EQ(tds_tag_runs(tag.get(), TDS_RUNS_LEADS, &pairs), 2U);
    CHECK_EQ(pairs[2], 5);
    CHECK_EQ(tds_tag_runs(tag.get(), TDS_RUNS_DELTAS, &pairs), 0U);
}

TEST("shared boundaries, a scene of its own, times in a list or not known") {
    const Tag shared = parse(tag_text(9, "", "[-5,1],[3,1],[-2,1]",
                                      R"("time_base":"1/1000","start":-7,"rate":25,)"
                                      R"("deltas":[[40,3],[41,5]])",
                                      "shared"));
    CHECK_EQ(frames_text(shared.get()), "H-7 L33 L73 L113 H154 L195 H236 H277 H318");
    const Tag unknown =
        parse(tag_text(5, "", "", R"("time_base":"1/1000","rate":"30000/1001","known":false)"));
    CHECK_EQ(frames_text(unknown.get()), "H? L? L? L? H?");
}

TEST("frames from any place on are those of the whole") {
    const Tag tag = parse(tag_text(
        60, R"(,"leads":[[3,2],[7,5]],"strengths":[[2,20],[1,30],[0,10]])",
        "[-5,1],[5,3],[1,2],[-1,2],[-7,1],[3,1],[-17,1],[16,1]",
        R"("time_base":"1/90000","rate":"25","deltas":[[3600,7],[3601,1],[3599,51]])", "shared"));
    const std::string all = frames_text(tag.get());
    size_t at = 0;
    for (int64_t first = 0; first <= 60; first++) {
        CHECK_EQ(frames_text(tag.get(), first), first < 60 ? all.substr(at) : "");
        at = std::min(all.find(' ', at), all.size() - 1) + 1;
    }
}

TEST("what a reader refuses") {
    const std::string good = tag_text(12);
    parse(good);
    CHECK(has(refused("{"), "it is not JSON"));
    CHECK(has(refused("[]"), "not an object"));
    CHECK(has(refused(replaced(good, "\"tds\":1", "\"tds\":2"), TDS_ERROR_UNSUPPORTED),
              "version 2 and this program reads version 1"));
    CHECK(has(refused("{}", TDS_ERROR_UNSUPPORTED), "version none"));
    const struct {
        const char *from, *to, *says;
    } cases[] = {
        {"\"scale\":2", "\"scale\":3", "scale is 3"},
        {"\"scale\":2", "\"scale\":2.0", "scale is 2.0, not a whole number"},
        {"\"scale\":2", "\"scale\":true", "scale is true"},
        {"\"scale\":2,", "", "no \"scale\""},
        {"\"width\":64", "\"width\":99999", "width is 99999"},
        {"\"width\":64", "\"width\":18446744073709551616", "width is 1.84"},
        {"\"bit_depth\":8", "\"bit_depth\":9", "bit_depth is 9"},
        {"\"hr_qp\":32", "\"hr_qp\":64", "hr_qp is 64"},
        {"independent", "both", "boundaries is \"both\""},
        {"[5,2]", "[5,3]", "groups do not add up"},
        {"[5,2]", "[5,20]", "groups is 20, not a whole number from 1 to 12"},
        {"[5,2]", "[5,7],[5,7]", "more entries than"},
        {"[5,2]", "[5]", "no [value, count]"},
        {"[5,2]", "5", "no [value, count]"},
        {"[5,2]", "[0,2]", "of no frames"},
        {"\"timeline\":{", "\"timeline\":[{},", "not JSON"},
        {"\"rate\":\"25\"", "\"rate\":\"1e9\"", "rate is \"1e9\""},
        {"\"rate\":\"25\"", "\"rate\":\"25/0\"", "rate is \"25/0\""},
        {"\"rate\":\"25\"", "\"rate\":-25", "rate is -25"},
        {"\"rate\":\"25\"", "\"rate\":\"2000\"", "out of range"},
        {"\"rate\":\"25\"", "\"rate\":\"1/99999999999\"", "out of range"},
        {"\"1/1000\"", "\"5\"", "out of range"},
        {"\"1/1000\"", "null", "time_base is null"},
        {"\"start\":0", "\"start\":1e300", "start is 1e+300"},
        {"\"start\":0", "\"start\":9223372036854775807", "start is"},
        {"\"frames\":12", "\"frames\":99999999", "frames is 99999999"},
        {"\"frames\":12", "\"frames\":12,\"deltas\":[[40,10]]", "deltas do not add up"},
        {"\"frames\":12", "\"frames\":12,\"deltas\":[[0,11]]", "deltas is 0"},
        {"\"frames\":12", "\"frames\":12,\"known\":1", "known is 1"},
        {"}}", "},\"leads\":[[11,2]]}", "leads are beyond"},
        {"}}", "},\"leads\":[[0,2]]}", "a frame twice"},
        {"}}", "},\"strengths\":[[2,11]]}", "strengths do not add up"},
        {"}}", "},\"strengths\":[[3,12]]}", "strengths is 3"},
        {"}}", "},\"hr\":\"sharpen\"}", "hr is \"sharpen\""},
        {"}}", "},\"model\":\"../evil\"}", "a model's name"},
        {"}}", "},\"model\":\"evil.pt\"}", "a model's name"},
        {"}}", "},\"model\":7}", "a model's name"},
        {"}}", "},\"model\":\"\\u001b[2J\"}", "a model's name"},
        {"}}", "},\"model_sha256\":\"abc\"}", "64 hex digits"},
    };
    for (const auto &c : cases) {
        const std::string said = refused(replaced(good, c.from, c.to));
        if (!has(said, c.says)) {
            CHECK_EQ(said, c.says);
        }
    }
    CHECK(has(refused(std::string(100000, '[')), "nested too deeply"));
    CHECK(has(refused(std::string(TDS_MAX_TAG + 1, ' ')), "over 1048576 bytes"));
    // Times that no 64 bits count: refused, not wrapped.
    CHECK(has(refused(tag_text(10000000, "", "[5,2000000]",
                               R"("time_base":"1/2147483647","start":0,"rate":"1/2147483647")")),
              "beyond what can be counted"));
}

TEST("a tag of ten million frames costs what its text does") {
    const Tag tag = parse(tag_text(10000000));
    CHECK_EQ(frames_text(tag.get(), 9999998, 3), "L399999920 H399999960");
    for (int64_t first = 0; first < 10000000; first += 999) { // each from anywhere
        tds_tag_frame frame;
        CHECK_EQ(tds_tag_frames(tag.get(), first, &frame, 1), 1U);
        CHECK_EQ(frame.time, 40 * first);
    }
}

TEST("no bytes of a tag do harm") {
    const std::string good =
        tag_text(12, R"(,"leads":[[0,1],[5,2]],"model":"fast","strengths":[[2,2],[0,10]])");
    std::mt19937 random(7);
    for (int i = 0; i < 20000; i++) {
        std::string text = good;
        for (uint32_t n = 1 + random() % 3; n > 0; n--) {
            const size_t at = random() % text.size();
            switch (random() % 3) {
            case 0:
                text[at] = static_cast<char>(random());
                break;
            case 1:
                text.erase(at, random() % 9);
                break;
            default:
                text.insert(at, good.substr(random() % good.size(), random() % 9));
            }
        }
        tds_tag *tag = nullptr;
        if (tds_tag_parse(text.data(), text.size(), "x", &tag) == TDS_OK) {
            tds_tag_values v;
            tds_tag_read(tag, &v);
            const std::string all = frames_text(tag, 0, 100);
            CHECK(v.frames > 100 ||
                  std::count(all.begin(), all.end(), ' ') + 1 == std::max<int64_t>(v.frames, 1));
        }
        tds_tag_free(tag);
    }
}

// -------------------------------------------------------------------- times --

constexpr tds_rational kMilli{1, 1000};

struct Said {
    std::string hr, lr, notices; // "0 40 (80) +120": (lost), +: not of the plan
};

struct Tracks {
    std::vector<int64_t> hr, lr;
    tds_rational unit = kMilli;
    int64_t offset = 0;
    bool shown = false; // all of it, before
};

Said run(const tds_tag *tag, const Tracks &tracks, bool strengths = false) {
    tds_times_settings settings{};
    settings.tag = tag;
    settings.unit = settings.clock[0] = settings.clock[1] = tracks.unit;
    settings.offset = tracks.offset;
    settings.offset_known = tracks.offset != 0;
    tds_times *times = nullptr;
    CHECK_EQ(tds_times_open(&settings, &times), TDS_OK);
    const std::vector<int64_t> *all[2] = {&tracks.hr, &tracks.lr};
    for (int role = 0; tracks.shown && role < 2; role++) {
        for (const int64_t pts : *all[role]) {
            CHECK_EQ(tds_times_show(times, static_cast<tds_role>(role), pts), TDS_OK);
        }
    }
    size_t sent[2] = {0, 0};
    std::deque<int64_t> waiting[2];
    std::string text[2];
    bool done[2] = {false, false};
    int64_t last[2] = {INT64_MIN, INT64_MIN};
    while (!done[0] || !done[1]) {
        for (int role = 0; role < 2; role++) {
            const auto r = static_cast<tds_role>(role);
            tds_event event;
            const tds_result result = tds_times_next(times, r, &event);
            CHECK(result >= 0);
            if (result == TDS_END) {
                CHECK_EQ(tds_times_wants(times, r), 0U);
                done[role] = true;
            } else if (result == TDS_AGAIN) {
                const unsigned wants = tds_times_wants(times, r);
                CHECK(wants != 0);
                for (int other = 0; other < 2; other++) {
                    if (!(wants & 1U << other)) {
                        continue;
                    }
                    const auto o = static_cast<tds_role>(other);
                    if (sent[other] == all[other]->size()) {
                        CHECK_EQ(tds_times_end(times, o), TDS_OK);
                    } else {
                        waiting[other].push_back((*all[other])[sent[other]]);
                        CHECK_EQ(tds_times_push(times, o, (*all[other])[sent[other]++]), TDS_OK);
                    }
                }
                CHECK(waiting[0].size() + waiting[1].size() <= 40);
            } else {
                CHECK(event.pts > last[role]); // what a session takes
                last[role] = event.pts;
                std::string at = std::to_string(event.pts);
                if (event.kind == TDS_EVENT_LOST) {
                    at = "(" + at + ")";
                } else {
                    CHECK(!waiting[role].empty());
                    waiting[role].pop_front();
                    at = tag && event.frame < 0 ? "+" + at : at;
                }
                if (strengths) {
                    at += event.strength < 0 ? "?" : event.strength == 1 ? "" : "!";
                }
                text[role] += (text[role].empty() ? "" : " ") + at;
            }
        }
    }
    CHECK(waiting[0].empty() && waiting[1].empty());
    CHECK_EQ(sent[0] + sent[1], all[0]->size() + all[1]->size());
    const std::string notices = tds_times_notices(times);
    tds_times_close(times);
    return {text[0], text[1], notices};
}

// The times of the plan's pictures, in order.
Tracks planned(const tds_tag *tag) {
    Tracks tracks;
    tds_tag_values v;
    tds_tag_read(tag, &v);
    std::vector<tds_tag_frame> frames(static_cast<size_t>(v.frames));
    tds_tag_frames(tag, 0, frames.data(), frames.size());
    for (const tds_tag_frame &f : frames) {
        (f.role == TDS_HR ? tracks.hr : tracks.lr).push_back(f.time);
        if (f.lead) {
            tracks.lr.push_back(f.time);
        }
    }
    return tracks;
}

std::string text_of(const std::vector<int64_t> &times) {
    std::string text;
    for (const int64_t t : times) {
        text += (text.empty() ? "" : " ") + std::to_string(t);
    }
    return text;
}

std::string without_plus(std::string text) {
    text.erase(std::remove(text.begin(), text.end(), '+'), text.end());
    return text;
}

// A plan with scenes, which fits in one place only.
std::string irregular(const std::string &more = "") {
    return tag_text(60, more, "[5,2],[3,1],[5,3],[2,1],[5,4],[4,1],[5,1],[1,1]");
}

std::vector<int64_t> mapped(const std::vector<int64_t> &times,
                            const std::function<int64_t(int64_t)> &f) {
    std::vector<int64_t> out;
    for (const int64_t t : times) {
        out.push_back(f(t));
    }
    return out;
}

// `times` from one time on, moved by another.
std::vector<int64_t> cut(const std::vector<int64_t> &times, int64_t from, int64_t to,
                         int64_t move) {
    std::vector<int64_t> out;
    for (const int64_t t : times) {
        if (t >= from && t < to) {
            out.push_back(t + move);
        }
    }
    return out;
}

TEST("times: the plan as it is, and no plan") {
    const Tag tag = parse(irregular(R"(,"leads":[[0,1],[24,1]])"));
    const Tracks tracks = planned(tag.get());
    Said said = run(tag.get(), tracks);
    CHECK_EQ(said.hr, text_of(tracks.hr));
    CHECK_EQ(said.lr, text_of(tracks.lr));
    CHECK_EQ(said.notices, "");
    said = run(nullptr, tracks);
    CHECK_EQ(said.hr, text_of(tracks.hr));
    CHECK_EQ(said.notices, "");
}

// Frames of a pair without its tag, in milliseconds at 25 a second.
Tracks untold(std::vector<int64_t> hr, std::vector<int64_t> lr) {
    for (std::vector<int64_t> *frames : {&hr, &lr}) {
        for (int64_t &frame : *frames) {
            frame *= 40;
        }
    }
    return {std::move(hr), std::move(lr)};
}

// What is said when neither tag nor times tell where the tracks begin.
std::string untellable(const Tracks &tracks) {
    tds_times_settings settings{};
    settings.unit = settings.clock[0] = settings.clock[1] = kMilli;
    tds_times *times = nullptr;
    CHECK_EQ(tds_times_open(&settings, &times), TDS_OK);
    for (const int64_t pts : tracks.hr) {
        CHECK_EQ(tds_times_push(times, TDS_HR, pts), TDS_OK);
    }
    for (const int64_t pts : tracks.lr) {
        CHECK_EQ(tds_times_push(times, TDS_LR, pts), TDS_OK);
    }
    tds_times_end(times, TDS_HR);
    tds_times_end(times, TDS_LR);
    tds_event event;
    std::string said;
    for (int again = 0; again < 2; again++) { // it stays so
        CHECK_EQ(tds_times_next(times, TDS_LR, &event), TDS_ERROR_INVALID);
        said = tds_last_error();
    }
    tds_times_close(times);
    return said;
}

TEST("times: without a tag, a first picture that lost its time is put back") {
    // What ffmpeg makes of shared groups of 5, in fragments.
    Said said = run(nullptr, untold({0, 4, 8, 12, 16, 20, 24},
                                    {0, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19}));
    CHECK_EQ(said.hr, "0 160 320 480 640 800 960");
    CHECK_EQ(said.lr.substr(0, 23), "40 80 120 200 240 280 3");
    CHECK(has(said.notices, "the first picture of its LR track"));
    CHECK(has(said.notices, "0.040 s"));
    // Of independent ones, and of groups of 3, of which no track has two frames in a row.
    said = run(nullptr, untold({0, 4, 5, 9, 10, 14, 15, 19}, {0, 2, 3, 6, 7, 8, 11, 12, 13, 16}));
    CHECK_EQ(said.lr.substr(0, 17), "40 80 120 240 280");
    said = run(nullptr, untold({0, 2, 4, 6, 8}, {0, 3, 5, 7, 9}));
    CHECK_EQ(said.lr, "40 120 200 280 360");
    // Of a part that began with an LR picture, the last one of its group.
    said = run(nullptr, untold({0, 5, 9, 13, 17}, {0, 2, 3, 4, 6, 7, 8, 10, 11, 12, 14, 15, 16}));
    CHECK_EQ(said.hr, "40 200 360 520 680");
    CHECK_EQ(said.lr.substr(0, 12), "0 80 120 160");
    CHECK(has(said.notices, "the first picture of its HR track"));
    // Likewise, and the HR picture behind it was cut off.
    said = run(nullptr, untold({0, 6, 7, 11, 12, 16}, {0, 3, 4, 5, 8, 9, 10, 13, 14, 15}));
    CHECK_EQ(said.hr, "80 240 280 440 480 640");
    CHECK_EQ(said.lr.substr(0, 13), "0 120 160 200");
    // Rounded to milliseconds: 29.97 a second.
    Tracks rounded;
    for (int64_t frame = 0; frame < 200; frame++) {
        const int64_t pts = (frame * 2002 + 30) / 60;
        (frame % 8 ? rounded.lr : rounded.hr).push_back(frame == 1 ? 0 : pts);
    }
    said = run(nullptr, rounded);
    CHECK_EQ(said.lr.substr(0, 6), "33 67 ");
}

TEST("times: without a tag, a track that a cut moved is moved back") {
    Said said = run(nullptr, untold({0, 4, 8, 12}, {0, 1, 3, 4, 5, 7, 8, 9, 11, 12, 13}));
    CHECK_EQ(said.hr, "0 160 320 480");
    CHECK_EQ(said.lr.substr(0, 18), "-80 -40 40 80 120 ");
    CHECK(has(said.notices, "0.080 s too late"));
    // With down-sampled boundaries, which have the times of HR pictures.
    said = run(nullptr, untold({0, 4, 8, 12}, {0, 1, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13}));
    CHECK_EQ(said.lr.substr(0, 30), "-80 -40 40 80 120 160 200 240 ");
}

TEST("times: without a tag, what follows without a gap stays as it is, and so does damage") {
    for (const Tracks &tracks :
         {untold({0, 4, 8, 12, 16}, {0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 13}),    // RA: with leads
          untold({0, 4, 8, 12, 16}, {0, 1, 2, 3, 5, 7, 8, 9, 10, 11, 13}),       // one is missing
          untold({0, 4, 8, 16, 20}, {0, 1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 17}),   // likewise
          untold({0, 4, 8, 12}, {1, 2, 3, 6, 7, 9, 10, 11, 13}),                 // they begin apart
          untold({0, 4}, {0, 1, 2, 3}), untold({0}, {0}), untold({0, 4, 8}, {}), // few
          Tracks{{0, 131, 290, 420}, {0, 35, 71, 90, 170, 200, 251, 321, 333, 390}}}) { // irregular
        const Said said = run(nullptr, tracks);
        std::string all[2];
        for (const int64_t pts : tracks.hr) {
            all[0] += (all[0].empty() ? "" : " ") + std::to_string(pts);
        }
        for (const int64_t pts : tracks.lr) {
            all[1] += (all[1].empty() ? "" : " ") + std::to_string(pts);
        }
        CHECK_EQ(said.hr, all[0]);
        CHECK_EQ(said.lr, all[1]);
        CHECK_EQ(said.notices, "");
    }
}

TEST("times: without a tag, what could be one thing or another is refused") {
    const std::vector<Tracks> cases = {
        // HR from its first picture on, or LR from the middle of its group on: one step later or
        // three earlier.
        untold({0, 4, 8, 12}, {0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14}),
        untold({0, 2, 4, 6, 8}, {0, 2, 4, 6, 8}), // groups of 3: before or behind
        // Irregular times, and a group that lacks its first picture.
        {{0, 131, 290, 420, 555}, {0, 71, 90, 170, 200, 251, 321, 333, 390, 450, 500, 520, 560}},
    };
    for (const Tracks &tracks : cases) {
        CHECK(has(untellable(tracks), "do not tell where each really begins"));
    }
}

TEST("times: a picture that is missing inside is said to be lost") {
    const Tag tag = parse(tag_text(15));
    Tracks tracks = planned(tag.get());
    tracks.hr.erase(tracks.hr.begin() + 2); // 200
    tracks.lr.erase(tracks.lr.begin() + 1); // 80
    const Said said = run(tag.get(), tracks);
    CHECK_EQ(said.hr, "0 160 (200) 360 400 560");
    CHECK_EQ(said.lr, "40 (80) 120 240 280 320 440 480 520");
    CHECK(has(said.notices, "1 HR and 1 LR pictures of the plan are missing"));
}

TEST("times: without edit lists LR begins with HR and its first picture lasts longer") {
    const Tag tag = parse(tag_text(25));
    Tracks tracks = planned(tag.get());
    const std::string hr = text_of(tracks.hr), lr = text_of(tracks.lr);
    tracks.lr[0] = tracks.hr[0];
    for (const bool shown : {false, true}) {
        tracks.shown = shown;
        const Said said = run(tag.get(), tracks);
        CHECK_EQ(said.hr, hr);
        CHECK_EQ(said.lr, lr);
        CHECK_EQ(said.notices, "");
    }
}

TEST("times: an end of one track is missing up to where the other goes") {
    const Tag tag = parse(tag_text(15));
    Tracks tracks = planned(tag.get());
    tracks.lr.resize(4);
    const Said said = run(tag.get(), tracks);
    CHECK_EQ(said.hr, text_of(tracks.hr));
    CHECK_EQ(said.lr, "40 80 120 240 (280) (320) (440) (480) (520)");
}

TEST("times: a part that was cut out ends with its tracks, with one notice") {
    for (const std::string &text : {tag_text(60), irregular()}) {
        const Tag tag = parse(text);
        const Tracks all = planned(tag.get());
        for (const int64_t from : {0, 40, 200, 760, 1000}) {
            for (const int64_t move : {int64_t{0}, -from, int64_t{1400}, int64_t{-517}}) {
                Tracks tracks;
                tracks.shown = true; // what is short fits in many places
                tracks.hr = cut(all.hr, from, from + 900, move);
                tracks.lr = cut(all.lr, from, from + 900, move);
                // A regular plan fits in several places, also so that its end comes first.
                const Said said = run(tag.get(), tracks);
                CHECK_EQ(without_plus(said.hr), text_of(tracks.hr));
                CHECK_EQ(without_plus(said.lr), text_of(tracks.lr));
                CHECK_EQ(std::count(said.notices.begin(), said.notices.end(), '\n'), 1);
                CHECK(has(said.notices, "its tracks hold 2"));
            }
        }
    }
}

TEST("times: rounded to milliseconds, moved or not, at rates that do not divide them") {
    for (const char *rate : {"24000/1001", "30000/1001", "60000/1001", "25"}) {
        const Tag tag = parse(
            tag_text(600, "", "[5,17],[3,1],[5,100],[2,1],[5,2]",
                     std::string(R"("time_base":"1/90000","start":0,"rate":")") + rate + "\""));
        const Tracks exact = planned(tag.get());
        for (const int64_t move : {0, 1, 45, 12345, 126000}) {
            const auto milli = [&](int64_t t) { return (t + move + 45) / 90; };
            Tracks tracks;
            tracks.hr = mapped(exact.hr, milli);
            tracks.lr = mapped(exact.lr, milli);
            Said said = run(tag.get(), tracks);
            CHECK_EQ(said.hr, text_of(tracks.hr));
            CHECK_EQ(said.lr, text_of(tracks.lr));
            CHECK_EQ(said.notices, "");
            // And what is missing is still found, and nothing else.
            tracks.lr.erase(tracks.lr.begin() + 200);
            said = run(tag.get(), tracks);
            CHECK_EQ(std::count(said.lr.begin(), said.lr.end(), '('), 1);
            CHECK_EQ(std::count(said.hr.begin(), said.hr.end(), '('), 0);
            CHECK_EQ(std::count(said.lr.begin(), said.lr.end(), '+'), 0);
        }
    }
}

TEST("times: the LR track of a file without edit lists is moved to HR's times") {
    for (const std::string &text : {tag_text(60), irregular()}) {
        const Tag tag = parse(text);
        const Tracks all = planned(tag.get());
        for (const int64_t move : {-40, 80, 13}) {
            for (const bool shown : {false, true}) {
                Tracks tracks = all;
                tracks.shown = shown;
                tracks.lr = mapped(all.lr, [&](int64_t t) { return t + move; });
                const Said said = run(tag.get(), tracks);
                CHECK_EQ(said.hr, text_of(all.hr));
                CHECK_EQ(said.lr, text_of(all.lr));
                CHECK(has(said.notices, "of its LR track are 0.0"));
                CHECK_EQ(std::count(said.notices.begin(), said.notices.end(), '\n'), 1);
            }
        }
    }
}

TEST("times: a first picture that is early and no other is the one that is missing behind it") {
    // A fragmented MP4 begins all tracks at one time.
    for (const std::string &text : {tag_text(60), irregular()}) {
        const Tag tag = parse(text);
        const Tracks all = planned(tag.get());
        for (const bool shown : {false, true}) {
            Tracks tracks = all;
            tracks.shown = shown;
            tracks.lr[0] = 0;
            const Said said = run(tag.get(), tracks);
            CHECK_EQ(said.hr, text_of(all.hr));
            CHECK_EQ(said.lr, text_of(all.lr));
            CHECK_EQ(said.notices, "");
        }
    }
}

TEST("times: a plan that does not fit is left aside, with a notice") {
    const Tag tag = parse(irregular());
    Tracks tracks = planned(tag.get());
    tracks.hr = mapped(tracks.hr, [](int64_t t) { return t * 3 / 2; });
    tracks.lr = mapped(tracks.lr, [](int64_t t) { return t * 3 / 2; });
    Said said = run(tag.get(), tracks);
    CHECK_EQ(std::count(said.hr.begin(), said.hr.end(), '('), 0);
    CHECK_EQ(std::count(said.lr.begin(), said.lr.end(), '('), 0);
    CHECK(has(said.notices, "left aside"));
    // From some time on.
    tracks = planned(tag.get());
    const auto slower = [](int64_t t) { return t < 1200 ? t : 1200 + (t - 1200) * 13 / 10; };
    tracks.hr = mapped(tracks.hr, slower);
    tracks.lr = mapped(tracks.lr, slower);
    said = run(tag.get(), tracks);
    CHECK_EQ(std::count(said.hr.begin(), said.hr.end(), '('), 0);
    CHECK_EQ(std::count(said.lr.begin(), said.lr.end(), '('), 0);
    CHECK(has(said.notices, "left aside from there"));
}

TEST("times: a picture at a time that the plan does not know is shown there, with a word") {
    const Tag tag = parse(irregular());
    Tracks tracks = planned(tag.get());
    tracks.lr.insert(tracks.lr.begin() + 9, tracks.lr[8] + 7); // one that came twice, moved
    const Said said = run(tag.get(), tracks);
    CHECK_EQ(std::count(said.lr.begin(), said.lr.end(), '+'), 1);
    CHECK(has(said.notices, "0 HR and 1 LR pictures are at times that its plan does not know"));
}

TEST("times: tracks without one picture of the plan") {
    const Tag tag = parse(irregular());
    const Said said = run(tag.get(), Tracks{});
    CHECK_EQ(said.notices, "its tag tells of 60 frames, and none of them is in its tracks\n");
}

TEST("times: behind the seam of two parts the plan is found again") {
    const Tag tag = parse(tag_text(100, "", "[5,2],[3,1],[5,7],[2,1],[5,10]"));
    Tracks tracks = planned(tag.get());
    const auto later = [](int64_t t) { return t < 1120 ? t : t + 13; };
    tracks.hr = mapped(tracks.hr, later);
    tracks.lr = mapped(tracks.lr, later);
    tracks.lr.erase(tracks.lr.begin() + 50);
    const Said said = run(tag.get(), tracks);
    CHECK_EQ(std::count(said.hr.begin(), said.hr.end(), '('), 0);
    CHECK_EQ(std::count(said.lr.begin(), said.lr.end(), '('), 1); // the one that is missing
    CHECK(!has(said.notices, "left aside"));
}

TEST("times: a picture that was shown and does not decode is lost at either end too") {
    const Tag tag = parse(tag_text(15));
    tds_times_settings settings{tag.get(), kMilli, {kMilli, kMilli}, 0, 0};
    tds_times *times = nullptr;
    CHECK_EQ(tds_times_open(&settings, &times), TDS_OK);
    const Tracks all = planned(tag.get());
    for (const int64_t pts : all.hr) {
        tds_times_show(times, TDS_HR, pts);
    }
    for (const int64_t pts : all.lr) {
        tds_times_show(times, TDS_LR, pts);
        tds_times_push(times, TDS_LR, pts);
    }
    tds_times_push(times, TDS_HR, 160);
    tds_times_end(times, TDS_HR);
    tds_times_end(times, TDS_LR);
    std::string text;
    tds_event event;
    while (tds_times_next(times, TDS_HR, &event) == TDS_OK) {
        text += (event.kind == TDS_EVENT_LOST ? " (" : " ") + std::to_string(event.pts);
    }
    CHECK_EQ(text, " (0 160 (200 (360 (400 (560");
    CHECK_EQ(tds_times_push(times, TDS_HR, 600), TDS_ERROR_INVALID);
    tds_times_close(times);
}

TEST("times: strengths are used where the frames are certain") {
    const std::string strengths = R"(,"strengths":[[2,7],[0,1],[2,52]])"; // frame 7: 280 ms
    const Tag some = parse(irregular(strengths));
    Tracks tracks = planned(some.get());
    tracks.shown = true;
    Said said = run(some.get(), tracks, true);
    CHECK_EQ(said.lr.substr(0, 30), "40 80 120 240 280! 320 440 560");
    // A regular plan fits in many places: only who knows the end can tell.
    const Tag regular = parse(tag_text(60, strengths));
    tracks = planned(regular.get());
    said = run(regular.get(), tracks, true);
    CHECK(has(said.lr, "280?"));
    CHECK(has(said.notices, "is not certain"));
    tracks.shown = true;
    said = run(regular.get(), tracks, true);
    CHECK(has(said.lr, "280! 320 "));
    CHECK_EQ(said.notices, "");
    // So can who knows how the times were moved.
    Tracks part;
    part.hr = cut(tracks.hr, 160, 700, -160);
    part.lr = cut(tracks.lr, 160, 700, -160);
    part.offset = -160;
    said = run(regular.get(), part, true);
    CHECK(has(said.lr, "80 120! 160"));
}

TEST("times: random losses and cuts give every picture once, in order, and few made up") {
    std::mt19937 random(11);
    const Tag tags[2] = {parse(tag_text(60)), parse(irregular(R"(,"leads":[[0,1],[24,1]])"))};
    for (int i = 0; i < 2000; i++) {
        const tds_tag *tag = tags[random() % 2].get();
        Tracks tracks = planned(tag);
        const int64_t from = 40 * (random() % 30);
        const int64_t move = random() % 3 ? 0 : static_cast<int64_t>(random() % 4000) - 2000;
        tracks.hr = cut(tracks.hr, from, 100000, move);
        tracks.lr = cut(tracks.lr, from, 100000, move);
        for (std::vector<int64_t> *track : {&tracks.hr, &tracks.lr}) {
            for (size_t n = random() % 4; n > 0 && !track->empty(); n--) {
                track->erase(track->begin() + random() % track->size());
            }
        }
        tracks.shown = random() % 2;
        const Said said = run(tag, tracks); // which checks order and number
        CHECK(std::count(said.hr.begin(), said.hr.end(), '(') +
                  std::count(said.lr.begin(), said.lr.end(), '(') <=
              6 + 24);
    }
}

TEST("times: what breaks the contract") {
    tds_times_settings settings{nullptr, {0, 1}, {kMilli, kMilli}, 0, 0};
    tds_times *times = nullptr;
    CHECK_EQ(tds_times_open(&settings, &times), TDS_ERROR_INVALID);
    settings.unit = kMilli;
    CHECK_EQ(tds_times_open(&settings, &times), TDS_OK);
    CHECK_EQ(tds_times_push(times, TDS_HR, 5), TDS_OK);
    CHECK_EQ(tds_times_push(times, TDS_HR, 5), TDS_ERROR_ORDER);
    CHECK_EQ(tds_times_push(times, TDS_HR, INT64_MAX), TDS_ERROR_INVALID);
    tds_times_close(times);
    tds_times_close(nullptr);
}

// --------------------------------------------------------------------- rate --

std::string rate_of(const std::vector<int64_t> &times, tds_rational base = kMilli) {
    tds_rational rate{};
    CHECK_EQ(tds_frame_rate(times.data(), times.size(), base, &rate), TDS_OK);
    return std::to_string(rate.num) + "/" + std::to_string(rate.den);
}

TEST("the frame rate by the times of both streams") {
    CHECK_EQ(rate_of({0, 160, 320, 480, 40, 80, 120, 200, 240, 280}), "25/1"); // shared, N = 5
    CHECK_EQ(rate_of({0, 3003, 6006, 9009}, {1, 90000}), "30000/1001");
    CHECK_EQ(rate_of({0, 33, 67, 100, 133, 167}), "30/1"); // milliseconds
    CHECK_EQ(rate_of({0, 42, 83, 125, 167, 209}), "24/1");
    CHECK_EQ(rate_of({0, 17, 33, 50, 67, 83}), "60/1");
    CHECK_EQ(rate_of({0, 40, 120, 160}), "25/1"); // a hole
    CHECK_EQ(rate_of({0, 0, 40, 40}), "25/1");
    CHECK_EQ(rate_of({7}), "25/1");
    CHECK_EQ(rate_of({}), "25/1");
    CHECK_EQ(rate_of({0, 1, 2, 3}, {1, 24}), "24/1");
    CHECK_EQ(rate_of({0, INT64_MAX}), "1/100000");
    CHECK_EQ(rate_of({INT64_MIN, INT64_MAX}, {1, INT32_MAX}).empty(), false);
    // Only the first few count, so that who knows all finds what who waits finds.
    CHECK_EQ(rate_of({0, 40, 80, 120, 160, 200, 240, 280, 281, 282, 283}), "25/1");
    tds_rational rate;
    CHECK_EQ(tds_frame_rate(nullptr, 0, {0, 1}, &rate), TDS_ERROR_INVALID);
}

} // namespace

int main(int argc, char **argv) {
    return check::run(argc, argv);
}
