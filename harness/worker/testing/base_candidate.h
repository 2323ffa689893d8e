// A small, well-behaved candidate for rms_norm.forward in plain loops on the CPU. Hostile candidates are this one with
// one thing spoilt: they take base() and replace a function.
//
//   h = hidden_states + residual (rounded to the residual's dtype; without residual h = hidden_states)
//   y = weight * h * rstd,  rstd = 1 / sqrt(mean(h^2) + eps);  saved: rstd as float32 [rows];  tap.rstd: the same
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "harness/abi/assay_candidate.h"

namespace assay::hostile {

inline const DLTensor* find(const assay_call* call, std::string_view name) {
  for (std::size_t i = 0; i < call->tensor_count; ++i) {
    if (call->tensors[i].name == name) return &call->tensors[i].tensor;
  }
  return nullptr;
}

inline bool is_float32(const DLTensor& t) { return t.dtype.code == kDLFloat && t.dtype.bits == 32; }
inline bool is_bfloat16(const DLTensor& t) { return t.dtype.code == kDLBfloat && t.dtype.bits == 16; }

inline float load(const DLTensor& t, std::int64_t at) {
  if (is_float32(t)) return static_cast<const float*>(t.data)[at];
  return std::bit_cast<float>(std::uint32_t{static_cast<const std::uint16_t*>(t.data)[at]} << 16);
}
inline void store(const DLTensor& t, std::int64_t at, float value) {
  if (is_float32(t)) {
    static_cast<float*>(t.data)[at] = value;
    return;
  }
  std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  bits = std::isnan(value) ? 0x7FC00000u : bits + 0x7FFFu + (bits >> 16 & 1);  // to nearest even
  static_cast<std::uint16_t*>(t.data)[at] = static_cast<std::uint16_t>(bits >> 16);
}

// Element [row, i] of a matrix; a possibly strided one.
inline std::int64_t at(const DLTensor& t, std::int64_t row, std::int64_t i) {
  return row * t.strides[0] + i * t.strides[1];
}

inline const DLTensor& input(const assay_call* call) { return *find(call, "input.hidden_states"); }
inline const DLTensor& output(const assay_call* call) { return *find(call, "output.hidden_states"); }

inline float eps_of(const assay_call* call) {
  for (std::size_t i = 0; i < call->attribute_count; ++i) {
    if (std::string_view(call->attributes[i].name) == "eps") return static_cast<float>(call->attributes[i].float_value);
  }
  return 0;
}

inline int target(char* text, std::size_t size) {
  std::snprintf(text, size, "cpu:plain");
  return 0;
}

inline int supports(const assay_call* call, char* reason, std::size_t size) {
  if (std::string_view(call->op) != "rms_norm.forward") {
    std::snprintf(reason, size, "only rms_norm.forward is implemented");
    return 0;
  }
  for (const char* name : {"input.hidden_states", "param.weight", "output.hidden_states"}) {
    const DLTensor* t = find(call, name);
    if (t && (is_float32(*t) || is_bfloat16(*t))) continue;
    std::snprintf(reason, size, "%s: %s; want float32 or bfloat16", name, t ? "another dtype" : "missing");
    return 0;
  }
  return 1;
}

inline int contract(const assay_call*, assay_contract* c) {
  c->multiply = ASSAY_MULTIPLY_IEEE;
  c->accumulate = ASSAY_ACCUMULATE_FP32;  // double in fact, which is no worse
  c->deterministic = 1;
  return 0;
}

inline const char* variant(const assay_call*) { return "plain_loops"; }
inline std::size_t no_workspace(const assay_call*) { return 0; }
inline std::size_t saved_bytes(const assay_call* call) {
  return static_cast<std::size_t>(input(call).shape[0]) * sizeof(float);
}

inline int run(const assay_call* call, void*, char*, std::size_t) {
  const DLTensor &x = input(call), &weight = *find(call, "param.weight"), &y = output(call);
  const DLTensor *residual = find(call, "input.residual"), *residual_out = find(call, "output.residual");
  const DLTensor *saved = find(call, "saved"), *tap = find(call, "tap.rstd");
  const std::int64_t rows = x.shape[0], width = x.shape[1];
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto h = [&](std::int64_t i) {
      const float sum = load(x, at(x, row, i)) + (residual ? load(*residual, at(*residual, row, i)) : 0.0f);
      if (!residual || is_float32(*residual)) return sum;
      std::uint16_t rounded = 0;
      DLTensor one = *residual;
      one.data = &rounded;
      store(one, 0, sum);
      return load(one, 0);
    };
    double squares = 0;
    for (std::int64_t i = 0; i < width; ++i) squares += double{h(i)} * h(i);
    const auto rstd = static_cast<float>(1 / std::sqrt(squares / static_cast<double>(width) + eps_of(call)));
    for (std::int64_t i = 0; i < width; ++i) {
      store(y, at(y, row, i), load(weight, i * weight.strides[0]) * (h(i) * rstd));
      if (residual_out) store(*residual_out, at(*residual_out, row, i), h(i));
    }
    if (saved) std::memcpy(static_cast<char*>(saved->data) + row * 4, &rstd, sizeof rstd);
    if (tap) store(*tap, row, rstd);
  }
  return 0;
}

inline int allocate(std::size_t bytes, void** data, char*, std::size_t) {
  *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return *data ? 0 : 1;
}
inline int copy(void* to, const void* from, std::size_t bytes, char*, std::size_t) {
  std::memcpy(to, from, bytes);
  return 0;
}
inline int synchronize(void*, char*, std::size_t) { return 0; }

inline assay_candidate base() {
  assay_candidate c{};
  c.struct_size = sizeof c;
  c.abi_version = ASSAY_CANDIDATE_ABI_VERSION;
  c.name = "plain 1";
  c.target = target;
  c.device_type = kDLCPU;
  c.supports = supports;
  c.contract = contract;
  c.variant = variant;
  c.workspace_bytes = no_workspace;
  c.saved_bytes = saved_bytes;
  c.run = run;
  c.allocate = allocate;
  c.free = [](void* data) { std::free(data); };
  c.upload = copy;
  c.download = copy;
  c.synchronize = synchronize;
  return c;
}

}  // namespace assay::hostile
