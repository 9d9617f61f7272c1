// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The C header's functions for tags, times and models.
#include "session/guard.h"
#include "tag/models.h"
#include "tag/rate.h"
#include "tag/tag.h"
#include "tag/times.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

struct tds_tag {
    tds::Tag tag;
};

struct tds_times {
    tds::Times times;
};

using tds::guarded;
using tds::missing;

namespace {

bool usable(tds_rational r) {
    return r.num > 0 && r.den > 0;
}

tds_role checked(tds_role role) {
    if (role != TDS_HR && role != TDS_LR) {
        tds::invalid("a role is TDS_HR or TDS_LR");
    }
    return role;
}

template <size_t Size> void copy(char (&to)[Size], const std::string &from, const char *what) {
    if (from.size() >= Size) {
        tds::invalid(std::string(what) + " has " + std::to_string(from.size()) +
                     " characters, and no more than " + std::to_string(Size - 1) + " can be kept");
    }
    std::memcpy(to, from.c_str(), from.size() + 1);
}

} // namespace

// ----------------------------------------------------------------- tag --

tds_result tds_tag_parse(const char *json, size_t size, const char *where, tds_tag **tag) {
    if (!tag) {
        return missing("tag");
    }
    *tag = nullptr;
    if (!json || !where) {
        return missing(!json ? "json" : "where");
    }
    return guarded([&] {
        *tag = new tds_tag{tds::Tag(json, size, where)};
        return TDS_OK;
    });
}

void tds_tag_free(tds_tag *tag) {
    delete tag;
}

tds_result tds_tag_read(const tds_tag *tag, tds_tag_values *values) {
    if (!tag || !values) {
        return missing(!tag ? "tag" : "values");
    }
    *values = tag->tag.values();
    return TDS_OK;
}

size_t tds_tag_frames(const tds_tag *tag, int64_t first, tds_tag_frame *frames, size_t count) {
    if (!tag || !frames || first < 0) {
        return 0;
    }
    tds::Tag::Cursor cursor(tag->tag);
    cursor.skip(first);
    size_t n = 0;
    while (n < count && cursor.next(frames[n])) {
        n++;
    }
    return n;
}

size_t tds_tag_runs(const tds_tag *tag, tds_runs which, const int64_t **pairs) {
    if (!tag || !pairs || which < TDS_RUNS_GROUPS || which > TDS_RUNS_STRENGTHS) {
        return 0;
    }
    const std::vector<int64_t> &runs = tag->tag.runs(which);
    *pairs = runs.data();
    return runs.size() / 2;
}

// --------------------------------------------------------------- times --

tds_result tds_frame_rate(const int64_t *times, size_t count, tds_rational time_base,
                          tds_rational *rate) {
    if (!rate || (!times && count > 0)) {
        return missing(!rate ? "rate" : "times");
    }
    return guarded([&] {
        if (!usable(time_base)) {
            tds::invalid("a time base is a positive fraction");
        }
        *rate = tds::frame_rate(std::vector<int64_t>(times, times + count), time_base);
        return TDS_OK;
    });
}

tds_result tds_times_open(const tds_times_settings *settings, tds_times **times) {
    if (!times) {
        return missing("times");
    }
    *times = nullptr;
    if (!settings) {
        return missing("settings");
    }
    return guarded([&] {
        const tds::Tag *tag = settings->tag ? &settings->tag->tag : nullptr;
        *times = new tds_times{tds::Times(tag, *settings)};
        return TDS_OK;
    });
}

void tds_times_close(tds_times *times) {
    delete times;
}

tds_result tds_times_show(tds_times *times, tds_role role, int64_t pts) {
    if (!times) {
        return missing("times");
    }
    return guarded([&] {
        times->times.show(checked(role), pts);
        return TDS_OK;
    });
}

tds_result tds_times_push(tds_times *times, tds_role role, int64_t pts) {
    if (!times) {
        return missing("times");
    }
    return guarded([&] {
        times->times.push(checked(role), pts);
        return TDS_OK;
    });
}

tds_result tds_times_end(tds_times *times, tds_role role) {
    if (!times) {
        return missing("times");
    }
    return guarded([&] {
        times->times.end(checked(role));
        return TDS_OK;
    });
}

tds_result tds_times_next(tds_times *times, tds_role role, tds_event *event) {
    if (!times || !event) {
        return missing(!times ? "times" : "event");
    }
    return guarded([&] { return times->times.next(checked(role), *event); });
}

unsigned tds_times_wants(const tds_times *times, tds_role role) {
    return times && (role == TDS_HR || role == TDS_LR) ? times->times.wants(role) : 0;
}

tds_result tds_times_info(const tds_times *times, tds_times_report *report) {
    if (!times || !report) {
        return missing(!times ? "times" : "report");
    }
    *report = times->times.report();
    return TDS_OK;
}

const char *tds_times_notices(tds_times *times) {
    return times ? times->times.notices().c_str() : "";
}

// -------------------------------------------------------------- models --

tds_result tds_model_choose(const tds_model_request *request, tds_model_choice *choice) {
    if (!request || !choice) {
        return missing(!request ? "request" : "choice");
    }
    *choice = tds_model_choice{};
    return guarded([&] {
        const tds::Tag *tag = request->tag ? &request->tag->tag : nullptr;
        const tds::ModelChoice found = tds::choose_model(*request, tag);
        copy(choice->path, found.path, "the path of the model");
        copy(choice->hr_path, found.hr_path, "the path of the model for k = 1");
        copy(choice->name, found.name, "the name of the model");
        copy(choice->notices, found.notices, "what is to be said about the model");
        choice->of_tag = found.of_tag;
        return TDS_OK;
    });
}

tds_result tds_model_find(const char *name, int32_t scale, const char *device, char *path,
                          size_t size) {
    if (!path || size == 0) {
        return missing("path");
    }
    path[0] = '\0';
    return guarded([&] {
        tds_model_request request{};
        request.model = name;
        request.scale = scale;
        request.device = device;
        const std::string found = tds::choose_model(request, nullptr).path;
        if (found.size() >= size) {
            tds::invalid("the path of the model has " + std::to_string(found.size()) +
                         " characters and the buffer only " + std::to_string(size));
        }
        std::memcpy(path, found.c_str(), found.size() + 1);
        return TDS_OK;
    });
}
