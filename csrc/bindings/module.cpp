// SPDX-License-Identifier: LGPL-2.1-or-later
//
// tds._tds: sessions from Python. It copies no samples: pictures sent stay the
// caller's (the object is kept alive), pictures received are views of the
// engine's memory. Written against tds.h alone.
#include "bindings/dlpack.h"
#include "bindings/errors.h"
#include "bindings/tag.h"
#include "tds/tds.h"

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace py = pybind11;

namespace {

using tds_python::check;
using tds_python::path_of;
using tds_python::raise;

std::string type_name(const py::handle &object) {
    return py::str(py::type::of(object).attr("__name__"));
}

// ------------------------------------------------------- pictures sent --

// Keeps what a sent picture's samples belong to. Let go with the GIL held.
struct Owner {
    std::vector<Py_buffer> buffers;
    std::vector<dlpack::ManagedTensor *> tensors;
    py::object frame;

    Owner() = default;
    Owner(const Owner &) = delete;
    Owner &operator=(const Owner &) = delete;
    ~Owner() {
        for (Py_buffer &buffer : buffers) {
            PyBuffer_Release(&buffer);
        }
        for (dlpack::ManagedTensor *tensor : tensors) {
            if (tensor->deleter) {
                tensor->deleter(tensor);
            }
        }
    }
};

void release_owner(void *owner) {
    if (!Py_IsInitialized()) {
        return; // the interpreter is gone, and with it what was owned
    }
    const py::gil_scoped_acquire gil;
    delete static_cast<Owner *>(owner);
}

// One plane: where it is and what it looks like.
struct PlaneView {
    void *data = nullptr;
    int64_t rows = 0, columns = 0; // in samples
    ptrdiff_t stride = 0;          // bytes
    int item = 1;                  // bytes per sample
    tds_memory memory = TDS_MEMORY_HOST;
    int device = 0;
};

PlaneView view_of(const std::vector<int64_t> &shape, const std::vector<int64_t> &strides,
                  const std::string &what) {
    PlaneView view;
    // [rows, columns], or [rows, columns, 2] of interleaved chroma.
    const bool pairs = shape.size() == 3 && shape[2] == 2;
    if (shape.size() != 2 && !pairs) {
        raise(PyExc_ValueError, what + " has " + std::to_string(shape.size()) +
                                    " dimensions; a plane is an array of rows and columns");
    }
    view.rows = shape[0];
    view.columns = pairs ? shape[1] * 2 : shape[1];
    const bool dense = pairs ? strides[2] == 1 && strides[1] == 2 : strides[1] == 1;
    if (!dense && view.columns > 1) {
        raise(PyExc_ValueError, what + " has gaps between the samples of a row; copy it first "
                                       "(numpy.ascontiguousarray)");
    }
    view.stride = static_cast<ptrdiff_t>(strides[0]);
    return view;
}

PlaneView take_buffer(const py::handle &object, Owner &owner, const std::string &what) {
    Py_buffer buffer;
    if (PyObject_GetBuffer(object.ptr(), &buffer, PyBUF_STRIDES | PyBUF_FORMAT) != 0) {
        throw py::error_already_set();
    }
    owner.buffers.push_back(buffer);
    const std::string format = buffer.format ? buffer.format : "B";
    const char kind = format.back();
    const bool swapped = format[0] == '>' || format[0] == '!';
    if (swapped || (std::strchr("BHh", kind) == nullptr) ||
        (buffer.itemsize != 1 && buffer.itemsize != 2)) {
        raise(PyExc_ValueError,
              what + " has samples of type \"" + format + "\"; planes are uint8 or uint16");
    }
    std::vector<int64_t> shape(buffer.shape, buffer.shape + buffer.ndim);
    std::vector<int64_t> strides;
    for (int i = 0; i < buffer.ndim; i++) {
        // Rows keep their distance in bytes; within a row, samples count.
        strides.push_back(i == 0 ? buffer.strides[i] : buffer.strides[i] / buffer.itemsize);
        if (i > 0 && buffer.strides[i] % buffer.itemsize != 0) {
            strides.back() = 0;
        }
    }
    if (shape.size() < 2) {
        raise(PyExc_ValueError, what + " has " + std::to_string(shape.size()) +
                                    " dimensions; a plane is an array of rows and columns");
    }
    PlaneView view = view_of(shape, strides, what);
    view.data = buffer.buf;
    view.item = static_cast<int>(buffer.itemsize);
    return view;
}

PlaneView take_dlpack(const py::handle &object, Owner &owner, const std::string &what) {
    const auto place = object.attr("__dlpack_device__")().cast<std::pair<int, int>>();
    const bool cuda = place.first == dlpack::kCUDA || place.first == dlpack::kCUDAManaged;
    // 1: the producer makes the samples ready on CUDA's default stream.
    const py::object capsule = cuda ? object.attr("__dlpack__")(py::arg("stream") = 1)
                                    : py::object(object.attr("__dlpack__")());
    auto *managed =
        static_cast<dlpack::ManagedTensor *>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
    if (!managed) {
        throw py::error_already_set();
    }
    PyCapsule_SetName(capsule.ptr(), "used_dltensor"); // ours now
    owner.tensors.push_back(managed);
    const dlpack::Tensor &tensor = managed->tensor;
    if (tensor.device.type != dlpack::kCPU && tensor.device.type != dlpack::kCUDAHost && !cuda) {
        raise(PyExc_ValueError, what + " is neither in host nor in CUDA memory");
    }
    if (tensor.dtype.lanes != 1 || (tensor.dtype.bits != 8 && tensor.dtype.bits != 16) ||
        (tensor.dtype.code != dlpack::kUInt &&
         !(tensor.dtype.code == dlpack::kInt && tensor.dtype.bits == 16))) {
        raise(PyExc_ValueError, what + " does not hold uint8 or uint16 samples");
    }
    std::vector<int64_t> shape(tensor.shape, tensor.shape + tensor.ndim);
    std::vector<int64_t> strides(shape.size(), 1);
    for (size_t i = shape.size(); i-- > 0;) {
        strides[i] = tensor.strides         ? tensor.strides[i]
                     : i + 1 < shape.size() ? strides[i + 1] * shape[i + 1]
                                            : 1;
    }
    const int item = tensor.dtype.bits / 8;
    if (!strides.empty()) {
        strides[0] *= item;
    }
    PlaneView view = view_of(shape, strides, what);
    view.data = static_cast<uint8_t *>(tensor.data) + tensor.byte_offset;
    view.item = item;
    view.memory = cuda ? TDS_MEMORY_CUDA : TDS_MEMORY_HOST;
    view.device = cuda ? tensor.device.id : 0;
    return view;
}

PlaneView take_plane(const py::handle &object, Owner &owner, const std::string &what) {
    if (PyObject_CheckBuffer(object.ptr())) {
        return take_buffer(object, owner, what);
    }
    if (py::hasattr(object, "__dlpack__")) {
        return take_dlpack(object, owner, what);
    }
    raise(PyExc_TypeError, what + " is a " + type_name(object) +
                               "; a plane is a numpy array or an object with __dlpack__");
}

// A decoded frame of PyAV: its planes are bytes with a line size.
std::vector<PlaneView> take_av(const py::handle &frame, Owner &owner, tds_picture &picture) {
    const std::string format = py::str(frame.attr("format").attr("name"));
    struct Format {
        int depth;
        tds_layout layout;
        tds_chroma chroma;
    };
    static const std::map<std::string, Format> formats = {
        {"yuv420p", {8, TDS_LAYOUT_PLANAR, TDS_CHROMA_420}},
        {"yuvj420p", {8, TDS_LAYOUT_PLANAR, TDS_CHROMA_420}},
        {"yuv420p10le", {10, TDS_LAYOUT_PLANAR, TDS_CHROMA_420}},
        {"nv12", {8, TDS_LAYOUT_SEMIPLANAR, TDS_CHROMA_420}},
        {"p010le", {10, TDS_LAYOUT_SEMIPLANAR, TDS_CHROMA_420}},
        {"yuv422p", {8, TDS_LAYOUT_PLANAR, TDS_CHROMA_422}},
        {"yuvj422p", {8, TDS_LAYOUT_PLANAR, TDS_CHROMA_422}},
        {"yuv422p10le", {10, TDS_LAYOUT_PLANAR, TDS_CHROMA_422}},
        {"yuv444p", {8, TDS_LAYOUT_PLANAR, TDS_CHROMA_444}},
        {"yuvj444p", {8, TDS_LAYOUT_PLANAR, TDS_CHROMA_444}},
        {"yuv444p10le", {10, TDS_LAYOUT_PLANAR, TDS_CHROMA_444}},
    };
    const auto at = formats.find(format);
    std::vector<PlaneView> views;
    if (at == formats.end()) {
        if (format != "cuda") {
            raise(PyExc_ValueError, "a frame of pixel format " + format +
                                        "; frames are yuv420p, yuv422p or yuv444p, also with "
                                        "10le behind, nv12 or p010le: convert it with "
                                        "frame.reformat(format=...)");
        }
        int index = 0;
        for (const py::handle plane : frame.attr("planes")) {
            views.push_back(take_dlpack(plane, owner, "plane " + std::to_string(index++)));
        }
        picture.layout = views.size() == 2 ? TDS_LAYOUT_SEMIPLANAR : TDS_LAYOUT_PLANAR;
        picture.bit_depth = views.at(0).item == 1 ? 8 : 10;
    } else {
        picture.bit_depth = at->second.depth;
        picture.layout = at->second.layout;
        picture.chroma = at->second.chroma;
        const int item = picture.bit_depth > 8 ? 2 : 1;
        for (const py::handle plane : frame.attr("planes")) {
            Py_buffer buffer;
            if (PyObject_GetBuffer(plane.ptr(), &buffer, PyBUF_SIMPLE) != 0) {
                throw py::error_already_set();
            }
            owner.buffers.push_back(buffer);
            PlaneView view;
            view.data = buffer.buf;
            view.stride = plane.attr("line_size").cast<ptrdiff_t>();
            view.item = item;
            views.push_back(view);
        }
    }
    picture.width = frame.attr("width").cast<int32_t>();
    picture.height = frame.attr("height").cast<int32_t>();
    return views;
}

// 420, 422 or 444 in Python.
constexpr int kRatios[] = {420, 422, 444};

tds_chroma chroma_of(int ratio) {
    for (int i = 0; i < 3; i++) {
        if (kRatios[i] == ratio) {
            return static_cast<tds_chroma>(i);
        }
    }
    raise(PyExc_ValueError, "chroma is 420, 422 or 444, not " + std::to_string(ratio));
}

int across(tds_chroma chroma) {
    return chroma == TDS_CHROMA_444 ? 0 : 1;
}
int down(tds_chroma chroma) {
    return chroma == TDS_CHROMA_420 ? 1 : 0;
}

// What Python calls a frame as a picture, with an owner that keeps it alive. chroma: of one array,
// which does not say it.
std::unique_ptr<Owner> to_picture(const py::object &frame, int bit_depth, tds_chroma chroma,
                                  tds_picture &picture) {
    tds_picture_init(&picture);
    auto owner = std::make_unique<Owner>();
    owner->frame = frame;
    std::vector<PlaneView> views;
    const bool from_av = py::hasattr(frame, "planes") && py::hasattr(frame, "format");
    if (from_av) {
        views = take_av(frame, *owner, picture);
    } else {
        std::vector<py::object> planes;
        if (py::isinstance<py::tuple>(frame) || py::isinstance<py::list>(frame)) {
            for (const py::handle plane : frame) {
                planes.push_back(py::reinterpret_borrow<py::object>(plane));
            }
        } else if (py::isinstance<py::array>(frame)) {
            // As frame.to_ndarray() of PyAV gives it: three planes below each other.
            const auto array = py::reinterpret_borrow<py::array>(frame);
            const int halves = chroma == TDS_CHROMA_420 ? 3 : chroma == TDS_CHROMA_422 ? 4 : 6;
            const bool whole = array.ndim() == 2 && array.shape(0) % halves == 0 &&
                               array.shape(1) % 2 == 0 && (array.flags() & py::array::c_style) != 0;
            if (!whole) {
                static const char *const rows[] = {"height * 3 / 2", "height * 2", "height * 3"};
                raise(PyExc_ValueError,
                      std::string("one array holds a picture as ") + rows[chroma] +
                          " contiguous rows (the planes as in a file of raw video); else give "
                          "three planes");
            }
            const py::ssize_t height = array.shape(0) / halves * 2;
            const py::ssize_t width = array.shape(1);
            const py::object flat = array.attr("reshape")(-1);
            const py::ssize_t luma = height * width;
            const auto part = [&](py::ssize_t from, py::ssize_t rows, py::ssize_t columns) {
                planes.push_back(
                    flat[py::slice(from, from + rows * columns, 1)].attr("reshape")(rows, columns));
            };
            const py::ssize_t rows = height >> down(chroma);
            const py::ssize_t columns = width >> across(chroma);
            part(0, height, width);
            part(luma, rows, columns);
            part(luma + rows * columns, rows, columns);
        } else {
            raise(PyExc_TypeError,
                  "a frame is an av.VideoFrame, three planes or one array, not a " +
                      type_name(frame));
        }
        if (planes.size() != 3 && planes.size() != 2) {
            raise(PyExc_ValueError, std::to_string(planes.size()) +
                                        " planes; a picture has three (Y, Cb, Cr), or two (Y and "
                                        "interleaved CbCr)");
        }
        for (size_t i = 0; i < planes.size(); i++) {
            views.push_back(take_plane(planes[i], *owner, "plane " + std::to_string(i)));
        }
        picture.layout = planes.size() == 2 ? TDS_LAYOUT_SEMIPLANAR : TDS_LAYOUT_PLANAR;
        picture.bit_depth = views[0].item == 1 ? 8 : bit_depth > 8 ? bit_depth : 10;
        picture.width = static_cast<int32_t>(views[0].columns);
        picture.height = static_cast<int32_t>(views[0].rows);
        if (planes.size() == 3 && views[1].rows == picture.height) {
            picture.chroma = views[1].columns == picture.width ? TDS_CHROMA_444 : TDS_CHROMA_422;
        }
        for (size_t i = 1; i < views.size(); i++) {
            const int64_t columns =
                planes.size() == 2 ? picture.width : picture.width >> across(picture.chroma);
            if (views[i].rows != picture.height >> down(picture.chroma) ||
                views[i].columns != columns || views[i].item != views[0].item) {
                raise(PyExc_ValueError,
                      "plane " + std::to_string(i) + " of " + std::to_string(views[i].columns) +
                          "x" + std::to_string(views[i].rows) + " does not fit a luma plane of " +
                          std::to_string(picture.width) + "x" + std::to_string(picture.height) +
                          " in 4:2:0, 4:2:2 or 4:4:4, or has another sample type");
            }
        }
    }
    for (size_t i = 0; i < views.size() && i < 3; i++) {
        picture.data[i] = views[i].data;
        picture.stride[i] = views[i].stride;
        if (views[i].memory != views[0].memory || views[i].device != views[0].device) {
            raise(PyExc_ValueError, "the planes of a picture are in different places");
        }
    }
    picture.memory = views.at(0).memory;
    picture.device_index = views[0].device;
    picture.owner = owner.get();
    picture.release = release_owner;
    return owner;
}

// --------------------------------------------------- pictures received --

class Picture {
  public:
    Picture(const tds_picture &picture, py::object opaque, py::object colors)
        : picture_(picture), opaque_(std::move(opaque)), colors_(std::move(colors)) {}
    ~Picture() { tds_picture_release(&picture_); }
    Picture(const Picture &) = delete;
    Picture &operator=(const Picture &) = delete;

