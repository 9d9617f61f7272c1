// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What a session does with every kind of timeline.
#include "tests/check.h"
#include "tests/record_backend.h"
#include "tests/support.h"

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>

#include <dlfcn.h>

namespace {

Record &record() {
    static Record *found = [] {
        void *library = dlopen(TEST_BACKEND, RTLD_NOW | RTLD_LOCAL);
        const auto entry =
            library ? reinterpret_cast<RecordFunction>(dlsym(library, "tds_test_record")) : nullptr;
        if (!entry) {
            std::fprintf(stderr, "no %s\n", TEST_BACKEND);
            std::abort();
        }
        return entry();
    }();
    return *found;
}

Session recording(std::function<void(tds_settings &)> change = {}, bool no_reference = false) {
    record() = Record{};
    static const std::string with = model_file("with.pt", 2, true);
    static const std::string without = model_file("without.pt", 2, false);
    return Session([&](tds_settings &s) {
        s.backend = "record";
        s.model = no_reference ? with.c_str() : without.c_str();
        if (change) {
            change(s);
        }
    });
}

// Models of contract 2; pictures whose values do not look like scene cuts. `low`: slots
// of the model for LR pictures; none: a plain session.
Session recording_2(const std::string &full, const std::string &low,
                    std::function<void(tds_settings &)> change = {}) {
    record() = Record{};
    static std::string full_file;
    static std::string low_file;
    full_file = full.empty() ? "" : model_file_2("full.pt", 1, full);
    low_file = low.empty() ? "" : model_file_2("low.pt", 2, low);
    Session session([&](tds_settings &s) {
        s.backend = "record";
        if (low.empty()) {
            s.kind = TDS_KIND_PLAIN;
            s.scale = 1;
            s.model = full_file.c_str();
        } else {
            s.model = low_file.c_str();
            s.hr_model = full.empty() ? nullptr : full_file.c_str();
        }
        if (change) {
            change(s);
        }
    });
    session.value = [](tds_role, int64_t pts) { return static_cast<int>(60 + pts % 16); };
    return session;
}

const char *const kPlain = R"("-1", "+1", "full-before", "full-after")";
const char *const kLow = R"("full-before", "full-after", "-1", "+1")";

std::string stream(const std::vector<int64_t> &hr, const std::vector<int64_t> &lr, Order order,
                   Session &session) {
    return text(feed(session, pictures(TDS_HR, hr), pictures(TDS_LR, lr), order));
}

const Order kOrders[] = {Order::wanted, Order::hr_first, Order::lr_first, Order::in_time};

} // namespace

// --------------------------------------------------------------- groups --

TEST("independent groups: two HR pictures next to each other, SRFR in each group") {
    for (const Order order : kOrders) {
        Session session = recording();
        CHECK_EQ(stream({0, 4, 5, 9}, {1, 2, 3, 6, 7, 8}, order, session),
                 "0p 1e(0,2) 2e(0,4) 3e(2,4) 4p 5p 6e(5,7) 7e(5,9) 8e(7,9) 9p ");
        CHECK_EQ(record().log, "P0 P4 E2(0,4@0.50)k E1(0,2@0.50)+3(2,4@0.50) "
                               "P5 P9 E7(5,9@0.50)k E6(5,7@0.50)+8(7,9@0.50) ");
    }
}

TEST("shared boundaries: each is prepared once") {
    for (const Order order : kOrders) {
        Session session = recording();
        CHECK_EQ(stream({0, 4, 8}, {1, 2, 3, 5, 6, 7}, order, session),
                 "0p 1e(0,2) 2e(0,4) 3e(2,4) 4p 5e(4,6) 6e(4,8) 7e(6,8) 8p ");
        CHECK_EQ(record().log, "P0 P4 E2(0,4@0.50)k E1(0,2@0.50)+3(2,4@0.50) "
                               "P8 E6(4,8@0.50)k E5(4,6@0.50)+7(6,8@0.50) ");
        tds_info info;
        CHECK_EQ(tds_session_info(session.get(), &info), TDS_OK);
        CHECK_EQ(info.references, 5); // three boundaries, two middles
        CHECK_EQ(info.batches, 4);
        CHECK_EQ(info.enhanced, 6);
        CHECK_EQ(info.passed, 3);
    }
}

TEST("LR pictures at HR times (LDP, RA) are dropped and counted") {
    for (const Order order : kOrders) {
        Session session = recording();
        CHECK_EQ(stream({0, 4, 8}, {0, 1, 2, 3, 4, 5, 6, 7, 8}, order, session),
                 "0p 1e(0,2) 2e(0,4) 3e(2,4) 4p 5e(4,6) 6e(4,8) 7e(6,8) 8p ");
        tds_info info;
        CHECK_EQ(tds_session_info(session.get(), &info), TDS_OK);
        CHECK_EQ(info.dropped_lr, 3);
    }
}

TEST("runs of every length: the middle is (n - 1) / 2") {
    const std::map<int, std::string> expected = {
        {1, "0p 1e(0,2) 2p "},
        {2, "0p 1e(0,3) 2e(1,3) 3p "},
        {4, "0p 1e(0,2) 2e(0,5) 3e(2,5) 4e(2,5) 5p "},
        {5, "0p 1e(0,3) 2e(0,3) 3e(0,6) 4e(3,6) 5e(3,6) 6p "},
    };
    for (const auto &[n, want] : expected) {
        std::vector<int64_t> lr;
        for (int i = 1; i <= n; i++) {
            lr.push_back(i);
        }
        Session session = recording();
        CHECK_EQ(stream({0, n + 1}, lr, Order::wanted, session), want);
    }
}

TEST("a single LR picture needs no middle: no reference is kept of it") {
    Session session = recording();
    CHECK_EQ(stream({0, 2}, {1}, Order::wanted, session), "0p 1e(0,2) 2p ");
    CHECK_EQ(record().log, "P0 P2 E1(0,2@0.50) ");
}

TEST("max_batch bounds what the backend gets at once") {
    Session session = recording([](tds_settings &s) { s.max_batch = 2; });
    CHECK_EQ(stream({0, 6}, {1, 2, 3, 4, 5}, Order::wanted, session),
             "0p 1e(0,3) 2e(0,3) 3e(0,6) 4e(3,6) 5e(3,6) 6p ");
    CHECK_EQ(record().log, "P0 P6 E3(0,6@0.50)k E1(0,3@0.33)+2(0,3@0.67) "
                           "E4(3,6@0.33)+5(3,6@0.67) ");
}

TEST("times of any kind: negative, uneven, large") {
    for (const Order order : kOrders) {
        Session session = recording();
        const int64_t big = INT64_MAX - 100;
        CHECK_EQ(stream({-90, 30, big}, {-60, -59, 31}, order, session),
                 "-90p -60e(-90,30) -59e(-60,30) 30p 31e(30," + std::to_string(big) + ") " +
                     std::to_string(big) + "p ");
    }
}

// ------------------------------------------------- boundaries that miss --

TEST("a stream that starts inside a group is enhanced from the boundary there is") {
    for (const Order order : kOrders) {
        Session session = recording();
        CHECK_EQ(stream({4, 8}, {1, 2, 3, 5, 6, 7}, order, session),
                 "1e(,4)[no-first] 2e(,4)[no-first] 3e(,4)[no-first] 4p 5e(4,6) 6e(4,8) 7e(6,8) "
                 "8p ");
        CHECK(record().log.find("E1(-,4@0.50)") != std::string::npos);
    }
}

