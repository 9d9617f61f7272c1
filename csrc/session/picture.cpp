// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/picture.h"

#include "session/error.h"

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

namespace tds {

size_t row_bytes(const tds_picture &p, int plane) {
    const bool full = plane == 0 || p.layout == TDS_LAYOUT_SEMIPLANAR;
    return static_cast<size_t>(full ? p.width : p.width >> chroma_across(p.chroma)) *
           static_cast<size_t>(bytes_per_sample(p));
}

int32_t plane_rows(const tds_picture &p, int plane) {
    return plane == 0 ? p.height : p.height >> chroma_down(p.chroma);
}

const char *chroma_name(tds_chroma chroma) {
    return chroma == TDS_CHROMA_420 ? "4:2:0" : chroma == TDS_CHROMA_422 ? "4:2:2" : "4:4:4";
}

// ------------------------------------------------------------- sharing --

namespace {

// Frames whose planes a caller holds. The header promises that `owner` of a
// passed picture is the sender's own pointer, so it cannot also carry a count:
// the frame is found by it. One pointer may stand here more than once (a sender
// that sends one buffer twice); any of its entries will do then, since each
// stands for one call of the same release.
class Outstanding {
  public:
    void add(const FramePtr &frame) {
        const std::lock_guard<std::mutex> lock(mutex_);
        frames_.emplace(frame->picture().owner, frame);
    }
    // Given back, not let go here: release is the caller's code, not for under a lock.
    FramePtr take(void *owner) {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto at = frames_.find(owner);
        if (at == frames_.end()) {
            return nullptr;
        }
        FramePtr frame = std::move(at->second);
        frames_.erase(at);
        return frame;
    }

