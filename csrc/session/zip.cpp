// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/zip.h"

#include "session/inflate.h"

#include <array>

namespace tds {
namespace {

constexpr uint64_t kEndSize = 22; // of the end record without its comment
constexpr uint64_t kEndLocatorSize = 20;
constexpr uint64_t kEnd64Size = 56;
constexpr uint64_t kDirectorySize = 46; // of a directory entry without its names
constexpr uint64_t kLocalSize = 30;     // of an entry's own header, likewise
// Tensors are stored; what is deflated is code, of which a large model has some MB. Deflate stands
// for a thousand times its size, and what claims more than this is no model.
constexpr uint64_t kMostDeflated = uint64_t{64} << 20;

// Eight tables, so that eight bytes take one step: the weights of a model are megabytes.
std::array<std::array<uint32_t, 256>, 8> crc_tables() {
    std::array<std::array<uint32_t, 256>, 8> tables{};
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) {
            value = value >> 1 ^ (value & 1 ? 0xedb88320U : 0);
        }
        tables[0][i] = value;
    }
    for (size_t t = 1; t < tables.size(); t++) {
        for (size_t i = 0; i < 256; i++) {
            const uint32_t before = tables[t - 1][i];
            tables[t][i] = before >> 8 ^ tables[0][before & 0xff];
        }
    }
    return tables;
}

} // namespace

bool read(const Zip::Entry &entry, std::string &out) {
    out.clear();
    if (!entry.deflated) {
        out = entry.stored;
        return true;
    }
    return inflate(entry.stored, entry.size, out);
}

bool intact(const Zip::Entry &entry) {
    if (!entry.deflated) {
        return crc32(entry.stored) == entry.crc;
    }
    std::string data;
    return read(entry, data) && crc32(data) == entry.crc;
}

uint32_t crc32(std::string_view data) {
    static const auto tables = crc_tables();
    uint32_t crc = 0xffffffff;
    const auto *at = reinterpret_cast<const uint8_t *>(data.data());
    size_t left = data.size();
    for (; left >= 8; left -= 8, at += 8) {
        uint32_t sum = 0;
        for (size_t i = 0; i < 8; i++) {
            const uint8_t byte = i < 4 ? static_cast<uint8_t>(at[i] ^ (crc >> (8 * i))) : at[i];
            sum ^= tables[7 - i][byte];
        }
        crc = sum;
    }
    for (; left > 0; left--, at++) {
        crc = crc >> 8 ^ tables[0][(crc ^ *at) & 0xff];
    }
    return ~crc;
}

bool Zip::fits(uint64_t at, uint64_t size) const {
    return at <= archive_.size() && size <= archive_.size() - at;
}

uint64_t Zip::number(uint64_t at, int bytes) const {
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--) {
        value = value << 8 | static_cast<uint8_t>(archive_[at + static_cast<uint64_t>(i)]);
    }
    return value;
}

// The end record is last, before a comment of at most 65535 bytes.
bool Zip::find_directory(uint64_t &at, uint64_t &count) const {
    if (archive_.size() < kEndSize) {
        return false;
    }
    uint64_t end = archive_.size() - kEndSize;
    const uint64_t stop = end > 65535 ? end - 65535 : 0;
    while (number(end, 4) != 0x06054b50) {
        if (end == stop) {
            return false;
        }
        end--;
    }
    count = number(end + 10, 2);
    at = number(end + 16, 4);
    if (end >= kEndLocatorSize && number(end - kEndLocatorSize, 4) == 0x07064b50) {
        const uint64_t end64 = number(end - kEndLocatorSize + 8, 8);
        if (!fits(end64, kEnd64Size) || number(end64, 4) != 0x06064b50) {
            return false;
        }
        count = number(end64 + 32, 8);
        at = number(end64 + 48, 8);
    }
    return true;
}

// The directory entry at `at`, which then is behind it.
bool Zip::read_entry(uint64_t &at) {
    if (!fits(at, kDirectorySize) || number(at, 4) != 0x02014b50) {
        return false;
    }
    const uint64_t method = number(at + 10, 2);
    const auto crc = static_cast<uint32_t>(number(at + 16, 4));
    uint64_t packed = number(at + 20, 4);
    uint64_t size = number(at + 24, 4);
    const uint64_t name = number(at + 28, 2);
    const uint64_t extra = number(at + 30, 2);
    const uint64_t comment = number(at + 32, 2);
    uint64_t local = number(at + 42, 4);
    const uint64_t next = at + kDirectorySize + name + extra + comment;
    if (!fits(at, next - at)) {
        return false;
    }
    // The 64-bit values of the extra field 0x0001 stand in for those that are all ones.
    const uint64_t extra_end = at + kDirectorySize + name + extra;
    for (uint64_t field = extra_end - extra; field + 4 <= extra_end;) {
        const uint64_t id = number(field, 2);
        uint64_t value_at = field + 4;
        field = value_at + number(field + 2, 2);
        if (id != 1 || field > extra_end) {
            continue;
        }
        for (uint64_t *value : {&size, &packed, &local}) {
            if (*value == 0xffffffff && value_at + 8 <= field) {
                *value = number(value_at, 8);
                value_at += 8;
            }
        }
    }
    const bool deflated = method == 8;
    if ((method != 0 && !deflated) || (deflated ? size > kMostDeflated : packed != size) ||
        !fits(local, kLocalSize) || number(local, 4) != 0x04034b50) {
        return false;
    }
    const uint64_t begin = local + kLocalSize + number(local + 26, 2) + number(local + 28, 2);
    if (!fits(begin, packed)) {
        return false;
    }
    entries_.push_back({std::string(archive_.substr(at + kDirectorySize, name)),
                        archive_.substr(begin, packed), size, crc, deflated});
    at = next;
    return true;
}

bool Zip::open(std::string_view archive) {
    archive_ = archive;
    entries_.clear();
    uint64_t at = 0;
    uint64_t count = 0;
    if (!find_directory(at, count)) {
        return false;
    }
    for (uint64_t i = 0; i < count; i++) {
        if (!read_entry(at)) {
            return false;
        }
    }
    return true;
}

} // namespace tds
