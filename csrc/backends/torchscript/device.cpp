// SPDX-License-Identifier: LGPL-2.1-or-later
#include "backends/torchscript/device.h"

#include "backends/torchscript/failure.h"

#include <ATen/Parallel.h>
#include <torch/cuda.h>

#include <cstdlib>

// Of the OpenMP that torch brings; a torch without has one thread anyway.
extern "C" {
__attribute__((weak)) void omp_set_num_threads(int count);
__attribute__((weak)) int omp_get_max_threads(void);
}

namespace tds {
namespace {

int device_count() {
    return torch::cuda::is_available() ? static_cast<int>(torch::cuda::device_count()) : 0;
}

bool cuda_works(int index) {
    try {
        at::zeros({1}, at::device(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index))))
            .add_(1)
            .cpu();
        return true;
    } catch (const std::exception &) {
        return false;
    }
}

} // namespace

std::string device_names() {
    std::string names = "cpu";
    for (int i = 0; i < device_count(); i++) {
        names += ",cuda:" + std::to_string(i);
    }
    return names;
}

at::Device choose_device(const std::string &name) {
    const int count = device_count();
    if (name == "cpu") {
        return at::kCPU;
    }
    if (name == "auto") {
        for (int i = 0; i < count; i++) {
            if (cuda_works(i)) {
                return {at::kCUDA, static_cast<c10::DeviceIndex>(i)};
            }
        }
        return at::kCPU;
    }
    const int index = name == "cuda" ? 0 : std::atoi(name.c_str() + 5);
    if (!at::hasCUDA()) {
        throw Failure(TDS_ERROR_DEVICE, "device " + name +
                                            ": the installed torch has no CUDA; install a CUDA "
                                            "build of torch, or use device cpu");
    }
    if (index >= count) {
        throw Failure(TDS_ERROR_DEVICE,
                      "device " + name + ": there " +
                          (count == 1 ? "is 1 CUDA device"
                                      : "are " + std::to_string(count) + " CUDA devices") +
                          " here; use device cpu or auto");
    }
    if (!cuda_works(index)) {
        throw Failure(TDS_ERROR_DEVICE, "device " + name + " is there but does not work");
    }
    return {at::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

bool cpu_has_bfloat16() {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bf16") != 0;
#else
    return false;
#endif
}

Threads::Threads(int count) {
    at::get_num_threads(); // a thread new to torch takes torch's number here, and only here
    before_ = omp_get_max_threads ? omp_get_max_threads() : 1;
    if (omp_set_num_threads && count != before_) {
        omp_set_num_threads(count);
    }
}

Threads::~Threads() {
    if (omp_set_num_threads && omp_get_max_threads() != before_) {
        omp_set_num_threads(before_);
    }
}

OnDevice::OnDevice(at::Device device) : cuda_(device.is_cuda()) {
    if (cuda_) {
        stream_.emplace(c10::Stream(c10::Stream::DEFAULT, device));
        tf32_ = at::globalContext().allowTF32CuDNN();
        at::globalContext().setAllowTF32CuDNN(false);
    }
}

OnDevice::~OnDevice() {
    if (cuda_) {
        at::globalContext().setAllowTF32CuDNN(tf32_);
    }
}

} // namespace tds
