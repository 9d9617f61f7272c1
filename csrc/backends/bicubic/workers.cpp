// SPDX-License-Identifier: LGPL-2.1-or-later
#include "backends/bicubic/workers.h"

#include <system_error>
#include <utility>

namespace tds {

Workers::Workers(int threads) {
    for (int i = 1; i < threads; i++) {
        try {
            workers_.emplace_back([this] { work(); });
        } catch (const std::system_error &) {
            break; // a machine that gives no more threads: fewer will do
        }
    }
}

Workers::~Workers() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    for (std::thread &worker : workers_) {
        worker.join();
    }
}

void Workers::work() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
        wake_.wait(lock, [this] { return stop_ || next_ < count_; });
        if (stop_) {
            return;
        }
        while (next_ < count_) {
            const int part = next_++;
            running_++;
            do_one(part, lock);
            running_--;
        }
        if (running_ == 0) {
            done_.notify_all();
        }
    }
}

void Workers::run(int count, const std::function<void(int)> &part) {
    if (workers_.empty() || count <= 1) {
        for (int i = 0; i < count; i++) {
            part(i);
        }
        return;
    }
    std::unique_lock<std::mutex> lock(mutex_);
    part_ = &part;
    next_ = 0;
    count_ = count;
    wake_.notify_all();
    while (next_ < count_) {
        do_one(next_++, lock);
    }
    done_.wait(lock, [this] { return running_ == 0; });
    part_ = nullptr;
    count_ = 0;
    next_ = 0;
    if (error_) {
        std::rethrow_exception(std::exchange(error_, nullptr));
    }
}

// Without the lock. What it throws (memory may run out) is kept for `run`, once
// nobody works on the parts any more; the parts that are left are not begun.
void Workers::do_one(int part, std::unique_lock<std::mutex> &lock) {
    const std::function<void(int)> &function = *part_;
    lock.unlock();
    std::exception_ptr error;
    try {
        function(part);
    } catch (...) {
        error = std::current_exception();
    }
    lock.lock();
    if (error) {
        error_ = error;
        next_ = count_;
    }
}

} // namespace tds
