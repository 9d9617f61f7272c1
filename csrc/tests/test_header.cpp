// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tds/tds.h"

#include <cstring>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define VERSION TEXT(TDS_VERSION_MAJOR) "." TEXT(TDS_VERSION_MINOR) "." TEXT(TDS_VERSION_PATCH)

int main() {
    tds_settings settings;
    tds_picture picture;
    tds_default_settings(&settings);
    tds_picture_init(&picture);
    if (settings.scale != 2 || settings.bit_depth != 8 || settings.max_group != 64 ||
        settings.max_batch != 4 || settings.hr_qp != -1 ||
        std::strcmp(settings.device, "auto") != 0) {
        return 1;
    }
    if (picture.pts != TDS_NO_PTS || picture.bit_depth != 8 || picture.data[0] != nullptr) {
        return 2;
    }
    return std::strcmp(tds_version(), VERSION) == 0 ? 0 : 3;
}
