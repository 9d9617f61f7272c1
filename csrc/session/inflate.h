// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Deflate (RFC 1951) backwards, for the few kB of code in a model file: simple rather than
// fast, so that libtds needs no compression library. Made for data of any origin.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tds {

// Puts what `packed` stands for into `out`, which must be empty. False when it is no deflate
// stream or does not stand for exactly `size` bytes; never writes more than those.
bool inflate(std::string_view packed, uint64_t size, std::string &out);

} // namespace tds
