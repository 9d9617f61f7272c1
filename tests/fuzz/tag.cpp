// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The `tds` tag, which is a sidecar too: refused in one sentence, or its frames are what its
// numbers say, from wherever one begins to read them.
#include "fuzz.h"
#include "tds/tds.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace {

constexpr int64_t kWalked = 3000; // frames that are compared one by one

void check_refusal(tds_result result) {
    REQUIRE(result == TDS_ERROR_INVALID || result == TDS_ERROR_UNSUPPORTED);
    const std::string said = tds_last_error();
    REQUIRE(said.compare(0, 3, "f: ") == 0);
    REQUIRE(std::all_of(said.begin(), said.end(), [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte >= 0x20 && byte != 0x7f;
    }));
}

void check_values(const tds_tag_values &v) {
    REQUIRE(v.scale == 1 || v.scale == 2 || v.scale == 4);
    REQUIRE(v.frames >= 0 && v.frames <= TDS_MAX_FRAMES);
    REQUIRE(v.hr_frames + v.lr_frames == v.frames);
    REQUIRE(v.leads >= 0 && v.leads <= v.frames);
    REQUIRE(v.end >= v.start);
    REQUIRE(v.time_base.num > 0 && v.time_base.den > 0 && v.rate.num > 0 && v.rate.den > 0);
    REQUIRE(v.codec && v.config && v.encoder && v.preset);
    REQUIRE(!v.model || std::strlen(v.model) <= TDS_MAX_MODEL_NAME);
    REQUIRE(!v.model || !std::strpbrk(v.model, "/\\:"));
    REQUIRE(!v.model_sha256 || std::strlen(v.model_sha256) == 64);
}

std::vector<tds_tag_frame> frames(const tds_tag *tag, int64_t first, int64_t count) {
    std::vector<tds_tag_frame> out(static_cast<size_t>(count));
    out.resize(tds_tag_frames(tag, first, out.data(), out.size()));
    return out;
}

bool same(const tds_tag_frame &a, const tds_tag_frame &b) {
    return a.time == b.time && a.role == b.role && a.lead == b.lead && a.strength == b.strength;
}

void check_frames(const tds_tag *tag, const tds_tag_values &v) {
    const std::vector<tds_tag_frame> all = frames(tag, 0, std::min(v.frames, kWalked) + 1);
    REQUIRE(static_cast<int64_t>(all.size()) == std::min(v.frames, kWalked + 1));
    int64_t hr = 0;
    int64_t leads = 0;
    for (size_t i = 0; i < all.size(); i++) {
        hr += all[i].role == TDS_HR ? 1 : 0;
        leads += all[i].lead;
        REQUIRE(!all[i].lead || all[i].role == TDS_HR);
        REQUIRE((all[i].time == TDS_NO_PTS) == (v.times_known == 0));
        REQUIRE(i == 0 || !v.times_known || all[i].time >= all[i - 1].time);
    }
    if (v.frames == static_cast<int64_t>(all.size())) {
        REQUIRE(hr == v.hr_frames);
        REQUIRE(leads <= v.leads); // one that names an LR frame has no copy
        REQUIRE(all.empty() || !v.times_known || all.front().time == v.start);
        REQUIRE(all.empty() || !v.times_known || all.back().time == v.end);
    }
    for (size_t first = 0; first < all.size(); first += 1 + first / 3) {
        const std::vector<tds_tag_frame> part = frames(tag, static_cast<int64_t>(first), 4);
        for (size_t i = 0; i < part.size() && first + i < all.size(); i++) {
            REQUIRE(same(part[i], all[first + i]));
        }
    }
    // The end of a long one: counted, not walked.
    const int64_t last = std::max<int64_t>(v.frames - 2, 0);
    const std::vector<tds_tag_frame> end = frames(tag, last, 8);
    REQUIRE(static_cast<int64_t>(end.size()) == v.frames - last);
    REQUIRE(end.empty() || !v.times_known || end.back().time == v.end);
    REQUIRE(tds_tag_frames(tag, v.frames, nullptr, 0) == 0);
}

} // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tds_tag *tag = nullptr;
    const auto *text = size > 0 ? reinterpret_cast<const char *>(data) : "";
    const tds_result result = tds_tag_parse(text, size, "f", &tag);
    if (result != TDS_OK) {
        REQUIRE(tag == nullptr);
        check_refusal(result);
        return 0;
    }
    tds_tag_values values;
    REQUIRE(tds_tag_read(tag, &values) == TDS_OK);
    check_values(values);
    check_frames(tag, values);
    tds_tag_free(tag);
    return 0;
}
