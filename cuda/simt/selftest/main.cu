// simt_selftest: runs every wrapper of cuda/simt on edge and random operands against a scalar model.
//
//   simt_selftest [--list] [--only GROUP]
//
// One line a test: PASSED, FAILED with operands, ERROR where a launch did not end well, each with the PTX instructions
// that are behind the wrapper; NOT RUN where the device's code lacks an instruction. Tests run in a process of their
// own, and after an error in a new one, so that a lost context, a crash or a hang costs one test.
// Exit code 0: all that ran passed. 1: something failed. 2: bad usage. 77: SKIPPED, there is no device.
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda/simt/selftest/check.h"
#include "cuda/simt/selftest/device.cuh"

namespace simt::selftest {
namespace {

constexpr int kSkipped = 77;
constexpr int kErrorInTest = 3;            // of a process that ran tests: the context may be lost
constexpr unsigned kSecondsOfATest = 300;  // then it hangs

struct Group {
  const char* name;
  std::vector<Test> (*tests)();
};
const Group kGroups[] = {
    {"warp", warp_tests},     {"barrier", barrier_tests},       {"atomic", atomic_tests}, {"memory", memory_tests},
    {"math", math_tests},     {"convert", convert_tests},       {"fp8", fp8_tests},       {"half", half_tests},
    {"matrix", matrix_tests}, {"async_copy", async_copy_tests}, {"launch", launch_tests}, {"trap", trap_tests}};
const Group* find_group(const std::string& name) {
  for (const Group& group : kGroups) {
    if (group.name == name) return &group;
  }
  return nullptr;
}

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

// ---- tests, in this process

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

enum class Outcome { kGood, kFailed, kError };
Outcome run_test(const Test& test) {
  Check check;
  try {
    if (const int sm = target_sm(); sm < test.needs_sm) {
      std::printf("NOT RUN %s: needs sm_%d, this code is for sm_%d\n", test.name, test.needs_sm, sm);
      return Outcome::kGood;
    }
    for_each_schedule([&] { test.run(check); });
  } catch (const std::exception& error) {
    std::printf("ERROR %s (PTX: %s): %s\n", test.name, test.ptx, error.what());
    return Outcome::kError;
  }
  if (check.failures() == 0 && check.values() > 0) {
    std::printf("PASSED %s %ld values\n", test.name, check.values());
    return Outcome::kGood;
  }
  std::printf("FAILED %s (PTX: %s): %ld of %ld values\n", test.name, test.ptx, check.failures(), check.values());
  for (const std::string& failure : check.first_failures()) std::printf("  %s\n", failure.c_str());
  return Outcome::kFailed;
}
// The tests of a group from number `first` to the first error.
int run_tests(const Group& group, std::size_t first) {
  const std::vector<Test> tests = group.tests();
  bool good = true;
  for (std::size_t i = first; i < tests.size(); ++i) {
    alarm(kSecondsOfATest);
    const Outcome outcome = run_test(tests[i]);
    std::fflush(stdout);
    if (outcome == Outcome::kError) return kErrorInTest;
    good &= outcome == Outcome::kGood;
  }
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

// ---- groups, in other processes

struct Totals {
  long good = 0, values = 0, not_run = 0, bad = 0;
  long tests() const { return good + not_run + bad; }
};
// Counts a line of a group's output.
void count(const char* line, Totals& totals) {
  long values = 0;
  if (std::sscanf(line, "PASSED %*s %ld values", &values) == 1) {
    ++totals.good;
    totals.values += values;
  } else if (std::strncmp(line, "NOT RUN ", 8) == 0) {
    ++totals.not_run;
  } else if (std::strncmp(line, "FAILED ", 7) == 0 || std::strncmp(line, "ERROR ", 6) == 0) {
    ++totals.bad;
  }
}
// The exit status of a process that runs tests of the group from number `first`.
int run_in_process(const Group& group, std::size_t first, Totals& totals) {
  char self[PATH_MAX] = {};
  if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) throw std::runtime_error("cannot read /proc/self/exe");
  const std::string command = "exec '" + std::string(self) + "' --tests " + group.name + " " + std::to_string(first);
  std::fflush(stdout);
  FILE* output = popen(command.c_str(), "r");
  if (output == nullptr) throw std::runtime_error("cannot start " + command);
  char* line = nullptr;
  std::size_t capacity = 0;
  while (getline(&line, &capacity, output) >= 0) {
    std::fputs(line, stdout);
    count(line, totals);
  }
  std::free(line);
  return pclose(output);
}
void run_group(const Group& group, Totals& totals) {
  const std::vector<Test> tests = group.tests();
  const long before = totals.tests();
  for (std::size_t done = 0; done < tests.size(); done = static_cast<std::size_t>(totals.tests() - before)) {
    const int status = run_in_process(group, done, totals);
    const auto reached = static_cast<std::size_t>(totals.tests() - before);
    const bool said_so = WIFEXITED(status) && WEXITSTATUS(status) == kErrorInTest;
    if (reached < tests.size() && !said_so) {
      const Test& test = tests[reached];
      const bool hung = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
      const std::string end = hung                  ? "did not end within " + std::to_string(kSecondsOfATest) + " s"
                              : WIFSIGNALED(status) ? "killed by signal " + std::to_string(WTERMSIG(status))
                                                    : "its process ended with " + std::to_string(WEXITSTATUS(status));
      std::printf("ERROR %s (PTX: %s): %s\n", test.name, test.ptx, end.c_str());
      ++totals.bad;
    }
  }
}
int run_groups(const Group* only, const std::string& device) {
  Totals totals;
  for (const Group& group : kGroups) {
    if (only == nullptr || only == &group) run_group(group, totals);
  }
  const std::string not_run = totals.not_run == 0 ? "" : ", " + std::to_string(totals.not_run) + " not run";
  if (totals.bad > 0) {
    std::printf("FAILED: %ld of %ld tests%s on %s\n", totals.bad, totals.bad + totals.good, not_run.c_str(),
                device.c_str());
    return EXIT_FAILURE;
  }
  std::printf("PASSED: %ld tests, %ld values%s on %s\n", totals.good, totals.values, not_run.c_str(), device.c_str());
  return EXIT_SUCCESS;
}

int main_of(const std::vector<std::string>& arguments) {
  if (arguments == std::vector<std::string>{"--list"}) {
    for (const Group& group : kGroups) {
      for (const Test& test : group.tests()) std::printf("%s\n", test.name);
    }
    return EXIT_SUCCESS;
  }
  const Group* named = arguments.size() >= 2 ? find_group(arguments[1]) : nullptr;
  if (arguments.size() == 3 && arguments[0] == "--tests" && named != nullptr) {  // from run_in_process()
    return run_tests(*named, static_cast<std::size_t>(std::stoul(arguments[2])));
  }
  const bool only = arguments.size() == 2 && arguments[0] == "--only" && named != nullptr;
  if (!only && !arguments.empty()) {
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
  return run_groups(named, device);
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
