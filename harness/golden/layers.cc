#include "harness/golden/layers.h"

namespace assay::harness {

const std::vector<GoldenLayer>& golden_layers() {
  static const std::vector<GoldenLayer> layers = {
      {"rms_norm", evaluate_kernel_fixture},
      {"mamba_rmsnorm_gated", evaluate_kernel_fixture},
  };
  return layers;
}

}  // namespace assay::harness
