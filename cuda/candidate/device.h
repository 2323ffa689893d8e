// Where the kernels run: the CPU executor (device_simt.cc) or a GPU (device_cuda.cc). Each library links one of them.
#pragma once

#include <dlpack/dlpack.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "harness/abi/assay_candidate.h"

namespace assay::gpu::device {

extern const DLDeviceType kType;

// Functions throw a std::exception whose text says what failed.
std::string target();  // "cpu:simt", "cuda:NVIDIA H100 80GB HBM3"
void* allocate(std::size_t bytes);
void release(void* data);
void upload(void* device, const void* host, std::size_t bytes);
void download(void* host, const void* device, std::size_t bytes);
void synchronize(void* stream);

std::span<const assay_schedule> schedules();  // empty on a GPU
void select_schedule(std::int32_t index, std::uint64_t seed);

extern const bool kCanCount;
void set_counting(bool on);
std::span<const assay_counter> counters();

}  // namespace assay::gpu::device