TEST("a tail without its last boundary is enhanced from the first") {
    for (const Order order : kOrders) {
        Session session = recording();
        CHECK_EQ(stream({0, 4}, {1, 2, 3, 5, 6}, order, session),
                 "0p 1e(0,2) 2e(0,4) 3e(2,4) 4p 5e(4,)[no-last] 6e(4,)[no-last] ");
    }
}

TEST("no HR picture at all: up-sampled, or run without references where the model can") {
    for (const Order order : kOrders) {
        Session session = recording();
        CHECK_EQ(stream({}, {1, 2}, order, session),
                 "1u(,)[no-first,no-last] 2u(,)[no-first,no-last] ");
        CHECK_EQ(record().log, "U1 U2 ");
        Session able = recording({}, true);
        CHECK_EQ(stream({}, {1, 2}, order, able),
                 "1e(,)[no-first,no-last] 2e(,)[no-first,no-last] ");
    }
}

TEST("no LR picture at all: HR passes through") {
    for (const Order order : kOrders) {
        Session session = recording();
        CHECK_EQ(stream({0, 1, 2, 7}, {}, order, session), "0p 1p 2p 7p ");
        CHECK_EQ(record().log, ""); // nothing is prepared that nothing uses
    }
}

TEST("nothing at all") {
    Session session = recording();
    CHECK_EQ(stream({}, {}, Order::wanted, session), "");
}

// ----------------------------------------------------------- long runs --

TEST("a run longer than max_group is treated in parts and says so") {
    for (const Order order : kOrders) {
        Session session = recording([](tds_settings &s) { s.max_group = 3; });
        CHECK_EQ(stream({0, 8, 12}, {1, 2, 3, 4, 5, 6, 7, 9, 10, 11}, order, session),
                 "0p 1e(0,2)[long-group] 2e(0,8)[long-group] 3e(2,8)[long-group] "
                 "4e(0,5)[long-group] 5e(0,8)[long-group] 6e(5,8)[long-group] "
                 "7e(0,8)[long-group] 8p 9e(8,10) 10e(8,12) 11e(10,12) 12p ");
    }
}

TEST("a run of exactly max_group is a whole group") {
    for (const Order order : kOrders) {
        Session session = recording([](tds_settings &s) { s.max_group = 3; });
        CHECK_EQ(stream({0, 4, 8}, {1, 2, 3, 5, 6, 7}, order, session),
                 "0p 1e(0,2) 2e(0,4) 3e(2,4) 4p 5e(4,6) 6e(4,8) 7e(6,8) 8p ");
    }
}

TEST("endless LR pictures and no HR: memory stays bounded") {
    Session session = recording([](tds_settings &s) { s.max_group = 4; });
    size_t refused = 0;
    for (int64_t t = 0; t < 100; t++) {
        const tds_result result = session.send(TDS_LR, {t});
        refused += result == TDS_AGAIN ? 1 : 0;
    }
    CHECK_EQ(refused, 95U); // max_group and one that shows where a run ends
    CHECK_EQ(tds_session_wants(session.get()), 1U << TDS_HR);
    CHECK_EQ(tds_session_send(session.get(), TDS_HR, nullptr), TDS_OK);
    int64_t next = 5;
    std::string out;
    for (int i = 0; i < 200; i++) {
        Output picture;
        const tds_result result = session.receive(picture);
        if (result == TDS_OK) {
            out += std::to_string(picture.pts) + " ";
        } else {
            CHECK_EQ(result, TDS_AGAIN);
            CHECK_EQ(session.send(TDS_LR, {next}), TDS_OK);
            next++;
        }
    }
    CHECK(out.rfind("0 1 2 3 4 5 6 7 ", 0) == 0);
    CHECK_EQ(next, 5 + 200 - 102);
}

TEST("HR pictures far ahead: refused, and taken again later") {
    Session session = recording();
    CHECK_EQ(session.send(TDS_HR, {0}), TDS_OK);
    CHECK_EQ(session.send(TDS_HR, {4}), TDS_OK);
    CHECK_EQ(session.send(TDS_HR, {8}), TDS_AGAIN);
    CHECK_EQ(tds_session_wants(session.get()), 1U << TDS_LR);
    CHECK_EQ(session.send(TDS_LR, {5}), TDS_OK);
    CHECK_EQ(tds_session_wants(session.get()), 0U);
    Output out;
    CHECK_EQ(session.receive(out), TDS_OK);
    CHECK_EQ(out.pts, 0);
    CHECK_EQ(session.send(TDS_HR, {8}), TDS_OK);
}

TEST("an HR picture goes out as soon as no LR picture before it can come") {
    Session session = recording();
    Output out;
    CHECK_EQ(session.send(TDS_HR, {3}), TDS_OK);
    CHECK_EQ(session.receive(out), TDS_AGAIN);
    CHECK_EQ(session.send(TDS_LR, {7}), TDS_OK);
    CHECK_EQ(session.receive(out), TDS_OK);
    CHECK_EQ(out.pts, 3);
    CHECK_EQ(session.receive(out), TDS_AGAIN);
    CHECK_EQ(tds_session_wants(session.get()), 1U << TDS_HR);
}

TEST("after the end of HR, each LR picture goes out at once") {
    Session session = recording();
    CHECK_EQ(tds_session_send(session.get(), TDS_HR, nullptr), TDS_OK);
    for (int64_t t = 0; t < 5; t++) {
        Output out;
        CHECK_EQ(session.send(TDS_LR, {t}), TDS_OK);
        CHECK_EQ(session.receive(out), TDS_OK);
        CHECK_EQ(out.pts, t);
        CHECK_EQ(session.receive(out), TDS_AGAIN);
    }
}

// ------------------------------------------------------- lost, corrupt --

TEST("a lost LR picture: the nearest one again, the earlier of two as near") {
    for (const Order order : kOrders) {
        Session session = recording();
        const auto out =
            feed(session, pictures(TDS_HR, {0, 6}), {{1}, lost(2), lost(3), {4}, {5}}, order);
        CHECK_EQ(text(out), "0p 1e(0,4) 2r(0,4)[lost] 3r(0,6)[lost] 4e(0,6) 5e(4,6) 6p ");
        CHECK_EQ(out[2].value, out[1].value); // of 1
        CHECK_EQ(out[3].value, out[4].value); // of 4
        CHECK(out[1].opaque != nullptr);
        CHECK(out[2].opaque == nullptr);
    }
}

TEST("a lost LR picture next to an HR picture repeats that one") {
    for (const Order order : kOrders) {
        Session session = recording();
        const auto out = feed(session, pictures(TDS_HR, {0, 4}), {lost(1), {2}, lost(3)}, order);
        CHECK_EQ(text(out), "0p 1r(,)[lost] 2e(0,4) 3r(0,4)[lost] 4p ");
        CHECK_EQ(out[1].value, out[0].value);
        CHECK_EQ(out[3].value, out[2].value);
        Session another = recording();
        const auto late = feed(another, pictures(TDS_HR, {10, 16}), {{11}, lost(15)}, order);
        CHECK_EQ(text(late), "10p 11e(10,16) 15r(,)[lost] 16p ");
        CHECK_EQ(late[2].value, late[3].value);
    }
}

TEST("a lost HR picture: its time is repeated, the run goes on to the next HR picture") {
    for (const Order order : kOrders) {
        Session session = recording();
        const auto out = feed(session, {{0}, lost(3), {6}}, pictures(TDS_LR, {1, 2, 4, 5}), order);
        CHECK_EQ(text(out), "0p 1e(0,2)[ref-lost] 2e(0,6)[ref-lost] 3r(0,6)[lost] "
                            "4e(2,6)[ref-lost] 5e(2,6)[ref-lost] 6p ");
        CHECK_EQ(out[3].value, out[2].value);
    }
}

