// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "tds/tds.h"

#include <exception>
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

// Whether torch, or the C++ library, had no more memory, of the host or of a device.
bool is_out_of_memory(const std::exception &error);

// Torch's messages carry source code or a stack trace; people get the first line.
std::string first_line(const std::string &text);
// An error of the TorchScript interpreter: the useful line is the last one.
std::string last_line(std::string text);

} // namespace tds
