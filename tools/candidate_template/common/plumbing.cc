// One file for both targets: the CPU executor, where device memory is the host's, and a GPU.
#include "plumbing.h"

#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>

#if CANDIDATE_ON_GPU
#include <cuda_runtime_api.h>
#else
#include "cuda/simt/executor.h"
#endif

namespace plumbing {
namespace {

void write(char* text, std::size_t size, const char* source) {
  if (size > 0) std::snprintf(text, size, "%s", source);
}

// The interface knows return codes and text, C++ exceptions.
template <class Body>
int guarded(char* error, std::size_t error_size, Body body) {
  try {
    body();
    return 0;
  } catch (const std::exception& e) {
    write(error, error_size, e.what());
  }
  return 1;
}

#if CANDIDATE_ON_GPU
void check(cudaError_t status, const char* call) {
  if (status != cudaSuccess) throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(status));
}
int target(char* text, std::size_t size) {
  return guarded(text, size, [&] {
    cudaDeviceProp device;
    check(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
    write(text, size, (std::string("cuda:") + device.name).c_str());
  });
}
int allocate(std::size_t bytes, void** data, char* error, std::size_t error_size) {
  return guarded(error, error_size, [&] { check(cudaMalloc(data, bytes), "cudaMalloc"); });
}
void release(void* data) { cudaFree(data); }
int upload(void* device, const void* host, std::size_t bytes, char* error, std::size_t error_size) {
  return guarded(error, error_size,
                 [&] { check(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice), "cudaMemcpy to the device"); });
}
int download(void* host, const void* device, std::size_t bytes, char* error, std::size_t error_size) {
  return guarded(error, error_size,
                 [&] { check(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy to the host"); });
}
int synchronize(void* stream, char* error, std::size_t error_size) {
  return guarded(error, error_size,
                 [&] { check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "cudaStreamSynchronize"); });
}
#else
int target(char* text, std::size_t size) {
  write(text, size, "cpu:simt");
  return 0;
}
int allocate(std::size_t bytes, void** data, char* error, std::size_t error_size) {
  return guarded(error, error_size, [&] { *data = simt::device_alloc(bytes); });
}
void release(void* data) { simt::device_free(data); }
int upload(void* device, const void* host, std::size_t bytes, char* error, std::size_t error_size) {
  return guarded(error, error_size, [&] { simt::device_upload(device, host, bytes); });
}
int download(void* host, const void* device, std::size_t bytes, char* error, std::size_t error_size) {
  return guarded(error, error_size, [&] { simt::device_download(host, device, bytes); });
}
int synchronize(void*, char*, std::size_t) { return 0; }  // launches have finished when they return

constexpr int kSchedules = 4;
const assay_schedule* schedules() {
  static assay_schedule list[kSchedules];
  for (int i = 0; i < kSchedules; ++i) {
    const simt::Schedule& schedule = simt::schedules()[static_cast<std::size_t>(i)];
    list[i] = {schedule.name, schedule.arithmetic == simt::Arithmetic::kHostile ? "hostile" : "nominal"};
  }
  return list;
}
int select_schedule(std::int32_t index, std::uint64_t seed) {
  return guarded(nullptr, 0, [&] { simt::set_schedule(static_cast<std::size_t>(index), seed); });
}
#endif

Operation operation;

int contract(const assay_call* call, assay_contract* result) {
  assay_contract mine{};
  mine.struct_size = result->struct_size;
  mine.multiply = ASSAY_MULTIPLY_IEEE;
  mine.accumulate = ASSAY_ACCUMULATE_FP32;
  mine.functions = ASSAY_FUNCTIONS_ACCURATE;
  mine.deterministic = 1;
  if (operation.contract != nullptr) operation.contract(call, &mine);
  std::memcpy(result, &mine, result->struct_size < sizeof mine ? result->struct_size : sizeof mine);
  return 0;
}
const char* variant(const assay_call*) { return operation.name; }
std::size_t workspace_bytes(const assay_call* call) {
  return operation.workspace_bytes == nullptr ? 0 : operation.workspace_bytes(call);
}
std::size_t saved_bytes(const assay_call* call) {
  return operation.saved_bytes == nullptr ? 0 : operation.saved_bytes(call);
}
int run(const assay_call* call, void* stream, char* error, std::size_t error_size) {
  return guarded(error, error_size, [&] { operation.run(call, stream); });
}

}  // namespace

const DLTensor* find(const assay_call* call, const char* name) {
  for (std::size_t i = 0; i < call->tensor_count; ++i) {
    if (std::strcmp(call->tensors[i].name, name) == 0) return &call->tensors[i].tensor;
  }
  return nullptr;
}

const DLTensor& tensor(const assay_call* call, const char* name) {
  if (const DLTensor* found = find(call, name)) return *found;
  throw std::invalid_argument(std::string(call->op) + ": no tensor " + name);
}

double number(const assay_call* call, const char* name) {
  for (std::size_t i = 0; i < call->attribute_count; ++i) {
    const assay_attribute& a = call->attributes[i];
    if (std::strcmp(a.name, name) != 0) continue;
    if (a.kind == ASSAY_ATTRIBUTE_INT) return static_cast<double>(a.int_value);
    if (a.kind == ASSAY_ATTRIBUTE_FLOAT) return a.float_value;
  }
  throw std::invalid_argument(std::string(call->op) + ": no attribute " + name + " that is a number");
}

bool is_float32(const DLTensor& tensor) { return tensor.dtype.code == kDLFloat && tensor.dtype.bits == 32; }
bool is_bfloat16(const DLTensor& tensor) { return tensor.dtype.code == kDLBfloat && tensor.dtype.bits == 16; }

std::int64_t row_stride(const DLTensor& tensor) {
  if (tensor.ndim != 2) return -1;
  const bool contiguous_rows = tensor.strides[1] == 1 || tensor.shape[1] <= 1;
  return contiguous_rows ? tensor.strides[0] : -1;
}

int refuse(char* reason, std::size_t reason_size, const char* text) {
  write(reason, reason_size, text);
  return 0;
}

assay_candidate table_of(const Operation& mine) {
  operation = mine;
  assay_candidate table{};
  table.struct_size = sizeof table;
  table.abi_version = ASSAY_CANDIDATE_ABI_VERSION;
  table.name = mine.name;
  table.target = target;
  table.supports = mine.supports;
  table.contract = contract;
  table.variant = variant;
  table.workspace_bytes = workspace_bytes;
  table.saved_bytes = saved_bytes;
  table.run = run;
  table.allocate = allocate;
  table.free = release;
  table.upload = upload;
  table.download = download;
  table.synchronize = synchronize;
#if CANDIDATE_ON_GPU
  table.device_type = kDLCUDA;
#else
  table.device_type = kDLCPU;
  table.schedule_count = kSchedules;
  table.schedules = schedules();
  table.select_schedule = select_schedule;
#endif
  return table;
}

}  // namespace plumbing
