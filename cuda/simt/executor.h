// The CPU executor as its users see it (candidate glue, tests, benchmarks): schedules, workers, device memory, errors.
// Kernel sources include simt.cuh instead. Host only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

namespace simt {

// A kernel did what CUDA forbids, or a launch cannot be done. The text names what, where (file:line), thread and block.
struct Error : std::runtime_error {
  explicit Error(const std::string& text);
};

enum class Order {  // which runnable thread goes next
  kAscending,       // round robin, lowest first
  kDescending,      // round robin, highest first
  kRandom,          // any
  kSkew,            // one warp as far as it goes, then another
};
enum class Landing {  // when an asynchronous copy arrives, within what the programming model permits
  kLate,              // only when waited for
  kEarly,             // at once
  kRandom,            // either
};
enum class Arithmetic {  // what is done with the freedom that CUDA and PTX leave to inexact operations
  kNominal,              // the kind reading: nearest results
  kHostile,              // errors as large as documented, sums in another order and truncated
};

struct Schedule {
  const char* name;
  Order order;
  Landing landing;
  Arithmetic arithmetic;
};

// The four fixed schedules: two nominal, two hostile. A deterministic kernel gives the same bits under both of a pair.
std::span<const Schedule> schedules();

// Selects the schedule of all later launches; `seed` feeds its random choices, which depend on nothing else.
// Throws std::out_of_range. At start: schedule 0, seed 1.
void set_schedule(std::size_t index, std::uint64_t seed);
void set_schedule(const Schedule& schedule, std::uint64_t seed);  // any other combination, for tests
const Schedule& current_schedule();

// Operating system threads that share the blocks of a launch; 0: one for each hardware thread (at start).
// Results do not depend on it.
void set_workers(int count);

// Whose launch limits apply: 80, 86, 89, 90, 100 or 120 (at start 90). Throws std::invalid_argument.
void set_architecture(int sm);

// Device memory: 256-byte aligned, poisoned (all bits set: NaN), with red zones on both sides that every launch checks
// when it ends. Throw Error if the memory is not there or the range leaves its allocation. device_free(nullptr) is
// legal.
void* device_alloc(std::size_t bytes);
void device_free(void* data);
void device_upload(void* device, const void* host, std::size_t bytes);
void device_download(void* host, const void* device, std::size_t bytes);

}  // namespace simt
