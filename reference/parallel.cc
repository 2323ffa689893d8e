#include "reference/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace assay::reference {
namespace {
std::atomic<int> requested_threads{0};
}

void set_threads(int n) {
  if (n < 0) throw std::invalid_argument("set_threads: n = " + std::to_string(n) + "; want n >= 0");
  requested_threads = n;
}

int threads() {
#ifdef _OPENMP
  const int n = requested_threads;
  return n > 0 ? n : omp_get_num_procs();
#else
  return 1;
#endif
}

int threads_here() {
#ifdef _OPENMP
  return omp_in_parallel() ? 1 : threads();
#else
  return 1;
#endif
}

void parallel_for(std::int64_t count, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (count <= 0) return;
  if (grain <= 0) throw std::invalid_argument("parallel_for: grain = " + std::to_string(grain) + "; want grain > 0");
  const std::int64_t pieces = (count + grain - 1) / grain;
  const auto run = [&](std::int64_t piece) { body(piece * grain, std::min(count, (piece + 1) * grain)); };
#ifdef _OPENMP
  const int team = static_cast<int>(std::min<std::int64_t>(threads_here(), pieces));
  if (team > 1) {
    std::exception_ptr error;
    std::mutex error_guard;
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
      try {
        run(piece);
      } catch (...) {
        const std::lock_guard lock(error_guard);
        if (!error) error = std::current_exception();
      }
    }
    if (error) std::rethrow_exception(error);
    return;
  }
#endif
  for (std::int64_t piece = 0; piece < pieces; ++piece) run(piece);
}

}  // namespace assay::reference
