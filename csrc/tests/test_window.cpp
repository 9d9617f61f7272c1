// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What is made from what, read as text: no engine, no samples.
#include "tests/check.h"
#include "window/neighbours.h"
#include "window/recurrence.h"
#include "window/scene_cut.h"

#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <string>

namespace {

using tds::Neighbours;
using tds::Slot;

// A timeline in words: "H0 l1 l2 H3", with "x" behind a picture that is lost, "c" behind one
// that is corrupt, "0" and "5" after a ":" for strengths 0 and 0.5, "/" where a scene begins.
struct Line {
    struct Item {
        tds_role role;
        tds::Event event;
    };
    std::vector<Item> items;
    std::map<int64_t, bool> cuts; // before the picture of this time
};

Line line(const std::string &words) {
    Line out;
    bool cut = false;
    size_t at = 0;
    while (at < words.size()) {
        const size_t end = std::min(words.find(' ', at), words.size());
        const std::string word = words.substr(at, end - at);
        at = end + 1;
        if (word == "/") {
            cut = true;
            continue;
        }
        Line::Item item;
        item.role = word[0] == 'H' ? TDS_HR : TDS_LR;
        size_t digits = 0;
        item.event.pts = std::stoll(word.substr(1), &digits);
        const std::string rest = word.substr(1 + digits);
        const auto colon = rest.find(':');
        const float strength =
            colon == std::string::npos ? 1.0F : static_cast<float>(rest[colon + 1] - '0') / 10.0F;
        if (rest[0] == 'x') {
            item.event.told = true;
            item.event.hr_lost = item.role == TDS_HR;
        } else {
            item.event.picture = std::make_shared<tds::Shown>(item.event.pts, item.role == TDS_HR,
                                                              rest[0] == 'c', strength);
        }
        if (cut) {
            out.cuts[item.event.pts] = true;
        }
        cut = false;
        out.items.push_back(item);
    }
    return out;
}

Slot slot(const std::string &name) {
    if (name == "fb" || name == "fa") {
        return {0, name == "fa"};
    }
    return {std::stoi(name), false};
}

std::vector<Slot> slots(const std::vector<std::string> &names) {
    std::vector<Slot> out;
    std::transform(names.begin(), names.end(), std::back_inserter(out), slot);
    return out;
}

char letter(tds_status status) {
    return "peurf"[status];
}

// "2e(0-2,4!+2)[no-last]": time, status, references with their distances, "!" after one that
// is seen as a model made it, "-" for one that is not present; "=3" what is repeated.
std::string text(const tds::Target &target) {
    std::string out = std::to_string(target.pts) + letter(target.status);
    const tds::Recipe &recipe = *target.recipe;
    if (target.status == TDS_STATUS_REPEATED) {
        out += recipe.picture ? "=" + std::to_string(recipe.picture->pts) : "=black";
    } else if (!recipe.references.empty()) {
        out += "(";
        for (const tds::Reference &r : recipe.references) {
            out += &r == &recipe.references[0] ? "" : ",";
            out += r.picture ? std::to_string(r.picture->pts) + (r.made ? "!" : "") : "-";
            out += r.distance > 0 ? "+" : "";
            out += r.distance != 0 ? std::to_string(r.distance) : "";
        }
        out += ")";
    }
    char names[128];
    if (tds_reason_names(target.reason, names, sizeof(names)) > 0) {
        out += std::string("[") + names + "]";
    }
    return out;
}

// Everything a window says of a timeline, "|" between groups. `order` decides, again and
// again, whether what is wanted is sent or as much as goes.
std::string run(tds::Window &window, const Line &all, unsigned order = 0,
                size_t *most_waiting = nullptr) {
    std::vector<tds::Event> events[2];
    for (const Line::Item &item : all.items) {
        events[item.role].push_back(item.event);
    }
    size_t sent[2] = {0, 0};
    size_t out_count = 0;
    std::string out;
    const auto send = [&](int role) {
        const auto to = static_cast<tds_role>(role);
        if (sent[role] == events[role].size()) {
            window.end(to);
            sent[role]++;
            return true;
        }
        if (sent[role] > events[role].size()) {
            return false;
        }
        const tds::Event &event = events[role][sent[role]];
        window.check(to, event.pts, "picture");
        if (!window.takes(to, event.picture == nullptr)) {
            return false;
        }
        window.send(to, event);
        sent[role]++;
        return true;
    };
    std::mt19937 random(order);
    for (int guard = 0; guard < 100000; guard++) {
        if (order != 0 && random() % 2 == 0 && send(static_cast<int>(random() % 2))) {
            continue;
        }
        if (window.ready()) {
            const tds::Group group = window.plan();
            CHECK(!group.empty());
            for (const tds::Target &target : group) {
                out += text(target) + " ";
                out_count++;
            }
            out += "| ";
            if (most_waiting) {
                *most_waiting = std::max(*most_waiting, sent[0] + sent[1] - out_count);
            }
            for (size_t i = 0; i < group.size(); i++) {
                window.handed_out(i + 1 == group.size());
            }
            continue;
        }
        if (window.ended()) {
            return out;
        }
        const unsigned wanted = window.wants();
        CHECK(wanted != 0);
        for (const int role : {0, 1}) {
            if (wanted & (1U << role)) {
                CHECK(send(role)); // what is wanted is taken
            }
        }
    }
    CHECK(!"the window stands still");
    return out;
}

std::string without_bars(std::string text) {
    for (size_t at = text.find("| "); at != std::string::npos; at = text.find("| ")) {
        text.erase(at, 2);
    }
    return text;
}

Neighbours::Settings with(const Line &all, const std::vector<std::string> &full,
                          const std::vector<std::string> &low) {
    Neighbours::Settings s;
    s.plain = low.empty();
    if (!full.empty()) {
        s.full = slots(full);
    }
    if (!low.empty()) {
        s.low = slots(low);
    }
    const std::map<int64_t, bool> cuts = all.cuts;
    s.cut = [cuts](const tds::Shown &, const tds::Shown &after) {
        return cuts.count(after.pts) != 0;
    };
    return s;
}

std::string plain(const std::string &words, const std::vector<std::string> &names,
                  const std::function<void(Neighbours::Settings &)> &change = {}) {
    const Line all = line(words);
    Neighbours::Settings s = with(all, names, {});
    if (change) {
        change(s);
    }
    Neighbours window(s);
    return run(window, all);
}

std::string pair(const std::string &words, const std::vector<std::string> &full,
                 const std::vector<std::string> &low,
                 const std::function<void(Neighbours::Settings &)> &change = {}) {
    const Line all = line(words);
    Neighbours::Settings s = with(all, full, low);
    if (change) {
        change(s);
    }
    Neighbours window(s);
    return without_bars(run(window, all));
}

const std::vector<std::string> kPlain = {"-1", "+1", "fb", "fa"};
const std::vector<std::string> kLow = {"fb", "fa", "-1", "+1"};

} // namespace

