// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The pickles of a model, whose tensors must lie within their records.
#include "model.h"
#include "tests/support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const std::string pickle(reinterpret_cast<const char *>(data), size);
    parse_or_refuse(zip_archive(
        {{"m/data.pkl", pickle},
         {"m/data/0", std::string(64, 'x')},
         {"m/data/1", ""},
         {"m/constants.pkl", kEmptyPickle},
         {"m/code/a.py", "x"},
         {"m/extra/tds.json", R"({"tds_model":1,"name":"m","version":"1","scale":2})"}}));
    return 0;
}
