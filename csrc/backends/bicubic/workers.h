// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tds {

// A few threads that share the parts of one job with the caller.
class Workers {
  public:
    explicit Workers(int threads); // the caller's own among them
    ~Workers();
    Workers(const Workers &) = delete;
    Workers &operator=(const Workers &) = delete;

    int threads() const { return static_cast<int>(workers_.size()) + 1; }
    // Calls part(0) to part(count - 1), in any order and at the same time;
    // returns when all are done. Throws what one of them threw; others may then
    // not have been called.
    void run(int count, const std::function<void(int)> &part);

  private:
    void work();
    void do_one(int part, std::unique_lock<std::mutex> &lock);

    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    const std::function<void(int)> *part_ = nullptr;
    int next_ = 0, count_ = 0, running_ = 0;
    bool stop_ = false;
    std::exception_ptr error_;
};

} // namespace tds