// --------------------------------------------------------------- pairing --

TEST("two streams become one sequence, as soon as no earlier picture can come") {
    tds::Pairing pairing;
    const auto next = [&] {
        const auto event = pairing.next();
        return event ? std::to_string(event->pts) + (event->picture ? "" : "x") : "-";
    };
    for (const Line::Item &item : line("H0 H4x H8 l1 l4 l5x").items) {
        CHECK_EQ(pairing.ended(), false);
        pairing.send(item.role, item.event);
    }
    CHECK_EQ(pairing.waiting_hr(), 2U);
    for (const char *want : {"0", "1", "4", "5x", "-"}) {
        CHECK_EQ(next(), want);
    }
    CHECK_EQ(pairing.next_hr()->pts, 8);
    pairing.end(TDS_LR);
    CHECK_EQ(next(), "8");
    pairing.end(TDS_HR);
    CHECK(pairing.ended());
    for (const int64_t pts : {int64_t{9}, TDS_NO_PTS}) {
        bool threw = false;
        try {
            pairing.check(TDS_HR, pts, "HR picture");
        } catch (const std::exception &) {
            threw = true;
        }
        CHECK(threw);
    }
}

TEST("what cannot be taken leaves no place behind") {
    tds::Pairing pairing;
    tds::Event event;
    event.pts = 5;
    bool threw = false;
    try {
        pairing.send(TDS_HR, event, []() -> tds::ShownPtr { throw std::bad_alloc(); });
    } catch (const std::bad_alloc &) {
        threw = true;
    }
    CHECK(threw);
    CHECK(pairing.waiting(TDS_HR).empty());
    pairing.check(TDS_HR, 5, "HR picture"); // as if it had never come
}