TEST("a lost HR picture is made from an LR picture of its time") {
    for (const Order order : kOrders) {
        Session session = recording();
        const auto out = feed(session, {lost(0), {4}}, pictures(TDS_LR, {0, 1, 2, 3}), order);
        CHECK_EQ(text(out), "0e(,4)[no-first,lost,ref-lost] 1e(,4)[no-first,ref-lost] "
                            "2e(,4)[no-first,ref-lost] 3e(,4)[no-first,ref-lost] 4p ");
    }
}

TEST("a lost LR picture at the time of an HR picture is no loss") {
    for (const Order order : kOrders) {
        Session session = recording();
        CHECK_EQ(text(feed(session, pictures(TDS_HR, {0, 2}), {lost(0), {1}, lost(2)}, order)),
                 "0p 1e(0,2) 2p ");
    }
}

TEST("everything lost: black pictures, every time once") {
    for (const Order order : kOrders) {
        Session session = recording([](tds_settings &s) { s.max_group = 4; });
        std::vector<Input> hr;
        std::vector<Input> lr;
        std::string want;
        for (int64_t t = 0; t < 20; t++) {
            (t % 4 == 0 ? hr : lr).push_back(lost(t));
            want += std::to_string(t) + "r ";
        }
        const auto out = feed(session, hr, lr, order);
        CHECK_EQ(out.size(), 20U);
        for (size_t i = 0; i < out.size(); i++) {
            CHECK_EQ(out[i].pts, static_cast<int64_t>(i));
            CHECK_EQ(out[i].status, TDS_STATUS_REPEATED);
            CHECK_EQ(out[i].value, 16);
        }
    }
}

TEST("HR lost for long: bounded, every picture comes out") {
    for (const Order order : kOrders) {
        Session session = recording([](tds_settings &s) { s.max_group = 4; });
        std::vector<Input> hr = {{0}};
        std::vector<Input> lr;
        for (int64_t t = 1; t < 40; t++) {
            if (t % 4 == 0) {
                hr.push_back(t == 36 ? Input{t} : lost(t));
            } else {
                lr.push_back({t});
            }
        }
        const auto out = feed(session, hr, lr, order);
        CHECK_EQ(out.size(), 40U);
        for (size_t i = 0; i < out.size(); i++) {
            CHECK_EQ(out[i].pts, static_cast<int64_t>(i));
            CHECK_EQ(out[i].status == TDS_STATUS_REPEATED, i % 4 == 0 && i > 0 && i < 36);
        }
    }
}

TEST("corrupt pictures, and those made from them, say so") {
    for (const Order order : kOrders) {
        Session session = recording();
        CHECK_EQ(text(feed(session, {corrupt(0), {4}, {8}}, pictures(TDS_LR, {1, 2, 3, 5, 6, 7}),
                           order)),
                 "0p[corrupt] 1e(0,2)[ref-lost] 2e(0,4)[ref-lost] 3e(2,4)[ref-lost] 4p 5e(4,6) "
                 "6e(4,8) 7e(6,8) 8p ");
        Session middle = recording();
        CHECK_EQ(text(feed(middle, {{0}, {4}}, {{1}, corrupt(2), {3}}, order)),
                 "0p 1e(0,2)[ref-lost] 2e(0,4)[corrupt] 3e(2,4)[ref-lost] 4p ");
        Session side = recording();
        CHECK_EQ(text(feed(side, {{0}, {4}}, {{1}, {2}, corrupt(3)}, order)),
                 "0p 1e(0,2) 2e(0,4) 3e(2,4)[corrupt] 4p ");
    }
}

// ------------------------------------------------------------ contract 2 --

TEST("plain: every picture refined from its neighbours, prepared once, a batch at a time") {
    for (const Order order : kOrders) {
        Session session = recording_2(kPlain, "");
        CHECK_EQ(stream({0, 1, 2, 3, 4, 5}, {}, order, session),
                 "0f(,1) 1f(0,2) 2f(1,3) 3f(2,4) 4f(3,5) 5f(4,) ");
        CHECK_EQ(record().log,
                 "P0 P1 P2 P3 P4 P5 E0(-,1+1,-,2+2)+1(0-1,2+1,-,3+2)+2(1-1,3+1,0-2,4+2)+"
                 "3(2-1,4+1,1-2,5+2) E4(3-1,5+1,2-2,-)+5(4-1,-,3-2,-) ");
        tds_info info;
        CHECK_EQ(tds_session_info(session.get(), &info), TDS_OK);
        CHECK_EQ(info.refined, 6);
        CHECK_EQ(info.references, 6);
        CHECK_EQ(info.contract, 2);
        CHECK_EQ(info.latency, 5);
        session.close();
        CHECK_EQ(record().handles, 0);
    }
}

TEST("plain, causal: each picture comes out before the next is sent") {
    Session session = recording_2(kPlain, "", [](tds_settings &s) { s.causal = 1; });
    for (int64_t t = 0; t < 4; t++) {
        CHECK_EQ(session.send(TDS_HR, {t}), TDS_OK);
        Output out;
        CHECK_EQ(session.receive(out), TDS_OK);
        CHECK_EQ(out.pts, t);
        CHECK_EQ(out.status, TDS_STATUS_REFINED);
        CHECK_EQ(session.receive(out), TDS_AGAIN);
    }
    CHECK_EQ(record().log, "P0 E0(-,-,-,-) P1 E1(0-1,-,-,-) P2 E2(1-1,-,0-2,-) "
                           "P3 E3(2-1,-,1-2,-) ");
}

TEST("strength: of the session, of a picture; at 0 the sender's own samples pass") {
    Session session = recording_2(R"("-1")", "", [](tds_settings &s) { s.strength = 0.5F; });
    Samples samples(32, 32, 8, 66);
    tds_picture own = samples.picture(9);
    own.strength = 0.0F;
    static int released;
    released = 0;
    own.owner = &samples;
    own.release = [](void *) { released++; };
    CHECK_EQ(session.send(TDS_HR, {7}), TDS_OK);
    CHECK_EQ(session.send(TDS_HR, with_strength(8, 1.0F)), TDS_OK);
    CHECK_EQ(tds_session_send(session.get(), TDS_HR, &own), TDS_OK);
    CHECK_EQ(tds_session_send(session.get(), TDS_HR, nullptr), TDS_OK);
    Output out;
    CHECK_EQ(session.receive(out), TDS_OK);
    CHECK_EQ(session.receive(out), TDS_OK);
    tds_picture passed;
    CHECK_EQ(tds_session_receive(session.get(), &passed), TDS_OK);
    CHECK_EQ(passed.status, TDS_STATUS_PASSED);
    CHECK_EQ(passed.reason, 0U);
    CHECK_EQ(passed.data[0], own.data[0]);
    CHECK_EQ(record().log, "P7 P8 E7(-)*0.50+8(7-1) ");
    tds_picture_release(&passed);
    session.close();
    CHECK_EQ(released, 1);
    own.strength = 1.5F;
    Session another = recording_2(R"("-1")", "");
    CHECK_EQ(tds_session_send(another.get(), TDS_HR, &own), TDS_ERROR_INVALID);
    Session old = recording();
    CHECK_EQ(old.send(TDS_HR, with_strength(0, 0.5F)), TDS_ERROR_INVALID);
    CHECK(std::string(tds_last_error()).find("strengths 0 and 1") != std::string::npos);
    CHECK_EQ(text(feed(old, {{0}, {2}}, {with_strength(1, 0)}, Order::wanted)),
             "0p 1u(0,2)[strength] 2p ");
}

