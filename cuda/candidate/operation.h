// The operations that this library implements: one file for each kernel family, one line in operation.cc.
#pragma once

#include <cuda_runtime_api.h>

#include <span>
#include <string_view>

#include "cuda/candidate/call.h"

namespace assay::gpu {

struct Operation {
  const char* name;
  void (*check)(const Call& call);  // throws Unsupported if this call cannot be run; the others assume that it can
  const char* (*variant)(const Call& call);
  std::size_t (*workspace_bytes)(const Call& call);
  std::size_t (*saved_bytes)(const Call& call);
  void (*run)(const Call& call, cudaStream_t stream);
  // Where its contract is not as candidate.cc says by default; may be null.
  void (*amend_contract)(const Call& call, assay_contract& contract) = nullptr;
};

std::span<const Operation> rms_norm_operations();
std::span<const Operation> gated_rms_norm_operations();
std::span<const Operation> causal_conv1d_operations();
std::span<const Operation> ssd_scan_operations();
std::span<const Operation> ssm_state_update_operations();
std::span<const Operation> mamba2_decode_step_operations();
std::span<const Operation> linear_operations();
std::span<const Operation> mamba2_mixer_operations();
std::span<const Operation> mamba2_mixer_backward_operations();
std::span<const Operation> mamba2_block_operations();

// Throws Unsupported.
const Operation& find_operation(std::string_view name);

}  // namespace assay::gpu