// ------------------------------------------------------------ recurrence --

TEST("the paper's recurrence: the middle first, the others from it") {
    const Line all = line("H0 l1 l2 l3 H4 H5 l6");
    tds::Recurrence window({});
    CHECK_EQ(run(window, all), "0p | 1e(0-1,2!+1) 2e(0-2,4+2) 3e(2!-1,4+1) | 4p | 5p | "
                               "6e(5-1,-)[no-last] | ");
}

TEST("recurrence, causal: each picture at once, from the boundary before it") {
    const Line all = line("H0 l1 l2x l3 H4 l5");
    tds::Recurrence::Settings settings;
    settings.causal = true;
    for (unsigned order = 0; order < 20; order++) {
        tds::Recurrence window(settings);
        CHECK_EQ(without_bars(run(window, all, order)),
                 "0p 1e(0-1,-) 2r=1[lost] 3e(0-3,-) 4p 5e(4-1,-) ");
    }
    tds::Recurrence first(settings);
    CHECK_EQ(without_bars(run(first, line("l1x l2 H3"))),
             "1r=black[no-first,no-last,lost] 2u(-,-)[no-first] 3p ");
}

TEST("recurrence: strength 0 is up-sampled, and is no reference") {
    const Line all = line("H0 l1 l2:0 l3 H4");
    tds::Recurrence window({});
    CHECK_EQ(without_bars(run(window, all)),
             "0p 1e(0-1,4+3) 2u(0-2,4+2)[strength] 3e(0-3,4+1) 4p ");
}

TEST("recurrence from HR pictures that are enhanced first, from what is around them") {
    const auto refined = [](const std::string &words, bool causal = false) {
        const Line all = line(words);
        tds::Recurrence::Settings settings;
        settings.refine = with(all, kPlain, {});
        settings.refine->plain = false;
        settings.causal = settings.refine->causal = causal;
        tds::Recurrence window(settings);
        return without_bars(run(window, all));
    };
    CHECK_EQ(refined("H0 l1 l2 l3 H4 H5 l6"),
             "0f(-,1+1,-,4+4) 1e(0!-1,2!+1) 2e(0!-2,4!+2) 3e(2!-1,4!+1) 4f(3-1,5+1,0-4,-) "
             "5f(4-1,6+1,0-5,-) 6e(5!-1,-)[no-last] ");
    // Strength 0 passes, and is seen as it was decoded; a lost one is the nearest again.
    CHECK_EQ(refined("H0:0 l1 l2x H3"), "0p 1e(0-1,3!+2) 2r=1[lost] 3f(-,-,0-3,-)[ref-lost] ");
    CHECK_EQ(refined("l1x l2x H3"), "1r=3[lost] 2r=3[lost] 3f(-,-,-,-)[ref-lost] ");
    CHECK_EQ(refined("H0 l1 l2 H3", true), "0f(-,-,-,-) 1e(0!-1,-) 2e(0!-2,-) 3f(2-1,-,0-3,-) ");
    CHECK_EQ(
        refined("H0 l1 / H2 l3 H4"),
        "0f(-,1+1,-,-)[cut] 1e(0!-1,2!+1) 2f(-,3+1,-,4+2)[cut] 3e(2!-1,4!+1) 4f(3-1,-,2-2,-) ");
}

