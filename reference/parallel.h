// Threads. Work is cut into pieces of a fixed size that do not depend on the number of threads; whoever is free takes the
// next piece. So results do not depend on the number of threads, nor on OpenMP being there at all.
#pragma once

#include <cstdint>
#include <functional>

namespace assay::reference {

// n >= 1 threads from now on, for the whole process; 0: as many as the machine has. Throws std::invalid_argument if n < 0.
void set_threads(int n);
int threads();
// That a parallel_for called here would run on: 1 inside another.
int threads_here();

// body(begin, end) for [0, grain), [grain, 2 grain), ... up to count. Inside another parallel_for it runs on one thread.
// The first exception of a piece is rethrown after all pieces have ended.
void parallel_for(std::int64_t count, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body);

}  // namespace assay::reference
