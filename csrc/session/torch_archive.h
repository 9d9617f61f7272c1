// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The zip archive of a TorchScript model, checked before torch sees it: torch neither looks
// at the checksums nor whether a tensor's record is as long as the tensor.
#pragma once

#include "session/zip.h"

#include <string>
#include <string_view>

namespace tds {

class TorchArchive {
  public:
    // `data` must outlive this. Throws std::runtime_error with what is wrong with it, in words
    // that go on after "model file X: ".
    explicit TorchArchive(std::string_view data);

    // Record `name` of the archive's own folder; NULL when there is none.
    const Zip::Entry *find(const std::string &name) const;

    // Checks every record's checksum, and that every tensor lies within its record.
    // Throws as above.
    void check() const;

  private:
    void check_tensors(const std::string &pickle, const std::string &folder) const;

    Zip zip_;
    std::string folder_; // "name/"
};

} // namespace tds
