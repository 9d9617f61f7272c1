// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tag/tag.h"

#include "session/error.h"
#include "session/json.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tds {
namespace {

constexpr int64_t kVersion = 1;
constexpr int64_t kMaxTime = int64_t{1} << 60; // ticks

// What is wrong, without the file's name.
struct Damaged {
    std::string text;
};
[[noreturn]] void damaged(const std::string &text) {
    throw Damaged{text};
}

// A value of the file in a message: short, and no control character reaches a terminal.
std::string quoted(const Json &value) {
    std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (text.size() > 60) {
        text = text.substr(0, 57) + "...";
    }
    return text;
}

const Json &required(const Json &object, const char *key) {
    const auto at = object.find(key);
    if (at == object.end()) {
        damaged(std::string("it has no \"") + key + "\"");
    }
    return *at;
}

int64_t integer(const Json &value, int64_t low, int64_t high, const char *name) {
    const bool fits = value.is_number_unsigned()
                          ? value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX) &&
                                value.get<int64_t>() >= low && value.get<int64_t>() <= high
                          : value.is_number_integer() && value.get<int64_t>() >= low &&
                                value.get<int64_t>() <= high;
    if (!fits) {
        damaged(std::string(name) + " is " + quoted(value) + ", not a whole number from " +
                std::to_string(low) + " to " + std::to_string(high));
    }
    return value.get<int64_t>();
}

int64_t integer(const Json &object, const char *key, int64_t low, int64_t high, int64_t otherwise) {
    const auto at = object.find(key);
    return at == object.end() ? otherwise : integer(*at, low, high, key);
}

// For people: anything but a string is left out, and a long one cut at a whole character.
std::string words(const Json &object, const char *key, size_t most) {
    const auto at = object.find(key);
    if (at == object.end() || !at->is_string()) {
        return "";
    }
    std::string text = at->get<std::string>();
    if (text.size() > most) {
        while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xc0) == 0x80) {
            most--;
        }
        text.resize(most);
    }
    return text.substr(0, text.find('\0'));
}

bool digits(const std::string &text, size_t begin, size_t end, int64_t &value) {
    if (begin >= end || end - begin > 18) {
        return false;
    }
    value = 0;
    for (size_t i = begin; i < end; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        value = 10 * value + (text[i] - '0');
    }
    return true;
}

[[noreturn]] void no_fraction(const Json &value, const char *name) {
    damaged(std::string(name) + " is " + quoted(value) +
            ", not a number or a fraction such as 30000/1001");
}

// "30000/1001", "25", "29.97", 25 or 29.97, in lowest terms. More than 31 bits on either
// side no container can hold, and sums of them could not be counted.
tds_rational rational(const Json &value, const char *name) {
    std::string text;
    if (value.is_string()) {
        text = value.get<std::string>();
    } else if (value.is_number()) {
        text = value.dump();
    } else {
        no_fraction(value, name);
    }
    int64_t num = 0;
    int64_t den = 1;
    const size_t mark = text.find_first_of("/.");
    if (mark == std::string::npos) {
        if (!digits(text, 0, text.size(), num)) {
            no_fraction(value, name);
        }
    } else if (text[mark] == '/') {
        if (!digits(text, 0, mark, num) || !digits(text, mark + 1, text.size(), den) || den == 0) {
            no_fraction(value, name);
        }
    } else {
        int64_t part = 0;
        if (text.size() - mark - 1 > 9 || mark > 9 || !digits(text, 0, mark, num) ||
            !digits(text, mark + 1, text.size(), part)) {
            no_fraction(value, name);
        }
        for (size_t i = mark + 1; i < text.size(); i++) {
            den *= 10;
        }
        num = num * den + part;
    }
    const int64_t common = std::gcd(num, den);
    num /= std::max<int64_t>(common, 1);
    den /= std::max<int64_t>(common, 1);
    if (num <= 0 || num > INT32_MAX || den > INT32_MAX) {
        damaged(std::string(name) + " is " + quoted(value) + ", which is out of range");
    }
    return {static_cast<int32_t>(num), static_cast<int32_t>(den)};
}

// [[value, count], ...] as value, count, value, count, ...; at most `most` entries in all.
std::vector<int64_t> run_list(const Json &list, int64_t low, int64_t high, int64_t most,
                              const char *name) {
    if (!list.is_array() || list.size() > TDS_MAX_RUNS) {
        damaged(std::string(name) + " is not a list of at most " + std::to_string(TDS_MAX_RUNS) +
                " runs");
    }
    std::vector<int64_t> runs;
    runs.reserve(2 * list.size());
    int64_t entries = 0;
    for (const Json &run : list) {
        if (!run.is_array() || run.size() != 2) {
            damaged(std::string(name) + " has " + quoted(run) + ", which is no [value, count]");
        }
        runs.push_back(integer(run[0], low, high, name));
        runs.push_back(integer(run[1], 1, std::max<int64_t>(most, 1), name));
        entries += runs.back();
        if (entries > most) {
            damaged(std::string(name) + " has more entries than the video has frames");
        }
    }
    return runs;
}

