// SPDX-License-Identifier: LGPL-2.1-or-later
//
// JSON (RFC 8259) that comes from outside: a model's tds.json, a container's tag. By
// nlohmann/json (csrc/third_party), and only through this header, so that its switches are
// the same everywhere and what must hold of hostile text is said once.
#pragma once

// No streams: libtds uses neither them nor locales, which break in a process that already
// has another libstdc++ (csrc/libtds.map).
#define JSON_NO_IO 1
#define JSON_USE_IMPLICIT_CONVERSIONS 0
#include <nlohmann/json.hpp>

#include <string>

namespace tds {

using Json = nlohmann::json;

// Strictly JSON in UTF-8, arrays and objects at most 64 deep; of a key that comes twice the
// last counts. Throws std::runtime_error with a reason of printable ASCII.
Json parse_json(const std::string &text);

// The value of `key`; NULL when `json` is no object or has no such key.
const Json *find(const Json &json, const char *key);

} // namespace tds
