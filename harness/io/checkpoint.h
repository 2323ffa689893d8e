// Checkpoints: a model's tensors under the names that published files give them, to and from upstream's module tree.
//
// Reading takes backbone.* and model.* prefixes, every expert by itself or all fused in one tensor, float32 or
// bfloat16, and both spellings of the embedding and the final norm. Expert matrices are transposed and stacked;
// A_log, D, dt_bias and the correction bias become float32, everything else the model's dtype. Left out: backbone
// layers beyond the config's number, MTP sublayers beyond those it builds, gate_proj of experts. Any other name is
// an error, and so is a parameter that nothing fills.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "harness/io/safetensors.h"
#include "reference/config.h"
#include "reference/init/model_tensors.h"

namespace assay::harness {

// "FILE: tensor "NAME": what is wrong; what is wanted", by the name in the file; parameters by upstream's.
struct CheckpointError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Where a tensor of a file belongs.
struct CheckpointTarget {
  enum class Form {
    whole,           // the parameter itself
    expert,          // one expert's matrix, transposed
    fused_experts,   // the matrices of all experts, each transposed
    left_out,        // no part of the model
  };
  Form form = Form::whole;
  std::string parameter;     // "model.layers.3.mixer.experts.down_projs"
  std::int64_t expert = -1;  // of Form::expert
};
// nullopt for a name that belongs nowhere. The number of layers decides what is left out; whether the parameter exists
// in the model, and its shape, are for the reader to check.
std::optional<CheckpointTarget> checkpoint_target(std::string_view name, const reference::NemotronV3Config& config);

// The parameters for which `wanted` holds, by upstream's name; all by default. Names of the whole file are checked in
// any case, so one layer of a large model can be read alone.
reference::ModelTensors read_checkpoint(const SafetensorsModel& model, const reference::NemotronV3Config& config,
                                        const std::function<bool(std::string_view)>& wanted = {});

// FOLDER/config.json and FOLDER/model.safetensors, or shards and their index: backbone.* names, one tensor an expert,
// float32 tensors as F32, the rest in the model's dtype. Reading them again gives the same bits. Expert biases, for
// which published files have no name, keep upstream's.
// Throws CheckpointError naming a parameter of the config that is missing or of another shape.
void write_checkpoint(const std::filesystem::path& folder, const reference::ModelTensors& tensors,
                      const reference::NemotronV3Config& config, std::uint64_t shard_bytes = std::uint64_t{5} << 30);

}  // namespace assay::harness