std::vector<int64_t> run_list(const Json &object, const char *name, int64_t low, int64_t high,
                              int64_t most) {
    const auto at = object.find(name);
    return at == object.end() ? std::vector<int64_t>{} : run_list(*at, low, high, most, name);
}

bool is_hash(const std::string &text) {
    return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

} // namespace

bool is_model_name(const std::string &name) {
    static constexpr char characters[] =
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._-";
    if (name.empty() || name.size() > TDS_MAX_MODEL_NAME ||
        name.find_first_not_of(characters) != std::string::npos ||
        std::string("._-").find(name[0]) != std::string::npos) {
        return false;
    }
    for (const std::string end : {".pt", ".pth", ".ts", ".safetensors"}) {
        if (name.size() >= end.size() &&
            name.compare(name.size() - end.size(), end.size(), end) == 0) {
            return false; // it could be taken for a file
        }
    }
    return true;
}

Tag::Tag(const char *json, size_t size, const std::string &where) {
    try {
        read(json, size);
    } catch (const Damaged &reason) {
        throw Error(TDS_ERROR_INVALID,
                    where + ": its TDS metadata is damaged (" + reason.text + ")");
    } catch (const Error &error) {
        throw Error(error.code(), where + ": " + error.what());
    }
}

void Tag::read(const char *json, size_t size) {
    if (size > TDS_MAX_TAG) {
        damaged("it is over " + std::to_string(TDS_MAX_TAG) + " bytes");
    }
    Json all;
    try {
        all = parse_json(std::string(json, size));
    } catch (const std::runtime_error &error) {
        damaged(std::string("it is ") + error.what());
    }
    if (!all.is_object()) {
        damaged("it is not an object");
    }
    const auto version = all.find("tds");
    if (version == all.end() || !version->is_number_integer() || *version != kVersion) {
        throw Error(TDS_ERROR_UNSUPPORTED,
                    "its TDS metadata is version " +
                        (version == all.end() ? std::string("none") : quoted(*version)) +
                        " and this program reads version " + std::to_string(kVersion) +
                        "; a newer tds-codec may read it");
    }
    tds_tag_values &v = values_;

    v.scale = static_cast<int32_t>(integer(required(all, "scale"), 1, 4, "scale"));
    if (v.scale == 3) {
        damaged("scale is 3, not 1, 2 or 4");
    }
    v.width = static_cast<int32_t>(integer(required(all, "width"), 2, TDS_MAX_SIZE, "width"));
    v.height = static_cast<int32_t>(integer(required(all, "height"), 2, TDS_MAX_SIZE, "height"));
    v.bit_depth = static_cast<int32_t>(integer(all, "bit_depth", 8, 10, 8));
    if (v.bit_depth == 9) {
        damaged("bit_depth is 9, not 8 or 10");
    }
    v.hr_qp = static_cast<int32_t>(integer(all, "hr_qp", -1, 63, -1));
    v.lr_qp = static_cast<int32_t>(integer(all, "lr_qp", -1, 63, -1));
    v.group = static_cast<int32_t>(integer(all, "group", 3, 65, 5));
    const Json &boundaries = required(all, "boundaries");
    if (boundaries != "independent" && boundaries != "shared") {
        damaged("boundaries is " + quoted(boundaries) + ", not \"independent\" or \"shared\"");
    }
    v.shared = boundaries == "shared";

    // Times.
    const Json &timeline = required(all, "timeline");
    if (!timeline.is_object()) {
        damaged("timeline is not an object");
    }
    v.frames = integer(required(timeline, "frames"), 0, TDS_MAX_FRAMES, "frames");
    v.rate = rational(required(timeline, "rate"), "rate");
    v.time_base = rational(required(timeline, "time_base"), "time_base");
    if (v.rate.num > 1000 * static_cast<int64_t>(v.rate.den) || v.time_base.num > v.time_base.den) {
        damaged("rate or time_base is out of range: at most 1000 frames and at least a tick a "
                "second");
    }
    v.start = integer(timeline, "start", -kMaxTime, kMaxTime, 0);
    v.times_known = 1;
    if (const auto known = timeline.find("known"); known != timeline.end()) {
        if (!known->is_boolean()) {
            damaged("known is " + quoted(*known) + ", not true or false");
        }
        v.times_known = known->get<bool>();
    }
    const bool has_deltas = timeline.contains("deltas");
    v.regular = v.times_known && !has_deltas;
    const int64_t steps = std::max<int64_t>(v.frames - 1, 0);
    Wide end = v.start;
    if (has_deltas) {
        std::vector<int64_t> &deltas = runs_[TDS_RUNS_DELTAS];
        deltas = run_list(timeline, "deltas", 1, int64_t{1} << 40, v.frames);
        int64_t count = 0;
        for (size_t i = 0; i < deltas.size(); i += 2) {
            count += deltas[i + 1];
            end += static_cast<Wide>(deltas[i]) * deltas[i + 1];
        }
        if (count != steps) {
            damaged("deltas do not add up to frames");
        }
    } else {
        end += divide_half_up(static_cast<Wide>(steps) * v.rate.den * v.time_base.den,
                              static_cast<Wide>(v.rate.num) * v.time_base.num);
    }
    if (end > kMaxTime) {
        damaged("its times are beyond what can be counted");
    }
    v.end = static_cast<int64_t>(end);

    // Groups.
    runs_[TDS_RUNS_GROUPS] =
        run_list(required(all, "groups"), -(1 << 16), 1 << 16, v.frames, "groups");
    const std::vector<int64_t> &groups = runs_[TDS_RUNS_GROUPS];
    int64_t total = 0;
    for (size_t i = 0; i < groups.size(); i += 2) {
        const int64_t n = std::llabs(groups[i]);
        const bool own_first = groups[i] < 0 || !v.shared;
        if (n == 0) {
            damaged("groups has one of no frames");
        }
        total += (n - (own_first ? 0 : 1)) * groups[i + 1];
        v.hr_frames += ((own_first ? 1 : 0) + (n > 1 ? 1 : 0)) * groups[i + 1];
        v.lr_frames += std::max<int64_t>(n - 2, 0) * groups[i + 1];
    }
    if (total != v.frames) {
        damaged("groups do not add up to frames");
    }
    std::vector<int64_t> &leads = runs_[TDS_RUNS_LEADS];
    leads = run_list(all, "leads", 0, v.frames, v.frames);
    Wide last = 0;
    for (size_t i = 0; i < leads.size(); i += 2) {
        if (leads[i] == 0 && (i > 0 || leads[i + 1] > 1)) {
            damaged("leads names a frame twice");
        }
        v.leads += leads[i + 1];
        last += static_cast<Wide>(leads[i]) * leads[i + 1];
    }
    if (!leads.empty() && last >= v.frames) {
        damaged("leads are beyond the last frame");
    }

    // What is to be done with it.
    std::vector<int64_t> &strengths = runs_[TDS_RUNS_STRENGTHS];
    strengths = run_list(all, "strengths", 0, 2, v.frames);
    int64_t told = 0;
    for (size_t i = 0; i < strengths.size(); i += 2) {
        told += strengths[i + 1];
        v.has_strengths |= strengths[i] != 2;
    }
    if (!strengths.empty() && told != v.frames) {
        damaged("strengths do not add up to frames");
    }
    if (const auto hr = all.find("hr"); hr != all.end()) {
        if (*hr != "pass" && *hr != "refine") {
            damaged("hr is " + quoted(*hr) + ", not \"pass\" or \"refine\"");
        }
        v.refine_hr = *hr == "refine";
    }
    const auto name = all.find("model");
    if (name != all.end() && !name->is_null()) {
        if (!name->is_string() || !is_model_name(name->get<std::string>())) {
            damaged("a model's name has letters, digits, . _ -, not " + quoted(*name));
        }
        text_[4] = name->get<std::string>();
        v.model = text_[4].c_str();
    }
    const auto hash = all.find("model_sha256");
    if (hash != all.end() && !hash->is_null()) {
        if (!hash->is_string() || !is_hash(hash->get<std::string>())) {
            damaged("model_sha256 is 64 hex digits, not " + quoted(*hash));
        }
        text_[5] = hash->get<std::string>();
        v.model_sha256 = text_[5].c_str();
    }
    text_[0] = words(all, "codec", 64);
    text_[1] = words(all, "config", 64);
    text_[2] = words(all, "encoder", 200);
    text_[3] = words(all, "preset", 64);
    v.codec = text_[0].c_str();
    v.config = text_[1].c_str();
    v.encoder = text_[2].c_str();
    v.preset = text_[3].c_str();
}

