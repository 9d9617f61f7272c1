// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Samples: who owns them, where they lie, how they are copied.
#pragma once

#include "tds/tds.h"

#include <memory>
#include <string>

namespace tds {

inline int32_t bytes_per_sample(const tds_picture &p) {
    return p.bit_depth > 8 ? 2 : 1;
}
inline int plane_count(const tds_picture &p) {
    return p.layout == TDS_LAYOUT_SEMIPLANAR ? 2 : 3;
}
// Columns and rows of luma that share a chroma sample, as shifts.
inline int chroma_across(tds_chroma chroma) {
    return chroma == TDS_CHROMA_444 ? 0 : 1;
}
inline int chroma_down(tds_chroma chroma) {
    return chroma == TDS_CHROMA_420 ? 1 : 0;
}
// "4:2:0"
const char *chroma_name(tds_chroma chroma);
// Bytes in a row of a plane, and rows in it.
size_t row_bytes(const tds_picture &p, int plane);
int32_t plane_rows(const tds_picture &p, int plane);

// Samples with their owner; release(owner) is called once, when the session
// and the caller have both let go.
class Frame {
  public:
    explicit Frame(const tds_picture &picture) : picture_(picture) {}
    ~Frame() {
        if (picture_.release) {
            picture_.release(picture_.owner);
        }
    }
    Frame(const Frame &) = delete;
    Frame &operator=(const Frame &) = delete;
    const tds_picture &picture() const { return picture_; }
    // The picture as the caller's, who ends it; the frame is empty then.
    tds_picture give() {
        tds_picture out = picture_;
        tds_picture_init(&picture_);
        return out;
    }

  private:
    tds_picture picture_;
};
using FramePtr = std::shared_ptr<Frame>;

// The frame's samples as an output picture whose `owner` is the sender's, while
// the session may go on using the frame.
tds_picture share(const FramePtr &frame);

// Host samples that are used again when a picture is released. Pictures may
// outlive the pool's session.
class Pool {
  public:
    Pool();
    ~Pool();
    // Fills data, stride, owner and release; throws Error. first_plane: those before it stay.
    void allocate(tds_picture &picture, int first_plane = 0);

  private:
    struct Shared;
    struct Block;
    std::shared_ptr<Shared> shared_;
    static void give_back(void *owner);
};

// Throws Error unless the picture's planes can be read as `width` x `height`.
void validate(const tds_picture &picture, const char *role, int32_t width, int32_t height,
              int32_t bit_depth, tds_chroma chroma);

// Copies samples between host pictures of one size and depth, whatever their layouts.
void copy_host(const tds_picture &from, tds_picture &to);

// Black, limited range.
void fill_black(tds_picture &picture);

} // namespace tds