    const tds_picture &get() const { return picture_; }
    const py::object &opaque() const { return opaque_; }
    const py::object &colors() const { return colors_; }

    int planes() const { return picture_.layout == TDS_LAYOUT_SEMIPLANAR ? 2 : 3; }
    py::ssize_t rows(int i) const {
        return i == 0 ? picture_.height : picture_.height >> down(picture_.chroma);
    }
    py::ssize_t columns(int i) const {
        return i == 0 || planes() == 2 ? picture_.width : picture_.width >> across(picture_.chroma);
    }
    int item() const { return picture_.bit_depth > 8 ? 2 : 1; }

    std::set<std::string> reasons() const {
        std::set<std::string> out;
        for (unsigned bit = 1; bit != 0 && bit <= picture_.reason; bit <<= 1) {
            if (picture_.reason & bit) {
                char name[64];
                tds_reason_names(bit, name, sizeof(name));
                out.insert(name);
            }
        }
        return out;
    }

  private:
    tds_picture picture_;
    py::object opaque_, colors_;
};

// A plane in CUDA memory, for torch.from_dlpack and the like.
struct CudaPlane {
    std::shared_ptr<Picture> picture;
    int index;

    py::tuple shape() const {
        return py::make_tuple(picture->rows(index), picture->columns(index));
    }
    py::tuple device() const {
        return py::make_tuple(static_cast<int>(dlpack::kCUDA), picture->get().device_index);
    }
    py::capsule dlpack() const {
        struct Export {
            dlpack::ManagedTensor managed;
            std::shared_ptr<Picture> picture;
            int64_t shape[2], strides[2];
        };
        auto *e = new Export{};
        e->picture = picture;
        e->shape[0] = picture->rows(index);
        e->shape[1] = picture->columns(index);
        e->strides[0] = picture->get().stride[index] / picture->item();
        e->strides[1] = 1;
        e->managed.tensor = {picture->get().data[index],
                             {dlpack::kCUDA, picture->get().device_index},
                             2,
                             {dlpack::kUInt, static_cast<uint8_t>(8 * picture->item()), 1},
                             e->shape,
                             e->strides,
                             0};
        e->managed.context = e;
        e->managed.deleter = [](dlpack::ManagedTensor *managed) {
            const py::gil_scoped_acquire gil;
            delete static_cast<Export *>(managed->context);
        };
        return py::capsule(&e->managed, "dltensor", [](PyObject *capsule) {
            if (PyCapsule_IsValid(capsule, "dltensor")) { // nobody took it
                auto *managed =
                    static_cast<dlpack::ManagedTensor *>(PyCapsule_GetPointer(capsule, "dltensor"));
                managed->deleter(managed);
            }
        });
    }
};

py::object plane_of(const std::shared_ptr<Picture> &picture, int i) {
    const tds_picture &p = picture->get();
    if (p.memory == TDS_MEMORY_CUDA) {
        return py::cast(CudaPlane{picture, i});
    }
    const py::dtype type =
        picture->item() == 2 ? py::dtype::of<uint16_t>() : py::dtype::of<uint8_t>();
    py::array array(
        type, {picture->rows(i), picture->columns(i)},
        {static_cast<py::ssize_t>(p.stride[i]), static_cast<py::ssize_t>(picture->item())},
        p.data[i], py::cast(picture));
    if (p.status == TDS_STATUS_PASSED) {
        // The sender's own samples, and references of pictures to come.
        array.attr("flags").attr("writeable") = false;
    }
    return array;
}

py::tuple planes_of(const std::shared_ptr<Picture> &picture) {
    py::tuple out(picture->planes());
    for (int i = 0; i < picture->planes(); i++) {
        out[static_cast<size_t>(i)] = plane_of(picture, i);
    }
    return out;
}

void need_host(const Picture &picture, const char *what) {
    if (picture.get().memory != TDS_MEMORY_HOST) {
        raise(PyExc_NotImplementedError, std::string(what) +
                                             ": the picture is in CUDA memory; use its planes "
                                             "through DLPack, or output_memory=\"host\"");
    }
}

// Copies a plane's rows to `out`, `stride` bytes apart.
void copy_rows(const Picture &picture, int plane, uint8_t *out, ptrdiff_t stride) {
    const tds_picture &p = picture.get();
    const auto bytes = static_cast<size_t>(picture.columns(plane) * picture.item());
    const auto *in = static_cast<const uint8_t *>(p.data[plane]);
    for (py::ssize_t y = 0; y < picture.rows(plane); y++) {
        std::memcpy(out + y * stride, in + y * p.stride[plane], bytes);
    }
}

py::array to_ndarray(const Picture &picture) {
    need_host(picture, "to_ndarray()");
    const tds_picture &p = picture.get();
    const py::dtype type =
        picture.item() == 2 ? py::dtype::of<uint16_t>() : py::dtype::of<uint8_t>();
    const py::ssize_t samples = picture.rows(0) * picture.columns(0) +
                                (picture.planes() - 1) * picture.rows(1) * picture.columns(1);
    py::array out(type, {samples / p.width, static_cast<py::ssize_t>(p.width)});
    auto *at = static_cast<uint8_t *>(out.mutable_data());
    const py::gil_scoped_release no_gil;
    for (int i = 0; i < picture.planes(); i++) {
        const py::ssize_t stride = picture.columns(i) * picture.item();
        copy_rows(picture, i, at, stride);
        at += stride * picture.rows(i);
    }
    return out;
}

py::object to_av(const Picture &picture) {
    need_host(picture, "to_av()");
    const tds_picture &p = picture.get();
    const bool deep = p.bit_depth > 8;
    static const char *const planar[] = {"yuv420p", "yuv422p", "yuv444p"};
    const std::string format = p.layout == TDS_LAYOUT_SEMIPLANAR
                                   ? (deep ? "p010le" : "nv12")
                                   : std::string(planar[p.chroma]) + (deep ? "10le" : "");
    py::object frame = py::module_::import("av").attr("VideoFrame")(p.width, p.height, format);
    int i = 0;
    for (const py::handle plane : frame.attr("planes")) {
        Py_buffer buffer;
        if (PyObject_GetBuffer(plane.ptr(), &buffer, PyBUF_WRITABLE) != 0) {
            throw py::error_already_set();
        }
        copy_rows(picture, i++, static_cast<uint8_t *>(buffer.buf),
                  plane.attr("line_size").cast<ptrdiff_t>());
        PyBuffer_Release(&buffer);
    }
    frame.attr("pts") = p.pts;
    return frame;
}

py::object optional_pts(int64_t pts) {
    return pts == TDS_NO_PTS ? py::object(py::none()) : py::object(py::int_(pts));
}

std::string place_of(const Picture &picture) {
    return picture.get().memory == TDS_MEMORY_CUDA
               ? "cuda:" + std::to_string(picture.get().device_index)
               : "host";
}

// ------------------------------------------------------------- session --

tds_role role_of(const std::string &name) {
    if (name == "hr" || name == "HR") {
        return TDS_HR;
    }
    if (name == "lr" || name == "LR") {
        return TDS_LR;
    }
    raise(PyExc_ValueError, "a role is \"hr\" or \"lr\", not \"" + name + "\"");
}

// The enumeration of the Python layer (tds.plan.Role) has these as its values.
tds_role role_of(const py::object &role) {
    if (py::isinstance<py::str>(role)) {
        return role_of(role.cast<std::string>());
    }
    if (py::hasattr(role, "value") && py::isinstance<py::str>(role.attr("value"))) {
        return role_of(role.attr("value").cast<std::string>());
    }
    raise(PyExc_TypeError, "a role is \"hr\" or \"lr\", not a " + type_name(role));
}

// A time as Python counts places: integers, numpy's among them, and no float, whose
// fraction would be lost.
int64_t time_of(const py::object &value) {
    if (PyIndex_Check(value.ptr()) == 0) {
        raise(PyExc_TypeError, "a time is a whole number of ticks, not a " + type_name(value));
    }
    const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
    if (!number) {
        throw py::error_already_set();
    }
    int overflow = 0;
    const int64_t time = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
    if (overflow != 0) {
        raise(PyExc_OverflowError,
              "a time has 64 bits, and " + py::repr(number).cast<std::string>() + " has more");
    }
    return time;
}

struct Info {
    std::string backend, device, precision, model_name, model_sha256, hr_model_name,
        hr_model_sha256;
    int64_t passed, enhanced, upsampled, repeated, refined, dropped_lr, references, batches;
    int32_t contract;
    std::optional<int32_t> latency;
};

void log_to_python(void *context, tds_log_level level, const char *message) {
    if (!Py_IsInitialized()) {
        return;
    }
    const py::gil_scoped_acquire gil;
    static const char *names[] = {"error", "warning", "info", "debug"};
    static const int levels[] = {40, 30, 20, 10}; // of the logging module
    try {
        const auto &log = *static_cast<py::object *>(context);
        if (log.is_none()) {
            py::module_::import("logging").attr("getLogger")("tds").attr("log")(levels[level], "%s",
                                                                                message);
        } else {
            log(names[level], message);
        }
    } catch (py::error_already_set &error) {
        error.discard_as_unraisable("tds log function");
    }
}

float strength_of(const std::optional<float> &strength) {
    if (strength && !(*strength >= 0.0F)) {
        raise(PyExc_ValueError, "strength is " + std::to_string(*strength) + ", not 0 to 1");
    }
    return strength.value_or(-1.0F);
}

int32_t type_of(const std::optional<std::string> &type) {
    static const std::map<std::string, int32_t> types = {{"I", 0}, {"P", 1}, {"B", 2}};
    if (!type) {
        return -1;
    }
    const auto at = types.find(*type);
    if (at == types.end()) {
        raise(PyExc_ValueError, "a picture's type is \"I\", \"P\" or \"B\", not \"" + *type + "\"");
    }
    return at->second;
}

class Session {
  public:
    // What its pictures' samples mean, for who shows them; the engine has no use for it.
    py::object colors = py::none();