TEST("a pair of contract 2: a run is one batch, every picture of it is prepared once") {
    for (const Order order : kOrders) {
        Session session = recording_2("", kLow);
        CHECK_EQ(stream({0, 4, 8}, {1, 2, 3, 4, 5, 6, 7}, order, session),
                 "0p 1e(0,2) 2e(1,3) 3e(2,4) 4p 5e(4,6) 6e(5,7) 7e(6,8) 8p ");
        CHECK_EQ(record().log, "P1 P0 P4 P2 P3 E1(0-1,4+3,-,2+1)+2(0-2,4+2,1-1,3+1)+"
                               "3(0-3,4+1,2-1,-) "
                               "P5 P8 P6 P7 E5(4-1,8+3,-,6+1)+6(4-2,8+2,5-1,7+1)+"
                               "7(4-3,8+1,6-1,-) ");
        session.close();
        CHECK_EQ(record().handles, 0);
    }
}

TEST("HR pictures are refined before the paper's recurrence too, and a run sees them so") {
    static const std::string low = model_file("runs.pt", 2, false);
    for (const Order order : kOrders) {
        Session session = recording_2(kPlain, kLow, [](tds_settings &s) { s.model = low.c_str(); });
        const auto out = feed(session, {with_strength(0, 0.5F), {4}}, {{1}, {2}, {3}}, order);
        CHECK_EQ(text(out), "0f(,1) 1e(0,2) 2e(0,4) 3e(2,4) 4f(3,) ");
        if (order == Order::wanted) {
            CHECK_EQ(record().log, "P0 P1 P4 E0(-,1+1,-,4+4)*0.50 P3 E4(3-1,-,0-4,-) "
                                   "P0h P4h E2(0,4@0.50)k E1(0,2@0.50)+3(2,4@0.50) ");
        }
        CHECK(out[0].opaque != nullptr);
        tds_info info;
        CHECK_EQ(tds_session_info(session.get(), &info), TDS_OK);
        CHECK_EQ(info.refined, 2);
        CHECK_EQ(info.enhanced, 3);
        session.close();
        CHECK_EQ(record().handles, 0);
    }
    // Again and again, in bounded memory, to the least run there is.
    Session session = recording_2(kPlain, kLow, [](tds_settings &s) { s.model = low.c_str(); });
    std::vector<int64_t> hr;
    std::vector<int64_t> lr;
    for (int64_t t = 0; t <= 400; t++) {
        (t % 4 == 0 ? hr : lr).push_back(t);
    }
    stream(hr, lr, Order::wanted, session);
    CHECK(record().handles <= 24);
    session.close();
    CHECK_EQ(record().handles, 0);
}

TEST("a pair whose HR pictures are refined: first, and LR pictures see them so") {
    for (const Order order : kOrders) {
        Session session = recording_2(kPlain, kLow);
        const auto out = feed(session, {{0}, {2}}, {{1}}, order);
        CHECK_EQ(text(out), "0f(,1) 1e(0,2) 2f(1,) ");
        if (order == Order::wanted) { // else 2 may be known to be the last before 0 goes out
            CHECK_EQ(record().log, "P0 P1 P2 E0(-,1+1,-,2+2) E2(1-1,-,0-2,-) "
                                   "P1 P0h P2h E1(0-1,2+1,-,-) ");
        }
        CHECK(out[0].opaque != nullptr);
        tds_info info;
        CHECK_EQ(tds_session_info(session.get(), &info), TDS_OK);
        CHECK_EQ(info.refined, 2);
        CHECK_EQ(info.enhanced, 1);
        CHECK_EQ(std::string(info.hr_model_name), "empty");
        CHECK_EQ(std::string(info.hr_model_sha256).size(), 64U);
        session.close();
        CHECK_EQ(record().handles, 0);
    }
}

TEST("what a refined HR picture becomes is the caller's: writing to it changes nothing") {
    Session session = recording_2(R"("-1")", R"("full-before")");
    for (const int64_t t : {0, 4}) {
        CHECK_EQ(session.send(TDS_HR, {t}), TDS_OK);
    }
    CHECK_EQ(session.send(TDS_LR, {1}), TDS_OK);
    CHECK_EQ(tds_session_send(session.get(), TDS_LR, nullptr), TDS_OK);
    tds_picture first;
    CHECK_EQ(tds_session_receive(session.get(), &first), TDS_OK);
    std::memset(first.data[0], 0, 32);
    Output out;
    CHECK_EQ(session.receive(out), TDS_OK);
    CHECK_EQ(record().log, "P0 E0(-) P1 P0h E1(0-1) ");
    tds_picture_release(&first);
}

TEST(
    "the QPs of streams go to the model, those and the types of pictures where that is asked for") {
    for (const int asked : {0, 1}) {
        Session session = recording_2("", R"("full-before", "full-after")", [&](tds_settings &s) {
            s.picture_facts = asked;
            s.hr_qp = 30, s.lr_qp = 33;
        });
        Samples low(16, 16, 8, 60);
        tds_picture p = low.picture(1);
        p.qp = 27;
        p.type = 2;
        CHECK_EQ(session.send(TDS_HR, {0}), TDS_OK);
        CHECK_EQ(tds_session_send(session.get(), TDS_LR, &p), TDS_OK);
        CHECK_EQ(tds_session_send(session.get(), TDS_HR, nullptr), TDS_OK);
        Output out;
        CHECK_EQ(session.receive(out), TDS_OK);
        CHECK_EQ(session.receive(out), TDS_OK);
        const std::vector<float> target = asked ? std::vector<float>{1, 0, 2, 0, 27, 2, 1}
                                                : std::vector<float>{1, 0, 2, 0, 33, -1, 1};
        const std::vector<float> seen{1, -1, 1, 0, 30, -1, 0};
        std::vector<float> absent = target;
        absent[0] = absent[6] = 0;
        CHECK(record().side[0] == target);
        CHECK(record().side[1] == seen);
        CHECK(record().side[2] == absent);
    }
}

TEST("a scene cut is seen in the samples") {
    Session session = recording_2(kPlain, "");
    session.value = [](tds_role, int64_t pts) { return pts < 3 ? 40 : 180; };
    CHECK_EQ(stream({0, 1, 2, 3, 4}, {}, Order::wanted, session),
             "0f(,1) 1f(0,2)[cut] 2f(1,)[cut] 3f(,4)[cut] 4f(3,)[cut] ");
}

TEST("flush in the middle of a plain stream: it starts anew, nothing leaks") {
    Session session = recording_2(kPlain, "");
    for (int64_t t = 0; t < 6; t++) {
        CHECK_EQ(session.send(TDS_HR, {t}), TDS_OK);
    }
    Output out;
    CHECK_EQ(session.receive(out), TDS_OK);
    CHECK(record().handles > 0);
    CHECK_EQ(tds_session_flush(session.get()), TDS_OK);
    CHECK_EQ(record().handles, 0);
    CHECK_EQ(stream({0, 1}, {}, Order::wanted, session), "0f(,1) 1f(0,) ");
}

