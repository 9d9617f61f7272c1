// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A JSON reader (RFC 8259) for the small metadata of a model file. It reads;
// it does not write, and it keeps numbers as doubles.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace tds {

struct Json {
    enum class Kind { null, boolean, number, string, array, object };
    Kind kind = Kind::null;
    bool boolean = false;
    double number = 0;
    std::string string;
    std::vector<Json> array;
    std::map<std::string, Json> object;

    // NULL when this is no object or has no such key.
    const Json *find(const std::string &key) const;
};

// Throws std::runtime_error with a reason.
Json parse_json(const std::string &text);

} // namespace tds
