// The exported table: C functions that never throw, each around a few lines of C++.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <span>
#include <stdexcept>
#include <string>

#include "cuda/candidate/device.h"
#include "cuda/candidate/flavour.h"
#include "cuda/candidate/operation.h"
#include "harness/abi/assay_candidate.h"

namespace assay::gpu {
namespace {

void copy_text(char* text, std::size_t size, const char* source) {
  if (text != nullptr && size > 0) std::snprintf(text, size, "%s", source);
}

// 0, or 1 with what was thrown in `error`.
template <class Body>
int guarded(char* error, std::size_t error_size, Body body) noexcept {
  try {
    body();
    return 0;
  } catch (const std::exception& e) {
    copy_text(error, error_size, e.what());
  } catch (...) {
    copy_text(error, error_size, "an exception that is not a std::exception");
  }
  return 1;
}

int target(char* text, std::size_t size) {
  return guarded(text, size, [&] { copy_text(text, size, device::target().c_str()); });
}

int supports(const assay_call* call, char* reason, std::size_t reason_size) {
  const int refused = guarded(reason, reason_size, [&] { find_operation(call->op).check(Call(*call)); });
  return refused ? 0 : 1;
}

int contract(const assay_call* call, assay_contract* result) {
  assay_contract ours = {};
  ours.struct_size = std::min(result->struct_size, sizeof ours);
  ours.multiply = ASSAY_MULTIPLY_IEEE;
  ours.accumulate = ASSAY_ACCUMULATE_FP32;
  ours.deterministic = 1;
  ours.flush_denormals = 0;
  ours.softplus = ASSAY_SOFTPLUS_LOG1P;
  ours.functions = ASSAY_FUNCTIONS_ACCURATE;
  ours.workspace_zeroed = 0;
  const auto amend = [&] {
    const Call asked(*call);
    if (const auto own = find_operation(asked.op()).amend_contract) own(asked, ours);
    amend_contract(asked, ours);
  };
  if (guarded(nullptr, 0, amend) != 0) return 1;
  std::memcpy(result, &ours, ours.struct_size);
  return 0;
}

const char* variant(const assay_call* call) {
  const char* result = "unknown";
  guarded(nullptr, 0, [&] { result = find_operation(call->op).variant(Call(*call)); });
  return result;
}

std::size_t workspace_bytes(const assay_call* call) {
  std::size_t result = 0;
  guarded(nullptr, 0, [&] { result = find_operation(call->op).workspace_bytes(Call(*call)); });
  return result;
}

std::size_t saved_bytes(const assay_call* call) {
  std::size_t result = 0;
  guarded(nullptr, 0, [&] { result = find_operation(call->op).saved_bytes(Call(*call)); });
  return result;
}

int run(const assay_call* call, void* stream, char* error, std::size_t error_size) {
  return guarded(error, error_size, [&] {
    const Operation& operation = find_operation(call->op);
    const Call checked(*call);
    operation.check(checked);
    if (const std::size_t want = operation.workspace_bytes(checked); call->workspace_bytes < want) {
      throw std::invalid_argument("workspace: " + std::to_string(call->workspace_bytes) + " bytes; want " +
                                  std::to_string(want));
    }
    operation.run(checked, static_cast<cudaStream_t>(stream));
  });
}

int allocate(std::size_t bytes, void** data, char* error, std::size_t error_size) {
  return guarded(error, error_size, [&] { *data = device::allocate(bytes); });
}

void release(void* data) {
  guarded(nullptr, 0, [&] { device::release(data); });
}

int upload(void* device_data, const void* host, std::size_t bytes, char* error, std::size_t error_size) {
  return guarded(error, error_size, [&] { device::upload(device_data, host, bytes); });
}

int download(void* host, const void* device_data, std::size_t bytes, char* error, std::size_t error_size) {
  return guarded(error, error_size, [&] { device::download(host, device_data, bytes); });
}

int synchronize(void* stream, char* error, std::size_t error_size) {
  return guarded(error, error_size, [&] { device::synchronize(stream); });
}

int select_schedule(std::int32_t index, std::uint64_t seed) {
  return guarded(nullptr, 0, [&] { device::select_schedule(index, seed); });
}

int set_counting(std::int32_t on) {
  return guarded(nullptr, 0, [&] { device::set_counting(on != 0); });
}

std::size_t counters(assay_counter* result, std::size_t capacity) {
  std::size_t count = 0;
  guarded(nullptr, 0, [&] {
    const std::span<const assay_counter> all = device::counters();
    std::copy_n(all.begin(), std::min(capacity, all.size()), result);
    count = all.size();
  });
  return count;
}

assay_candidate make_table() {
  const std::span<const assay_schedule> schedules = device::schedules();
  assay_candidate table = {};
  table.struct_size = sizeof table;
  table.abi_version = ASSAY_CANDIDATE_ABI_VERSION;
  table.name = kCandidateName;
  table.target = target;
  table.device_type = device::kType;
  table.supports = supports;
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
  table.schedule_count = static_cast<std::int32_t>(schedules.size());
  table.schedules = schedules.empty() ? nullptr : schedules.data();
  table.select_schedule = schedules.empty() ? nullptr : select_schedule;
  table.set_counting = device::kCanCount ? set_counting : nullptr;
  table.counters = device::kCanCount ? counters : nullptr;
  return table;
}

}  // namespace
}  // namespace assay::gpu

const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = assay::gpu::make_table();
  return &table;
}