// ----------------------------------------------------------------- plain --

TEST("plain: t - 1, t + 1, t - 2 and t + 2; nothing is present beyond the ends") {
    CHECK_EQ(plain("H0 H10 H20 H30 H40", kPlain),
             "0f(-,10+1,-,20+2) 10f(0-1,20+1,-,30+2) 20f(10-1,30+1,0-2,40+2) "
             "30f(20-1,40+1,10-2,-) | 40f(30-1,-,20-2,-) | ");
    CHECK_EQ(plain("H7", kPlain), "7f(-,-,-,-) | ");
    CHECK_EQ(plain("", kPlain), "");
}

TEST("plain: a slot never shows what an earlier one shows") {
    CHECK_EQ(plain("H0 H1 H2", {"fb", "-1", "fa", "fa"}),
             "0f(-,-,1+1,2+2) 1f(0-1,-,2+1,-) 2f(1-1,-,-,-) | ");
}

TEST("plain: no slot reaches further ahead than two pictures") {
    CHECK_EQ(
        plain("H0 H1 H2 H3 H4", {"+1", "+2", "+3", "fa"},
              [](Neighbours::Settings &s) { s.max_batch = 1; }),
        "0f(1+1,2+2,-,-) | 1f(2+1,3+2,-,-) | 2f(3+1,4+2,-,-) | 3f(4+1,-,-,-) | 4f(-,-,-,-) | ");
}

TEST("plain: the latency is what it is said to be") {
    for (const size_t batch : {1U, 4U}) {
        for (const bool causal : {false, true}) {
            Neighbours::Settings s = with({}, kPlain, {});
            s.max_batch = batch;
            s.causal = causal;
            Neighbours window(s);
            const auto want = static_cast<int32_t>(causal ? 0 : 2 + batch - 1);
            CHECK_EQ(window.latency(), want);
            const Line all = line("H0 H1 H2 H3 H4 H5 H6 H7");
            for (int32_t i = 0; i <= want; i++) {
                CHECK(!window.ready());
                window.send(TDS_HR, all.items[static_cast<size_t>(i)].event);
            }
            CHECK(window.ready());
        }
    }
}

TEST("plain, causal: from the pictures before it alone") {
    CHECK_EQ(plain("H0 H1 H2 H3", kPlain, [](Neighbours::Settings &s) { s.causal = true; }),
             "0f(-,-,-,-) | 1f(0-1,-,-,-) | 2f(1-1,-,0-2,-) | 3f(2-1,-,1-2,-) | ");
}

TEST("plain: a cut is a wall for references") {
    CHECK_EQ(without_bars(plain("H0 H1 H2 / H3 H4 H5", kPlain)),
             "0f(-,1+1,-,2+2) 1f(0-1,2+1,-,-)[cut] 2f(1-1,-,0-2,-)[cut] "
             "3f(-,4+1,-,5+2)[cut] 4f(3-1,5+1,-,-)[cut] 5f(4-1,-,3-2,-) ");
}

TEST("plain: lost and corrupt pictures are no references; a lost one is repeated") {
    CHECK_EQ(without_bars(plain("H0 H1 H2x H3 H4 H5", kPlain)),
             "0f(-,1+1,-,-)[ref-lost] 1f(0-1,-,-,3+2)[ref-lost] 2r=1[lost] "
             "3f(-,4+1,1-2,5+2)[ref-lost] 4f(3-1,5+1,1-3,-)[ref-lost] 5f(4-1,-,3-2,-) ");
    CHECK_EQ(without_bars(plain("H0 H1c H2", kPlain)),
             "0f(-,-,-,2+2)[ref-lost] 1f(0-1,2+1,-,-)[corrupt] 2f(-,-,0-2,-)[ref-lost] ");
    CHECK_EQ(without_bars(plain("H0 H1x H2x H4", kPlain)),
             "0f(-,-,-,-)[ref-lost] 1r=0[lost] 2r=0[lost] 4f(-,-,0-3,-)[ref-lost] ");
    CHECK_EQ(without_bars(plain("H0x H1", kPlain)), "0r=1[lost] 1f(-,-,-,-)[ref-lost] ");
    CHECK_EQ(without_bars(plain("H0x H1x H2x H3x", kPlain)),
             "0r=black[no-first,no-last,lost] 1r=black[no-first,no-last,lost] "
             "2r=black[no-first,no-last,lost] 3r=black[no-first,no-last,lost] ");
}

