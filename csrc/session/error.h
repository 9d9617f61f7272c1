// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Errors inside libtds are exceptions; api.cpp turns them into results and
// tds_last_error(). None crosses the C header.
#pragma once

#include "backends/backend.h"

#include <stdexcept>
#include <string>

namespace tds {

class Error : public std::runtime_error {
  public:
    Error(tds_result code, const std::string &text) : std::runtime_error(text), code_(code) {}
    tds_result code() const { return code_; }

  private:
    tds_result code_;
};

[[noreturn]] inline void invalid(const std::string &text) {
    throw Error(TDS_ERROR_INVALID, text);
}

// A backend's answer: throws unless it is TDS_OK.
inline void check(tds_result result, const tds_backend_error &error) {
    if (result != TDS_OK) {
        throw Error(result < 0 ? result : TDS_ERROR_BACKEND, error.text);
    }
}

} // namespace tds
