// Launching a kernel: cudaLaunchKernel on a GPU, the executor on the CPU.
//   simt::launch(kernel, {.grid = rows, .block = 256, .smem = bytes, .stream = stream}, x, y, n);
#pragma once

#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

#include "cuda/simt/platform.cuh"

namespace simt {

struct Launch {
  dim3 grid, block;
  unsigned smem = 0;              // dynamic shared memory, bytes
  cudaStream_t stream = nullptr;  // the CPU executor has finished when launch() returns
  unsigned group = 1;             // blocks that must be resident together because they wait for each other
#if SIMT_HOST
  Site site = Site::here();
#endif
};

#if SIMT_HOST
// Throws simt::Error for an impossible launch and for whatever the kernel does wrong.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const Launch& l, Arguments&&... arguments) {
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<std::decay_t<Parameters>...> arguments;
  } call{kernel, {std::forward<Arguments>(arguments)...}};
  const auto invoke = [](void* context) {
    auto& c = *static_cast<Call*>(context);
    std::apply(c.kernel, c.arguments);
  };
  run_grid({l.grid, l.block, l.smem, l.group, l.site}, invoke, &call);
}
#else
// Throws std::runtime_error naming the kernel and the failing call.
inline void check_launch(cudaError_t status, const void* kernel, const char* call) {
  if (status == cudaSuccess) return;
  const char* name = nullptr;
  if (cudaFuncGetName(&name, kernel) != cudaSuccess) name = "unknown kernel";
  throw std::runtime_error(std::string(name) + ": " + call + ": " + cudaGetErrorString(status));
}
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const Launch& l, Arguments&&... arguments) {
  const void* function = reinterpret_cast<const void*>(kernel);
  constexpr unsigned kWithoutOptIn = 48 * 1024;
  if (l.smem > kWithoutOptIn) {
    check_launch(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(l.smem)),
                 function, "cudaFuncSetAttribute(MaxDynamicSharedMemorySize)");
  }
  std::tuple<std::decay_t<Parameters>...> values{std::forward<Arguments>(arguments)...};
  std::apply(
      [&](auto&... value) {
        void* pointers[sizeof...(value) + 1] = {const_cast<void*>(static_cast<const void*>(&value))..., nullptr};
        if (l.group > 1) {  // the driver refuses what cannot be resident together
          check_launch(cudaLaunchCooperativeKernel(function, l.grid, l.block, pointers, l.smem, l.stream), function,
                       "cudaLaunchCooperativeKernel");
        } else {
          check_launch(cudaLaunchKernel(function, l.grid, l.block, pointers, l.smem, l.stream), function,
                       "cudaLaunchKernel");
        }
      },
      values);
}
#endif

}  // namespace simt
