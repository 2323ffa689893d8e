#include "cuda/simt/exec/schedule.h"

#include <algorithm>
#include <array>
#include <string>

#include "cuda/simt/counters.h"

namespace simt {
namespace {

// Chosen so that each class of synchronisation bug shows under at least one: late landing exposes a missing wait, early
// landing a buffer overwritten too soon, skew a warp that runs ahead, descending order what ascending order happens to
// satisfy. Random order keeps warps near lockstep and so is the least useful alone.
constexpr std::array<Schedule, 4> kSchedules{{
    {"ascending-late", Order::kAscending, Landing::kLate, Arithmetic::kNominal},
    {"skew-random", Order::kSkew, Landing::kRandom, Arithmetic::kNominal},
    {"descending-early", Order::kDescending, Landing::kEarly, Arithmetic::kHostile},
    {"random-late", Order::kRandom, Landing::kLate, Arithmetic::kHostile},
}};

// CUDA C++ Programming Guide, Technical Specifications per Compute Capability: maximum shared memory of a block.
constexpr std::array<LaunchLimits, 6> kArchitectures{{
    {80, 163 * 1024},
    {86, 99 * 1024},
    {89, 99 * 1024},
    {90, 227 * 1024},
    {100, 227 * 1024},
    {120, 99 * 1024},
}};

}  // namespace

Settings& settings() {
  static Settings value{.schedule = kSchedules[0], .limits = kArchitectures[3]};
  return value;
}

std::span<const Schedule> schedules() { return kSchedules; }

void set_schedule(std::size_t index, std::uint64_t seed) {
  if (index >= kSchedules.size()) {
    throw std::out_of_range("set_schedule: index = " + std::to_string(index) + "; want less than " +
                            std::to_string(kSchedules.size()));
  }
  set_schedule(kSchedules[index], seed);
}
void set_schedule(const Schedule& schedule, std::uint64_t seed) {
  settings().schedule = schedule;
  settings().seed = seed;
}
const Schedule& current_schedule() { return settings().schedule; }

void set_workers(int count) {
  if (count < 0) throw std::invalid_argument("set_workers: count = " + std::to_string(count) + "; want 0 or more");
  settings().workers = count;
}


void set_architecture(int sm) {
  const auto found = std::ranges::find(kArchitectures, sm, &LaunchLimits::sm);
  if (found == kArchitectures.end()) {
    throw std::invalid_argument("set_architecture: sm = " + std::to_string(sm) + "; want 80, 86, 89, 90, 100 or 120");
  }
  settings().limits = *found;
}

void Random::seed(std::uint64_t a, std::uint64_t b) {
  const auto mix = [](std::uint64_t z) {  // splitmix64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  };
  state_ = mix(mix(a + 0x9E3779B97F4A7C15ull) + b + 0x9E3779B97F4A7C15ull) | 1;
}

}  // namespace simt
