// The dense MLP, forward and gradients.
#include "harness/golden/compare.h"
#include "harness/golden/layers.h"
#include "reference/mlp.h"

namespace assay::harness {

GoldenEvaluation evaluate_mlp_fixture(const Fixture& fixture) {
  FixtureReader in(fixture, "input.hidden_states");
  require_path(in, {"train"});
  const reference::NemotronV3Config config = in.config(reference::BlockType::mlp);
  in.hidden_states(config.hidden_size, true);
  in.parameters(mixer_shapes(config, reference::BlockType::mlp));
  in.finish();

  return evaluate(in, kLayerTolerance, [&]<class T>(const reference::Numerics<T>& num) {
    const auto p = parameters_of<T>(fixture);
    const auto u = to_tensor<T>(fixture.tensor("input.hidden_states"));
    reference::MlpSaved<T> saved;
    Tensors<T> results;
    results["output.hidden_states"] = reference::mlp_forward<T>(num, p, u, &saved);
    if (!in.has_gradients()) return results;
    reference::Parameters<T> d_p;
    const auto d_out = to_tensor<T>(fixture.tensor("grad.output.hidden_states"));
    results["grad.input.hidden_states"] = reference::mlp_backward<T>(num, p, u, saved, d_out, d_p);
    add_gradients(results, std::move(d_p));
    return results;
  });
}

}  // namespace assay::harness