TEST("a plain stream of any length is held in bounded memory, and no handle outlives its use") {
    Session session = recording_2(kPlain, "");
    static int alive;
    static int most;
    alive = most = 0;
    int handles = 0;
    Samples samples(32, 32, 8, 60);
    int64_t next = 0;
    int64_t out_count = 0;
    while (out_count < 400) {
        tds_picture out;
        const tds_result result = tds_session_receive(session.get(), &out);
        if (result == TDS_OK) {
            CHECK_EQ(out.pts, out_count);
            out_count++;
            tds_picture_release(&out);
            handles = std::max(handles, record().handles);
            continue;
        }
        CHECK_EQ(result, TDS_AGAIN);
        if (next == 400) {
            CHECK_EQ(tds_session_send(session.get(), TDS_HR, nullptr), TDS_OK);
            continue;
        }
        tds_picture p = samples.picture(next);
        p.owner = &samples;
        p.release = [](void *) { alive--; };
        CHECK_EQ(tds_session_send(session.get(), TDS_HR, &p), TDS_OK);
        next++;
        most = std::max(most, ++alive);
    }
    CHECK(most <= 12);
    CHECK(handles <= 10);
    session.close();
    CHECK_EQ(alive, 0);
    CHECK_EQ(record().handles, 0);
}

TEST("a backend that fails while HR pictures are refined: the next call tries again") {
    Session session = recording_2(kPlain, kLow);
    for (int failing = 1; failing < 4; failing++) {
        record().log.clear();
        record().failures = failing;
        CHECK_EQ(tds_session_flush(session.get()), TDS_OK);
        for (const int64_t t : {0, 2}) {
            CHECK_EQ(session.send(TDS_HR, {t}), TDS_OK);
        }
        CHECK_EQ(session.send(TDS_LR, {1}), TDS_OK);
        for (const tds_role role : {TDS_HR, TDS_LR}) {
            CHECK_EQ(tds_session_send(session.get(), role, nullptr), TDS_OK);
        }
        Output out;
        for (int i = 0; i < failing; i++) {
            CHECK_EQ(session.receive(out), TDS_ERROR_BACKEND);
        }
        std::string got;
        while (session.receive(out) == TDS_OK) {
            got += std::to_string(out.pts) + " ";
        }
        CHECK_EQ(got, "0 1 2 ");
    }
    session.close();
    CHECK_EQ(record().handles, 0);
}

namespace {

// A picture that counts who lets go of it.
struct Counted {
    Counted(int32_t size, int64_t time, int value, int &all)
        : samples(size, size, 8, value), pts(time), alive(all) {}
    Samples samples;
    int64_t pts;
    int &alive;
    int released = 0;
    tds_picture picture() {
        tds_picture p = samples.picture(pts);
        p.owner = this;
        p.opaque = this;
        p.release = [](void *owner) {
            auto *self = static_cast<Counted *>(owner);
            self->released++;
            self->alive--;
        };
        return p;
    }
};

} // namespace

TEST("any plain stream or pair, any models, any caller, a backend that fails: each time once, in "
     "order, from what was sent, in bounded memory, every owner let go of once") {
    static const std::string runs = model_file("runs.pt", 2, false);
    std::mt19937 random(7);
    const auto one_in = [&](unsigned n) { return random() % n == 0; };
    for (int trial = 0; trial < 600; trial++) {
        const bool plain = one_in(3);
        const bool refined = one_in(2);
        const bool recurrence = one_in(2);
        Session session =
            recording_2(plain || refined ? kPlain : "", plain ? "" : kLow, [&](tds_settings &s) {
                s.max_group = 1 + static_cast<int32_t>(random() % 6);
                s.max_batch = 1 + static_cast<int32_t>(random() % 5);
                s.causal = one_in(4) ? 1 : 0;
                if (!plain && recurrence) {
                    s.model = runs.c_str();
                }
            });
        const bool fails = one_in(4);
        int alive = 0;
        std::vector<std::unique_ptr<Counted>> events[2]; // nothing is sent of a lost one
        std::map<int64_t, int> lost;                     // bits of the streams that lost it
        std::set<int64_t> times;
        const int64_t count = static_cast<int64_t>(random() % 60);
        for (int64_t t = 0; t < count; t++) {
            const bool high = plain || one_in(4);
            for (const int role : {0, 1}) {
                if (role == 0 ? !high : (plain || (high && !one_in(3)))) {
                    continue;
                }
                const int32_t size = role == 0 ? 32 : 16;
                events[role].push_back(std::make_unique<Counted>(
                    size, t, static_cast<int>(60 + t % 16 + 20 * role), alive));
                lost[t] |= one_in(8) ? 1 << role : 0;
                times.insert(t);
            }
        }
        size_t sent[2] = {0, 0};
        const auto send = [&](int role) {
            const auto to = static_cast<tds_role>(role);
            if (sent[role] >= events[role].size()) {
                CHECK_EQ(tds_session_send(session.get(), to, nullptr), TDS_OK);
                return sent[role]++ == events[role].size();
            }
            Counted &event = *events[role][sent[role]];
            tds_result result;
            if ((lost[event.pts] & 1 << role) != 0) {
                result = tds_session_send_lost(session.get(), to, event.pts);
            } else {
                tds_picture p = event.picture();
                p.strength = one_in(6) ? 0.0F : -1.0F;
                p.corrupt = one_in(8) ? 1 : 0;
                result = tds_session_send(session.get(), to, &p);
                alive += result == TDS_OK ? 1 : 0;
            }
            CHECK(result == TDS_OK || result == TDS_AGAIN);
            sent[role] += result == TDS_OK ? 1 : 0;
            return result == TDS_OK;
        };
        const bool seeks = one_in(8);
        std::vector<int64_t> out;
        while (true) {
            if (one_in(3) && sent[0] + sent[1] < events[0].size() + events[1].size()) {
                const int role = static_cast<int>(random() % 2);
                if (sent[role] < events[role].size()) {
                    send(role);
                }
            }
            if (seeks && out.size() > 5) {
                CHECK_EQ(tds_session_flush(session.get()), TDS_OK);
                CHECK_EQ(alive, 0);
                CHECK_EQ(record().handles, 0);
                break;
            }
            const unsigned wants = tds_session_wants(session.get());
            tds_picture p;
            record().failures = fails && one_in(5) ? 1 : 0;
            const tds_result result = tds_session_receive(session.get(), &p);
            if (result == TDS_END) {
                break;
            }
            if (result == TDS_ERROR_BACKEND) {
                CHECK_EQ(wants, 0U);
                CHECK_EQ(record().failures, 0);
                continue;
            }
            if (result == TDS_AGAIN) {
                CHECK(wants != 0);
                for (const int role : {0, 1}) {
                    CHECK((wants & (1U << role)) == 0 || send(role));
                }
                continue;
            }
            CHECK_EQ(result, TDS_OK);
            CHECK_EQ(wants, 0U);
            out.push_back(p.pts);
            if (p.status != TDS_STATUS_REPEATED) {
                auto *from = static_cast<Counted *>(p.opaque);
                CHECK_EQ(from->pts, p.pts);
                CHECK_EQ(static_cast<int>(*static_cast<uint8_t *>(p.data[0])),
                         static_cast<int>(*static_cast<uint8_t *>(from->picture().data[0])));
                CHECK_EQ(from->released, 0);
            } else {
                CHECK((p.reason & TDS_REASON_LOST) != 0);
                CHECK(lost[p.pts] != 0);
            }
            tds_picture_release(&p);
            CHECK(alive <= 40);
        }
        if (!seeks || out.size() <= 5) {
            CHECK(out == std::vector<int64_t>(times.begin(), times.end()));
        }
        session.close();
        CHECK_EQ(alive, 0);
        CHECK_EQ(record().handles, 0);
        for (const auto &stream : events) {
            for (const auto &event : stream) {
                CHECK(event->released <= 1);
            }
        }
    }
}

