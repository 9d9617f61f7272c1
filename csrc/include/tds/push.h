/* SPDX-License-Identifier: 0BSD
 *
 * Permission to use, copy, modify, and/or distribute this software for any
 * purpose with or without fee is hereby granted. (This file alone: it is
 * compiled into decoders of other licences. The rest of TDS is LGPL.)
 *
 * THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES
 * WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF
 * MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY
 * SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES
 * WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION
 * OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN
 * CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
 *
 * Hands the pictures of a running decoder to a TDS enhancer in another process.
 *
 * A header and nothing else: C++11, POSIX sockets, no library to link and no
 * codec header included, so that a decoder patched to use it does not age with
 * it. `tds postdec` is the other end. docs/vtm.md describes the workflow.
 *
 * Use:
 *
 *     tds::PictureSender sender;
 *     sender.address = "fd:5";          // or "unix:/run/user/1000/tds.sock"; "": send nothing
 *     sender.role = "hr";               // or "lr"
 *     ...
 *     for every output picture, cropped, in output order:
 *         if (!sender.send(planes, strides, width, height, bit_depth))
 *             fprintf(stderr, "%s\n", sender.error().c_str());
 *     ...
 *     sender.end();                     // or the destructor
 *
 * The samples are copied before send() returns: a decoder may reuse or free
 * its picture at once. send() blocks while the other side has enough: that is
 * the back-pressure, and there is no time limit on it here.
 *
 * VTM and HM: send_vtm() and send_hm() read the pictures of the reference
 * decoders through templates, so that no VTM or HM header is needed here and
 * one source serves every version (VTM 8.0 on, HM 16.7 on). They end the
 * process with a sentence on stderr when sending fails, because a reference
 * decoder has nothing else to do then.
 *
 * ------------------------------------------------------- the wire protocol --
 *
 * One connected stream (unix socket, socket pair or pipe) per decoder, written
 * by the decoder only. Numbers are little-endian. A stream is a sequence of
 * messages, each a head of 16 bytes and a payload:
 *
 *     head:    0  4  "TDSP"
 *              4  1  protocol version, 1
 *              5  1  type: 1 HELLO, 2 PICTURE, 3 END, 4 FAIL
 *              6  2  zero
 *              8  8  payload size in bytes
 *
 *     HELLO    first, once. 0: role (0 HR, 1 LR); 1..63: name of the program,
 *              UTF-8, padded with zeros. 64 bytes.
 *     PICTURE  0: width, 4: height, 8: bit depth (8..16), 12: flags (bit 0: the
 *              decoder reported damage), each 4 bytes; 16: ordinal in output
 *              order from 0, 24: picture order count or INT64_MIN, 8 bytes each
 *              and signed. From 32: samples of Y, Cb, Cr (4:2:0), rows without
 *              padding, one byte a sample at 8 bits, else two.
 *     END      the stream is complete. 0: number of pictures sent, 8 bytes.
 *     FAIL     the decoder cannot go on: one sentence, UTF-8.
 *
 * A connection that closes without END is a decoder that died. Pictures pair
 * by ordinal; the picture order count is for people (encoders are free to
 * restart or repeat it).
 */
#ifndef TDS_PUSH_H
#define TDS_PUSH_H

#if defined(_WIN32)
#error "tds/push.h needs POSIX sockets; on Windows let the decoder write y4m to a pipe instead"
#endif

#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>

namespace tds {

class PictureSender {
  public:
    enum { PROTOCOL_VERSION = 1 };
    enum MessageType { HELLO = 1, PICTURE = 2, END = 3, FAIL = 4 };

    std::string address; /* "fd:N", "unix:PATH"; empty (default): every call does nothing */
    std::string role;    /* "hr" or "lr" */
    std::string program; /* for messages to people; at most 62 bytes are sent */

    PictureSender() : fd_(-1), is_socket_(false), opened_(false), closed_(false), sent_(0) {}
    /* Ends the stream, unless it failed or was ended. */
    ~PictureSender() { end(); }

    /* Why the last call returned false: one sentence. */
    const std::string &error() const { return error_; }
    /* Pictures sent so far. */
    int64_t sent() const { return sent_; }

