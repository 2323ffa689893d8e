// Initialisation of a whole model, in upstream's order of draws: construction, then initialize_weights.
#pragma once

#include "reference/config.h"
#include "reference/init/model_tensors.h"
#include "reference/init/random_source.h"

namespace assay::reference {

struct InitOptions {
  // torch's default dtype, in which in_proj, conv1d, out_proj and the gated norm stand until the final cast.
  ModelDtype default_dtype = ModelDtype::float32;
  // Linears of Transformer Engine: N(0, 0.023^2) weights and zero biases for all but in_proj, conv1d and out_proj.
  bool transformer_engine_linears = false;
};

// What the module constructors leave. Tensors that upstream leaves as uninitialised memory hold NaN.
// Throws std::invalid_argument for an invalid config, and for torch_dtype float64: initialise in float32 and widen.
ModelTensors construct(const NemotronV3Config& config, RandomSource& source, const InitOptions& options = {});

// Draws, rescales and casts in place, as upstream's initialize_weights does. It is not idempotent: a second call leaves
// dt_bias alone, draws the normal tensors anew, and divides out_proj and o_proj once more.
// Throws std::invalid_argument naming a parameter of the config that is missing or of another shape.
void initialize_weights(ModelTensors& tensors, const NemotronV3Config& config, RandomSource& source);

// Both.
ModelTensors initialize(const NemotronV3Config& config, RandomSource& source, const InitOptions& options = {});

}  // namespace assay::reference
