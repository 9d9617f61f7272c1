// SPDX-License-Identifier: LGPL-2.1-or-later
//
// SHA-256 (FIPS 180-4), so that libtds needs no cryptography library for the
// one hash it checks.
#pragma once

#include <cstddef>
#include <string>

namespace tds {

// 64 lower-case hex digits.
std::string sha256_hex(const void *data, size_t size);

} // namespace tds
