// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Where exceptions end: every function of the C header goes through here.
#pragma once

#include "session/error.h"

#include <new>
#include <string>

namespace tds {

// Keeps the sentence for tds_last_error() of this thread; returns `code`.
tds_result report_error(tds_result code, const char *text);

inline tds_result missing(const char *what) {
    return report_error(TDS_ERROR_INVALID, (std::string(what) + " is NULL").c_str());
}

template <typename Function> tds_result guarded(Function function) {
    try {
        return function();
    } catch (const Error &error) {
        return report_error(error.code(), error.what());
    } catch (const std::bad_alloc &) {
        return report_error(TDS_ERROR_MEMORY, "out of memory");
    } catch (const std::exception &error) {
        return report_error(TDS_ERROR_BACKEND, error.what());
    }
}

} // namespace tds
