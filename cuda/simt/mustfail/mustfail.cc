// Runs twins of minimal pairs; mustfail.py starts this program and judges what it says.
//   simt_mustfail NAME good|bad SCHEDULE   one twin, in a process of its own: a sanitizer ends it
//   simt_mustfail good                     the correct twins of all pairs, under every schedule
// Prints "NAME SCHEDULE result HASH", or "NAME SCHEDULE error" and the executor's text.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cuda/simt/executor.h"
#include "cuda/simt/mustfail/case.h"
#include "cuda/simt/test_support.h"

namespace {

using simt::mustfail::Case;
using simt::mustfail::Memory;

// False if the executor refused.
bool run(const Case& c, Case::Twin twin, std::size_t schedule) {
  std::vector<float> ramp(Memory::kLength);
  for (int i = 0; i < Memory::kLength; ++i) ramp[i] = static_cast<float>(i + 1);
  const simt::testing::Buffer<float> x(ramp), y(std::vector<float>(Memory::kLength, 0)), unset(Memory::kLength);
  const simt::testing::Buffer<int> flags(std::vector<int>(Memory::kFlags, 0));
  simt::set_schedule(schedule, 1);
  simt::set_architecture(c.architecture);
  std::fprintf(stderr, "%s\n", c.name);
  const std::string error = simt::testing::error_of([&] {
    const Memory memory{.x = x, .y = y, .unset = unset, .flags = flags};
    c.launch ? simt::launch(twin, *c.launch, memory) : twin(memory);
  });
  std::printf("%s %s ", c.name, simt::current_schedule().name);
  if (!error.empty()) {
    std::printf("error\n%s\n", error.c_str());
    return false;
  }
#if defined(SIMT_MSAN)
  __msan_check_mem_is_initialized(static_cast<float*>(y), Memory::kLength * sizeof(float));
#endif
  unsigned long long hash = 0xCBF29CE484222325ull;
  for (const float value : y.host()) hash = (hash ^ __builtin_bit_cast(unsigned, value)) * 0x100000001B3ull;
  std::printf("result %016llx\n", hash);
  return true;
}

std::vector<Case> all_cases() {
  using namespace simt::mustfail;
  std::vector<Case> all;
  for (const auto& cases : {barrier_cases(), async_copy_cases(), collective_cases(), bounds_cases(), alignment_cases(),
                            uninitialised_cases(), race_cases(), progress_cases(), launch_limit_cases()}) {
    all.insert(all.end(), cases.begin(), cases.end());
  }
  return all;
}

int run_good_twins(const std::vector<Case>& cases) {
  bool clean = true;
  for (const Case& c : cases) {
    for (std::size_t schedule = 0; schedule < simt::schedules().size(); ++schedule) {
      clean = run(c, c.good, schedule) && clean;
    }
  }
  return clean ? EXIT_SUCCESS : EXIT_FAILURE;
}

int usage() {
  std::fputs("usage: simt_mustfail good | simt_mustfail NAME good|bad SCHEDULE (0 .. 3)\n", stderr);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  simt::set_workers(1);  // the same order of blocks every time
  const std::vector<Case> cases = all_cases();
  if (argc == 2 && std::strcmp(argv[1], "good") == 0) return run_good_twins(cases);
  if (argc != 4 || std::strlen(argv[3]) != 1 || argv[3][0] < '0' || argv[3][0] > '3') return usage();
  const bool bad = std::strcmp(argv[2], "bad") == 0;
  if (!bad && std::strcmp(argv[2], "good") != 0) return usage();
  for (const Case& c : cases) {
    if (std::strcmp(c.name, argv[1]) != 0) continue;
    return run(c, bad ? c.bad : c.good, static_cast<std::size_t>(argv[3][0] - '0')) ? EXIT_SUCCESS : EXIT_FAILURE;
  }
  std::fprintf(stderr, "no case is called %s\n", argv[1]);
  return 2;
}