TEST("plain: strength 0 passes, and is a reference like any other") {
    CHECK_EQ(without_bars(plain("H0 H1:0 H2:5", kPlain)), "0f(-,1+1,-,2+2) 1p 2f(1-1,-,0-2,-) ");
}

TEST("plain: without a model every picture passes at once") {
    CHECK_EQ(plain("H0 H1 H2x", {}, [](Neighbours::Settings &s) { s.full.reset(); }),
             "0p[no-model] | 1p[no-model] | 2r=1[lost] | ");
}

// ----------------------------------------------------------------- pairs --

TEST("a pair: two HR pictures and the neighbours, all of a run as one group") {
    const Line all = line("H0 l1 l2 l3 H4 l5");
    Neighbours window(with(all, {}, kLow));
    CHECK_EQ(run(window, all), "0p | 1e(0-1,4+3,-,2+1) 2e(0-2,4+2,1-1,3+1) 3e(0-3,4+1,2-1,-) 4p | "
                               "5e(4-1,-,-,-)[no-last] | ");
}

TEST("a pair: HR pictures refined first, and seen so by LR pictures alone") {
    const Line all = line("H0 l1 l2 H3 l4 H5");
    Neighbours window(with(all, kPlain, kLow));
    CHECK_EQ(without_bars(run(window, all)),
             "0f(-,1+1,-,3+3) 1e(0!-1,3!+2,-,2+1) 2e(0!-2,3!+1,1-1,-) 3f(2-1,4+1,0-3,5+2) "
             "4e(3!-1,5!+1,-,-) 5f(4-1,-,3-2,-) ");
    CHECK_EQ(pair("H0 l1 H2:0 l3 H4", kPlain, kLow),
             "0f(-,1+1,-,2+2) 1e(0!-1,2+1,-,-) 2p 3e(2-1,4!+1,-,-) 4f(3-1,-,2-2,-) ");
}

TEST("a pair whose LR pictures have no model: HR refined, LR up-sampled") {
    CHECK_EQ(pair("H0 l1 H2", kPlain, {"fb"}, [](Neighbours::Settings &s) { s.low.reset(); }),
             "0f(-,1+1,-,2+2) 1u[no-model] 2f(1-1,-,0-2,-) ");
}

TEST("a pair: what is missing says why") {
    CHECK_EQ(pair("l1 l2 H3 l4", {}, kLow),
             "1e(-,3+2,-,2+1)[no-first] 2e(-,3+1,1-1,-)[no-first] 3p 4e(3-1,-,-,-)[no-last] ");
    CHECK_EQ(pair("l1 l2", {}, kLow),
             "1e(-,-,-,2+1)[no-first,no-last] 2e(-,-,1-1,-)[no-first,no-last] ");
    CHECK_EQ(pair("H0 l1 H2x l2 l3 H4", {}, kLow),
             "0p 1e(0-1,4+3,-,2+1)[ref-lost] 2e(0-2,4+2,1-1,3+1)[lost] "
             "3e(0-3,4+1,2-1,-)[ref-lost] 4p ");
    CHECK_EQ(pair("H0 l1 l2x l3 H4", {}, kLow),
             "0p 1e(0-1,4+3,-,-)[ref-lost] 2r=1[lost] 3e(0-3,4+1,-,-)[ref-lost] 4p ");
    CHECK_EQ(pair("H0 l1 / l2 H3", {}, kLow), "0p 1e(0-1,-,-,-)[cut] 2e(-,3+1,-,-)[cut] 3p ");
    CHECK_EQ(pair("H0 l1:0 H2", {}, kLow), "0p 1u[strength] 2p ");
}