// -------------------------------------------------------------- frames --

Tag::Cursor::Cursor(const Tag &tag) : tag_(&tag), time_(tag.values_.start) {
    take(tag.runs_[TDS_RUNS_LEADS], lead_, next_lead_);
}

// The next entry of a list; false when it has ended.
bool Tag::Cursor::take(const std::vector<int64_t> &runs, Place &place, int64_t &value) {
    if (place.run >= runs.size()) {
        return false;
    }
    value = runs[place.run];
    if (++place.within == runs[place.run + 1]) {
        place = {place.run + 2, 0};
    }
    return true;
}

// Takes `entries` of a list at once; returns their sum.
int64_t Tag::Cursor::take_many(const std::vector<int64_t> &runs, Place &place, int64_t entries) {
    int64_t sum = 0;
    while (entries > 0 && place.run < runs.size()) {
        const int64_t left = runs[place.run + 1] - place.within;
        const int64_t n = std::min(entries, left);
        sum += runs[place.run] * n;
        entries -= n;
        place = n == left ? Place{place.run + 2, 0} : Place{place.run, place.within + n};
    }
    return sum;
}

void Tag::Cursor::enter_group() {
    int64_t size = 0;
    take(tag_->runs_[TDS_RUNS_GROUPS], group_, size);
    set_group(size);
}

