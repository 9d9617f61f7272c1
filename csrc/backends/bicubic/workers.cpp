// SPDX-License-Identifier: LGPL-2.1-or-later
#include "backends/bicubic/workers.h"

#include <system_error>

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
            lock.unlock();
            (*part_)(part);
            lock.lock();
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
        const int i = next_++;
        lock.unlock();
        part(i);
        lock.lock();
    }
    done_.wait(lock, [this] { return running_ == 0; });
    part_ = nullptr;
    count_ = 0;
    next_ = 0;
}

} // namespace tds