  private:
    std::mutex mutex_;
    std::unordered_multimap<void *, FramePtr> frames_;
};

// Never destroyed: pictures may be released while the process ends.
Outstanding &outstanding() {
    static auto *all = new Outstanding;
    return *all;
}

void release_shared(void *owner) {
    outstanding().take(owner).reset();
}

} // namespace

tds_picture share(const FramePtr &frame) {
    tds_picture out = frame->picture();
    outstanding().add(frame);
    out.release = release_shared;
    return out;
}

// ---------------------------------------------------------------- pool --

struct Pool::Block {
    std::shared_ptr<Shared> pool;
    size_t size;
    void *memory;
};

struct Pool::Shared {
    std::mutex mutex;
    std::vector<Block *> free;
    bool closed = false;
};

Pool::Pool() : shared_(std::make_shared<Shared>()) {}

Pool::~Pool() {
    std::vector<Block *> blocks;
    {
        const std::lock_guard<std::mutex> lock(shared_->mutex);
        shared_->closed = true;
        blocks.swap(shared_->free);
    }
    for (Block *block : blocks) {
        std::free(block->memory);
        delete block;
    }
}

void Pool::give_back(void *owner) {
    auto *block = static_cast<Block *>(owner);
    const std::shared_ptr<Shared> shared = std::move(block->pool);
    {
        // A few blocks are enough: a caller that lets go of many at once does
        // not want them kept.
        constexpr size_t keep = 8;
        const std::lock_guard<std::mutex> lock(shared->mutex);
        if (!shared->closed && shared->free.size() < keep) {
            shared->free.push_back(block);
            return;
        }
    }
    std::free(block->memory);
    delete block;
}

void Pool::allocate(tds_picture &picture, int first_plane) {
    constexpr size_t align = 64;
    size_t offset[3] = {0, 0, 0};
    size_t size = 0;
    for (int i = first_plane; i < plane_count(picture); i++) {
        const size_t stride = (row_bytes(picture, i) + align - 1) / align * align;
        picture.stride[i] = static_cast<ptrdiff_t>(stride);
        offset[i] = size;
        size += stride * static_cast<size_t>(plane_rows(picture, i));
    }
    Block *block = nullptr;
    {
        const std::lock_guard<std::mutex> lock(shared_->mutex);
        for (size_t i = 0; i < shared_->free.size(); i++) {
            if (shared_->free[i]->size == size) {
                block = shared_->free[i];
                shared_->free.erase(shared_->free.begin() + static_cast<ptrdiff_t>(i));
                break;
            }
        }
    }
    if (!block) {
        void *memory = std::aligned_alloc(align, size);
        if (!memory) {
            throw Error(TDS_ERROR_MEMORY, "out of memory: a picture of " +
                                              std::to_string(picture.width) + "x" +
                                              std::to_string(picture.height) + " needs " +
                                              std::to_string(size) + " bytes");
        }
        block = new Block{nullptr, size, memory};
    }
    block->pool = shared_;
    auto *base = static_cast<uint8_t *>(block->memory);
    for (int i = first_plane; i < 3; i++) {
        picture.data[i] = i < plane_count(picture) ? base + offset[i] : nullptr;
        if (i >= plane_count(picture)) {
            picture.stride[i] = 0;
        }
    }
    picture.owner = block;
    picture.release = give_back;
}

// ---------------------------------------------------------- validation --

void validate(const tds_picture &p, const char *role, int32_t width, int32_t height,
              int32_t bit_depth, tds_chroma chroma) {
    const std::string who = std::string(role) + " picture";
    if (p.pts == TDS_NO_PTS) {
        invalid(who + " without a time stamp: set pts, pairing is by time alone");
    }
    if (p.width != width || p.height != height) {
        invalid(who + " of " + std::to_string(p.width) + "x" + std::to_string(p.height) +
                ": this session takes " + std::to_string(width) + "x" + std::to_string(height));
    }
    if (p.bit_depth != bit_depth) {
        invalid(who + " of " + std::to_string(p.bit_depth) + " bits: this session takes " +
                std::to_string(bit_depth) + "-bit pictures");
    }
    if (p.layout != TDS_LAYOUT_PLANAR && p.layout != TDS_LAYOUT_SEMIPLANAR) {
        invalid(who + " with an unknown layout (" + std::to_string(static_cast<int>(p.layout)) +
                ")");
    }
    if (p.chroma != TDS_CHROMA_420 && p.chroma != TDS_CHROMA_422 && p.chroma != TDS_CHROMA_444) {
        invalid(who + " with an unknown chroma (" + std::to_string(static_cast<int>(p.chroma)) +
                ")");
    }
    if (p.chroma != chroma) {
        invalid(who + " of " + chroma_name(p.chroma) + ": this session takes " +
                chroma_name(chroma));
    }
    if (chroma != TDS_CHROMA_420 && p.layout != TDS_LAYOUT_PLANAR) {
        throw Error(TDS_ERROR_UNSUPPORTED,
                    who + " of semiplanar " + chroma_name(chroma) + ": make it planar");
    }
    if (p.memory != TDS_MEMORY_HOST && p.memory != TDS_MEMORY_CUDA) {
        invalid(who + " in an unknown kind of memory (" +
                std::to_string(static_cast<int>(p.memory)) + ")");
    }
    for (int i = 0; i < plane_count(p); i++) {
        if (!p.data[i]) {
            invalid(who + " without samples in plane " + std::to_string(i));
        }
        const auto bytes = static_cast<ptrdiff_t>(row_bytes(p, i));
        if (p.stride[i] < bytes && p.stride[i] > -bytes) {
            invalid(who + " with a stride of " + std::to_string(p.stride[i]) + " bytes in plane " +
                    std::to_string(i) + ": a row has " + std::to_string(bytes));
        }
        if (p.bit_depth > 8 &&
            (p.stride[i] % 2 != 0 || reinterpret_cast<uintptr_t>(p.data[i]) % 2 != 0)) {
            invalid(who + " with 16-bit samples that are not aligned to 2 bytes in plane " +
                    std::to_string(i));
        }
    }
}

// ------------------------------------------------------------- copying --

namespace {

uint8_t *row(const tds_picture &p, int plane, int32_t y) {
    return static_cast<uint8_t *>(p.data[plane]) + static_cast<ptrdiff_t>(y) * p.stride[plane];
}

// Between layouts: `shift` > 0 moves values up (planar to P010), < 0 down.
template <typename T> T shifted(T value, int shift) {
    return static_cast<T>(shift >= 0 ? value << shift : value >> -shift);
}

template <typename T> void convert(const tds_picture &from, tds_picture &to) {
    const bool split = from.layout == TDS_LAYOUT_SEMIPLANAR;
    const int bits = sizeof(T) == 1 ? 0 : 16 - from.bit_depth;
    const int shift = split ? -bits : bits;
    for (int32_t y = 0; y < from.height; y++) {
        const T *a = reinterpret_cast<const T *>(row(from, 0, y));
        T *b = reinterpret_cast<T *>(row(to, 0, y));
        for (int32_t x = 0; x < from.width; x++) {
            b[x] = shifted(a[x], shift);
        }
    }
    const tds_picture &semi = split ? from : to;
    const tds_picture &planar = split ? to : from;
    for (int32_t y = 0; y < from.height / 2; y++) {
        T *uv = reinterpret_cast<T *>(row(semi, 1, y));
        T *u = reinterpret_cast<T *>(row(planar, 1, y));
        T *v = reinterpret_cast<T *>(row(planar, 2, y));
        for (int32_t x = 0; x < from.width / 2; x++) {
            if (split) {
                u[x] = shifted(uv[2 * x], shift);
                v[x] = shifted(uv[2 * x + 1], shift);
            } else {
                uv[2 * x] = shifted(u[x], shift);
                uv[2 * x + 1] = shifted(v[x], shift);
            }
        }
    }
}

} // namespace

void copy_host(const tds_picture &from, tds_picture &to) {
    if (from.layout == to.layout) {
        for (int i = 0; i < plane_count(from); i++) {
            for (int32_t y = 0; y < plane_rows(from, i); y++) {
                std::memcpy(row(to, i, y), row(from, i, y), row_bytes(from, i));
            }
        }
    } else if (from.bit_depth > 8) {
        convert<uint16_t>(from, to);
    } else {
        convert<uint8_t>(from, to);
    }
}

void fill_black(tds_picture &p) {
    const int up = p.bit_depth > 8 && p.layout == TDS_LAYOUT_SEMIPLANAR ? 16 - p.bit_depth : 0;
    for (int i = 0; i < plane_count(p); i++) {
        const int value = (i == 0 ? 16 : 128) << (p.bit_depth - 8 + up);
        for (int32_t y = 0; y < plane_rows(p, i); y++) {
            uint8_t *out = row(p, i, y);
            if (p.bit_depth > 8) {
                for (size_t x = 0; x < row_bytes(p, i) / 2; x++) {
                    reinterpret_cast<uint16_t *>(out)[x] = static_cast<uint16_t>(value);
                }
            } else {
                std::memset(out, value, row_bytes(p, i));
            }
        }
    }
}

} // namespace tds
