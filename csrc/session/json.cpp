// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/json.h"

#include <cstdint>
#include <cstring>
#include <locale>
#include <sstream>
#include <stdexcept>

namespace tds {
namespace {

class Parser {
  public:
    explicit Parser(const std::string &text) : text_(text) {}

    Json document() {
        Json value = this->value(0);
        space();
        if (at_ != text_.size()) {
            fail("text after the end");
        }
        return value;
    }

  private:
    [[noreturn]] void fail(const std::string &what) const {
        throw std::runtime_error("not JSON: " + what + " at byte " + std::to_string(at_));
    }

    void space() {
        while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_]) && text_[at_] != '\0') {
            at_++;
        }
    }

    char peek() {
        space();
        if (at_ >= text_.size()) {
            fail("unexpected end");
        }
        return text_[at_];
    }

    bool take(char c) {
        if (peek() != c) {
            return false;
        }
        at_++;
        return true;
    }

    void expect(char c) {
        if (!take(c)) {
            fail(std::string("expected '") + c + "'");
        }
    }

    bool word(const char *w) {
        if (text_.compare(at_, std::strlen(w), w) != 0) {
            return false;
        }
        at_ += std::strlen(w);
        return true;
    }

    Json value(int depth) {
        if (depth > 64) { // a hostile file must not exhaust the stack
            fail("nested too deeply");
        }
        Json out;
        const char c = peek();
        if (c == '{') {
            at_++;
            out.kind = Json::Kind::object;
            if (!take('}')) {
                do {
                    if (peek() != '"') {
                        fail("expected a key");
                    }
                    std::string key = string();
                    expect(':');
                    out.object[key] = value(depth + 1);
                } while (take(','));
                expect('}');
            }
        } else if (c == '[') {
            at_++;
            out.kind = Json::Kind::array;
            if (!take(']')) {
                do {
                    out.array.push_back(value(depth + 1));
                } while (take(','));
                expect(']');
            }
        } else if (c == '"') {
            out.kind = Json::Kind::string;
            out.string = string();
        } else if (word("true")) {
            out.kind = Json::Kind::boolean;
            out.boolean = true;
        } else if (word("false")) {
            out.kind = Json::Kind::boolean;
        } else if (!word("null")) {
            out.kind = Json::Kind::number;
            out.number = number();
        }
        return out;
    }

    double number() {
        const size_t begin = at_;
        while (at_ < text_.size() && std::strchr("+-.eE0123456789", text_[at_]) &&
               text_[at_] != '\0') {
            at_++;
        }
        // Not strtod: the host program may have set a locale with a decimal comma.
        std::istringstream stream(text_.substr(begin, at_ - begin));
        stream.imbue(std::locale::classic());
        double value = 0;
        if (begin == at_ || !(stream >> value) || stream.peek() != EOF) {
            at_ = begin;
            fail("expected a value");
        }
        return value;
    }

    uint32_t hex4() {
        uint32_t value = 0;
        for (int i = 0; i < 4; i++, at_++) {
            if (at_ >= text_.size()) {
                fail("unexpected end");
            }
            const char c = text_[at_];
            const char *digits = "0123456789abcdef";
            const char lower = c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
            const char *found = lower == '\0' ? nullptr : std::strchr(digits, lower);
            if (!found) {
                fail("bad \\u escape");
            }
            value = value * 16 + static_cast<uint32_t>(found - digits);
        }
        return value;
    }

    void utf8(std::string &out, uint32_t c) {
        if (c < 0x80) {
            out += static_cast<char>(c);
        } else if (c < 0x800) {
            out += static_cast<char>(0xc0 | c >> 6);
            out += static_cast<char>(0x80 | (c & 0x3f));
        } else if (c < 0x10000) {
            out += static_cast<char>(0xe0 | c >> 12);
            out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
            out += static_cast<char>(0x80 | (c & 0x3f));
        } else {
            out += static_cast<char>(0xf0 | c >> 18);
            out += static_cast<char>(0x80 | (c >> 12 & 0x3f));
            out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
            out += static_cast<char>(0x80 | (c & 0x3f));
        }
    }

    std::string string() {
        at_++; // the quote
        std::string out;
        while (true) {
            if (at_ >= text_.size()) {
                fail("a string without an end");
            }
            const char c = text_[at_++];
            if (c == '"') {
                return out;
            }
            if (static_cast<unsigned char>(c) < 0x20) {
                fail("a control character in a string");
            }
            if (c != '\\') {
                out += c;
                continue;
            }
            if (at_ >= text_.size()) {
                fail("a string without an end");
            }
            const char e = text_[at_++];
            switch (e) {
            case '"':
            case '\\':
            case '/':
                out += e;
                break;
            case 'b':
                out += '\b';
                break;
            case 'f':
                out += '\f';
                break;
            case 'n':
                out += '\n';
                break;
            case 'r':
                out += '\r';
                break;
            case 't':
                out += '\t';
                break;
            case 'u': {
                uint32_t code = hex4();
                if (code >= 0xd800 && code < 0xdc00 && text_.compare(at_, 2, "\\u") == 0) {
                    at_ += 2;
                    code = 0x10000 + ((code - 0xd800) << 10) + ((hex4() - 0xdc00) & 0x3ff);
                }
                utf8(out, code);
                break;
            }
            default:
                fail("an unknown escape");
            }
        }
    }

    const std::string &text_;
    size_t at_ = 0;
};

} // namespace

const Json *Json::find(const std::string &key) const {
    const auto at = object.find(key);
    return at == object.end() ? nullptr : &at->second;
}

Json parse_json(const std::string &text) {
    return Parser(text).document();
}

} // namespace tds
