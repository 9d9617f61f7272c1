// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Where a model runs, and what must hold of torch in the thread that runs it.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>

#include <optional>
#include <string>

namespace tds {

// "auto", "cpu", "cuda", "cuda:N". Throws Failure when it is not there or does not work.
at::Device choose_device(const std::string &name);

// "cpu,cuda:0"
std::string device_names();

// Whether the processor computes in bfloat16 (AVX512-BF16; every one with AMX has that too).
bool cpu_has_bfloat16();

// How many threads torch's operations use in this thread, while this lives; what it was comes
// back. Of OpenMP and not of torch, whose own number belongs to the whole process.
class Threads {
  public:
    explicit Threads(int count);
    ~Threads();
    Threads(const Threads &) = delete;
    Threads &operator=(const Threads &) = delete;

  private:
    int before_;
};

// On a CUDA device: the default stream, which callers count on (`cuda_stream`), though torch's
// current one in this thread may be another; and float32 that is float32, since torch lets
// convolutions round to TF32 by default.
class OnDevice {
  public:
    explicit OnDevice(at::Device device);
    ~OnDevice();
    OnDevice(const OnDevice &) = delete;
    OnDevice &operator=(const OnDevice &) = delete;

  private:
    bool cuda_;
    bool tf32_ = false;
    std::optional<c10::StreamGuard> stream_;
};

} // namespace tds
