// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <pybind11/pybind11.h>

namespace tds_python {

// Tag, Times, frame_rate and choose_model: what is read of a file before its pictures.
void bind_tag(pybind11::module_ &m);

} // namespace tds_python
