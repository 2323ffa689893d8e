// The router alone, with every score function, its load, auxiliary loss and bias update.
#include <fmt/format.h>

#include "harness/golden/expert_choice.h"
#include "harness/golden/layers.h"
#include "reference/router.h"

namespace assay::harness {
namespace {

using reference::RouterOptions;
using reference::ScoreFunction;

constexpr const char* kIndices = "output.router.indices";
constexpr Index kMostExperts = Index{1} << 20;

// Upstream's spellings; as there, any other name is the sigmoid.
ScoreFunction score_function(FixtureReader& in) {
  const auto* text = in.attribute("score_func");
  if (!text || !text->is_string())
    in.fail("/attributes/score_func", "missing or no string; want \"sigmoid\", \"softmax\", ...");
  const bool before = in.boolean("softmax_before_topk", false);
  if (*text == "sigmoid_with_bias") return ScoreFunction::sigmoid_with_bias;
  if (*text == "softmax_with_bias") return ScoreFunction::softmax_with_bias;
  if (*text == "sqrtsoftplus") return ScoreFunction::sqrtsoftplus;
  if (*text == "softmax") return before ? ScoreFunction::softmax_before_topk : ScoreFunction::softmax;
  if (*text == "softmax_before_topk") return ScoreFunction::softmax_before_topk;
  if (*text == "sigmoid") return ScoreFunction::sigmoid;
  in.fail("/attributes/score_func", text->dump() +
                                        "; want \"sigmoid\", \"sigmoid_with_bias\", \"softmax\", "
                                        "\"softmax_before_topk\", \"softmax_with_bias\" or \"sqrtsoftplus\"");
}

RouterOptions options_of(FixtureReader& in) {
  RouterOptions o;
  o.n_routed_experts = in.integer("n_routed_experts", 1, kMostExperts);
  o.num_experts_per_tok = in.integer("n_activated_experts", 1, o.n_routed_experts);
  o.n_group = in.integer("n_expert_groups", 1, o.n_routed_experts);
  o.topk_group = in.integer("n_limited_groups", 1, o.n_group);
  o.score_function = score_function(in);
  o.norm_topk_prob = in.boolean("norm_topk_prob");
  o.routed_scaling_factor = in.number("route_scale");
  o.aux_loss_coefficient = in.number("aux_loss_coeff");
  const auto* precision = in.attribute("gate_precision");
  if (precision && !precision->is_null() && *precision != "float32" && *precision != "fp32")
    in.fail("/attributes/gate_precision", precision->dump() + "; want \"float32\" or null");
  o.gate_in_float32 = precision && !precision->is_null();
  o.weights_in_float32 = in.boolean("router_weights_fp32", false);
  o.weight_uses_correction_bias = in.boolean("router_weight_uses_score_correction_bias", false);
  if (o.n_group > 1 && (o.n_routed_experts % o.n_group != 0 || o.n_routed_experts / o.n_group < 2))
    in.fail("/attributes/n_expert_groups",
            fmt::format("{}; want groups of equal size, of two experts or more of {}", o.n_group, o.n_routed_experts));
  if (o.n_group > 1 && o.num_experts_per_tok > o.n_routed_experts / o.n_group * o.topk_group)
    in.fail("/attributes/n_activated_experts",
            fmt::format("{}; want at most the {} experts of the groups kept", o.num_experts_per_tok,
                        o.n_routed_experts / o.n_group * o.topk_group));
  return o;
}

}  // namespace

GoldenEvaluation evaluate_router_fixture(const Fixture& fixture) {
  FixtureReader in(fixture, "input.hidden_states");
  require_path(in, {"train"});
  const RouterOptions options = options_of(in);
  const double gamma = in.number("gate_bias_update_factor");
  const Index experts = options.n_routed_experts, k = options.num_experts_per_tok;
  const Shape x_shape = in.require("input.hidden_states", Dtypes::model, {kAny, kAny}).shape, chosen = {x_shape[0], k};
  in.allow("input.token_mask", Dtypes::mask, {x_shape[0]});
  in.require("param.weight", Dtypes::model, {experts, x_shape[1]});
  if (in.boolean("router_bias", false)) in.require("param.bias", Dtypes::model, {experts});
  (void)in.boolean("force_e_score_correction_bias", false);  // the buffer is there or not; a fixture shows which
  const bool has_correction_bias = in.allow("buffer.e_score_correction_bias", Dtypes::float32, {experts}) != nullptr;
  in.require("output.router.weights", Dtypes::model_or_float32, chosen);
  in.require(kIndices, Dtypes::whole, chosen);
  in.allow("output.expert_load", Dtypes::whole, {experts});
  in.allow("output.aux_loss", Dtypes::model_or_float32, {});
  if (in.allow("output.e_score_correction_bias", Dtypes::float32, {experts}) && !(gamma > 0 && has_correction_bias))
    in.fail("/tensors/output.e_score_correction_bias",
            "without an update of a correction bias; want gate_bias_update_factor > 0 and the buffer");
  if (in.has_gradients()) in.require("grad.output.router.weights", Dtypes::model_or_float32, chosen);
  in.allow("grad.input.hidden_states", Dtypes::model, x_shape);
  in.allow("grad.weight", Dtypes::model, {experts, x_shape[1]});
  if (fixture.find("param.bias")) in.allow("grad.bias", Dtypes::model, {experts});
  in.finish();

  const auto run = [&]<class T>(const reference::Numerics<T>& num, const ExpertChoice& given) {
    const auto p = parameters_of<T>(fixture);
    const auto x = to_tensor<T>(fixture.tensor("input.hidden_states"));
    const auto mask = to_tensor<std::uint8_t>(fixture.find("input.token_mask"));
    const auto* token_mask = mask ? &*mask : nullptr;
    const auto router =
        reference::router_forward<T>(num, options, p, x, token_mask, given.empty() ? nullptr : &given.begin()->second);
    Tensors<T> results;
    results["output.router.weights"] = router.weights;
    results["output.expert_load"] = as_scalars<T>(router.expert_load);
    results["output.aux_loss"] = scalar(router.aux_loss);
    if (in.has_gradients()) {
      const auto d_weights = to_tensor<T>(fixture.tensor("grad.output.router.weights"));
      reference::Parameters<T> d_p;
      results["grad.input.hidden_states"] =
          reference::router_backward<T>(num, options, p, x, token_mask, router, d_weights, d_p);
      add_gradients(results, std::move(d_p));
    }
    if (gamma > 0 && has_correction_bias) {
      reference::Tensor<T> bias = p["e_score_correction_bias"];
      std::optional<reference::Tensor<Index>> load = router.expert_load;
      reference::update_correction_bias(bias, load, gamma);
      results["output.e_score_correction_bias"] = bias;
    }
    return RoutedResults<T>{std::move(results), {{"", router}}};
  };
  return evaluate_with_recorded_experts(in, kLayerTolerance, routed_layer(in, options, has_correction_bias, run),
                                        kIndices);
}

}  // namespace assay::harness