TEST("a pair, causal: no picture waits for another") {
    const Line all = line("H0 l1 l2 H3 l4");
    Neighbours::Settings s = with(all, kPlain, kLow);
    s.causal = true;
    Neighbours window(s);
    CHECK_EQ(run(window, all),
             "0f(-,-,-,-) | 1e(0!-1,-,-,-) | 2e(0!-2,-,1-1,-) | 3f(2-1,-,0-3,-) | "
             "4e(3!-1,-,-,-) | ");
}

TEST("a run longer than max_group: the HR picture after it is not waited for") {
    CHECK_EQ(pair("H0 l1 l2 l3 l4 H5", {}, kLow, [](Neighbours::Settings &s) { s.max_group = 2; }),
             "0p 1e(0-1,-,-,2+1)[long-group] 2e(0-2,5+3,1-1,3+1) 3e(0-3,5+2,2-1,4+1) "
             "4e(0-4,5+1,3-1,-) 5p ");
}

// ------------------------------------------------------------ properties --

namespace {

// docs/model.md read literally, over a whole timeline.
class Oracle {
  public:
    Oracle(const Line &all, const Neighbours::Settings &settings) : s_(settings) {
        tds::Pairing pairing;
        for (const Line::Item &item : all.items) {
            pairing.send(item.role, item.event);
        }
        pairing.end(TDS_HR);
        pairing.end(TDS_LR);
        while (auto event = pairing.next()) {
            events_.push_back(*event);
        }
        for (const tds::Event &event : events_) {
            scenes_.push_back((scenes_.empty() ? 0 : scenes_.back()) +
                              (event.picture && all.cuts.count(event.pts) && any_before_ ? 1 : 0));
            any_before_ = any_before_ || event.picture;
        }
    }

    std::string say() const {
        std::string out;
        for (size_t i = 0; i < events_.size(); i++) {
            out += say(static_cast<int>(i)) + " ";
        }
        return out;
    }

  private:
    bool whole(int i) const {
        return i >= 0 && i < static_cast<int>(events_.size()) && events_[at(i)].picture &&
               !events_[at(i)].picture->corrupt;
    }
    static size_t at(int i) { return static_cast<size_t>(i); }

    std::string say(int i) const {
        const tds::ShownPtr &picture = events_[at(i)].picture;
        if (!picture) {
            return std::to_string(events_[at(i)].pts) + "r";
        }
        const Neighbours::Model &model = picture->full ? s_.full : s_.low;
        std::string out = std::to_string(picture->pts);
        if (!model || picture->strength == 0.0F) {
            return out + (picture->full ? "p" : "u");
        }
        out += picture->full ? "f(" : "e(";
        std::vector<int> shown;
        for (const Slot &slot : *model) {
            int found = -1;
            for (int d = 1; d <= static_cast<int>(events_.size()); d++) {
                const bool later = slot.offset > 0 || (slot.offset == 0 && slot.after);
                const int j = i + (later ? d : -d);
                if ((later && s_.causal) || (slot.offset != 0 && d != std::abs(slot.offset)) ||
                    (later && s_.plain && d > TDS_MAX_LOOK_AHEAD) ||
                    (later && !s_.plain && slot.offset == 0 &&
                     d > static_cast<int>(s_.max_group) + 1)) {
                    continue;
                }
                if (whole(j) && scenes_[at(j)] == scenes_[at(i)] &&
                    std::find(shown.begin(), shown.end(), j) == shown.end() &&
                    (slot.offset != 0 || events_[at(j)].picture->full)) {
                    found = j;
                    break;
                }
            }
            out += shown.empty() && out.back() == '(' ? "" : ",";
            if (found < 0) {
                out += "-";
                continue;
            }
            shown.push_back(found);
            const tds::Shown &seen = *events_[at(found)].picture;
            out += std::to_string(seen.pts);
            out += !picture->full && seen.full && s_.full && seen.strength > 0.0F ? "!" : "";
            out += found > i ? "+" + std::to_string(found - i) : std::to_string(found - i);
        }
        return out + ")";
    }

