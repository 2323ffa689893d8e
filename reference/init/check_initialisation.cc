#include "reference/init/check_initialisation.h"

#include <cmath>
#include <sstream>
#include <string_view>

#include "reference/init/a_log.h"
#include "reference/init/kaiming_uniform.h"

namespace assay::reference {
namespace {

bool ends_with_any(std::string_view name, std::initializer_list<std::string_view> suffixes) {
  for (const std::string_view suffix : suffixes)
    if (name.ends_with(suffix)) return true;
  return false;
}

bool is_redrawn_normal(std::string_view name) {
  return ends_with_any(
      name, {"embed_tokens.weight", "lm_head.weight", "eh_proj.weight", ".up_proj.weight", ".down_proj.weight",
             "gate.weight", "gate_and_up_projs", "down_projs", "fc1_latent_proj.weight", "fc2_latent_proj.weight"});
}

bool is_rescaled(std::string_view name) {
  return ends_with_any(name, {"out_proj.weight", "o_proj.weight", ".down_proj.weight", "down_projs"});
}

// The biases that initialize_weights clears: all but those of the convolution and of dense MLP blocks.
bool is_cleared(std::string_view name) {
  const bool in_moe = name.find("experts.") != name.npos || name.find("_latent_proj.") != name.npos;
  return in_moe ? ends_with_any(name, {"bias"})
                : ends_with_any(name, {"in_proj.bias", "out_proj.bias", "q_proj.bias", "k_proj.bias", "v_proj.bias",
                                       "o_proj.bias", "e_score_correction_bias"});
}

double kaiming_bound(const ParameterSpec& spec) {
  return spec.name.ends_with("bias") ? kaiming_bias_bound(spec.fan_in) : kaiming_weight_bound(spec.fan_in);
}

FitAnswer refuse(const std::string& text) {
  FitAnswer answer;
  answer.text = text;
  return answer;
}

// Every device's logarithm is within an ulp or two of the exact value.
FitAnswer check_a_log(const Tensor<float>& values) {
  constexpr float kTwoUlps = 4 * 0x1p-24f;
  for (Index head = 0; head < values.size(); ++head) {
    if (std::abs(values[head] - a_log(head)) <= kTwoUlps * a_log(head)) continue;
    std::ostringstream text;
    text << "ln(1), ln(2), ...: refused: element " << head << " is " << values[head] << "; want " << a_log(head);
    return refuse(text.str());
  }
  FitAnswer answer;
  answer.accepted = true;
  answer.text = "ln(1), ln(2), ...: " + std::to_string(values.size()) + " values";
  return answer;
}

}  // namespace

FitQuestion expected_fit(const ParameterSpec& spec, const NemotronV3Config& config, const InitOptions& options) {
  FitQuestion question;
  question.dtype = is_kept_in_float32(spec.name) ? ModelDtype::float32 : config.torch_dtype;
  const bool rescaled = config.rescale_prenorm_residual && is_rescaled(spec.name);
  const double scale = rescaled ? 1 / std::sqrt(static_cast<double>(config.num_hidden_layers())) : 1;
  const bool born_default = spec.birth == BirthDtype::torch_default;
  question.slack_ulps = rescaled ? 1 : 0;  // drawn, rounded, divided, rounded
  const auto kaiming = [&] {
    const double bound = kaiming_bound(spec);
    const ModelDtype drawn_in = born_default ? options.default_dtype : question.dtype;
    Distribution distribution = uniform_distribution(-scale * bound, scale * bound, drawn_in);
    // What rounds to the bound is decided when it is drawn, before the rescaling.
    distribution.movable = uniform_distribution(-bound, bound, drawn_in).movable;
    return distribution;
  };
  if (spec.name.ends_with("dt_bias")) {
    question.distribution = dt_bias_distribution(time_step_range(config));
    question.slack_ulps = 4;  // of a float32 exp, expm1, log and the sum; near 0 their errors add up
  } else if (is_cleared(spec.name)) {
    question.distribution = constant_distribution(0);
  } else if (is_redrawn_normal(spec.name)) {
    question.distribution = normal_distribution(0, scale * config.initializer_range);
  } else if (options.transformer_engine_linears && spec.birth == BirthDtype::model &&
             spec.construction == Construction::linear_weight) {
    question.distribution = normal_distribution(0, scale * 0.023);
  } else if (options.transformer_engine_linears && spec.birth == BirthDtype::model &&
             spec.construction == Construction::linear_bias) {
    question.distribution = constant_distribution(0);
  } else if (spec.construction == Construction::ones) {
    question.distribution = constant_distribution(1);
  } else {
    question.distribution = kaiming();
  }
  return question;
}

std::vector<TensorFit> check_initialisation(const ModelTensors& tensors, const NemotronV3Config& config,
                                            const InitOptions& options, double false_alarm_rate) {
  const std::vector<ParameterSpec> specs = parameter_specs(config);
  std::vector<TensorFit> fits;
  for (const ParameterSpec& spec : specs) {
    const auto found = tensors.find(spec.name);
    if (found == tensors.end()) {
      fits.push_back({spec.name, refuse("missing")});
    } else if (const Tensor<float>& values = found->second.values; values.shape() != spec.shape) {
      fits.push_back({spec.name, refuse("shape " + to_string(values.shape()) + "; want " + to_string(spec.shape))});
    } else if (spec.construction == Construction::a_log) {
      fits.push_back({spec.name, check_a_log(values)});
    } else {
      FitQuestion question = expected_fit(spec, config, options);
      question.false_alarm_rate = false_alarm_rate / static_cast<double>(specs.size());
      fits.push_back({spec.name, goodness_of_fit(values.span(), question)});
    }
  }
  return fits;
}

}  // namespace assay::reference
