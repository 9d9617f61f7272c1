// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Pictures of 4:2:2 and 4:4:4 beside models, which know 4:2:0. A model gets a picture's luma as it
// is, and of its chroma the mean of the samples that lie where one of 4:2:0 does. What it changes
// of those is brought up and added to the chroma that the picture has at its own ratio. Grids share
// their centres, as everywhere (backends/bicubic/upsample.h).
#pragma once

#include "session/picture.h"

namespace tds {

// Fills the chroma planes of `to`, which is 4:2:0, with those means.
void average_chroma(const tds_picture &from, tds_picture &to);

// Fills the chroma planes of `out`. target: of the same chroma, at 1/scale of the size. given: the
// 4:2:0 picture of it that a model got, and made: what that made of it; nullptr: no model did.
void finish_chroma(const tds_picture &target, int32_t scale, const tds_picture *given,
                   const tds_picture *made, tds_picture &out);

} // namespace tds
