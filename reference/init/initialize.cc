#include "reference/init/initialize.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "reference/init/a_log.h"
#include "reference/init/dt_bias.h"
#include "reference/init/kaiming_uniform.h"
#include "reference/init/parameter_specs.h"
#include "reference/init/residual_rescale.h"

namespace assay::reference {
namespace {

constexpr double kTransformerEngineStd = 0.023;

ModelDtype birth_dtype(BirthDtype birth, const NemotronV3Config& config, const InitOptions& options) {
  switch (birth) {
    case BirthDtype::model:
      return config.torch_dtype;
    case BirthDtype::torch_default:
      return options.default_dtype;
    case BirthDtype::float32:
      return ModelDtype::float32;
    case BirthDtype::bfloat16:
      return ModelDtype::bfloat16;
  }
  throw std::invalid_argument("construct: unknown BirthDtype");
}

void fill(Tensor<float>& values, float value) { std::ranges::fill(values.span(), value); }

void draw_linear(ModelTensor& tensor, const ParameterSpec& spec, RandomSource& source, const InitOptions& options) {
  const bool is_weight = spec.construction == Construction::linear_weight;
  if (options.transformer_engine_linears && spec.birth == BirthDtype::model) {
    if (is_weight) return source.normal(tensor.values.span(), tensor.dtype, 0, kTransformerEngineStd);
    return fill(tensor.values, 0);
  }
  const double bound = is_weight ? kaiming_weight_bound(spec.fan_in) : kaiming_bias_bound(spec.fan_in);
  source.uniform(tensor.values.span(), tensor.dtype, -bound, bound);
}

void draw_convolution(ModelTensor& tensor, const ParameterSpec& spec, RandomSource& source) {
  const bool is_weight = spec.construction == Construction::conv_weight;
  const double bound = is_weight ? kaiming_weight_bound(spec.fan_in) : kaiming_bias_bound(spec.fan_in);
  source.uniform(tensor.values.span(), tensor.dtype, -bound, bound);
}

void construct_tensor(ModelTensor& tensor, const ParameterSpec& spec, RandomSource& source,
                      const InitOptions& options) {
  switch (spec.construction) {
    case Construction::standard_normal:
      return source.normal(tensor.values.span(), tensor.dtype, 0, 1);
    case Construction::linear_weight:
    case Construction::linear_bias:
      return draw_linear(tensor, spec, source, options);
    case Construction::conv_weight:
    case Construction::conv_bias:
      return draw_convolution(tensor, spec, source);
    case Construction::ones:
      return fill(tensor.values, 1);
    case Construction::zeros:
      return fill(tensor.values, 0);
    case Construction::a_log:
      for (Index head = 0; head < tensor.values.size(); ++head) tensor.values[head] = a_log(head);
      return;
    case Construction::uninitialised:
      return fill(tensor.values, std::numeric_limits<float>::quiet_NaN());
  }
}

// initialize_weights of one model: what it does to each tensor, by name.
class WeightInitializer {
 public:
  WeightInitializer(ModelTensors& tensors, const NemotronV3Config& config, RandomSource& source)
      : tensors_(tensors), config_(config), source_(source) {}

  void run() {
    normal("model.embed_tokens.weight");
    constant("model.norm.weight", 1);
    for (Index i = 0; i < config_.num_hidden_layers(); ++i) block(backbone_prefix(i), config_.layers_block_type[i]);
    normal("lm_head.weight");
    for (Index j = 0; j < config_.mtp_sublayers(); ++j) mtp_sublayer(j);
    cast_all();
  }

 private:
  ModelTensor& at(const std::string& name) {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) throw std::invalid_argument("initialize_weights: parameter " + name + " is missing");
    return found->second;
  }
  void normal(const std::string& name) {
    ModelTensor& tensor = at(name);
    source_.normal(tensor.values.span(), tensor.dtype, 0, config_.initializer_range);
  }
  void constant(const std::string& name, float value) { fill(at(name).values, value); }
  void rescale(const std::string& name) {
    if (!config_.rescale_prenorm_residual) return;
    ModelTensor& tensor = at(name);
    for (float& w : tensor.values.span())
      w = rescale_residual(w, config_.num_hidden_layers(), tensor.dtype, source_.device());
  }

  void block(const std::string& prefix, BlockType type) {
    constant(prefix + "norm.weight", 1);
    const std::string mixer = prefix + "mixer.";
    switch (type) {
      case BlockType::mamba:
        return mamba(mixer);
      case BlockType::attention:
        return attention(mixer);
      case BlockType::mlp:
        return mlp(mixer);
      case BlockType::moe:
        return moe(mixer);
    }
  }

  void mamba(const std::string& prefix) {
    dt_bias(at(prefix + "_fp32_params.dt_bias"));
    if (config_.use_bias) {
      constant(prefix + "in_proj.bias", 0);
      constant(prefix + "out_proj.bias", 0);
    }
    rescale(prefix + "out_proj.weight");
  }

