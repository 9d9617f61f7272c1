// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "backends/backend.h"

#include <string>

// What the backend "record" was asked for: "R0 R4 E2(0,4@0.50)k E1(0,2@0.50)+3(2,4@0.50) ".
struct Record {
    std::string log;
    int handles = 0;  // references that live
    int failures = 0; // calls of enhance that are to fail
};
using RecordFunction = Record *(*)();
