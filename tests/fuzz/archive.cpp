// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A model file of any bytes: the zip archive, its directory, its checksums, deflate.
#include "model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    parse_or_refuse(std::string(reinterpret_cast<const char *>(data), size));
    return 0;
}
