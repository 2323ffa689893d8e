// __trap ends the launch with an error.
#include "cuda/simt/selftest/check.h"
#include "cuda/simt/selftest/device.cuh"

namespace simt::selftest {
namespace {

__global__ void trap_kernel(int* x, int which) {
  if (static_cast<int>(threadIdx.x) == which) __trap();
  x[threadIdx.x] = 1;
}
void trap_test(Check& check) {
  const Array<int> x(64);
  run(trap_kernel, 1, 64, x, -1);
  bool ended = false;
  try {
    run(trap_kernel, 1, 64, x, 33);
  } catch (const std::exception&) {
    ended = true;
  }
  check.expect(ended, [] { return std::string("the launch ended well"); });
}

}  // namespace

std::vector<Test> trap_tests() { return {{"trap.__trap", trap_test, "trap"}}; }

}  // namespace simt::selftest
