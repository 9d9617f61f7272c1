// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "backends/backend.h"
#include "session/error.h"
#include "session/picture.h"

namespace tds {

// A backend's table and one instance of it, with errors as exceptions.
class Engine {
  public:
    Engine(const tds_backend &backend, const tds_backend_config &config) : backend_(backend) {
        tds_backend_error error{};
        check(backend.open(&config, &instance_, &traits_, &error), error);
    }
    ~Engine() { backend_.close(instance_); }
    Engine(const Engine &) = delete;
    Engine &operator=(const Engine &) = delete;

    const char *name() const { return backend_.name; }
    const tds_backend_traits &traits() const { return traits_; }
    int64_t prepared() const { return prepared_; }

    void *prepare(const tds_picture &picture, const tds_backend_facts &facts) {
        tds_backend_error error{};
        void *handle = nullptr;
        check(backend_.prepare(instance_, &picture, &facts, &handle, &error), error);
        prepared_++;
        return handle;
    }
    void drop(void *handle) { backend_.drop(instance_, handle); }
    void enhance(const tds_backend_job *jobs, int32_t count) {
        tds_backend_error error{};
        check(backend_.enhance(instance_, jobs, count, &error), error);
        for (int32_t i = 0; i < count; i++) {
            prepared_ += jobs[i].keep ? 1 : 0;
        }
    }
    void upsample(const tds_picture &target, tds_picture &out) {
        tds_backend_error error{};
        check(backend_.upsample(instance_, &target, &out, &error), error);
    }
    bool has_device_memory() const { return backend_.allocate != nullptr; }
    void allocate(tds_picture &picture) {
        tds_backend_error error{};
        check(backend_.allocate(instance_, &picture, &error), error);
    }
    void copy(const tds_picture &from, tds_picture &to) {
        if (from.memory == TDS_MEMORY_HOST && to.memory == TDS_MEMORY_HOST) {
            copy_host(from, to);
            return;
        }
        tds_backend_error error{};
        check(backend_.copy(instance_, &from, &to, &error), error);
    }

  private:
    const tds_backend &backend_;
    void *instance_ = nullptr;
    tds_backend_traits traits_{};
    int64_t prepared_ = 0;
};

} // namespace tds
