// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "fuzz.h"
#include "session/error.h"
#include "session/model_file.h"

#include <string>
#include <vector>

// A model file is read, or refused in one sentence that names it.
inline void parse_or_refuse(const std::string &archive) {
    try {
        const tds::ModelFile model =
            tds::parse_model("m.pt", std::vector<char>(archive.begin(), archive.end()));
        REQUIRE(model.contract == 1 || model.contract == 2);
        REQUIRE(model.scale == 1 || model.scale == 2 || model.scale == 4);
        REQUIRE(model.alignment > 0 && model.alignment % (2 * model.scale) == 0);
        REQUIRE(!model.references.empty() && model.references.size() <= TDS_MAX_REFERENCES);
        REQUIRE(!model.name.empty() && !model.version.empty());
    } catch (const tds::Error &error) {
        const std::string said = error.what();
        REQUIRE(error.code() == TDS_ERROR_MODEL);
        REQUIRE(said.compare(0, 17, "model file m.pt: ") == 0);
    }
}