    /* Sends the next output picture: 4:2:0, planes Y, Cb, Cr, `strides` in
     * samples from a row to the next, width and height in luma samples and
     * even, values of `bit_depth` bits (8..16) in the low bits of Sample (any
     * integer type that holds them). `picture_order_count` is information
     * only. Connects at the first call. False: see error(); nothing more can
     * be sent. */
    template <class Sample>
    bool send(const Sample *const planes[3], const ptrdiff_t strides[3], int width, int height,
              int bit_depth, int64_t picture_order_count = INT64_MIN, bool corrupt = false) {
        if (address.empty())
            return true;
        if (!open()) {
            if (error_.empty())
                error_ = "the stream has ended: no picture can be sent after its end";
            return false;
        }
        if (width < 2 || height < 2 || width % 2 || height % 2 || bit_depth < 8 || bit_depth > 16)
            return fail("a picture of " + number(width) + "x" + number(height) + ", " +
                        number(bit_depth) +
                        " bits, cannot be sent: sizes must be even and depths 8 to 16 bits");

        const size_t bytes = bit_depth == 8 ? 1 : 2;
        const size_t luma = static_cast<size_t>(width) * static_cast<size_t>(height) * bytes;
        const size_t payload = PICTURE_HEAD + luma + luma / 2;
        message_.resize(HEAD + payload);
        uint8_t *at = head(PICTURE, payload);
        at = put(at, static_cast<uint64_t>(width), 4);
        at = put(at, static_cast<uint64_t>(height), 4);
        at = put(at, static_cast<uint64_t>(bit_depth), 4);
        at = put(at, corrupt ? 1 : 0, 4);
        at = put(at, static_cast<uint64_t>(sent_), 8);
        at = put(at, static_cast<uint64_t>(picture_order_count), 8);
        for (int plane = 0; plane < 3; plane++) {
            const int shift = plane ? 1 : 0;
            for (int y = 0; y < height >> shift; y++) {
                const Sample *row = planes[plane] + y * strides[plane];
                at = bytes == 1 ? pack8(at, row, width >> shift) : pack16(at, row, width >> shift);
            }
        }
        if (!write_message())
            return false;
        sent_++;
        return true;
    }

    /* Says that the stream is complete, and closes. Again is allowed. */
    bool end() {
        if (address.empty() || closed_)
            return error_.empty();
        if (!open()) /* a stream without a picture is still a stream */
            return false;
        message_.resize(HEAD + 8);
        put(head(END, 8), static_cast<uint64_t>(sent_), 8);
        const bool done = write_message();
        close();
        return done;
    }

    /* Says that the decoder cannot go on, and closes. Always false. */
    bool fail(const std::string &sentence) {
        if (!address.empty() && !closed_ && fd_ >= 0) {
            message_.resize(HEAD + sentence.size());
            std::memcpy(head(FAIL, sentence.size()), sentence.data(), sentence.size());
            write_message();
        }
        error_ = sentence;
        close();
        return false;
    }

    /* A VTM output picture (CommonLib's Picture): the reconstruction, cropped
     * by the conformance window, at the bit depth of the sequence. Layers above
     * the base layer are not part of a TDS stream and are passed over. */
    template <class Picture> void send_vtm(const Picture &picture) {
        if (address.empty() || picture.layerId > 0)
            return;
        if (program.empty())
            program = "VTM";
        const auto &sps = *picture.cs->sps;
        if (picture.fieldPic)
            give_up("field-coded pictures cannot be enhanced; code frames");
        require_420(sps);

        const auto reconstruction = picture.getRecoBuf();
        const auto &y = reconstruction.bufs[0];
        const auto &cb = reconstruction.bufs[1];
        const auto &cr = reconstruction.bufs[2];
        const decltype(y.buf) planes[3] = {y.buf, cb.buf, cr.buf};
        const ptrdiff_t strides[3] = {y.stride, cb.stride, cr.stride};
        const auto &window = picture.getConformanceWindow(); /* in chroma samples */
        const int unit_x = sps.getWinUnitX(sps.getChromaFormatIdc());
        const int unit_y = sps.getWinUnitY(sps.getChromaFormatIdc());
        send_window(planes, strides, static_cast<int>(y.width), static_cast<int>(y.height),
                    window.getWindowLeftOffset() * unit_x, window.getWindowRightOffset() * unit_x,
                    window.getWindowTopOffset() * unit_y, window.getWindowBottomOffset() * unit_y,
                    luma_depth(sps), picture.getPOC());
    }

