// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>

namespace tds {

// Which picture a reference of a contract 2 model is: the one `offset` places after the
// target (before it when below 0), or, when that is 0, the nearest full-size one before
// or after it that no earlier slot shows.
struct Slot {
    int32_t offset = 0;
    bool after = false; // of the nearest full-size one
};

} // namespace tds
