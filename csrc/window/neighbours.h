// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The window of models of contract 2: pictures of both streams, or of a plain one, each from
// what is around it.
#pragma once

#include "window/neighbourhood.h"
#include "window/window.h"

namespace tds {

class Neighbours : public Window {
  public:
    using Model = Neighbourhood::Model;
    using Settings = Neighbourhood::Settings;
    explicit Neighbours(Settings settings);

    bool takes(tds_role role, bool lost) const override;
    bool ready() const override;
    Group plan() override;
    unsigned wants() const override;
    // Plain: the most pictures that must be sent after one before it comes out.
    int32_t latency() const;

  private:
    void advance() override;
    size_t gathered() const; // targets that plan() waits for

    Settings settings_;
    Neighbourhood around_;
    Group resolved_; // what plan() gives next
};

} // namespace tds
