#include "cuda/simt/exec/thread_pool.h"

namespace simt {

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void ThreadPool::run(unsigned threads, void (*job)(void*, unsigned), void* context) {
  const unsigned helpers = threads - 1;
  if (helpers > 0) {
    const std::lock_guard lock(mutex_);
    while (helpers_.size() < helpers) {
      const auto number = static_cast<unsigned>(helpers_.size()) + 1;
      helpers_.emplace_back([this, number] { serve(number); });
    }
    job_ = job;
    context_ = context;
    wanted_ = running_ = helpers;
    ++round_;
    start_.notify_all();
  }
  job(context, 0);
  if (helpers > 0) {
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [this] { return running_ == 0; });
  }
}

void ThreadPool::serve(unsigned number) {
  unsigned seen = 0;
  std::unique_lock lock(mutex_);
  for (;;) {
    start_.wait(lock, [&] { return stop_ || (round_ != seen && number <= wanted_ && running_ > 0); });
    if (stop_) return;
    seen = round_;
    lock.unlock();
    job_(context_, number);
    lock.lock();
    if (--running_ == 0) finished_.notify_one();
  }
}

}  // namespace simt
