// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Pictures to send, and a loop that sends and receives them.
#pragma once

#include "tds/tds.h"
#include "tests/check.h"

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

// Samples of one picture in any layout and stride.
class Samples {
  public:
    Samples(int32_t width, int32_t height, int depth, int value,
            tds_layout layout = TDS_LAYOUT_PLANAR, bool flipped = false)
        : flipped_(flipped) {
        tds_picture_init(&picture_);
        picture_.width = width;
        picture_.height = height;
        picture_.bit_depth = depth;
        picture_.layout = layout;
        const int planes = layout == TDS_LAYOUT_PLANAR ? 3 : 2;
        for (int i = 0; i < planes; i++) {
            const size_t columns = static_cast<size_t>(planes == 2 || i == 0 ? width : width / 2);
            rows_[i] = i == 0 ? height : height / 2;
            stride_[i] = columns * bytes() + 6; // an odd number of samples beyond the row
            memory_[i].assign(stride_[i] * static_cast<size_t>(rows_[i]), 0);
        }
        for (int i = 0; i < planes; i++) {
            for (int32_t y = 0; y < rows_[i]; y++) {
                for (size_t x = 0; x < columns(i); x++) {
                    put(i, y, x, value);
                }
            }
        }
    }

    // The same pseudo-random picture whatever the layout.
    void noise() {
        const bool semi = picture_.layout == TDS_LAYOUT_SEMIPLANAR;
        for (int plane = 0; plane < 3; plane++) {
            uint32_t state = 12345U + static_cast<uint32_t>(plane);
            const int32_t rows = plane == 0 ? picture_.height : picture_.height / 2;
            const int32_t columns = plane == 0 ? picture_.width : picture_.width / 2;
            for (int32_t y = 0; y < rows; y++) {
                for (int32_t x = 0; x < columns; x++) {
                    state = state * 1664525U + 1013904223U;
                    const int value =
                        static_cast<int>(state >> 16) & ((1 << picture_.bit_depth) - 1);
                    if (plane == 0 || !semi) {
                        put(plane, y, static_cast<size_t>(x), value);
                    } else {
                        put(1, y, static_cast<size_t>(2 * x + plane - 1), value);
                    }
                }
            }
        }
    }

    tds_picture picture(int64_t pts) {
        tds_picture out = picture_;
        out.pts = pts;
        for (int i = 0; i < 3; i++) {
            if (memory_[i].empty()) {
                continue;
            }
            out.stride[i] = static_cast<ptrdiff_t>(stride_[i]);
            out.data[i] = memory_[i].data();
            if (flipped_) {
                out.stride[i] = -out.stride[i];
                out.data[i] = memory_[i].data() + stride_[i] * static_cast<size_t>(rows_[i] - 1);
            }
        }
        return out;
    }

  private:
    size_t bytes() const { return picture_.bit_depth > 8 ? 2 : 1; }
    size_t columns(int plane) const { return (stride_[plane] - 6) / bytes(); }
    void put(int plane, int32_t y, size_t x, int value) {
        const int32_t row = flipped_ ? rows_[plane] - 1 - y : y;
        uint8_t *at = memory_[plane].data() + stride_[plane] * static_cast<size_t>(row);
        if (bytes() == 1) {
            at[x] = static_cast<uint8_t>(value);
        } else {
            const int shift =
                picture_.layout == TDS_LAYOUT_SEMIPLANAR ? 16 - picture_.bit_depth : 0;
            const auto sample = static_cast<uint16_t>(value << shift);
            std::memcpy(at + 2 * x, &sample, 2);
        }
    }

    tds_picture picture_{};
    bool flipped_;
    size_t stride_[3] = {};
    int32_t rows_[3] = {};
    std::vector<uint8_t> memory_[3];
};

// All samples of a picture as plain values, Y then Cb then Cr.
inline std::vector<uint16_t> planar_samples(const tds_picture &p) {
    std::vector<uint16_t> out;
    const bool semi = p.layout == TDS_LAYOUT_SEMIPLANAR;
    for (int plane = 0; plane < 3; plane++) {
        const int source = semi && plane == 2 ? 1 : plane;
        const int32_t step = semi && plane > 0 ? 2 : 1;
        const int32_t offset = semi && plane == 2 ? 1 : 0;
        const int32_t rows = plane == 0 ? p.height : p.height / 2;
        const int32_t columns = plane == 0 ? p.width : p.width / 2;
        for (int32_t y = 0; y < rows; y++) {
            const auto *row = static_cast<const uint8_t *>(p.data[source]) + y * p.stride[source];
            for (int32_t x = 0; x < columns; x++) {
                if (p.bit_depth == 8) {
                    out.push_back(row[x * step + offset]);
                } else {
                    uint16_t v;
                    std::memcpy(&v, row + 2 * (x * step + offset), 2);
                    out.push_back(semi ? static_cast<uint16_t>(v >> (16 - p.bit_depth)) : v);
                }
            }
        }
    }
    return out;
}

struct Input {
    Input(int64_t time, bool is_lost = false, bool is_corrupt = false, float how_much = -1.0F)
        : pts(time), lost(is_lost), corrupt(is_corrupt), strength(how_much) {}
    int64_t pts;
    bool lost, corrupt;
    float strength;
};
inline Input lost(int64_t pts) {
    return {pts, true, false};
}
inline Input corrupt(int64_t pts) {
    return {pts, false, true};
}

inline Input with_strength(int64_t pts, float strength) {
    return {pts, false, false, strength};
}

struct Output {
    int64_t pts = 0;
    tds_status status = TDS_STATUS_PASSED;
    unsigned reason = 0;
    int64_t first = TDS_NO_PTS, last = TDS_NO_PTS;
    int value = -1; // of the first luma sample
    void *opaque = nullptr;
};

