// What the self-test asks of a device: memory, a launch that is waited for, and what the device is. CUDA's runtime API
// on a GPU or whatever stands in for it, the executor on the CPU.
#pragma once

#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda/simt/simt.cuh"
#if SIMT_HOST
#include "cuda/simt/executor.h"
#endif

namespace simt::selftest {

#if !SIMT_HOST
// Throws std::runtime_error.
inline void check_cuda(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // the next launch starts clean, if the context survived
  throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(status));
}
#endif

// Device memory.
template <class T>
class Array {
 public:
  explicit Array(std::size_t count) : count_(count) {
#if SIMT_HOST
    data_ = static_cast<T*>(device_alloc(bytes()));
#else
    void* data = nullptr;
    check_cuda(cudaMalloc(&data, bytes()), "cudaMalloc");
    data_ = static_cast<T*>(data);
#endif
  }
  explicit Array(const std::vector<T>& host) : Array(host.size()) {
#if SIMT_HOST
    device_upload(data_, host.data(), bytes());
#else
    check_cuda(cudaMemcpy(data_, host.data(), bytes(), cudaMemcpyHostToDevice), "cudaMemcpy");
#endif
  }
  ~Array() {
#if SIMT_HOST
    device_free(data_);
#else
    cudaFree(data_);
#endif
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  operator T*() const { return data_; }
  std::vector<T> host() const {
    std::vector<T> values(count_);
#if SIMT_HOST
    device_download(values.data(), data_, bytes());
#else
    check_cuda(cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost), "cudaMemcpy");
#endif
    return values;
  }

 private:
  std::size_t bytes() const { return count_ * sizeof(T); }
  std::size_t count_;
  T* data_ = nullptr;
};

// Waits for all launches. Throws std::runtime_error.
inline void finish() {
#if !SIMT_HOST
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
#endif
}

class Stream {
 public:
  Stream() {
#if !SIMT_HOST
    check_cuda(cudaStreamCreate(&stream_), "cudaStreamCreate");
#endif
  }
  ~Stream() {
#if !SIMT_HOST
    cudaStreamDestroy(stream_);
#endif
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// Launches and waits. Throws std::runtime_error.
template <class... Parameters, class... Arguments>
void run(void (*kernel)(Parameters...), dim3 grid, dim3 block, Arguments&&... arguments) {
#if SIMT_HOST
  launch(kernel, {.grid = grid, .block = block}, std::forward<Arguments>(arguments)...);
#else
  std::tuple<std::decay_t<Parameters>...> values{std::forward<Arguments>(arguments)...};
  std::apply(
      [&](auto&... value) {
        void* pointers[] = {const_cast<void*>(static_cast<const void*>(&value))...};
        const void* function = reinterpret_cast<const void*>(kernel);
        check_cuda(cudaLaunchKernel(function, grid, block, pointers, 0, nullptr), "cudaLaunchKernel");
      },
      values);
  finish();
#endif
}

// One thread for each element: out[i] = Function::apply(in[i]...).
template <class Function, class Out, class... In>
__global__ void map_kernel(Out* out, int n, const In*... in) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) out[i] = Function::apply(in[i]...);
}
template <class Function, class Out, class... In>
std::vector<Out> map(const std::vector<In>&... in) {
  const int n = static_cast<int>(std::get<0>(std::tie(in...)).size());
  const Array<Out> out(static_cast<std::size_t>(n));
  run(map_kernel<Function, Out, In...>, dim3((n + 127) / 128), dim3(128), out, n, Array<In>(in)...);
  return out.host();
}

// The same bits as another type.
template <class To, class From>
__host__ __device__ inline To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(static_cast<void*>(&to), static_cast<const void*>(&from), sizeof to);
  return to;
}

}  // namespace simt::selftest
