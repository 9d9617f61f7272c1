// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/inflate.h"

#include <array>
#include <cstddef>

namespace tds {
namespace {

// The codes of one alphabet: how many there are of each length, and the symbols in their order.
struct Codes {
    std::array<uint16_t, 16> count{};
    std::array<uint16_t, 288> symbol{};

    // False when the lengths are of no prefix code. One that leaves codes unused is taken:
    // RFC 1951 allows it for a single distance, and reading one of those fails.
    bool build(const uint8_t *lengths, size_t n) {
        count.fill(0);
        for (size_t i = 0; i < n; i++) {
            count[lengths[i]]++;
        }
        int left = 1;
        std::array<uint16_t, 16> offset{};
        for (size_t length = 1; length < 16; length++) {
            left = 2 * left - count[length];
            if (left < 0) {
                return false;
            }
            offset[length] =
                length > 1 ? static_cast<uint16_t>(offset[length - 1] + count[length - 1]) : 0;
        }
        for (size_t i = 0; i < n; i++) {
            if (lengths[i] != 0) {
                symbol[offset[lengths[i]]++] = static_cast<uint16_t>(i);
            }
        }
        return true;
    }
};

class Inflate {
  public:
    // Gives at most `size` bytes.
    Inflate(std::string_view in, uint64_t size, std::string &out)
        : in_(in), size_(size), out_(out) {}

    bool run() {
        bool last = false;
        while (!last && good_) {
            last = bits(1) != 0;
            switch (bits(2)) {
            case 0:
                stored();
                break;
            case 1:
                fixed();
                break;
            case 2:
                dynamic();
                break;
            default:
                good_ = false;
            }
        }
        return good_ && out_.size() == size_;
    }

  private:
    uint32_t bits(int count) {
        while (held_ < count) {
            if (at_ >= in_.size()) {
                good_ = false;
                return 0;
            }
            buffer_ |= static_cast<uint32_t>(static_cast<uint8_t>(in_[at_++])) << held_;
            held_ += 8;
        }
        const uint32_t value = buffer_ & ((1U << count) - 1);
        buffer_ >>= count;
        held_ -= count;
        return value;
    }

    int symbol(const Codes &codes) {
        int code = 0;
        int first = 0;
        int index = 0;
        for (size_t length = 1; length < 16 && good_; length++) {
            code |= static_cast<int>(bits(1));
            const int count = codes.count[length];
            if (code - count < first) {
                return codes.symbol[static_cast<size_t>(index + code - first)];
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        good_ = false;
        return 0;
    }

    void stored() {
        buffer_ = 0;
        held_ = 0;
        const uint32_t length = bits(16);
        const uint32_t inverse = bits(16);
        if (!good_ || (length ^ inverse) != 0xffff || length > in_.size() - at_ ||
            length > size_ - out_.size()) {
            good_ = false;
            return;
        }
        out_.append(in_.substr(at_, length));
        at_ += length;
    }

    void fixed() {
        std::array<uint8_t, 288> lengths{};
        for (size_t i = 0; i < lengths.size(); i++) {
            lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
        }
        std::array<uint8_t, 30> distances{};
        distances.fill(5);
        Codes literals;
        Codes steps;
        good_ = literals.build(lengths.data(), lengths.size()) &&
                steps.build(distances.data(), distances.size());
        block(literals, steps);
    }

    void dynamic() {
        constexpr std::array<uint8_t, 19> order{16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                                11, 4,  12, 3, 13, 2, 14, 1, 15};
        const size_t literal_count = bits(5) + 257;
        const size_t step_count = bits(5) + 1;
        const size_t order_count = bits(4) + 4;
        std::array<uint8_t, 286 + 30> lengths{};
        for (size_t i = 0; i < order_count; i++) {
            lengths[order[i]] = static_cast<uint8_t>(bits(3));
        }
        Codes codes;
        if (literal_count > 286 || step_count > 30 || !codes.build(lengths.data(), order.size())) {
            good_ = false;
        }
        lengths.fill(0);
        for (size_t i = 0; good_ && i < literal_count + step_count;) {
            const int what = symbol(codes);
            if (what < 16) {
                lengths[i++] = static_cast<uint8_t>(what);
                continue;
            }
            const uint8_t value = what == 16 && i > 0 ? lengths[i - 1] : 0;
            size_t times = what == 16 ? 3 + bits(2) : what == 17 ? 3 + bits(3) : 11 + bits(7);
            if ((what == 16 && i == 0) || times > literal_count + step_count - i) {
                good_ = false;
                return;
            }
            for (; times > 0; times--) {
                lengths[i++] = value;
            }
        }
        Codes literals;
        Codes steps;
        if (!good_ || !literals.build(lengths.data(), literal_count) ||
            !steps.build(lengths.data() + literal_count, step_count)) {
            good_ = false;
            return;
        }
        block(literals, steps);
    }

    void block(const Codes &literals, const Codes &steps) {
        static constexpr std::array<uint16_t, 29> length_base{
            3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
            31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
        static constexpr std::array<uint8_t, 29> length_bits{
            0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
        static constexpr std::array<uint16_t, 30> step_base{
            1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
            193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
        while (good_) {
            const int what = symbol(literals);
            if (!good_ || what == 256) {
                return;
            }
            if (what < 256) {
                if (out_.size() == size_) {
                    good_ = false;
                    return;
                }
                out_ += static_cast<char>(what);
                continue;
            }
            const auto l = static_cast<size_t>(what - 257);
            if (l >= length_base.size()) {
                good_ = false;
                return;
            }
            const size_t length = length_base[l] + bits(length_bits[l]);
            const auto s = static_cast<size_t>(symbol(steps));
            if (!good_ || s >= step_base.size()) {
                good_ = false;
                return;
            }
            const size_t back = step_base[s] + bits(s < 2 ? 0 : static_cast<int>(s / 2 - 1));
            if (!good_ || back > out_.size() || length > size_ - out_.size()) {
                good_ = false;
                return;
            }
            for (size_t i = 0; i < length; i++) { // the two may overlap
                out_ += out_[out_.size() - back];
            }
        }
    }

    std::string_view in_;
    size_t at_ = 0;
    uint32_t buffer_ = 0;
    int held_ = 0;
    uint64_t size_;
    std::string &out_;
    bool good_ = true;
};

} // namespace

bool inflate(std::string_view packed, uint64_t size, std::string &out) {
    return Inflate(packed, size, out).run();
}

} // namespace tds
