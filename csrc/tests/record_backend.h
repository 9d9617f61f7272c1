// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "backends/backend.h"

#include <string>
#include <vector>

// What the backend "record" was asked for. A model of contract 1:
//
//     "P0 P4 E2(0,4@0.50)k E1(0,2@0.50)+3(2,4@0.50) "
//
// prepared, then made, from which references and where between them; k: kept. One of
// contract 2: "E2(0-2,4+2) ", with the distances; a slot that is not present is "-". A
// strength below 1 follows as "*0.50", and "h" (P0h) a picture that is already enhanced.
struct Record {
    std::string log;
    int handles = 0;                      // that live
    int failures = 0;                     // calls of enhance that are to fail
    std::vector<std::vector<float>> side; // of the last job
};
using RecordFunction = Record *(*)();