    Session(int32_t width, int32_t height, int32_t scale, int32_t bit_depth,
            const std::string &backend, const py::object &model,
            const std::optional<std::string> &model_sha256, const std::string &device,
            const std::string &precision, int32_t threads, int32_t max_group, int32_t max_batch,
            int32_t hr_qp, int32_t lr_qp, const std::string &kind, const py::object &hr_model,
            const std::optional<std::string> &hr_model_sha256, bool causal, float strength,
            bool picture_facts, const std::string &output_memory, py::object log, int chroma)
        : log_(std::make_unique<py::object>(std::move(log))), bit_depth_(bit_depth),
          chroma_(chroma_of(chroma)) {
        tds_settings s;
        tds_default_settings(&s);
        const std::string path = path_of(model);
        const std::string hr_path = path_of(hr_model);
        s.model = model.is_none() ? nullptr : path.c_str();
        s.hr_model = hr_model.is_none() ? nullptr : hr_path.c_str();
        s.width = width;
        s.height = height;
        s.scale = scale;
        s.bit_depth = bit_depth;
        s.chroma = chroma_;
        s.backend = backend.c_str();
        s.model_sha256 = model_sha256 ? model_sha256->c_str() : nullptr;
        s.hr_model_sha256 = hr_model_sha256 ? hr_model_sha256->c_str() : nullptr;
        s.device = device.c_str();
        s.precision = precision.c_str();
        s.threads = threads;
        s.max_group = max_group;
        s.max_batch = max_batch;
        s.hr_qp = hr_qp;
        s.lr_qp = lr_qp;
        s.causal = causal ? 1 : 0;
        s.strength = strength;
        s.picture_facts = picture_facts ? 1 : 0;
        if (kind != "pair" && kind != "plain") {
            raise(PyExc_ValueError, "kind is \"pair\" or \"plain\", not \"" + kind + "\"");
        }
        s.kind = kind == "plain" ? TDS_KIND_PLAIN : TDS_KIND_PAIR;
        if (output_memory != "host" && output_memory != "cuda") {
            raise(PyExc_ValueError,
                  "output_memory is \"host\" or \"cuda\", not \"" + output_memory + "\"");
        }
        s.output_memory = output_memory == "cuda" ? TDS_MEMORY_CUDA : TDS_MEMORY_HOST;
        s.log = log_to_python;
        s.log_context = log_.get();
        tds_result result;
        {
            const py::gil_scoped_release no_gil;
            result = tds_session_open(&s, &session_);
        }
        check(result, tds_python::is_missing(hr_path) && !hr_path.empty() ? hr_path : path);
    }

