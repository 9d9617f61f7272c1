// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Which model is used, for all doors: tds_model_choose() of tds.h.
#pragma once

#include "tag/tag.h"

#include <string>

namespace tds {

struct ModelChoice {
    std::string path, hr_path, name;
    bool of_tag = false;
    std::string notices;
};

// `tag`: that of the request. Throws Error (TDS_ERROR_MODEL), naming the folders that were
// searched.
ModelChoice choose_model(const tds_model_request &request, const Tag *tag);

} // namespace tds
