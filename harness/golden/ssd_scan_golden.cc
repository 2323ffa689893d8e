// The state space scan alone: initial and final state, documents, states at their ends, gate, clamp.
#include <fmt/format.h>

#include <cmath>

#include "harness/golden/compare.h"
#include "harness/golden/layers.h"
#include "harness/golden/mixer_inputs.h"
#include "reference/ssd_scan.h"

namespace assay::harness {
namespace {

struct Limits {
  double low = 0, high = HUGE_VAL;
};

Limits dt_limit(FixtureReader& in) {
  const auto* limit = in.attribute("dt_limit");
  if (!limit) return {};
  const auto bound = [&](const nlohmann::ordered_json& v) {
    if (v.is_number()) return v.get<double>();
    if (v == "inf") return HUGE_VAL;
    in.fail("/attributes/dt_limit", limit->dump() + "; want [low, high], the high one perhaps \"inf\"");
  };
  if (!limit->is_array() || limit->size() != 2) in.fail("/attributes/dt_limit", limit->dump() + "; want [low, high]");
  const Limits result{bound((*limit)[0]), bound((*limit)[1])};
  if (!(result.low >= 0 && result.low <= result.high))
    in.fail("/attributes/dt_limit", limit->dump() + "; want 0 <= low <= high");
  return result;
}

std::vector<std::int32_t> numbers(const HostTensor* t) {
  std::vector<std::int32_t> result;
  for (Index i = 0; t && i < t->size(); ++i) result.push_back(static_cast<std::int32_t>(t->at(i)));
  return result;
}

}  // namespace

GoldenEvaluation evaluate_ssd_scan_fixture(const Fixture& fixture) {
  FixtureReader in(fixture, "input.x");
  require_path(in, {"train"});
  const Shape x = in.require("input.x", Dtypes::model, {kAny, kAny, kAny, kAny}).shape;
  const Index batch = x[0], tokens = x[1], heads = x[2], width = x[3];
  const Shape B = in.require("input.B", Dtypes::model, {batch, tokens, kAny, kAny}).shape;
  const Index groups = B[2];
  if (groups < 1 || heads % groups != 0)
    in.fail("/tensors/input.B/shape", fmt::format("{}; want groups that divide the {} heads", to_string(B), heads));
  const Shape state = {batch, heads, width, B[3]};
  in.require("input.dt", Dtypes::model_or_float32, {batch, tokens, heads});
  in.require("input.C", Dtypes::model, B);
  in.require("input.A", Dtypes::float32, {heads});
  const HostTensor* D = fixture.find("input.D");
  if (D) in.require("input.D", Dtypes::model_or_float32, D->shape.size() == 2 ? Shape{heads, width} : Shape{heads});
  in.allow("input.dt_bias", Dtypes::model_or_float32, {heads});
  in.allow("input.z", Dtypes::model, x);
  in.allow("input.initial_state", Dtypes::model_or_float32, state);
  in.allow("input.seq_idx", Dtypes::whole, {batch, tokens});
  check_cu_seqlens(in, "input.cu_seqlens", tokens);
  const HostTensor* cu = fixture.find("input.cu_seqlens");
  const Index chunk_size = in.integer("chunk_size", 1, Index{1} << 30);
  const bool dt_softplus = in.boolean("dt_softplus");
  const Limits limits = dt_limit(in);

  in.require("output.y", Dtypes::model, x);
  in.allow("output.final_state", Dtypes::model_or_float32, state);
  const HostTensor* varlen = fixture.find("output.varlen_states");
  if (varlen && (batch != 1 || !cu))
    in.fail("/tensors/output.varlen_states", "want one row and input.cu_seqlens for it");
  if (varlen) in.require(varlen->name, Dtypes::model_or_float32, {cu->size() - 1, heads, width, B[3]});
  if (in.has_gradients()) in.require("grad.output.y", Dtypes::model, x);
  in.allow("grad.output.final_state", Dtypes::model_or_float32, state);
  for (const char* input : {"x", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_state"})
    if (const HostTensor* t = fixture.find(std::string("input.") + input))
      in.allow(std::string("grad.input.") + input, Dtypes::model_or_float32, t->shape);
  in.finish();

  return evaluate(in, kLayerTolerance, [&]<class T>(const reference::Numerics<T>& num) {
    const auto get = [&](const char* name) { return to_tensor<T>(fixture.tensor(name)); };
    const auto maybe = [&](const char* name) { return to_tensor<T>(fixture.find(name)); };
    const auto pointer = [](const auto& t) { return t ? &*t : nullptr; };
    const auto x_ = get("input.x"), dt = get("input.dt"), A = get("input.A"), B_ = get("input.B"), C = get("input.C");
    const auto D_ = maybe("input.D"), z = maybe("input.z"), dt_bias = maybe("input.dt_bias"),
               start = maybe("input.initial_state");
    const std::vector<std::int32_t> seq_idx = numbers(fixture.find("input.seq_idx"));
    const reference::SsdScanInputs<T> inputs{.x = x_,
                                             .dt = dt,
                                             .A = A,
                                             .B = B_,
                                             .C = C,
                                             .D = pointer(D_),
                                             .z = pointer(z),
                                             .dt_bias = pointer(dt_bias),
                                             .initial_state = pointer(start),
                                             .seq_idx = seq_idx,
                                             .chunk_size = chunk_size,
                                             .dt_softplus = dt_softplus,
                                             .dt_min = static_cast<T>(limits.low),
                                             .dt_max = static_cast<T>(limits.high)};
    const auto out = reference::ssd_scan_forward(num, inputs);
    Tensors<T> results{{"output.y", out.y}, {"output.final_state", out.final_state}};
    if (varlen) results["output.varlen_states"] = reference::ssd_scan_varlen_states(num, inputs, numbers(cu));
    if (!fixture.find("grad.output.y")) return results;
    const auto d_final_state = maybe("grad.output.final_state");
    auto d = reference::ssd_scan_backward(num, inputs, out, get("grad.output.y"), pointer(d_final_state));
    results["grad.input.x"] = std::move(d.d_x);
    results["grad.input.dt"] = std::move(d.d_dt);
    results["grad.input.A"] = std::move(d.d_A);
    results["grad.input.B"] = std::move(d.d_B);
    results["grad.input.C"] = std::move(d.d_C);
    results["grad.input.D"] = std::move(d.d_D);
    results["grad.input.z"] = std::move(d.d_z);
    results["grad.input.dt_bias"] = std::move(d.d_dt_bias);
    results["grad.input.initial_state"] = std::move(d.d_initial_state);
    return results;
  });
}

}  // namespace assay::harness