    ~Session() { close(); }
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;

    bool send(const py::object &role, const py::object &frame, const py::object &pts,
              const py::object &opaque, const py::object &corrupt,
              const std::optional<float> &strength, int32_t qp,
              const std::optional<std::string> &type) {
        const tds_role to = role_of(role);
        if (frame.is_none()) {
            end(role);
            return true;
        }
        tds_picture picture;
        std::unique_ptr<Owner> owner = to_picture(frame, bit_depth_, chroma_, picture);
        py::object time = pts;
        if (time.is_none() && py::hasattr(frame, "pts")) {
            time = frame.attr("pts");
        }
        if (time.is_none()) {
            raise(PyExc_ValueError, "a frame without a time: give pts");
        }
        picture.pts = time_of(time);
        bool damaged = false;
        if (!corrupt.is_none()) {
            damaged = corrupt.cast<bool>();
        } else if (py::hasattr(frame, "is_corrupt")) {
            damaged = frame.attr("is_corrupt").cast<bool>();
        }
        picture.corrupt = damaged ? 1 : 0;
        picture.strength = strength_of(strength);
        picture.qp = qp;
        picture.type = type_of(type);
        uintptr_t token = 0;
        if (!opaque.is_none()) {
            // Before it is sent: another thread may receive it at once.
            token = ++token_;
            opaques_[token] = {picture.pts, opaque};
            picture.opaque = reinterpret_cast<void *>(token);
        }
        tds_result result = TDS_AGAIN;
        try {
            result = call([&](tds_session *s) { return tds_session_send(s, to, &picture); });
        } catch (...) {
            opaques_.erase(token);
            throw;
        }
        if (result == TDS_OK) {
            owner.release(); // the engine's now
        } else {
            opaques_.erase(token);
        }
        return result == TDS_OK;
    }

