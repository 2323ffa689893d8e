// The single step of the scan, several in a row. Every step starts from the recorded state of the one before where the
// state is kept in bfloat16, so that one rounding that went the other way does not count twice.
#include <fmt/format.h>

#include "harness/golden/compare.h"
#include "harness/golden/layers.h"
#include "reference/ssm_state_update.h"

namespace assay::harness {

GoldenEvaluation evaluate_ssm_state_update_fixture(const Fixture& fixture) {
  FixtureReader in(fixture, "step.0.input.x");
  require_path(in, {"decode"});
  const Index steps = in.integer("steps", 1, static_cast<Index>(fixture.tensors.size()));
  const bool dt_softplus = in.boolean("dt_softplus");
  const HostTensor& state = in.require("input.state", Dtypes::floating, {kAny, kAny, kAny, kAny});
  const Index heads = state.shape[1], width = state.shape[2], state_size = state.shape[3];
  in.require("input.A", Dtypes::float32, {heads});
  if (const HostTensor* D = fixture.find("input.D"))
    in.require("input.D", Dtypes::model_or_float32, D->shape.size() == 2 ? Shape{heads, width} : Shape{heads});
  in.allow("input.dt_bias", Dtypes::model_or_float32, {heads});
  const HostTensor* rows = in.allow("input.state_batch_indices", Dtypes::whole, {kAny});
  if (rows)
    for (Index i = 0; i < rows->size(); ++i)
      if (rows->at(i) >= static_cast<double>(state.shape[0]))
        in.fail(fmt::format("/tensors/{}/data/{}", rows->name, i),
                fmt::format("{}; want a row below {}, or below 0 for padding", rows->at(i), state.shape[0]));
  const Index batch = rows ? rows->size() : state.shape[0];
  for (Index step = 0; step < steps; ++step) {
    const std::string at = fmt::format("step.{}.", step);
    const Shape x = {batch, heads, width};
    in.require(at + "input.x", Dtypes::model, x);
    in.require(at + "input.dt", Dtypes::model_or_float32, {batch, heads});
    const Shape B = in.require(at + "input.B", Dtypes::model, {batch, kAny, state_size}).shape;
    if (B[1] < 1 || heads % B[1] != 0)
      in.fail("/tensors/" + at + "input.B/shape",
              fmt::format("{}; want groups that divide the {} heads", to_string(B), heads));
    in.require(at + "input.C", Dtypes::model, B);
    in.allow(at + "input.z", Dtypes::model, x);
    in.require(at + "output.y", Dtypes::model, x);
    const HostTensor& out = in.require(at + "output.state", Dtypes::floating, state.shape);
    if (out.dtype != state.dtype)
      in.fail("/tensors/" + out.name + "/dtype",
              fmt::format("{}; want that of input.state, {}", name(out.dtype), name(state.dtype)));
  }
  in.finish();

  const bool state_in_bfloat16 = state.dtype == DType::bfloat16;
  return evaluate(in, kLayerTolerance, [&]<class T>(const reference::Numerics<T>& num) {
    const auto maybe = [&](const std::string& name) { return to_tensor<T>(fixture.find(name)); };
    const auto pointer = [](const auto& t) { return t ? &*t : nullptr; };
    const auto A = to_tensor<T>(fixture.tensor("input.A"));
    const auto D = maybe("input.D"), dt_bias = maybe("input.dt_bias");
    std::vector<std::int32_t> state_rows;
    for (Index i = 0; rows && i < rows->size(); ++i) state_rows.push_back(static_cast<std::int32_t>(rows->at(i)));
    const auto storage =
        state_in_bfloat16 && std::is_same_v<T, float> ? reference::Storage::bfloat16 : reference::Storage::native;
    auto h = to_tensor<T>(state);
    Tensors<T> results;
    for (Index step = 0; step < steps; ++step) {
      const std::string at = fmt::format("step.{}.", step);
      const auto x = to_tensor<T>(fixture.tensor(at + "input.x")), dt = to_tensor<T>(fixture.tensor(at + "input.dt"));
      const auto B = to_tensor<T>(fixture.tensor(at + "input.B")), C = to_tensor<T>(fixture.tensor(at + "input.C"));
      const auto z = maybe(at + "input.z");
      results[at + "output.y"] = reference::ssm_state_update<T>(num,
                                                                {.x = x,
                                                                 .dt = dt,
                                                                 .A = A,
                                                                 .B = B,
                                                                 .C = C,
                                                                 .D = pointer(D),
                                                                 .z = pointer(z),
                                                                 .dt_bias = pointer(dt_bias),
                                                                 .dt_softplus = dt_softplus,
                                                                 .state_rows = state_rows},
                                                                h, storage);
      results[at + "output.state"] = h;
      const HostTensor& after = fixture.tensor(at + "output.state");
      if (state_in_bfloat16 && has_values(after)) h = to_tensor<T>(after);
    }
    return results;
  });
}

}  // namespace assay::harness
