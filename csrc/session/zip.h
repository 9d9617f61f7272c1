// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A zip archive (APPNOTE.TXT, PKWARE) in memory, as torch writes them: tensors stored, code
// deflated, mostly with 64-bit records. Made for files of any origin: whatever the bytes,
// nothing outside them is read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tds {

class Zip {
  public:
    struct Entry {
        std::string name;
        std::string_view stored; // the bytes in the file
        uint64_t size;           // of what they stand for
        uint32_t crc;            // of that, says the directory
        bool deflated;
    };

    // `archive` must outlive this. False when it is no zip archive or is cut.
    bool open(std::string_view archive);

    const std::vector<Entry> &entries() const { return entries_; }

  private:
    bool fits(uint64_t at, uint64_t size) const;
    uint64_t number(uint64_t at, int bytes) const;
    bool find_directory(uint64_t &at, uint64_t &count) const;
    bool read_entry(uint64_t &at);

    std::string_view archive_;
    std::vector<Entry> entries_;
};

// What an entry stands for. False when it is damaged: `out` is then of no use.
bool read(const Zip::Entry &entry, std::string &out);

// Whether an entry stands for what its checksum is of.
bool intact(const Zip::Entry &entry);

// CRC-32 as zip has it (polynomial 0xEDB88320).
uint32_t crc32(std::string_view data);

} // namespace tds