    bool send_lost(const py::object &role, const py::object &time) {
        const tds_role to = role_of(role);
        const int64_t pts = time_of(time);
        return call([&](tds_session *s) { return tds_session_send_lost(s, to, pts); }) == TDS_OK;
    }

    void end(const py::object &role) {
        const tds_role to = role_of(role);
        call([&](tds_session *s) { return tds_session_send(s, to, nullptr); });
    }

    std::shared_ptr<Picture> receive() {
        tds_picture picture;
        const tds_result result =
            call([&](tds_session *s) { return tds_session_receive(s, &picture); });
        ended_ = result == TDS_END;
        if (result != TDS_OK) {
            return nullptr;
        }
        py::object opaque = py::none();
        const auto at = opaques_.find(reinterpret_cast<uintptr_t>(picture.opaque));
        if (at != opaques_.end()) {
            opaque = at->second.second;
        }
        // Those of earlier pictures that never came out (dropped LR pictures) go as well.
        for (auto i = opaques_.begin(); i != opaques_.end();) {
            i = i->second.first <= picture.pts ? opaques_.erase(i) : std::next(i);
        }
        return std::make_shared<Picture>(picture, std::move(opaque), colors);
    }

    std::set<std::string> wants() {
        unsigned bits = 0;
        call([&](tds_session *s) {
            bits = tds_session_wants(s);
            return TDS_OK;
        });
        std::set<std::string> out;
        if (bits & (1U << TDS_HR)) {
            out.insert("hr");
        }
        if (bits & (1U << TDS_LR)) {
            out.insert("lr");
        }
        return out;
    }

