// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Model files as docs/model.md describes them, read without torch: nothing in
// them is run here.
#pragma once

#include "window/slot.h"

#include <cstdint>
#include <string>
#include <vector>

namespace tds {

struct ModelFile {
    std::string path;
    std::vector<char> data;
    std::string json; // tds.json as it stands in the file

    std::string name, version;
    std::string torch;    // the version that made it; "" when the file does not say
    int32_t contract = 0; // 1 or 2
    int32_t scale = 0;
    std::vector<int32_t> bit_depths{8};
    int32_t alignment = 0;
    bool features = false;
    bool no_reference = false;
    std::vector<Slot> references{{0, false}, {0, true}};
    bool recurrence = false; // contract 2: pairs go by the recurrence
    int32_t halo = 64;
    std::string cuda_precision = "float32";
    std::string cpu_precision = "float32";
};

// Reads the whole file into memory, so that what was checked is what is run.
// Throws Error (TDS_ERROR_MODEL), naming the file.
std::vector<char> read_model_bytes(const std::string &path);

// Fills `json` and what follows it from `data`.
ModelFile parse_model(const std::string &path, std::vector<char> data);

} // namespace tds