  void dt_bias(ModelTensor& tensor) {
    if (tensor.flags.no_reinit) return;
    source_.uniform(tensor.values.span(), ModelDtype::float32, 0, 1);
    const TimeStepRange range = time_step_range(config_);
    for (float& v : tensor.values.span()) v = dt_bias_from_uniform(v, range);
    tensor.flags.no_reinit = true;
  }

  void attention(const std::string& prefix) {
    if (config_.attention_bias)
      for (const char* linear : {"q_proj", "k_proj", "v_proj", "o_proj"}) constant(prefix + linear + ".bias", 0);
    rescale(prefix + "o_proj.weight");
  }

  // The biases of a dense block keep what construction drew.
  void mlp(const std::string& prefix) {
    normal(prefix + "down_proj.weight");
    normal(prefix + "up_proj.weight");
    rescale(prefix + "down_proj.weight");
  }

  void moe(const std::string& prefix) {
    const bool latent = config_.moe_latent_size > 0;
    normal(prefix + "gate.weight");
    constant(prefix + "gate.e_score_correction_bias", 0);
    normal(prefix + "experts.gate_and_up_projs");
    normal(prefix + "experts.down_projs");
    normal(prefix + "shared_experts.down_proj.weight");
    normal(prefix + "shared_experts.up_proj.weight");
    if (latent) {
      normal(prefix + "fc1_latent_proj.weight");
      normal(prefix + "fc2_latent_proj.weight");
    }
    normal(prefix + "gate.weight");  // a second time, as upstream does
    if (config_.mlp_bias) {
      for (const char* bias : {"experts.gate_up_proj_bias", "experts.down_proj_bias", "shared_experts.up_proj.bias",
                               "shared_experts.down_proj.bias"})
        constant(prefix + bias, 0);
      if (latent)
        for (const char* linear : {"fc1_latent_proj", "fc2_latent_proj"}) constant(prefix + linear + ".bias", 0);
    }
    rescale(prefix + "experts.down_projs");
    rescale(prefix + "shared_experts.down_proj.weight");
  }

  void mtp_sublayer(Index sublayer) {
    const auto [type, first, last] = mtp_position(config_, sublayer);
    const std::string prefix = mtp_prefix(sublayer);
    block(prefix, type);
    if (first) {
      constant(prefix + "enorm.weight", 1);
      constant(prefix + "hnorm.weight", 1);
      normal(prefix + "eh_proj.weight");
    }
    if (last) constant(prefix + "final_layernorm.weight", 1);
  }

  void cast_all() {
    for (auto& [name, tensor] : tensors_) {
      if (is_kept_in_float32(name)) continue;
      for (float& v : tensor.values.span()) v = round_to(config_.torch_dtype, v);
      tensor.dtype = config_.torch_dtype;
    }
  }

  ModelTensors& tensors_;
  const NemotronV3Config& config_;
  RandomSource& source_;
};

void require_drawable(const char* function, ModelDtype dtype) {
  if (dtype == ModelDtype::float64)
    throw std::invalid_argument(std::string(function) +
                                ": dtype float64; want float32 (and widen the result) or bfloat16");
}

void require_shapes(const ModelTensors& tensors, const NemotronV3Config& config) {
  for (const ParameterSpec& spec : parameter_specs(config)) {
    const auto found = tensors.find(spec.name);
    if (found == tensors.end())
      throw std::invalid_argument("initialize_weights: parameter " + spec.name + " is missing");
    if (found->second.values.shape() != spec.shape)
      throw std::invalid_argument("initialize_weights: parameter " + spec.name + " has shape " +
                                  to_string(found->second.values.shape()) + "; want " + to_string(spec.shape));
  }
}

}  // namespace

ModelTensors construct(const NemotronV3Config& config, RandomSource& source, const InitOptions& options) {
  require_drawable("construct", config.torch_dtype);
  require_drawable("construct", options.default_dtype);
  ModelTensors tensors;
  for (const ParameterSpec& spec : parameter_specs(config)) {
    ModelTensor tensor{Tensor<float>(spec.shape), birth_dtype(spec.birth, config, options), spec.flags};
    construct_tensor(tensor, spec, source, options);
    tensors.emplace(spec.name, std::move(tensor));
  }
  return tensors;
}

void initialize_weights(ModelTensors& tensors, const NemotronV3Config& config, RandomSource& source) {
  require_drawable("initialize_weights", config.torch_dtype);
  require_shapes(tensors, config);
  WeightInitializer(tensors, config, source).run();
}

ModelTensors initialize(const NemotronV3Config& config, RandomSource& source, const InitOptions& options) {
  ModelTensors tensors = construct(config, source, options);
  initialize_weights(tensors, config, source);
  return tensors;
}

}  // namespace assay::reference