    Info info() {
        tds_info i{};
        call([&](tds_session *s) { return tds_session_info(s, &i); });
        Info info{i.backend,       i.device,          i.precision,  i.model_name, i.model_sha256,
                  i.hr_model_name, i.hr_model_sha256, i.passed,     i.enhanced,   i.upsampled,
                  i.repeated,      i.refined,         i.dropped_lr, i.references, i.batches,
                  i.contract,      std::nullopt};
        if (i.latency >= 0) {
            info.latency = i.latency;
        }
        return info;
    }

    void flush() {
        call([](tds_session *s) { return tds_session_flush(s); });
        opaques_.clear();
        ended_ = false;
    }

    void close() {
        refuse_within();
        {
            const py::gil_scoped_release no_gil;
            const Locked lock(*this);
            tds_session_close(session_);
            session_ = nullptr;
        }
        opaques_.clear();
    }

    bool ended() const { return ended_; }

  private:
    // Without the GIL, so that other threads decode meanwhile; one at a time,
    // since Python code may well share a session between threads. The lock is
    // only ever waited for without the GIL: the engine may take it to let go of
    // a frame. Python code that the engine runs while it holds the lock (a frame's
    // __del__, the log function) would wait for itself.
    template <typename Function> tds_result call(Function function) {
        refuse_within();
        tds_result result = TDS_OK;
        std::string error;
        bool closed = false;
        {
            const py::gil_scoped_release no_gil;
            const Locked lock(*this);
            closed = session_ == nullptr;
            if (!closed) {
                result = function(session_);
                if (result < 0) {
                    error = tds_last_error();
                }
            }
        }
        if (closed) {
            raise(PyExc_ValueError, "the session is closed");
        }
        if (result < 0) {
            raise(result, error);
        }
        return result;
    }

