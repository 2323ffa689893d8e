#include <cuda_runtime_api.h>

#include <stdexcept>

#include "cuda/candidate/device.h"

namespace assay::gpu::device {
namespace {

void check(cudaError_t status, const char* call) {
  if (status != cudaSuccess) throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(status));
}

}  // namespace

const DLDeviceType kType = kDLCUDA;

std::string target() {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  return std::string("cuda:") + properties.name;
}

void* allocate(std::size_t bytes) {
  void* data = nullptr;
  check(cudaMalloc(&data, bytes), "cudaMalloc");
  return data;
}

void release(void* data) { cudaFree(data); }  // an earlier launch's error is synchronize's to report

void upload(void* device, const void* host, std::size_t bytes) {
  check(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice), "cudaMemcpy to the device");
}

void download(void* host, const void* device, std::size_t bytes) {
  check(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy to the host");
}

void synchronize(void* stream) {
  check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "cudaStreamSynchronize");
}

std::span<const assay_schedule> schedules() { return {}; }
void select_schedule(std::int32_t, std::uint64_t) { throw std::logic_error("a GPU has no schedules to select"); }

const bool kCanCount = false;
void set_counting(bool) { throw std::logic_error("a GPU's work is not counted"); }
std::span<const assay_counter> counters() { return {}; }

}  // namespace assay::gpu::device
