// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A model's tds.json, in an archive that is otherwise whole.
#include "model.h"
#include "tests/support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    parse_or_refuse(zip_archive(
        {{"m/constants.pkl", kEmptyPickle},
         {"m/code/a.py", "x"},
         {"m/extra/tds.json", std::string(reinterpret_cast<const char *>(data), size)}}));
    return 0;
}