void Tag::Cursor::set_group(int64_t size) {
    own_first_ = size < 0 || !tag_->values_.shared;
    group_length_ = std::llabs(size) - (own_first_ ? 0 : 1);
    in_group_ = 0;
}

bool Tag::Cursor::next(tds_tag_frame &frame) {
    const tds_tag_values &v = tag_->values_;
    if (index_ >= v.frames) {
        return false;
    }
    while (in_group_ == group_length_) { // one that shares its only frame has none of its own
        enter_group();
    }
    const bool hr = (own_first_ && in_group_ == 0) || in_group_ == group_length_ - 1;
    if (v.regular) {
        time_ = v.start + static_cast<int64_t>(divide_half_up(
                              static_cast<Wide>(index_) * v.rate.den * v.time_base.den,
                              static_cast<Wide>(v.rate.num) * v.time_base.num));
    } else if (index_ > 0) {
        time_ += take_many(tag_->runs_[TDS_RUNS_DELTAS], delta_, 1);
    }
    frame.time = v.times_known ? time_ : TDS_NO_PTS;
    frame.role = hr ? TDS_HR : TDS_LR;
    frame.lead = hr && index_ == next_lead_;
    int64_t halves = 2;
    take(tag_->runs_[TDS_RUNS_STRENGTHS], strength_, halves);
    frame.strength = static_cast<float>(halves) / 2.0F;
    if (index_ == next_lead_) {
        int64_t step = 0;
        next_lead_ = take(tag_->runs_[TDS_RUNS_LEADS], lead_, step) ? next_lead_ + step : -1;
    }
    index_++;
    in_group_++;
    return true;
}

void Tag::Cursor::skip(int64_t frames) {
    const tds_tag_values &v = tag_->values_;
    frames = std::min(frames, v.frames - index_);
    if (frames <= 0) {
        return;
    }
    const int64_t target = index_ + frames;
    // time_ is that of the frame before index_, but for the first, whose it is already.
    time_ += take_many(tag_->runs_[TDS_RUNS_DELTAS], delta_, index_ == 0 ? frames - 1 : frames);
    take_many(tag_->runs_[TDS_RUNS_STRENGTHS], strength_, frames);
    const std::vector<int64_t> &leads = tag_->runs_[TDS_RUNS_LEADS];
    while (next_lead_ >= 0 && next_lead_ < target) {
        if (lead_.run >= leads.size()) {
            next_lead_ = -1;
            break;
        }
        const int64_t step = leads[lead_.run];
        const int64_t left = leads[lead_.run + 1] - lead_.within;
        next_lead_ +=
            take_many(leads, lead_, std::min(left, (target - next_lead_ + step - 1) / step));
    }
    const std::vector<int64_t> &groups = tag_->runs_[TDS_RUNS_GROUPS];
    const int64_t in_this = std::min(frames, group_length_ - in_group_);
    in_group_ += in_this;
    for (frames -= in_this; frames > 0;) {
        const int64_t left = groups[group_.run + 1] - group_.within;
        set_group(groups[group_.run]);
        const int64_t whole = group_length_ == 0 ? left : std::min(left, frames / group_length_);
        take_many(groups, group_, whole);
        frames -= whole * group_length_;
        in_group_ = group_length_;
        if (whole < left) {
            enter_group();
            in_group_ = std::min(frames, group_length_);
            frames -= in_group_;
        }
    }
    index_ = target;
}

} // namespace tds
