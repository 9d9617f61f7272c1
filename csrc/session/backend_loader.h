// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "backends/backend.h"

#include <string>

namespace tds {

// The backend of that name; opens its library at first use and keeps it open.
// Throws Error: TDS_ERROR_INVALID for a name that cannot be one,
// TDS_ERROR_UNSUPPORTED when its library is missing or does not load.
const tds_backend &find_backend(const std::string &name);

// The folder libtds itself was loaded from: its backends lie beside it.
std::string library_folder();

} // namespace tds
