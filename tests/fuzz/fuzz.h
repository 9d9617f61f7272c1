// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the fuzz targets share: bytes read as a program, and statements that end the process where
// they do not hold. Each NAME.cpp is one target, as OSS-Fuzz has them: LLVMFuzzerTestOneInput, and
// nothing that remembers the input before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Not assert(): release builds are fuzzed too.
#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);         \
            std::abort();                                                                          \
        }                                                                                          \
    } while (false)

// Gives the input a byte at a time, and zeros after its end.
class Bytes {
  public:
    Bytes(const uint8_t *data, size_t size) : at_(data), end_(data + size) {}
    bool empty() const { return at_ == end_; }
    size_t left() const { return static_cast<size_t>(end_ - at_); }
    uint8_t next() { return empty() ? uint8_t{0} : *at_++; }
    int64_t number(int bytes) { // little-endian, with a sign
        uint64_t value = 0;
        for (int i = 0; i < bytes; i++) {
            value |= static_cast<uint64_t>(next()) << (8 * i);
        }
        const int unused = 64 - 8 * bytes;
        return static_cast<int64_t>(value << unused) >> unused;
    }
    std::string rest() {
        std::string out(reinterpret_cast<const char *>(at_), left());
        at_ = end_;
        return out;
    }

  private:
    const uint8_t *at_, *end_;
};
