// The mixture of experts: the recorded choice of experts is validated and used; without one it is inferred.
#include "harness/golden/expert_choice.h"
#include "harness/golden/layers.h"
#include "reference/moe.h"

namespace assay::harness {
namespace {

// padding_mask: true = padding. The layer takes its negation, one element a token.
std::optional<reference::Tensor<std::uint8_t>> token_mask_of(const Fixture& fixture) {
  auto mask = to_tensor<std::uint8_t>(fixture.find("input.padding_mask"));
  if (!mask) return mask;
  for (std::uint8_t& bit : mask->span()) bit = !bit;
  return std::move(*mask).reshaped({mask->size()});
}

}  // namespace

GoldenEvaluation evaluate_moe_fixture(const Fixture& fixture) {
  constexpr const char* kIndices = "output.router.indices";
  FixtureReader in(fixture, "input.hidden_states");
  require_path(in, {"train"});
  const reference::NemotronV3Config config = in.config(reference::BlockType::moe);
  const reference::MoeOptions options = reference::moe_options(config);
  const Shape shape = in.hidden_states(config.hidden_size, true);
  const Shape chosen = {element_count(shape) / config.hidden_size, config.num_experts_per_tok};
  in.parameters(mixer_shapes(config, reference::BlockType::moe));
  in.allow("input.padding_mask", Dtypes::mask, Shape(shape.begin(), shape.end() - 1));
  in.allow("output.router.weights", Dtypes::model_or_float32, chosen);
  const bool is_recorded = in.allow(kIndices, Dtypes::whole, chosen) != nullptr;
  if (!is_recorded && fixture.find("output.router.weights"))
    in.fail("/tensors/output.router.weights", "without output.router.indices; want both");
  in.finish();

  const auto run = [&]<class T>(const reference::Numerics<T>& num, const ExpertChoice& given) {
    const auto p = parameters_of<T>(fixture);
    const auto x = to_tensor<T>(fixture.tensor("input.hidden_states"));
    const auto mask = token_mask_of(fixture);
    const auto* token_mask = mask ? &*mask : nullptr;
    reference::MoeSaved<T> saved;
    Tensors<T> results;
    results["output.hidden_states"] = reference::moe_forward<T>(
        num, options, p, x, token_mask, given.empty() ? nullptr : &given.begin()->second, &saved);
    results["output.router.weights"] = saved.router.weights;
    if (in.has_gradients()) {
      const auto d_out = to_tensor<T>(fixture.tensor("grad.output.hidden_states"));
      reference::Parameters<T> d_p;
      results["grad.input.hidden_states"] =
          reference::moe_backward<T>(num, options, p, x, token_mask, saved, d_out, d_p);
      add_gradients(results, std::move(d_p));
    }
    return RoutedResults<T>{std::move(results), {{"", std::move(saved.router)}}};
  };
  const RoutedLayer layer = routed_layer(in, options.router, true, run);
  return is_recorded ? evaluate_with_recorded_experts(in, kLayerTolerance, layer, kIndices)
                     : evaluate_with_inferred_experts(in, kLayerTolerance, layer);
}

}  // namespace assay::harness
