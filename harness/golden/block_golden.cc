// One block of the backbone: norm, mixer, residual.
#include <algorithm>

#include "harness/golden/expert_choice.h"
#include "harness/golden/layers.h"
#include "harness/golden/mixer_inputs.h"
#include "reference/block.h"

namespace assay::harness {
namespace {

using reference::BlockType;

BlockType block_type(FixtureReader& in) {
  const auto* text = in.attribute("block_type");
  for (const BlockType type : {BlockType::mamba, BlockType::attention, BlockType::mlp, BlockType::moe})
    if (text && *text == name(type)) return type;
  in.fail("/attributes/block_type",
          (text ? text->dump() : "missing") + "; want \"mamba\", \"attention\", \"mlp\" or \"moe\"");
}

}  // namespace

GoldenEvaluation evaluate_block_fixture(const Fixture& fixture) {
  FixtureReader in(fixture, "input.hidden_states");
  require_path(in, {"train"});
  const BlockType type = block_type(in);
  const reference::NemotronV3Config config = in.config(type);
  const reference::Quirks quirks = quirks_of(in);
  const Shape shape = in.hidden_states(config.hidden_size);
  in.parameters(mixer_shapes(config, type, ""));
  check_attention_mask(in, {shape[0], config.num_attention_heads, shape[1], shape[1]});
  check_documents(in, shape[0], shape[1]);
  in.finish();

  const auto run = [&]<class T>(const reference::Numerics<T>& num, const ExpertChoice& given) {
    const auto p = parameters_of<T>(fixture);
    auto inputs = reference::mixer_inputs(quirks, mixer_input_of<T>(fixture), shape[0], shape[1]);
    inputs.expert_indices = given.empty() ? nullptr : &given.begin()->second;
    reference::BlockSaved<T> saved;
    RoutedResults<T> results;
    results.tensors["output.hidden_states"] = reference::block_forward<T>(
        num, config, quirks, type, p, to_tensor<T>(fixture.tensor("input.hidden_states")), inputs, &saved);
    if (in.has_gradients()) {
      const auto d_out = to_tensor<T>(fixture.tensor("grad.output.hidden_states"));
      reference::Parameters<T> d_p;
      results.tensors["grad.input.hidden_states"] =
          reference::block_backward<T>(num, config, quirks, type, p, inputs, saved, d_out, false, d_p);
      add_gradients(results.tensors, std::move(d_p));
    }
    if (auto* moe = std::get_if<reference::MoeSaved<T>>(&saved.mixer))
      results.routers.emplace_back("", std::move(moe->router));
    return results;
  };
  return evaluate_with_inferred_experts(in, kLayerTolerance,
                                        routed_layer(in, reference::moe_options(config).router, true, run));
}

}  // namespace assay::harness
