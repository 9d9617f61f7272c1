// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/support.h"

#include <cstdio>

namespace {

void put(std::string &out, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) {
        out += static_cast<char>(value >> (8 * i) & 0xff);
    }
}

uint32_t checksum(const std::string &data) {
    uint32_t crc = 0xffffffff;
    for (const char c : data) {
        crc ^= static_cast<uint8_t>(c);
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
        }
    }
    return ~crc;
}

} // namespace

std::string zip_archive(const std::vector<std::pair<std::string, std::string>> &entries) {
    std::string out;
    std::string directory;
    for (const auto &[name, data] : entries) {
        const size_t offset = out.size();
        std::string common; // from "version needed" to the length of the extra field
        put(common, 20, 2);
        put(common, 0, 2);
        put(common, 0, 2); // stored
        put(common, 0, 4);
        put(common, checksum(data), 4);
        put(common, data.size(), 4);
        put(common, data.size(), 4);
        put(common, name.size(), 2);
        put(common, 0, 2);
        put(out, 0x04034b50, 4);
        out += common + name + data;
        put(directory, 0x02014b50, 4);
        put(directory, 20, 2);
        directory += common;
        put(directory, 0, 2);
        put(directory, 0, 2);
        put(directory, 0, 2);
        put(directory, 0, 4);
        put(directory, offset, 4);
        directory += name;
    }
    const size_t start = out.size();
    out += directory;
    put(out, 0x06054b50, 4);
    put(out, 0, 4);
    put(out, entries.size(), 2);
    put(out, entries.size(), 2);
    put(out, directory.size(), 4);
    put(out, start, 4);
    put(out, 0, 2);
    return out;
}

std::string write_file(const std::string &name, const std::string &data) {
    const std::string path = std::string(TEST_FOLDER) + "/" + name;
    FILE *file = std::fopen(path.c_str(), "wb");
    CHECK(file != nullptr);
    CHECK_EQ(std::fwrite(data.data(), 1, data.size(), file), data.size());
    CHECK_EQ(std::fclose(file), 0);
    return path;
}

namespace {

std::string model_with(const std::string &name, const std::string &json) {
    return write_file(name, zip_archive({{"m/constants.pkl", kEmptyPickle},
                                         {"m/code/a.py", "x"},
                                         {"m/extra/tds.json", json}}));
}

} // namespace

std::string model_file(const std::string &name, int scale, bool no_reference) {
    return model_with(name,
                      "{\"tds_model\": 1, \"name\": \"empty\", \"version\": \"1\", \"scale\": " +
                          std::to_string(scale) +
                          ", \"no_reference\": " + (no_reference ? "true" : "false") + "}");
}

std::string model_file_2(const std::string &name, int scale, const std::string &slots) {
    return model_with(name,
                      "{\"tds_model\": 2, \"name\": \"empty\", \"version\": \"1\", \"scale\": " +
                          std::to_string(scale) + ", \"references\": [" + slots + "]}");
}
