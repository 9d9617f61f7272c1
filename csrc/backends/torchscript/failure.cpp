// SPDX-License-Identifier: LGPL-2.1-or-later
#include "backends/torchscript/failure.h"

#include <c10/util/Exception.h>

#include <new>

namespace tds {

// The TorchScript interpreter turns every C++ exception into a std::runtime_error:
// only the text still tells what it was.
bool is_out_of_memory(const std::exception &error) {
    const std::string text = error.what();
    return dynamic_cast<const c10::OutOfMemoryError *>(&error) ||
           dynamic_cast<const std::bad_alloc *>(&error) ||
           text.find("out of memory") != std::string::npos ||
           text.find("can't allocate memory") != std::string::npos;
}

std::string first_line(const std::string &text) {
    const size_t begin = text.find_first_not_of(" \n");
    std::string line =
        begin == std::string::npos ? "" : text.substr(begin, text.find('\n', begin) - begin);
    while (!line.empty() && (line.back() == ':' || line.back() == '.')) {
        line.pop_back();
    }
    return line;
}

std::string last_line(std::string text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) {
        text.pop_back();
    }
    return text.substr(text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1);
}

} // namespace tds