TEST("4:2:2 and 4:4:4: models see the mean of chroma, what they add to it is added to all of it") {
    for (const tds_chroma chroma : {TDS_CHROMA_422, TDS_CHROMA_444}) {
        const auto setting = [&](tds_settings &s) { s.chroma = chroma; };
        Session session = recording_2(kPlain, kLow, setting);
        const int across = chroma == TDS_CHROMA_444 ? 0 : 1;
        const auto send = [&](tds_role role, int64_t pts) {
            const int32_t size = role == TDS_HR ? 32 : 16;
            std::vector<uint8_t> samples(static_cast<size_t>(3 * size * size), 70);
            tds_picture p;
            tds_picture_init(&p);
            p.width = p.height = size;
            p.chroma = chroma;
            p.pts = pts;
            for (int plane = 0; plane < 3; plane++) {
                p.data[plane] = samples.data() + plane * size * size;
                p.stride[plane] = size;
            }
            // Rows by turns 96 and 104, whose mean is 100.
            for (int32_t y = size; y < 3 * size; y++) {
                std::memset(samples.data() + y * size, y % 2 ? 104 : 96,
                            static_cast<size_t>(size >> across));
            }
            return tds_session_send(session.get(), role, &p);
        };
        CHECK_EQ(send(TDS_HR, 0), TDS_OK);
        CHECK_EQ(send(TDS_LR, 1), TDS_OK);
        CHECK_EQ(send(TDS_HR, 2), TDS_OK);
        for (const tds_role role : {TDS_HR, TDS_LR}) {
            CHECK_EQ(tds_session_send(session.get(), role, nullptr), TDS_OK);
        }
        for (int64_t pts = 0; pts < 3; pts++) {
            tds_picture p;
            CHECK_EQ(tds_session_receive(session.get(), &p), TDS_OK);
            CHECK_EQ(p.chroma, chroma);
            const bool refined = pts != 1;
            CHECK_EQ(p.status, refined ? TDS_STATUS_REFINED : TDS_STATUS_ENHANCED);
            for (int plane = 1; plane < 3; plane++) {
                int sum = 0;
                for (int32_t y = 0; y < 32; y++) {
                    const auto *row =
                        static_cast<const uint8_t *>(p.data[plane]) + y * p.stride[plane];
                    for (int32_t x = 0; x < 32 >> across; x++) {
                        sum += row[x];
                        CHECK(!refined || row[x] == (y % 2 ? 114 : 106));
                    }
                }
                CHECK_EQ(sum / (32 * (32 >> across)), 110);
            }
            tds_picture_release(&p);
        }
        Samples other(32, 32, 8, 70);
        const tds_picture p = other.picture(3);
        Session plain = recording_2(kPlain, "", setting);
        CHECK_EQ(tds_session_send(plain.get(), TDS_HR, &p), TDS_ERROR_INVALID);
        CHECK(std::string(tds_last_error()).find("of 4:2:0: this session takes 4:") !=
              std::string::npos);
    }
}

TEST("sessions that cannot be: one sentence that says which model would do") {
    const std::string full = model_file_2("k1.pt", 1, R"("-1")");
    const std::string low = model_file_2("k2.pt", 2, R"("-1")");
    const std::string old = model_file("old.pt", 2, true);
    const auto refused = [](std::function<void(tds_settings &)> change, const char *word) {
        tds_settings s;
        tds_default_settings(&s);
        s.width = s.height = 32;
        s.backend = "record";
        change(s);
        tds_session *session = nullptr;
        const tds_result result = tds_session_open(&s, &session);
        CHECK(session == nullptr);
        if (std::string(tds_last_error()).find(word) == std::string::npos) {
            CHECK_EQ(std::string(tds_last_error()), word);
        }
        return result;
    };
    const auto plain = [](tds_settings &s, const std::string &model) {
        s.kind = TDS_KIND_PLAIN;
        s.scale = 1;
        s.model = model.c_str();
    };
    CHECK_EQ(refused([&](tds_settings &s) { plain(s, old); }, "NAME-k1"), TDS_ERROR_MODEL);
    CHECK_EQ(refused([&](tds_settings &s) { plain(s, low); }, "NAME-k1"), TDS_ERROR_MODEL);
    CHECK_EQ(refused([&](tds_settings &s) { s.model = full.c_str(); }, "NAME-k2"), TDS_ERROR_MODEL);
    const auto with_hr = [&](const std::string &model, const std::string &hr) {
        return [&](tds_settings &s) {
            s.model = model.c_str();
            s.hr_model = hr.c_str();
        };
    };
    CHECK_EQ(refused(with_hr(low, low), "full-size pictures have k = 1"), TDS_ERROR_MODEL);
    CHECK_EQ(refused(with_hr(low, old), "HR pictures are refined by"), TDS_ERROR_MODEL);
    CHECK_EQ(refused(
                 [&](tds_settings &s) {
                     s.model = old.c_str();
                     s.strength = 0.5F;
                 },
                 "strengths 0 and 1"),
             TDS_ERROR_MODEL);
    CHECK_EQ(refused([&](tds_settings &s) { plain(s, full), s.scale = 2; }, "scale 1"),
             TDS_ERROR_INVALID);
    CHECK_EQ(refused([&](tds_settings &s) { plain(s, full), s.hr_model = s.model; }, "hr_model"),
             TDS_ERROR_INVALID);
    CHECK_EQ(refused([](tds_settings &s) { s.strength = -0.5F; }, "strength"), TDS_ERROR_INVALID);
    CHECK_EQ(refused([](tds_settings &s) { s.reserved[6] = 1; }, "reserved"), TDS_ERROR_INVALID);
    CHECK_EQ(refused([](tds_settings &s) { s.hr_model_sha256 = "1"; }, "hr_model_sha256"),
             TDS_ERROR_INVALID);
    Session session = recording_2(kPlain, "");
    CHECK_EQ(session.send(TDS_LR, {1}), TDS_ERROR_INVALID);
    CHECK_EQ(tds_session_send_lost(session.get(), TDS_LR, 1), TDS_ERROR_INVALID);
    CHECK_EQ(tds_session_send(session.get(), TDS_LR, nullptr), TDS_OK); // nothing ends
}

// -------------------------------------------------------------- bicubic --

TEST("bicubic: streams without waiting for the run, keeps no reference") {
    for (const Order order : kOrders) {
        Session session;
        CHECK_EQ(stream({0, 4, 5}, {1, 2, 3, 6}, order, session),
                 "0p 1u(,)[no-model] 2u(,)[no-model] 3u(,)[no-model] 4p 5p "
                 "6u(,)[no-last,no-model] ");
    }
    Session session;
    CHECK_EQ(session.send(TDS_HR, {4}), TDS_OK);
    CHECK_EQ(session.send(TDS_LR, {1}), TDS_OK);
    Output out;
    CHECK_EQ(session.receive(out), TDS_OK);
    CHECK_EQ(out.pts, 1);
}

TEST("bicubic: a lost LR picture repeats the one before it") {
    for (const Order order : kOrders) {
        Session session;
        const auto out = feed(session, {{0}, {6}}, {{1}, {2}, lost(3), {4}, {5}}, order);
        CHECK_EQ(text(out), "0p 1u(,)[no-model] 2u(,)[no-model] 3r(,)[lost] 4u(,)[no-model] "
                            "5u(,)[no-model] 6p ");
        CHECK_EQ(out[3].value, out[2].value);
    }
}

TEST("bicubic: a run of any length is no long group") {
    Session session([](tds_settings &s) { s.max_group = 2; });
    CHECK_EQ(stream({0, 6}, {1, 2, 3, 4, 5}, Order::lr_first, session),
             "0p 1u(,)[no-model] 2u(,)[no-model] 3u(,)[no-model] 4u(,)[no-model] "
             "5u(,)[no-model] 6p ");
}

