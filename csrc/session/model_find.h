// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <string>

namespace tds {

// The path of an exported model, as tds_model_find() describes it. Throws Error
// (TDS_ERROR_MODEL), naming the folders that were searched.
std::string find_model(const char *name, int32_t scale, const char *device);

} // namespace tds
