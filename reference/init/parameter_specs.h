// Every parameter and buffer of a model: its name in upstream's module tree, its shape, and how it is constructed.
#pragma once

#include <string>
#include <vector>

#include "reference/config.h"
#include "reference/parameters.h"

namespace assay::reference {

// The value that upstream's module constructors leave in a parameter.
enum class Construction {
  standard_normal,  // embedding
  linear_weight,    // kaiming_uniform.h, of `fan_in`
  linear_bias,
  conv_weight,
  conv_bias,
  ones,
  zeros,
  a_log,
  uninitialised,    // memory as it was: gate and expert weights, until they are initialised
};

// The dtype that a parameter is constructed in; all but float32 ones are cast to the model's dtype in the end.
enum class BirthDtype {
  model,
  torch_default,  // in_proj, conv1d, out_proj and the gated norm follow torch's default dtype
  float32,        // and stays so
  bfloat16,       // enorm, hnorm and final_layernorm, whatever the model's dtype is
};

struct ParameterSpec {
  std::string name;
  Shape shape;
  Construction construction = Construction::ones;
  BirthDtype birth = BirthDtype::model;
  Index fan_in = 0;  // of linear and convolution tensors
  ParameterFlags flags;
};

// In upstream's order of draws. Throws std::invalid_argument for an invalid config.
std::vector<ParameterSpec> parameter_specs(const NemotronV3Config& config);

// "model.layers.3." or "mtp.layers.0."
std::string backbone_prefix(Index layer);
std::string mtp_prefix(Index sublayer);
// Where the MTP sublayer stands in the pattern of its depth.
struct MtpPosition {
  BlockType type;
  bool first, last;
};
MtpPosition mtp_position(const NemotronV3Config& config, Index sublayer);

}  // namespace assay::reference