TEST("k = 1: LR pictures of full size come out as they are") {
    Session session([](tds_settings &s) { s.scale = 1; });
    const auto out = feed(session, {{0}, {2}}, {{1}}, Order::wanted);
    CHECK_EQ(text(out), "0p 1u(,)[no-model] 2p ");
    CHECK_EQ(out[1].value, value_of(TDS_LR, 1));
}

// ------------------------------------------------------------ ownership --

TEST("a picture sent with release: no copy, its own pointers come out, released once") {
    Session session;
    std::set<void *> owned;
    std::map<void *, int> released;
    static std::map<void *, int> *counts;
    counts = &released;
    Samples hr(32, 32, 8, 7);
    Samples lr(16, 16, 8, 9);
    tds_picture a = hr.picture(0);
    a.owner = &hr;
    a.release = [](void *owner) { (*counts)[owner]++; };
    CHECK_EQ(tds_session_send(session.get(), TDS_HR, &a), TDS_OK);
    tds_picture b = lr.picture(1);
    b.owner = &lr;
    b.release = a.release;
    CHECK_EQ(tds_session_send(session.get(), TDS_LR, &b), TDS_OK);
    tds_picture out;
    CHECK_EQ(tds_session_receive(session.get(), &out), TDS_OK);
    CHECK_EQ(out.data[0], a.data[0]);
    CHECK_EQ(out.stride[1], a.stride[1]);
    CHECK_EQ(out.owner, static_cast<void *>(&hr));
    tds_picture_release(&out);
    CHECK_EQ(released[&hr], 0); // still a reference of pictures to come
    session.close();
    CHECK_EQ(released[&hr], 1);
    CHECK_EQ(released[&lr], 1);
}

TEST("pictures outlive their session") {
    auto session = std::make_unique<Session>();
    Samples hr(32, 32, 8, 7);
    Samples lr(16, 16, 8, 9);
    const tds_picture a = hr.picture(0);
    const tds_picture b = lr.picture(1);
    CHECK_EQ(tds_session_send(session->get(), TDS_HR, &a), TDS_OK);
    CHECK_EQ(tds_session_send(session->get(), TDS_LR, &b), TDS_OK);
    CHECK_EQ(tds_session_send(session->get(), TDS_HR, nullptr), TDS_OK);
    tds_picture first;
    tds_picture second;
    CHECK_EQ(tds_session_receive(session->get(), &first), TDS_OK);
    CHECK_EQ(tds_session_receive(session->get(), &second), TDS_OK);
    CHECK(first.data[0] != a.data[0]); // copied: no release was given
    session.reset();
    CHECK_EQ(static_cast<int>(*static_cast<uint8_t *>(first.data[0])), 7);
    CHECK_EQ(static_cast<int>(*static_cast<uint8_t *>(second.data[0])), 9);
    tds_picture_release(&first);
    tds_picture_release(&second);
    CHECK(second.data[0] == nullptr);
}

TEST("a refused picture is not taken: its owner keeps it") {
    Session session;
    int released = 0;
    Samples hr(32, 32, 8, 7);
    const auto send = [&](int64_t pts) {
        tds_picture p = hr.picture(pts);
        p.owner = &released;
        p.release = [](void *owner) { ++*static_cast<int *>(owner); };
        return tds_session_send(session.get(), TDS_HR, &p);
    };
    CHECK_EQ(send(0), TDS_OK);
    CHECK_EQ(send(1), TDS_OK);
    CHECK_EQ(send(2), TDS_AGAIN);
    CHECK_EQ(send(1), TDS_ERROR_ORDER);
    session.close();
    CHECK_EQ(released, 2);
}

TEST("the caller's allocate function makes every picture that is not the sender's") {
    static int made;
    made = 0;
    Session session([](tds_settings &s) {
        s.allocate = [](void *, tds_picture *p) {
            made++;
            const auto w = static_cast<size_t>(p->width);
            const auto h = static_cast<size_t>(p->height);
            auto *memory = new std::vector<uint8_t>(w * h * 3 / 2);
            p->data[0] = memory->data();
            p->data[1] = memory->data() + w * h;
            p->data[2] = memory->data() + w * h * 5 / 4;
            p->stride[0] = p->width;
            p->stride[1] = p->stride[2] = p->width / 2;
            p->owner = memory;
            p->release = [](void *owner) { delete static_cast<std::vector<uint8_t> *>(owner); };
            return TDS_OK;
        };
    });
    const auto out = feed(session, {{0}, {4}}, {{1}, lost(2), {3}}, Order::wanted);
    CHECK_EQ(text(out), "0p 1u(,)[no-model] 2r(,)[lost] 3u(,)[no-model] 4p ");
    CHECK_EQ(made, 5);
    Session failing([](tds_settings &s) {
        s.allocate = [](void *, tds_picture *) { return TDS_ERROR_MEMORY; };
    });
    CHECK_EQ(failing.send(TDS_LR, {0}), TDS_OK);
    CHECK_EQ(tds_session_send(failing.get(), TDS_HR, nullptr), TDS_OK);
    Output picture;
    CHECK_EQ(failing.receive(picture), TDS_ERROR_MEMORY);
    CHECK_EQ(failing.send(TDS_HR, {0}), TDS_ERROR_INVALID); // ended
}

TEST("opaque comes out with its picture") {
    Session session = recording();
    const auto out = feed(session, {{0}, {4}}, {{1}, {2}, {3}}, Order::wanted);
    for (const Output &picture : out) {
        CHECK_EQ(reinterpret_cast<intptr_t>(picture.opaque), picture.pts ^ 1 << 20);
    }
}

// ---------------------------------------------------------------- layouts --

TEST("strides of any sign, NV12 and P010 in, planar and NV12 out: the same samples") {
    std::vector<uint16_t> reference;
    for (const int depth : {8, 10}) {
        reference.clear();
        for (const tds_layout in : {TDS_LAYOUT_PLANAR, TDS_LAYOUT_SEMIPLANAR}) {
            for (const tds_layout out : {TDS_LAYOUT_PLANAR, TDS_LAYOUT_SEMIPLANAR}) {
                for (const bool flipped : {false, true}) {
                    Session session([&](tds_settings &s) {
                        s.bit_depth = depth;
                        s.output_layout = out;
                        s.threads = flipped ? 3 : 1;
                    });
                    Samples lr(16, 16, depth, 0, in, flipped);
                    lr.noise();
                    const tds_picture p = lr.picture(1);
                    CHECK_EQ(tds_session_send(session.get(), TDS_LR, &p), TDS_OK);
                    CHECK_EQ(tds_session_send(session.get(), TDS_HR, nullptr), TDS_OK);
                    tds_picture got;
                    CHECK_EQ(tds_session_receive(session.get(), &got), TDS_OK);
                    CHECK_EQ(got.layout, out);
                    const std::vector<uint16_t> samples = planar_samples(got);
                    tds_picture_release(&got);
                    if (reference.empty()) {
                        reference = samples;
                    }
                    CHECK(samples == reference);
                }
            }
        }
    }
}

// ----------------------------------------------------------------- errors --