    class Locked {
      public:
        explicit Locked(Session &session) : session_(session), lock_(session.mutex_) {
            session_.within_ = std::this_thread::get_id();
        }
        ~Locked() { session_.within_ = std::thread::id(); }
        Locked(const Locked &) = delete;
        Locked &operator=(const Locked &) = delete;

      private:
        Session &session_;
        std::lock_guard<std::mutex> lock_;
    };

    void refuse_within() const {
        if (within_ == std::this_thread::get_id()) {
            raise(PyExc_RuntimeError,
                  "the session is at work: neither its log function nor what is called when a "
                  "frame is let go of may use it");
        }
    }

    std::unique_ptr<py::object> log_;
    int32_t bit_depth_;
    tds_chroma chroma_;
    tds_session *session_ = nullptr;
    std::mutex mutex_;
    std::atomic<std::thread::id> within_{};
    uintptr_t token_ = 0;
    std::map<uintptr_t, std::pair<int64_t, py::object>> opaques_;
    bool ended_ = false;
};

// How a picture is shown is Python's business.
py::object display(const char *function, const py::object &picture) {
    return py::module_::import("tds.display").attr(function)(picture);
}

std::string representation(const Picture &picture) {
    const tds_picture &p = picture.get();
    std::string text = "<tds.Picture pts=" + std::to_string(p.pts) + " " + std::to_string(p.width) +
                       "x" + std::to_string(p.height) + " " + tds_status_name(p.status);
    for (const std::string &reason : picture.reasons()) {
        text += " " + reason;
    }
    return text + ">";
}

std::vector<std::string> backend_devices(const std::string &backend) {
    char buffer[1024];
    tds_result result;
    {
        const py::gil_scoped_release no_gil;
        result = tds_backend_devices(backend.c_str(), buffer, sizeof(buffer));
    }
    check(result);
    std::vector<std::string> out;
    std::string name;
    for (const char *c = buffer;; c++) {
        if (*c == ',' || *c == '\0') {
            out.push_back(name);
            name.clear();
            if (*c == '\0') {
                return out;
            }
        } else {
            name += *c;
        }
    }
}

py::object model_metadata(const py::object &path) {
    const std::string file = path_of(path);
    char *json = nullptr;
    check(tds_model_metadata(file.c_str(), &json), file);
    const std::string text = json;
    tds_free(json);
    return py::module_::import("json").attr("loads")(text);
}

} // namespace