    Neighbours::Settings s_;
    std::vector<tds::Event> events_;
    std::vector<int> scenes_;
    bool any_before_ = false;
};

// Without the reasons, and without what is repeated.
std::string bare(const std::string &text) {
    std::string out;
    bool skip = false;
    for (const char c : without_bars(text)) {
        skip = c == '[' || c == '=' || (skip && c != ' ');
        out += skip ? "" : std::string(1, c);
    }
    return out;
}

// What is said of full-size pictures, and the times of all.
std::string full_alone(const std::string &text) {
    std::string out;
    bool skip = false;
    for (const char c : text) {
        skip = c == 'u' || c == 'e' || (skip && c != ' ');
        out += skip ? "" : std::string(1, c);
    }
    return out;
}

} // namespace

TEST("any timeline, any slots, any caller: every target sees what docs/model.md says") {
    std::mt19937 random(1);
    const auto one_in = [&](unsigned n) { return random() % n == 0; };
    for (int trial = 0; trial < 3000; trial++) {
        const bool plain_stream = one_in(2);
        const unsigned count = random() % 24;
        std::string words;
        for (unsigned i = 0; i < count; i++) {
            const bool high = plain_stream || one_in(4);
            const std::string end = one_in(8) ? "x" : one_in(10) ? "c" : one_in(8) ? ":0" : "";
            words += one_in(12) ? "/ " : "";
            words += (high ? "H" : "l") + std::to_string(3 * i) + end + " ";
            if (high && !plain_stream && one_in(4)) {
                words += "l" + std::to_string(3 * i) + " ";
            }
        }
        const auto some_slots = [&] {
            const char *names[] = {"-1", "+1", "-2", "+2", "-5", "+4", "fb", "fa", "fb", "fa"};
            std::vector<std::string> out;
            for (unsigned i = 0; i <= random() % 6; i++) {
                out.emplace_back(names[random() % 10]);
            }
            return out;
        };
        const Line all = line(words);
        Neighbours::Settings s = with(all, some_slots(), some_slots());
        s.plain = plain_stream;
        if (plain_stream) {
            s.low.reset();
        } else if (one_in(3)) {
            s.full.reset();
        } else if (one_in(3)) {
            s.low.reset();
        }
        s.causal = one_in(4);
        s.max_group = 1 + random() % 8;
        s.max_batch = 1 + random() % 5;
        const std::string want = Oracle(all, s).say();
        std::string first;
        for (unsigned order = 0; order < 3; order++) {
            Neighbours window(s);
            size_t waiting = 0;
            const std::string got = run(window, all, order == 0 ? 0 : random(), &waiting);
            if (bare(got) != want) {
                std::fprintf(stderr, "%s\n", words.c_str());
                CHECK_EQ(bare(got), want);
            }
            // Reasons and repeated pictures do not depend on who calls when either.
            first = order == 0 ? without_bars(got) : first;
            CHECK_EQ(without_bars(got), first);
            CHECK(waiting <= 4 * s.max_group + s.max_batch + 24);
        }
    }
}

