// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Deflate backwards: two bytes of length, then the stream.
#include "session/inflate.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Bytes bytes(data, size);
    const auto length = static_cast<uint64_t>(bytes.number(2) & 0xffff);
    const std::string packed = bytes.rest();
    std::string out;
    const bool good = tds::inflate(packed, length, out);
    REQUIRE(out.size() <= length);
    REQUIRE(!good || out.size() == length);
    return 0;
}
