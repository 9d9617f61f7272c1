// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The one rule for the nominal frame rate of a video whose tag is lost.
#pragma once

#include "tds/tds.h"

#include <cstdint>
#include <vector>

namespace tds {

// As tds_frame_rate() says.
tds_rational frame_rate(std::vector<int64_t> times, tds_rational time_base);

} // namespace tds
