// simt_selftest: runs every wrapper of cuda/simt on edge and random operands against a scalar model.
//
//   simt_selftest [--list] [--only GROUP]
//
// One line a test: PASSED, FAILED with operands, ERROR where a launch did not end well, NOT RUN where the device's code
// lacks an instruction. Each group runs in a process of its own, so that a lost context costs one group.
// Exit code 0: all that ran passed. 1: something failed. 2: bad usage. 77: SKIPPED, there is no device.
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda/simt/selftest/check.h"
#include "cuda/simt/selftest/device.cuh"

namespace simt::selftest {
namespace {

constexpr int kSkipped = 77;

struct Group {
  const char* name;
  std::vector<Test> (*tests)();
};
const Group kGroups[] = {
    {"warp", warp_tests}, {"barrier", barrier_tests}, {"atomic", atomic_tests},        {"memory", memory_tests},
    {"math", math_tests}, {"matrix", matrix_tests},   {"async_copy", async_copy_tests}};

// ---- the device

__global__ void target_kernel(int* sm) {
#if SIMT_HOST
  *sm = INT_MAX;  // the executor knows every instruction
#else
#ifdef __CUDA_ARCH__
  *sm = __CUDA_ARCH__ / 10;
#endif
#endif
}
// The target that the code on this device was compiled for: 80, 90, ...
int target_sm() {
  const Array<int> sm(1);
  run(target_kernel, 1, 1, sm);
  return sm.host()[0];
}

// Empty if there is none.
std::string device_name() {
#if SIMT_HOST
  return "the CPU executor";
#else
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return {};
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  return properties.name;
#endif
}

// ---- one group, in this process

// Calls body once on a GPU, once for each schedule of the executor.
template <class Body>
void for_each_schedule(Body body) {
#if SIMT_HOST
  for (std::size_t i = 0; i < schedules().size(); ++i) {
    set_schedule(i, 1);
    body();
  }
#else
  body();
#endif
}

// True if nothing went wrong.
bool run_test(const Test& test, int sm) {
  if (sm < test.needs_sm) {
    std::printf("NOT RUN %s: needs sm_%d, this code is for sm_%d\n", test.name, test.needs_sm, sm);
    return true;
  }
  Check check;
  try {
    for_each_schedule([&] { test.run(check); });
  } catch (const std::exception& error) {
    std::printf("ERROR %s: %s\n", test.name, error.what());
    return false;
  }
  if (check.failures() == 0 && check.values() > 0) {
    std::printf("PASSED %s %ld values\n", test.name, check.values());
    return true;
  }
  std::printf("FAILED %s %ld of %ld values\n", test.name, check.failures(), check.values());
  for (const std::string& failure : check.first_failures()) std::printf("  %s\n", failure.c_str());
  return false;
}

int run_group(const Group& group) {
  bool good = true;
  try {
    const int sm = target_sm();
    for (const Test& test : group.tests()) {
      good &= run_test(test, sm);
      std::fflush(stdout);
    }
  } catch (const std::exception& error) {
    std::printf("ERROR %s: %s\n", group.name, error.what());
    good = false;
  }
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

// ---- all groups, each in its own process

struct Totals {
  long tests = 0, values = 0, not_run = 0, bad = 0;
};
// Counts a line of a group's output.
void count(const char* line, Totals& totals) {
  long values = 0;
  if (std::sscanf(line, "PASSED %*s %ld values", &values) == 1) {
    ++totals.tests;
    totals.values += values;
  } else if (std::strncmp(line, "NOT RUN ", 8) == 0) {
    ++totals.not_run;
  } else if (std::strncmp(line, "FAILED ", 7) == 0 || std::strncmp(line, "ERROR ", 6) == 0) {
    ++totals.bad;
  }
}
void run_in_process(const Group& group, Totals& totals) {
  char self[PATH_MAX] = {};
  if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) throw std::runtime_error("cannot read /proc/self/exe");
  const std::string command = "exec '" + std::string(self) + "' --only " + group.name;
  std::fflush(stdout);
  FILE* output = popen(command.c_str(), "r");
  if (output == nullptr) throw std::runtime_error("cannot start " + command);
  const long bad_before = totals.bad;
  char* line = nullptr;
  std::size_t capacity = 0;
  while (getline(&line, &capacity, output) >= 0) {
    std::fputs(line, stdout);
    count(line, totals);
  }
  std::free(line);
  const int status = pclose(output);
  if (status != 0 && totals.bad == bad_before) {  // it said nothing of what went wrong
    std::printf("ERROR %s: the group's process ended with status 0x%x\n", group.name, status);
    ++totals.bad;
  }
}
int run_all(const std::string& device) {
  Totals totals;
  for (const Group& group : kGroups) run_in_process(group, totals);
  const std::string not_run = totals.not_run == 0 ? "" : ", " + std::to_string(totals.not_run) + " not run";
  if (totals.bad > 0) {
    std::printf("FAILED: %ld of %ld wrappers%s on %s\n", totals.bad, totals.bad + totals.tests, not_run.c_str(),
                device.c_str());
    return EXIT_FAILURE;
  }
  std::printf("PASSED: %ld wrappers, %ld values%s on %s\n", totals.tests, totals.values, not_run.c_str(),
              device.c_str());
  return EXIT_SUCCESS;
}

int main_of(const std::vector<std::string>& arguments) {
  if (arguments == std::vector<std::string>{"--list"}) {
    for (const Group& group : kGroups) {
      std::printf("%s\n", group.name);
      for (const Test& test : group.tests()) std::printf("  %s\n", test.name);
    }
    return EXIT_SUCCESS;
  }
  const Group* only = nullptr;
  if (arguments.size() == 2 && arguments[0] == "--only") {
    for (const Group& group : kGroups) {
      if (group.name == arguments[1]) only = &group;
    }
  }
  if (only == nullptr && !arguments.empty()) {
    std::fprintf(stderr, "usage: simt_selftest [--list] [--only GROUP]\ngroups:");
    for (const Group& group : kGroups) std::fprintf(stderr, " %s", group.name);
    std::fprintf(stderr, "\n");
    return 2;
  }
  const std::string device = device_name();
  if (device.empty()) {
    std::printf("SKIPPED: no CUDA device\n");
    return kSkipped;
  }
  return only != nullptr ? run_group(*only) : run_all(device);
}

}  // namespace
}  // namespace simt::selftest

int main(int argc, char** argv) {
  try {
    return simt::selftest::main_of({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::printf("ERROR: %s\n", error.what());
    return EXIT_FAILURE;
  }
}
