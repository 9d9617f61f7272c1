// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The C header's functions: arguments are checked and exceptions end here.
#include "session/backend_loader.h"
#include "session/guard.h"
#include "session/model_file.h"
#include "session/session.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

struct tds_session {
    explicit tds_session(const tds_settings &settings) : session(settings) {}
    tds::Session session;
};

using tds::guarded;
using tds::missing;

namespace {

// Fixed size: reporting "out of memory" must not need memory.
thread_local char last_error[2048] = "";

#define TDS_STRING_(x) #x
#define TDS_STRING(x) TDS_STRING_(x)

} // namespace

tds_result tds::report_error(tds_result code, const char *text) {
    std::snprintf(last_error, sizeof(last_error), "%s", text);
    return code;
}

const char *tds_last_error(void) {
    return last_error;
}

const char *tds_version(void) {
    return TDS_STRING(TDS_VERSION_MAJOR) "." TDS_STRING(TDS_VERSION_MINOR) "." TDS_STRING(
        TDS_VERSION_PATCH);
}

int32_t tds_api_number(void) {
    return TDS_API_NUMBER;
}

const char *tds_status_name(tds_status status) {
    switch (status) {
    case TDS_STATUS_PASSED:
        return "passed";
    case TDS_STATUS_ENHANCED:
        return "enhanced";
    case TDS_STATUS_UPSAMPLED:
        return "upsampled";
    case TDS_STATUS_REPEATED:
        return "repeated";
    case TDS_STATUS_REFINED:
        return "refined";
    }
    return "unknown";
}

size_t tds_reason_names(unsigned reasons, char *buffer, size_t size) {
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {
        {TDS_REASON_NO_FIRST, "no-first"},     {TDS_REASON_NO_LAST, "no-last"},
        {TDS_REASON_NO_MODEL, "no-model"},     {TDS_REASON_LOST, "lost"},
        {TDS_REASON_LONG_GROUP, "long-group"}, {TDS_REASON_REF_LOST, "ref-lost"},
        {TDS_REASON_CORRUPT, "corrupt"},       {TDS_REASON_CUT, "cut"},
        {TDS_REASON_STRENGTH, "strength"},
    };
    size_t length = 0;
    const auto append = [&](const char *text) {
        for (; *text; text++, length++) {
            if (buffer && length + 1 < size) {
                buffer[length] = *text;
            }
        }
    };
    for (const auto &entry : names) {
        if (reasons & entry.bit) {
            if (length > 0) {
                append(",");
            }
            append(entry.name);
        }
    }
    if (buffer && size > 0) {
        buffer[length < size ? length : size - 1] = '\0';
    }
    return length;
}

void tds_picture_init(tds_picture *picture) {
    if (!picture) {
        return;
    }
    *picture = tds_picture{};
    picture->bit_depth = 8;
    picture->strength = -1.0F;
    picture->qp = picture->type = -1;
    picture->pts = picture->first_pts = picture->last_pts = TDS_NO_PTS;
}

void tds_picture_release(tds_picture *picture) {
    if (!picture) {
        return;
    }
    if (picture->release) {
        picture->release(picture->owner);
    }
    tds_picture_init(picture);
}

void tds_default_settings(tds_settings *settings) {
    if (!settings) {
        return;
    }
    *settings = tds_settings{};
    settings->scale = 2;
    settings->bit_depth = 8;
    settings->backend = "auto";
    settings->device = "auto";
    settings->precision = "auto";
    settings->max_group = 64;
    settings->max_batch = 4;
    settings->hr_qp = settings->lr_qp = -1;
    settings->strength = 1.0F;
}

int32_t tds_lr_size(int32_t hr_size, int32_t scale) {
    if (hr_size < 2 || hr_size > TDS_MAX_SIZE || hr_size % 2 != 0 ||
        (scale != 1 && scale != 2 && scale != 4)) {
        return 0;
    }
    return 2 * ((hr_size + 2 * scale - 1) / (2 * scale));
}

int32_t tds_scale_of(int32_t width, int32_t height, int32_t lr_width, int32_t lr_height) {
    for (const int32_t scale : {1, 2, 4}) {
        const int32_t w = tds_lr_size(width, scale);
        if (w != 0 && w == lr_width && tds_lr_size(height, scale) == lr_height) {
            return scale;
        }
    }
    return 0;
}

tds_result tds_session_open(const tds_settings *settings, tds_session **session) {
    if (!session) {
        return missing("session");
    }
    *session = nullptr;
    if (!settings) {
        return missing("settings");
    }
    return guarded([&] {
        *session = new tds_session(*settings);
        return TDS_OK;
    });
}

void tds_session_close(tds_session *session) {
    delete session;
}

tds_result tds_session_send(tds_session *session, tds_role role, const tds_picture *picture) {
    if (!session) {
        return missing("session");
    }
    return guarded([&] { return session->session.send(role, picture); });
}

tds_result tds_session_send_lost(tds_session *session, tds_role role, int64_t pts) {
    if (!session) {
        return missing("session");
    }
    return guarded([&] { return session->session.send_lost(role, pts); });
}

tds_result tds_session_receive(tds_session *session, tds_picture *picture) {
    if (!session) {
        return missing("session");
    }
    if (!picture) {
        return missing("picture");
    }
    tds_picture_init(picture);
    return guarded([&] { return session->session.receive(picture); });
}

unsigned tds_session_wants(const tds_session *session) {
    return session ? session->session.wants() : 0;
}

tds_result tds_session_flush(tds_session *session) {
    if (!session) {
        return missing("session");
    }
    return guarded([&] {
        session->session.flush();
        return TDS_OK;
    });
}

tds_result tds_session_info(const tds_session *session, tds_info *info) {
    if (!session) {
        return missing("session");
    }
    if (!info) {
        return missing("info");
    }
    return guarded([&] {
        session->session.info(info);
        return TDS_OK;
    });
}

tds_result tds_backend_available(const char *backend) {
    if (!backend) {
        return missing("backend");
    }
    return guarded([&] {
        tds::find_backend(backend);
        return TDS_OK;
    });
}

tds_result tds_backend_devices(const char *backend, char *buffer, size_t size) {
    if (!backend || !buffer || size == 0) {
        return missing(!backend ? "backend" : "buffer");
    }
    buffer[0] = '\0';
    return guarded([&] {
        tds_backend_error error{};
        tds::check(tds::find_backend(backend).devices(buffer, size, &error), error);
        return TDS_OK;
    });
}

tds_result tds_model_metadata(const char *path, char **json) {
    if (!json) {
        return missing("json");
    }
    *json = nullptr;
    if (!path) {
        return missing("path");
    }
    return guarded([&] {
        const tds::ModelFile file = tds::parse_model(path, tds::read_model_bytes(path));
        auto *text = static_cast<char *>(std::malloc(file.json.size() + 1));
        if (!text) {
            throw std::bad_alloc();
        }
        std::memcpy(text, file.json.c_str(), file.json.size() + 1);
        *json = text;
        return TDS_OK;
    });
}

void tds_free(void *memory) {
    std::free(memory);
}
