// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What is done before the first picture: settings are checked, models read, backends opened.
#pragma once

#include "session/engine.h"
#include "session/model_file.h"

#include <memory>
#include <string>

namespace tds {

// Throws Error unless a session can have these settings.
void check_settings(const tds_settings &settings);

// One opened backend with its model, if it has one.
struct Opened {
    std::unique_ptr<Engine> engine;
    std::string name, sha256; // "" without a model
    int32_t contract = 0;     // 0 without a model
    std::vector<Slot> references;
    bool recurrence = false;
};

// For full-size targets (of a plain stream, or the HR pictures of a pair), or for LR targets.
// `settings` is checked and has a log.
Opened open_model(const tds_settings &settings, bool full);

} // namespace tds
