// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A tds_result as Python's exceptions.
#pragma once

#include "tds/tds.h"

#include <pybind11/pybind11.h>

#include <sys/stat.h>

#include <cerrno>
#include <string>

namespace tds_python {

// Of a sentence: names of files in it need not be UTF-8.
inline pybind11::object text_of(const std::string &text) {
    return pybind11::reinterpret_steal<pybind11::object>(PyUnicode_DecodeUTF8(
        text.data(), static_cast<Py_ssize_t>(text.size()), "backslashreplace"));
}

[[noreturn]] inline void raise(PyObject *type, const std::string &text) {
    PyErr_SetObject(type, text_of(text).ptr());
    throw pybind11::error_already_set();
}

// The bytes that a name (str, bytes, os.PathLike) stands for; "" for None.
inline std::string path_of(const pybind11::object &path) {
    if (path.is_none()) {
        return "";
    }
    return pybind11::bytes(pybind11::module_::import("os").attr("fsencode")(path));
}

// The reverse.
inline pybind11::object name_of(const std::string &path) {
    return pybind11::module_::import("os").attr("fsdecode")(pybind11::bytes(path));
}

inline bool is_missing(const std::string &path) {
    struct stat info {};
    return stat(path.c_str(), &info) != 0 && errno == ENOENT;
}

[[noreturn]] inline void raise(tds_result result, const std::string &text,
                               const std::string &path = "") {
    switch (result) {
    case TDS_ERROR_MEMORY:
        raise(PyExc_MemoryError, text);
    case TDS_ERROR_UNSUPPORTED:
        raise(PyExc_NotImplementedError, text);
    case TDS_ERROR_MODEL:
        raise(!path.empty() && is_missing(path) ? PyExc_FileNotFoundError : PyExc_ValueError, text);
    case TDS_ERROR_INVALID:
    case TDS_ERROR_ORDER:
        raise(PyExc_ValueError, text);
    default:
        raise(PyExc_RuntimeError, text);
    }
}

inline tds_result check(tds_result result, const std::string &path = "") {
    if (result < 0) {
        raise(result, tds_last_error(), path);
    }
    return result;
}

} // namespace tds_python
