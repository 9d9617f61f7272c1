// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/json.h"

#include <stdexcept>

namespace tds {
namespace {

constexpr int kDeepest = 64;

// The library's message without its own number in front, and without what the text put into
// it that a terminal might obey.
std::string reason(const std::string &message) {
    const size_t end = message.find("] ");
    std::string out = end == std::string::npos ? message : message.substr(end + 2);
    for (char &c : out) {
        if (c < 0x20 || c > 0x7e) {
            c = '?';
        }
    }
    return out;
}

} // namespace

Json parse_json(const std::string &text) {
    using Event = Json::parse_event_t;
    const auto shallow = [](int depth, Event event, Json &) {
        if (depth >= kDeepest && (event == Event::array_start || event == Event::object_start)) {
            throw std::runtime_error("not JSON: nested too deeply");
        }
        return true;
    };
    try {
        return Json::parse(text, shallow);
    } catch (const Json::exception &error) {
        throw std::runtime_error("not JSON: " + reason(error.what()));
    }
}

const Json *find(const Json &json, const char *key) {
    const auto at = json.find(key);
    return at == json.end() ? nullptr : &*at;
}

} // namespace tds
