// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "tds/tds.h"

#include <stdexcept>
#include <string>

namespace tds {

// What went wrong, as a sentence for a person, and the code the C header has for it.
class Failure : public std::runtime_error {
  public:
    Failure(tds_result code, const std::string &text) : std::runtime_error(text), code_(code) {}
    tds_result code() const { return code_; }

  private:
    tds_result code_;
};

} // namespace tds