TEST("recurrence, any timeline and caller: HR pictures see what docs/model.md says, every time "
     "is there once") {
    std::mt19937 random(2);
    const auto one_in = [&](unsigned n) { return random() % n == 0; };
    for (int trial = 0; trial < 2000; trial++) {
        const unsigned count = random() % 24;
        std::string words;
        for (unsigned i = 0; i < count; i++) {
            const bool high = one_in(4);
            const std::string end = one_in(8) ? "x" : one_in(10) ? "c" : one_in(8) ? ":0" : "";
            words += one_in(12) ? "/ " : "";
            words += (high ? "H" : "l") + std::to_string(3 * i) + end + " ";
            if (high && one_in(4)) {
                words += "l" + std::to_string(3 * i) + " ";
            }
        }
        const Line all = line(words);
        tds::Recurrence::Settings s;
        s.refine = with(all, kPlain, {});
        s.refine->plain = false;
        s.causal = s.refine->causal = one_in(4);
        s.max_group = s.refine->max_group = 1 + random() % 30;
        const std::string want = Oracle(all, *s.refine).say();
        for (unsigned order = 0; order < 3; order++) {
            tds::Recurrence window(s);
            size_t waiting = 0;
            const std::string got = run(window, all, order == 0 ? 0 : random(), &waiting);
            // Of LR pictures, which up-sampling stands for there, the times.
            if (full_alone(bare(got)) != full_alone(want)) {
                std::fprintf(stderr, "%s\n", words.c_str());
                CHECK_EQ(full_alone(bare(got)), full_alone(want));
            }
            CHECK(waiting <= 4 * s.max_group + s.max_batch + 24);
        }
    }
}

// ------------------------------------------------------------------ cuts --

namespace {

struct Luma {
    Luma(int32_t width, int32_t height, int depth, bool semi)
        : samples(static_cast<size_t>(width * height)) {
        tds_picture_init(&picture);
        picture.width = width;
        picture.height = height;
        picture.bit_depth = depth;
        picture.layout = semi ? TDS_LAYOUT_SEMIPLANAR : TDS_LAYOUT_PLANAR;
        picture.data[0] = samples.data();
        picture.stride[0] = width * 2;
        bytes.resize(samples.size());
        if (depth == 8) {
            picture.data[0] = bytes.data();
            picture.stride[0] = width;
        }
    }
    void paint(const std::function<int(double, double)> &value) {
        for (int32_t y = 0; y < picture.height; y++) {
            for (int32_t x = 0; x < picture.width; x++) {
                const auto i = static_cast<size_t>(y * picture.width + x);
                const int v = value((x + 0.5) / picture.width, (y + 0.5) / picture.height);
                const int shift =
                    picture.layout == TDS_LAYOUT_SEMIPLANAR ? 8 : picture.bit_depth - 8;
                samples[i] = static_cast<uint16_t>(v << shift);
                bytes[i] = static_cast<uint8_t>(v);
            }
        }
    }
    tds_picture picture;
    std::vector<uint16_t> samples;
    std::vector<uint8_t> bytes;
};

} // namespace

TEST("a thumbnail does not depend on size, depth and layout") {
    const auto value = [](double x, double y) {
        return static_cast<int>(40 + 100 * x + 80 * y * y);
    };
    Luma large(256, 144, 8, false);
    large.paint(value);
    const tds::Thumbnail want = tds::thumbnail(large.picture);
    for (const int depth : {8, 10}) {
        for (const bool semi : {false, true}) {
            Luma small(64, 36, depth, semi);
            small.paint(value);
            const tds::Thumbnail got = tds::thumbnail(small.picture);
            for (size_t i = 0; i < want.size(); i++) {
                CHECK(std::abs(got[i] - want[i]) < 3.0F);
            }
        }
    }
    Luma least(16, 16, 8, false); // lower and narrower than the grid
    least.paint(value);
    CHECK(tds::thumbnail(least.picture)[0] > 0.0F);
}

TEST("a cut is seen, motion and a fade are not") {
    tds::SceneCuts cuts;
    const auto flat = [](float value) {
        tds::Thumbnail out;
        out.fill(value);
        return out;
    };
    CHECK(!cuts.between(flat(50), flat(52)));
    CHECK(cuts.between(flat(52), flat(100)));
    CHECK(!cuts.between(flat(100), flat(104)));
    for (float v = 104; v < 200; v += 18) {
        CHECK(!cuts.between(flat(v), flat(v + 18)));
    }
    CHECK(!cuts.between(flat(200), flat(176))); // not much more than before
    CHECK(cuts.between(flat(176), flat(100)));
}

int main(int argc, char **argv) {
    return check::run(argc, argv);
}
