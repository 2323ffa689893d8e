#include "cuda/candidate/operation.h"

#include <string>

namespace assay::gpu {

const Operation& find_operation(std::string_view name) {
  for (const auto family : {rms_norm_operations(), gated_rms_norm_operations(), causal_conv1d_operations(),
                            ssd_scan_operations(), ssm_state_update_operations(), linear_operations(),
                            mamba2_decode_step_operations(), mamba2_mixer_operations(),
                            mamba2_mixer_backward_operations(), mamba2_block_operations()}) {
    for (const Operation& operation : family) {
      if (operation.name == name) return operation;
    }
  }
  throw Unsupported("operation " + std::string(name) + ": not implemented");
}

}  // namespace assay::gpu
