// SPDX-License-Identifier: LGPL-2.1-or-later
#include "window/scene_cut.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace tds {
namespace {

constexpr int32_t kColumns = 32;
constexpr int32_t kRows = 18;
constexpr float kLarge = 20.0F;   // codes
constexpr float kMoreThan = 1.5F; // times the difference before

template <typename T> Thumbnail means(const tds_picture &p, float scale) {
    Thumbnail out{};
    const auto edge = [](int32_t size, int32_t parts, int32_t i) {
        return static_cast<int32_t>(static_cast<int64_t>(size) * i / parts);
    };
    size_t cell = 0;
    for (int32_t r = 0; r < kRows; r++) {
        // A picture lower or narrower than the grid has cells that share samples.
        const int32_t top = edge(p.height, kRows, r);
        const int32_t bottom = std::max(edge(p.height, kRows, r + 1), top + 1);
        for (int32_t c = 0; c < kColumns; c++) {
            const int32_t left = edge(p.width, kColumns, c);
            const int32_t right = std::max(edge(p.width, kColumns, c + 1), left + 1);
            uint64_t sum = 0;
            for (int32_t y = top; y < bottom; y++) {
                const auto *row = reinterpret_cast<const T *>(
                    static_cast<const uint8_t *>(p.data[0]) + y * p.stride[0]);
                uint32_t of_row = 0; // at most 512 samples of 16 bits
                for (int32_t x = left; x < right; x++) {
                    of_row += row[x];
                }
                sum += of_row;
            }
            const auto samples = static_cast<float>((right - left) * (bottom - top));
            out[cell++] = static_cast<float>(sum) / samples * scale;
        }
    }
    return out;
}

} // namespace

Thumbnail thumbnail(const tds_picture &picture) {
    if (picture.bit_depth == 8) {
        return means<uint8_t>(picture, 1.0F);
    }
    const int high = picture.layout == TDS_LAYOUT_SEMIPLANAR ? 16 : picture.bit_depth;
    return means<uint16_t>(picture, 1.0F / static_cast<float>(1 << (high - 8)));
}

bool SceneCuts::between(const Thumbnail &before, const Thumbnail &after) {
    float difference = 0.0F;
    for (size_t i = 0; i < before.size(); i++) {
        difference += std::fabs(before[i] - after[i]);
    }
    difference /= static_cast<float>(before.size());
    if (difference > kLarge && difference > kMoreThan * motion_) {
        return true;
    }
    motion_ = difference;
    return false;
}

} // namespace tds