TEST("a backend that fails: the error comes out, nothing is lost, the next call tries again") {
    Session session = recording();
    record().failures = 2;
    for (const int64_t t : {0, 4}) {
        CHECK_EQ(session.send(TDS_HR, {t}), TDS_OK);
    }
    for (const int64_t t : {1, 2, 3, 5}) {
        CHECK_EQ(session.send(TDS_LR, {t}), TDS_OK);
    }
    Output out;
    CHECK_EQ(session.receive(out), TDS_OK);
    CHECK_EQ(session.receive(out), TDS_ERROR_BACKEND);
    CHECK_EQ(std::string(tds_last_error()), "out of luck");
    CHECK_EQ(session.receive(out), TDS_ERROR_BACKEND);
    for (const int64_t t : {1, 2, 3, 4}) {
        CHECK_EQ(session.receive(out), TDS_OK);
        CHECK_EQ(out.pts, t);
    }
}

TEST("flush in the middle of a group: the session starts anew, nothing leaks") {
    Session session = recording();
    CHECK_EQ(session.send(TDS_HR, {0}), TDS_OK);
    CHECK_EQ(session.send(TDS_HR, {4}), TDS_OK);
    for (const int64_t t : {1, 2, 3, 5}) {
        CHECK_EQ(session.send(TDS_LR, {t}), TDS_OK);
    }
    Output out;
    CHECK_EQ(session.receive(out), TDS_OK);
    CHECK_EQ(session.receive(out), TDS_OK);
    CHECK(record().handles > 0);
    CHECK_EQ(tds_session_flush(session.get()), TDS_OK);
    CHECK_EQ(record().handles, 0);
    CHECK_EQ(stream({0, 2}, {1}, Order::wanted, session), "0p 1e(0,2) 2p ");
    session.close();
    CHECK_EQ(record().handles, 0);
}

TEST("references are dropped when no picture needs them any more") {
    Session session = recording();
    std::vector<int64_t> hr;
    std::vector<int64_t> lr;
    for (int64_t t = 0; t <= 400; t++) {
        (t % 4 == 0 ? hr : lr).push_back(t);
    }
    stream(hr, lr, Order::wanted, session);
    CHECK(record().handles <= 2);
    session.close();
    CHECK_EQ(record().handles, 0);
}

TEST("what breaks the contract is refused in one sentence") {
    const auto refused = [](std::function<void(tds_settings &)> change, const char *word) {
        tds_settings s;
        tds_default_settings(&s);
        s.width = s.height = 32;
        change(s);
        tds_session *session = nullptr;
        const tds_result result = tds_session_open(&s, &session);
        CHECK(session == nullptr);
        if (std::string(tds_last_error()).find(word) == std::string::npos) {
            CHECK_EQ(std::string(tds_last_error()), word);
        }
        return result;
    };
    CHECK_EQ(refused([](tds_settings &s) { s.width = 33; }, "odd"), TDS_ERROR_INVALID);
    CHECK_EQ(refused([](tds_settings &s) { s.height = 0; }, "height is 0"), TDS_ERROR_INVALID);
    CHECK_EQ(refused([](tds_settings &s) { s.width = 20000; }, "16384"), TDS_ERROR_INVALID);
    CHECK_EQ(refused([](tds_settings &s) { s.scale = 3; }, "scale"), TDS_ERROR_INVALID);
    CHECK_EQ(refused([](tds_settings &s) { s.bit_depth = 12; }, "bit_depth"), TDS_ERROR_INVALID);
    CHECK_EQ(refused([](tds_settings &s) { s.max_group = 256; }, "max_group"), TDS_ERROR_INVALID);
    CHECK_EQ(refused([](tds_settings &s) { s.device = "gpu"; }, "device"), TDS_ERROR_INVALID);
    CHECK_EQ(refused([](tds_settings &s) { s.device = "cuda"; }, "CPU only"), TDS_ERROR_DEVICE);
    CHECK_EQ(refused([](tds_settings &s) { s.precision = "int8"; }, "precision"),
             TDS_ERROR_INVALID);
    CHECK_EQ(refused(
                 [](tds_settings &s) {
                     s.backend = "magic";
                     s.model = "x";
                 },
                 "x"),
             TDS_ERROR_MODEL);
    CHECK_EQ(refused([](tds_settings &s) { s.backend = "torchscript"; }, "needs a model"),
             TDS_ERROR_INVALID);
    CHECK_EQ(refused([](tds_settings &s) { s.model_sha256 = "abc"; }, "64"), TDS_ERROR_INVALID);
    CHECK_EQ(refused([](tds_settings &s) { s.output_memory = TDS_MEMORY_CUDA; }, "CUDA"),
             TDS_ERROR_UNSUPPORTED);

    Session session;
    Samples good(32, 32, 8, 0);
    const auto sent = [&](std::function<void(tds_picture &)> change) {
        tds_picture p = good.picture(0);
        change(p);
        return tds_session_send(session.get(), TDS_HR, &p);
    };
    CHECK_EQ(sent([](tds_picture &p) { p.width = 30; }), TDS_ERROR_INVALID);
    CHECK_EQ(sent([](tds_picture &p) { p.bit_depth = 10; }), TDS_ERROR_INVALID);
    CHECK_EQ(sent([](tds_picture &p) { p.pts = TDS_NO_PTS; }), TDS_ERROR_INVALID);
    CHECK_EQ(sent([](tds_picture &p) { p.data[2] = nullptr; }), TDS_ERROR_INVALID);
    CHECK_EQ(sent([](tds_picture &p) { p.stride[0] = 31; }), TDS_ERROR_INVALID);
    CHECK_EQ(sent([](tds_picture &p) { p.stride[1] = -15; }), TDS_ERROR_INVALID);
    CHECK_EQ(sent([](tds_picture &p) { p.memory = TDS_MEMORY_CUDA; }), TDS_ERROR_UNSUPPORTED);
    CHECK_EQ(tds_session_send(nullptr, TDS_HR, nullptr), TDS_ERROR_INVALID);
    CHECK_EQ(tds_session_receive(session.get(), nullptr), TDS_ERROR_INVALID);
    CHECK_EQ(tds_session_wants(nullptr), 0U);
    tds_session_close(nullptr);
    tds_picture_release(nullptr);
}

TEST("names and sizes") {
    char buffer[32];
    CHECK_EQ(tds_reason_names(TDS_REASON_NO_FIRST | TDS_REASON_CORRUPT, buffer, sizeof(buffer)),
             16U);
    CHECK_EQ(std::string(buffer), "no-first,corrupt");
    CHECK_EQ(tds_reason_names(TDS_REASON_NO_FIRST | TDS_REASON_CORRUPT, buffer, 5), 16U);
    CHECK_EQ(std::string(buffer), "no-f");
    CHECK_EQ(tds_reason_names(0, buffer, sizeof(buffer)), 0U);
    CHECK_EQ(std::string(buffer), "");
    CHECK_EQ(tds_reason_names(1, nullptr, 0), 8U);
    CHECK(tds_reason_names(~0U, nullptr, 0) < 128); // as tds.h says
    CHECK_EQ(tds_api_number(), TDS_API_NUMBER);
    CHECK_EQ(tds_lr_size(1080, 2), 540);
    CHECK_EQ(tds_lr_size(1080, 4), 270);
    CHECK_EQ(tds_lr_size(426, 4), 108);
    CHECK_EQ(tds_lr_size(33, 2), 0);
    for (const int32_t k : {1, 2, 4}) {
        for (int32_t w = 16; w < 200; w += 2) {
            const int32_t lr = tds_lr_size(w, k);
            CHECK(lr % 2 == 0 && lr * k >= w && (lr - 2) * k < w);
            CHECK_EQ(tds_scale_of(1920, w, tds_lr_size(1920, k), lr), k);
        }
    }
    CHECK_EQ(tds_scale_of(1920, 1080, 960, 544), 0);
}

int main(int argc, char **argv) {
    return check::run(argc, argv);
}