PYBIND11_MODULE(_tds, m) {
    m.doc() = "The engine: sessions that pair HR and LR pictures and enhance them.";

    py::class_<Picture, std::shared_ptr<Picture>>(m, "Picture")
        .def_property_readonly("planes", &planes_of)
        .def_property_readonly("pts", [](const Picture &p) { return p.get().pts; })
        .def_property_readonly("width", [](const Picture &p) { return p.get().width; })
        .def_property_readonly("height", [](const Picture &p) { return p.get().height; })
        .def_property_readonly("bit_depth", [](const Picture &p) { return p.get().bit_depth; })
        .def_property_readonly("chroma", [](const Picture &p) { return kRatios[p.get().chroma]; })
        .def_property_readonly("memory", &place_of)
        .def_property_readonly("status",
                               [](const Picture &p) { return tds_status_name(p.get().status); })
        .def_property_readonly(
            "reason", [](const Picture &p) { return py::frozenset(py::cast(p.reasons())); })
        .def_property_readonly("references",
                               [](const Picture &p) {
                                   return py::make_tuple(optional_pts(p.get().first_pts),
                                                         optional_pts(p.get().last_pts));
                               })
        .def_property_readonly("corrupt", [](const Picture &p) { return p.get().corrupt != 0; })
        .def_property_readonly("opaque", &Picture::opaque)
        .def_property_readonly("colors", &Picture::colors)
        .def("to_ndarray", &to_ndarray)
        .def("to_av", &to_av)
        .def("to_rgb", [](const py::object &self) { return display("rgb", self); })
        .def("to_tensor", [](const py::object &self) { return display("tensor", self); })
        .def("_repr_png_", [](const py::object &self) { return display("png", self); })
        .def("__repr__", &representation);

    py::class_<CudaPlane>(m, "CudaPlane")
        .def_property_readonly("shape", &CudaPlane::shape)
        .def("__dlpack_device__", &CudaPlane::device)
        // What the engine made is finished. What passed was waited for by the default stream
        // when it came in, and is read from there.
        .def("__dlpack__",
             [](const CudaPlane &p, const py::args &, const py::kwargs &) { return p.dlpack(); });

    py::class_<Info>(m, "Info")
        .def_readonly("backend", &Info::backend)
        .def_readonly("device", &Info::device)
        .def_readonly("precision", &Info::precision)
        .def_readonly("model_name", &Info::model_name)
        .def_readonly("model_sha256", &Info::model_sha256)
        .def_readonly("passed", &Info::passed)
        .def_readonly("enhanced", &Info::enhanced)
        .def_readonly("upsampled", &Info::upsampled)
        .def_readonly("repeated", &Info::repeated)
        .def_readonly("refined", &Info::refined)
        .def_readonly("dropped_lr", &Info::dropped_lr)
        .def_readonly("references", &Info::references)
        .def_readonly("batches", &Info::batches)
        .def_readonly("hr_model_name", &Info::hr_model_name)
        .def_readonly("hr_model_sha256", &Info::hr_model_sha256)
        .def_readonly("contract", &Info::contract)
        .def_readonly("latency", &Info::latency);

    tds_settings d;
    tds_default_settings(&d);

    py::class_<Session>(m, "Session")
        .def(py::init<int32_t, int32_t, int32_t, int32_t, const std::string &, const py::object &,
                      const std::optional<std::string> &, const std::string &, const std::string &,
                      int32_t, int32_t, int32_t, int32_t, int32_t, const std::string &,
                      const py::object &, const std::optional<std::string> &, bool, float, bool,
                      const std::string &, py::object, int>(),
             py::arg("width"), py::arg("height"), py::arg("scale"),
             py::arg("bit_depth") = d.bit_depth, py::arg("backend") = d.backend,
             py::arg("model") = py::none(), py::arg("model_sha256") = py::none(),
             py::arg("device") = d.device, py::arg("precision") = d.precision,
             py::arg("threads") = d.threads, py::arg("max_group") = d.max_group,
             py::arg("max_batch") = d.max_batch, py::arg("hr_qp") = d.hr_qp,
             py::arg("lr_qp") = d.lr_qp, py::arg("kind") = "pair", py::arg("hr_model") = py::none(),
             py::arg("hr_model_sha256") = py::none(), py::arg("causal") = d.causal != 0,
             py::arg("strength") = d.strength, py::arg("picture_facts") = d.picture_facts != 0,
             py::arg("output_memory") = "host", py::arg("log") = py::none(),
             py::arg("chroma") = 420)
        .def("send", &Session::send, py::arg("role"), py::arg("frame"), py::arg("pts") = py::none(),
             py::arg("opaque") = py::none(), py::arg("corrupt") = py::none(),
             py::arg("strength") = py::none(), py::arg("qp") = -1, py::arg("type") = py::none())
        .def("send_lost", &Session::send_lost, py::arg("role"), py::arg("pts"))
        .def("end", &Session::end, py::arg("role"))
        .def("receive", &Session::receive)
        .def_property_readonly("wants",
                               [](Session &s) { return py::frozenset(py::cast(s.wants())); })
        .def_property_readonly("ended", &Session::ended)
        .def_readwrite("colors", &Session::colors)
        .def_property_readonly("info", &Session::info)
        .def("flush", &Session::flush)
        .def("close", &Session::close)
        .def("__iter__", [](const py::object &self) { return self; })
        .def("__next__",
             [](Session &s) {
                 std::shared_ptr<Picture> picture = s.receive();
                 if (!picture) {
                     throw py::stop_iteration();
                 }
                 return picture;
             })
        .def("__enter__", [](const py::object &self) { return self; })
        .def("__exit__", [](Session &s, const py::args &) { s.close(); });

    m.def("lr_size", &tds_lr_size, py::arg("hr_size"), py::arg("scale"));
    m.def("scale_of", &tds_scale_of, py::arg("width"), py::arg("height"), py::arg("lr_width"),
          py::arg("lr_height"));
    m.def(
        "backend_available",
        [](const std::string &backend) {
            tds_result result;
            {
                const py::gil_scoped_release no_gil;
                result = tds_backend_available(backend.c_str());
            }
            check(result);
            return true;
        },
        py::arg("backend"));
    m.def("backend_devices", &backend_devices, py::arg("backend"));
    m.def("model_metadata", &model_metadata, py::arg("path"));
    m.def("version", &tds_version);
    tds_python::bind_tag(m);
    m.attr("TORCH_VERSION") = TDS_TORCH_VERSION;
    m.attr("MIN_SIZE") = TDS_MIN_SIZE;
    m.attr("MAX_SIZE") = TDS_MAX_SIZE;
    m.attr("MAX_GROUP") = TDS_MAX_PENDING - 1;
    m.attr("MAX_QP") = TDS_MAX_QP;
    m.attr("MAX_THREADS") = TDS_MAX_THREADS;
    m.attr("MAX_LOOK_AHEAD") = TDS_MAX_LOOK_AHEAD;
    m.attr("DEFAULT_MAX_GROUP") = d.max_group;
    m.attr("DEFAULT_MAX_BATCH") = d.max_batch;
    m.def("native_dir", [] {
        const py::object path = py::module_::import("os.path");
        const py::object self = py::module_::import("tds._tds").attr("__file__");
        return path.attr("join")(path.attr("dirname")(self), "_native");
    });
}
