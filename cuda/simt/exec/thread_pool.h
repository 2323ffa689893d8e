// Operating system threads that wait for launches.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace simt {

class ThreadPool {
 public:
  ~ThreadPool();
  // Calls job(context, 0) here and job(context, 1 .. threads - 1) on other threads; returns when all have returned.
  void run(unsigned threads, void (*job)(void* context, unsigned number), void* context);

 private:
  void serve(unsigned number);

  std::vector<std::thread> helpers_;
  std::mutex mutex_;
  std::condition_variable start_, finished_;
  unsigned round_ = 0;   // of the current job
  unsigned wanted_ = 0;  // helpers that take part in it
  unsigned running_ = 0;
  bool stop_ = false;
  void (*job_)(void*, unsigned) = nullptr;
  void* context_ = nullptr;
};

}  // namespace simt