inline int value_of(tds_role role, int64_t pts) {
    return static_cast<int>((static_cast<uint64_t>(pts) * 7 + (role == TDS_HR ? 20 : 120)) % 200) +
           20;
}

inline std::vector<Input> pictures(tds_role, const std::vector<int64_t> &times) {
    return {times.begin(), times.end()};
}

class Session {
  public:
    explicit Session(const std::function<void(tds_settings &)> &change = {}) {
        tds_settings s;
        tds_default_settings(&s);
        s.width = s.height = 32;
        if (change) {
            change(s);
        }
        scale_ = s.scale;
        if (tds_session_open(&s, &session_) != TDS_OK) {
            check::fail(__FILE__, __LINE__, tds_last_error());
        }
    }
    Session(Session &&other) noexcept
        : value(other.value), session_(std::exchange(other.session_, nullptr)),
          scale_(other.scale_) {}
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;
    ~Session() { close(); }
    int (*value)(tds_role, int64_t) = value_of; // of every sample of a picture sent
    tds_session *get() const { return session_; }
    void close() { tds_session_close(std::exchange(session_, nullptr)); }

    tds_result send(tds_role role, const Input &input) {
        if (input.lost) {
            return tds_session_send_lost(session_, role, input.pts);
        }
        const int32_t size = role == TDS_HR ? 32 : tds_lr_size(32, scale_);
        Samples samples(size, size, 8, value(role, input.pts));
        tds_picture p = samples.picture(input.pts);
        p.corrupt = input.corrupt ? 1 : 0;
        p.strength = input.strength;
        p.opaque = reinterpret_cast<void *>(static_cast<intptr_t>(input.pts ^ 1 << 20));
        return tds_session_send(session_, role, &p);
    }

    tds_result receive(Output &out) {
        tds_picture p;
        const tds_result result = tds_session_receive(session_, &p);
        if (result == TDS_OK) {
            out = {p.pts,       p.status,   p.reason,
                   p.first_pts, p.last_pts, *static_cast<uint8_t *>(p.data[0]),
                   p.opaque};
            tds_picture_release(&p);
        }
        return result;
    }

  private:
    tds_session *session_ = nullptr;
    int32_t scale_ = 2;
};

// How a caller may go about it. All must give the same pictures.
enum class Order {
    wanted,   // asks wants
    hr_first, // sends HR until it is refused, then LR
    lr_first,
    in_time, // as a demuxer finds them
};

inline std::vector<Output> feed(Session &session, const std::vector<Input> &hr,
                                const std::vector<Input> &lr, Order order) {
    std::vector<Output> out;
    const std::vector<Input> *streams[] = {&hr, &lr};
    size_t next[] = {0, 0};
    bool ended[] = {false, false};
    const auto send = [&](int role) { // false: refused
        if (ended[role]) {
            return false;
        }
        if (next[role] == streams[role]->size()) {
            CHECK_EQ(tds_session_send(session.get(), static_cast<tds_role>(role), nullptr), TDS_OK);
            ended[role] = true;
            return true;
        }
        const tds_result result =
            session.send(static_cast<tds_role>(role), (*streams[role])[next[role]]);
        CHECK(result == TDS_OK || result == TDS_AGAIN);
        next[role] += result == TDS_OK ? 1 : 0;
        return result == TDS_OK;
    };
    for (int guard = 0; guard < 100000; guard++) {
        const unsigned wants = tds_session_wants(session.get());
        Output picture;
        const tds_result result = session.receive(picture);
        if (result == TDS_OK) {
            CHECK_EQ(wants, 0U);
            out.push_back(picture);
            continue;
        }
        if (result == TDS_END) {
            CHECK_EQ(wants, 0U);
            return out;
        }
        CHECK_EQ(result, TDS_AGAIN);
        CHECK(wants != 0);
        if (order == Order::wanted) {
            for (const int role : {0, 1}) {
                if (wants & (1U << role)) {
                    CHECK(send(role)); // what is wanted is taken
                }
            }
            continue;
        }
        int first = order == Order::lr_first ? 1 : 0;
        if (order == Order::in_time && next[1] < lr.size() &&
            (next[0] == hr.size() || lr[next[1]].pts < hr[next[0]].pts)) {
            first = 1;
        }
        // One stream may be refused; then the other is what is wanted.
        CHECK(send(first) || send(1 - first));
    }
    CHECK(!"the session stands still");
    return out;
}

// "0p 1e(0,2)[no-last] ": time, status, references, reasons.
inline std::string text(const std::vector<Output> &outputs) {
    std::string out;
    for (const Output &o : outputs) {
        out += std::to_string(o.pts) + "peurf"[o.status]; // passed, ..., refined
        if (o.status != TDS_STATUS_PASSED) {
            out += "(" + (o.first == TDS_NO_PTS ? "" : std::to_string(o.first)) + "," +
                   (o.last == TDS_NO_PTS ? "" : std::to_string(o.last)) + ")";
        }
        if (o.reason) {
            char names[128];
            tds_reason_names(o.reason, names, sizeof(names));
            out += std::string("[") + names + "]";
        }
        out += " ";
    }
    return out;
}

// A pickled (), what torch writes where there is nothing.
constexpr const char *kEmptyPickle = "\x80\x02).";
// A file the engine takes for a model: the zip archive of a TorchScript model
// with nothing in it to run. Returns its path.
std::string model_file(const std::string &name, int scale, bool no_reference);
// The same of contract 2, with its slots as JSON: R"("-1","+1")".
std::string model_file_2(const std::string &name, int scale, const std::string &slots);
std::string zip_archive(const std::vector<std::pair<std::string, std::string>> &entries);
std::string write_file(const std::string &name, const std::string &data);