    /* An HM output picture (TLibCommon's TComPic): likewise. */
    template <class Picture> void send_hm(Picture &picture) {
        if (address.empty())
            return;
        if (program.empty())
            program = "HM";
        const auto &sps = picture.getPicSym()->getSPS();
        require_420(sps);
        send_hm_yuv(picture, *picture.getPicYuvRec(), luma_depth(sps));
    }

  private:
    enum { HEAD = 16, HELLO_SIZE = 64, PICTURE_HEAD = 32 };

    PictureSender(const PictureSender &);
    PictureSender &operator=(const PictureSender &);

    /* ---- the connection ---- */

    bool open() {
        if (opened_)
            return !closed_;
        opened_ = true;
        if (role != "hr" && role != "lr")
            return refuse("the role of this decoder is \"" + role + "\"; it must be hr or lr");
        if (address.compare(0, 3, "fd:") == 0) {
            char *rest = NULL;
            errno = 0;
            const long descriptor = std::strtol(address.c_str() + 3, &rest, 10);
            if (address.size() == 3 || *rest || errno || descriptor < 0 || descriptor > INT_MAX)
                return refuse("\"" + address + "\" is no session address; use fd:N or unix:PATH");
            if (::fcntl(static_cast<int>(descriptor), F_GETFD) < 0)
                return refuse("descriptor " + number(descriptor) +
                              " of the session address is not open; let tds postdec start "
                              "the decoder, or use unix:PATH");
            fd_ = static_cast<int>(descriptor);
        } else if (address.compare(0, 5, "unix:") == 0) {
            sockaddr_un name;
            std::memset(&name, 0, sizeof name);
            name.sun_family = AF_UNIX;
            if (address.size() - 5 >= sizeof name.sun_path)
                return refuse("the socket path in \"" + address + "\" is too long; " +
                              number(static_cast<long>(sizeof name.sun_path - 1)) +
                              " bytes is the limit");
            std::memcpy(name.sun_path, address.c_str() + 5, address.size() - 5);
            fd_ = ::socket(AF_UNIX, SOCK_STREAM, 0);
            if (fd_ < 0 || ::connect(fd_, reinterpret_cast<sockaddr *>(&name), sizeof name) < 0)
                return refuse("no enhancer listens at " + address.substr(5) + " (" +
                              std::strerror(errno) + "); start tds postdec --listen first");
        } else {
            return refuse("\"" + address + "\" is no session address; use fd:N or unix:PATH");
        }
        ::fcntl(fd_, F_SETFD, FD_CLOEXEC);
        struct stat status;
        is_socket_ = ::fstat(fd_, &status) == 0 && S_ISSOCK(status.st_mode);
        if (is_socket_) {
            const int size = 4 << 20; /* a request; the system caps it */
            ::setsockopt(fd_, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
#ifdef SO_NOSIGPIPE
            const int on = 1;
            ::setsockopt(fd_, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
        }

        message_.assign(HEAD + HELLO_SIZE, 0);
        uint8_t *at = head(HELLO, HELLO_SIZE);
        at[0] = role == "lr" ? 1 : 0;
        std::memcpy(at + 1, program.data(), program.size() < 62 ? program.size() : 62);
        return write_message();
    }

    bool refuse(const std::string &sentence) {
        error_ = sentence;
        close();
        return false;
    }

    void close() {
        if (fd_ >= 0)
            ::close(fd_);
        fd_ = -1;
        opened_ = closed_ = true;
    }

    bool write_message() {
        const uint8_t *data = message_.data();
        size_t left = message_.size();
        while (left) {
#ifdef MSG_NOSIGNAL
            const ssize_t done =
                is_socket_ ? ::send(fd_, data, left, MSG_NOSIGNAL) : ::write(fd_, data, left);
#else
            const ssize_t done = ::write(fd_, data, left);
#endif
            if (done < 0 && errno == EINTR)
                continue;
            if (done <= 0)
                return refuse("the enhancer closed the connection after " + number(sent_) +
                              " pictures (" + std::strerror(errno) + ")");
            data += done;
            left -= static_cast<size_t>(done);
        }
        return true;
    }

    /* ---- bytes ---- */

    static uint8_t *put(uint8_t *at, uint64_t value, int bytes) {
        for (int i = 0; i < bytes; i++)
            at[i] = static_cast<uint8_t>(value >> (8 * i));
        return at + bytes;
    }

    uint8_t *head(MessageType type, uint64_t payload) {
        uint8_t *at = message_.data();
        std::memcpy(at, "TDSP", 4);
        at[4] = PROTOCOL_VERSION;
        at[5] = static_cast<uint8_t>(type);
        at[6] = at[7] = 0;
        return put(at + 8, payload, 8);
    }

    template <class Sample> static uint8_t *pack8(uint8_t *at, const Sample *row, int count) {
        for (int x = 0; x < count; x++)
            at[x] = static_cast<uint8_t>(row[x]);
        return at + count;
    }

    template <class Sample> static uint8_t *pack16(uint8_t *at, const Sample *row, int count) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        if (sizeof(Sample) == 2) {
            std::memcpy(at, row, 2 * static_cast<size_t>(count));
            return at + 2 * static_cast<size_t>(count);
        }
#endif
        for (int x = 0; x < count; x++)
            at = put(at, static_cast<uint64_t>(row[x]), 2);
        return at;
    }

    static std::string number(int64_t value) {
        char text[24];
        std::snprintf(text, sizeof text, "%lld", static_cast<long long>(value));
        return text;
    }

    /* ---- VTM and HM ---- */

    /* The depth getter takes a channel type whose name and kind changed between
     * versions; its type is taken from the getter, luma is 0 in all of them. */
    template <class Sps, class Depth, class Channel>
    static int depth(const Sps &sps, Depth (Sps::*get)(Channel) const, int channel) {
        return static_cast<int>((sps.*get)(static_cast<Channel>(channel)));
    }
    template <class Sps> static int luma_depth(const Sps &sps) {
        return depth(sps, &Sps::getBitDepth, 0);
    }

    template <class Sps> void require_420(const Sps &sps) {
        if (static_cast<int>(sps.getChromaFormatIdc()) != 1)
            give_up("the stream is not 4:2:0; TDS enhances 4:2:0 only");
        if (luma_depth(sps) != depth(sps, &Sps::getBitDepth, 1))
            give_up("luma and chroma differ in bit depth; TDS needs one depth");
    }

    template <class Picture, class Yuv>
    void send_hm_yuv(const Picture &picture, const Yuv &yuv, int bit_depth) {
        send_hm_planes(picture, yuv, &Yuv::getWidth, bit_depth, picture.getPOC());
    }
    template <class Picture, class Yuv, class Size, class Component>
    void send_hm_planes(const Picture &picture, const Yuv &yuv, Size (Yuv::*size)(Component) const,
                        int bit_depth, int picture_order_count) {
        const Component y = static_cast<Component>(0), cb = static_cast<Component>(1),
                        cr = static_cast<Component>(2);
        const auto &window = picture.getConformanceWindow(); /* in luma samples */
        const decltype(yuv.getAddr(y)) planes[3] = {yuv.getAddr(y), yuv.getAddr(cb),
                                                    yuv.getAddr(cr)};
        const ptrdiff_t strides[3] = {yuv.getStride(y), yuv.getStride(cb), yuv.getStride(cr)};
        send_window(planes, strides, (yuv.*size)(y), yuv.getHeight(y), window.getWindowLeftOffset(),
                    window.getWindowRightOffset(), window.getWindowTopOffset(),
                    window.getWindowBottomOffset(), bit_depth, picture_order_count);
    }

    /* Offsets in luma samples. */
    template <class Sample>
    void send_window(const Sample *const planes[3], const ptrdiff_t strides[3], int width,
                     int height, int left, int right, int top, int bottom, int bit_depth,
                     int picture_order_count) {
        const Sample *const cropped[3] = {planes[0] + top * strides[0] + left,
                                          planes[1] + (top / 2) * strides[1] + left / 2,
                                          planes[2] + (top / 2) * strides[2] + left / 2};
        if (!send(cropped, strides, width - left - right, height - top - bottom, bit_depth,
                  picture_order_count))
            give_up(error_);
    }

    void give_up(const std::string &sentence) {
        if (open() && error_.empty())
            fail(sentence);
        std::fflush(stdout);
        std::fprintf(stderr, "TDS: %s.\n", error_.empty() ? sentence.c_str() : error_.c_str());
        std::exit(EXIT_FAILURE);
    }

    int fd_;
    bool is_socket_;
    bool opened_, closed_;
    int64_t sent_;
    std::string error_;
    std::vector<uint8_t> message_;
};

} // namespace tds

#endif /* TDS_PUSH_H */
