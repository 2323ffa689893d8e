// gated_rms_norm: the norm after the Mamba-2 scan (reference/gated_rms_norm.h).
//
//   gated_rms_norm/forward rows=7 width=96 groups=3 gate=yes layout=strided eps=1e-05 dtype=bf16 fill=model seed=7
//
// layout: compact, or strided: hidden_states and gate are views, as slices of in_proj's output are.
#include <fmt/format.h>

#include <stdexcept>

#include "harness/cases/norm_case.h"
#include "harness/cases/norm_limits.h"
#include "reference/gated_rms_norm.h"

namespace assay::harness {
namespace {

using reference::Tensor;

void check(const Case& c) {
  check_form(c, {"rows", "width", "groups"},
             {{"gate", {"yes", "no"}}, {"layout", {"compact", "strided"}}, {"eps", {}}});
  const double eps = eps_option(c);
  const std::int64_t width = c.size("width"), groups = c.size("groups");
  const auto fail = [&](const std::string& text) { throw std::invalid_argument(to_line(c) + ": " + text); };
  if (width < 1) fail("width=0; want at least 1");
  if (groups < 1 || width % groups != 0) fail(fmt::format("groups={} does not divide width={}", groups, width));
  if (c.fill == "integer" && eps != 0.25) fail("fill=integer needs eps=0.25");
  if (c.fill == "integer" && !has_integer_fill(c.size("rows"), width / groups))
    fail("fill=integer needs groups of 4 to 4096 channels, a power of two, and at most 64 rows");
}

std::vector<Call> calls(const Case& c) {
  const std::int64_t rows = c.size("rows"), width = c.size("width"), group = width / c.size("groups");
  const bool gate = c.option("gate") == "yes", strided = c.option("layout") == "strided";
  const NormInputs in = norm_inputs({.rows = rows,
                                     .width = width,
                                     .group = group,
                                     .gate = gate,
                                     .residual = false,
                                     .fill = c.fill,
                                     .seed = c.seed,
                                     .eps = eps_option(c)});
  const Shape full = {rows, width};
  const std::string fwd = "gated_rms_norm.forward", bwd = "gated_rms_norm.backward";
  Call forward{fwd, {{"eps", eps_option(c)}, {"group_size", group}}, {}};
  forward.tensors.push_back(case_tensor(fwd, "input.hidden_states", c.dtype, full, in.hidden_states));
  if (strided) make_rows_strided(forward.tensors.back(), 16);
  if (gate) {
    forward.tensors.push_back(case_tensor(fwd, "input.gate", c.dtype, full, in.gate));
    if (strided) make_rows_strided(forward.tensors.back(), 5);
  }
  forward.tensors.push_back(case_tensor(fwd, "param.weight", c.dtype, {width}, in.weight));
  Call backward{bwd, forward.attributes, forward.tensors};

  forward.tensors.push_back(case_tensor(fwd, "output.hidden_states", c.dtype, full));
  if (c.path == "forward") return {forward};
  forward.tensors.push_back(saved_tensor());
  backward.tensors.push_back(case_tensor(bwd, "grad.output.hidden_states", c.dtype, full, in.d_output));
  backward.tensors.push_back(saved_tensor());
  backward.tensors.push_back(case_tensor(bwd, "grad.input.hidden_states", c.dtype, full));
  if (gate) backward.tensors.push_back(case_tensor(bwd, "grad.input.gate", c.dtype, full));
  backward.tensors.push_back(case_tensor(bwd, "grad.weight", c.dtype, {width}));
  return {forward, backward};
}

template <class T>
struct Both {
  reference::GatedRmsNormForward<T> forward;
  reference::GatedRmsNormBackward<T> backward;
};
template <class T>
Both<T> evaluate(const reference::Numerics<T>& num, const Call& call) {
  const Tensor<T> x = to_reference_rows<T>(call.tensor("input.hidden_states")),
                  weight = to_reference<T>(call.tensor("param.weight"));
  const Tensor<T> z = call.find("input.gate") ? to_reference_rows<T>(call.tensor("input.gate")) : Tensor<T>();
  const Tensor<T>* gate = call.find("input.gate") ? &z : nullptr;
  const std::int64_t group = call.integer("group_size");
  Both<T> result;
  result.forward =
      reference::gated_rms_norm_forward<T>(num, x, gate, weight, group, static_cast<T>(call.number("eps")));
  if (const HostTensor* d_y = call.find("grad.output.hidden_states"))
    result.backward = reference::gated_rms_norm_backward<T>(num, x, gate, weight, result.forward.rstd,
                                                            to_reference_rows<T>(*d_y), group);
  return result;
}

std::vector<Expectation> expect(const Call& call, const assay_contract& contract, bool exact) {
  const HostTensor& hidden_states = call.tensor("input.hidden_states");
  const auto oracle = evaluate<double>({}, call);
  const auto matched = evaluate<float>(matched_numerics(hidden_states.dtype), call);

  const auto values = [&](const char* name) {
    return call.find(name) ? call.tensor(name).to_double() : std::vector<double>();
  };
  const std::vector<double> x = values("input.hidden_states"), z = values("input.gate"), w = values("param.weight"),
                            d_y = values("grad.output.hidden_states");
  NormOperands in;
  in.width = hidden_states.shape.back();
  in.rows = in.width == 0 ? 0 : hidden_states.size() / in.width;
  in.group = call.integer("group_size");
  in.eps = call.number("eps");
  in.x = x;
  in.gate = z;
  in.weight = w;
  in.d_y = d_y;
  in.dtype = hidden_states.dtype;
  in.contract = contract;
  in.final_rounding = !exact;

  std::vector<Expectation> result;
  const auto add = [&](const char* name, std::vector<double> exact_value, std::vector<double> matched_value,
                       Tolerance t) {
    Expectation e = expectation_of(call, name, exact);
    e.oracle = std::move(exact_value);
    e.matched = std::move(matched_value);
    e.limit = std::move(t.limit);
    e.freedom = std::move(t.freedom);
    result.push_back(std::move(e));
  };
  if (call.op == "gated_rms_norm.forward") {
    const std::vector<double> y = to_double(oracle.forward.hidden_states);
    add("output.hidden_states", y, to_double(matched.forward.hidden_states), norm_forward_tolerance(in, y));
    return result;
  }
  const std::vector<double> d_x = to_double(oracle.backward.d_hidden_states), d_z = to_double(oracle.backward.d_gate),
                            d_w = to_double(oracle.backward.d_weight);
  NormBackwardTolerance t = norm_backward_tolerance(in, d_x, d_z, d_w, in.dtype);
  add("grad.input.hidden_states", d_x, to_double(matched.backward.d_hidden_states), std::move(t.d_x));
  if (!z.empty() || call.find("grad.input.gate"))
    add("grad.input.gate", d_z, to_double(matched.backward.d_gate), std::move(t.d_gate));
  add("grad.weight", d_w, to_double(matched.backward.d_weight), std::move(t.d_weight));
  return result;
}

std::vector<Case> cases(Tier tier) {
  struct Size {
    std::int64_t rows, width, groups;
  };
  static const std::vector<Size> small = {{0, 64, 4},   {1, 1, 1},    {2, 2, 2},    {3, 6, 3},   {5, 8, 2},
                                          {2, 21, 3},   {3, 32, 4},   {7, 33, 3},   {4, 64, 2},  {7, 64, 1},
                                          {2, 95, 5},   {3, 96, 3},   {5, 128, 4},  {2, 127, 1}, {3, 129, 3},
                                          {67, 16, 2},  {130, 24, 3}, {3, 256, 1},  {2, 257, 1}, {2, 512, 8},
                                          {3, 513, 27}, {2, 1024, 8}, {1, 1023, 3}, {33, 40, 5}, {257, 8, 1}};
  static const std::vector<Size> large = {{2, 4096, 8}, {1, 7680, 8}, {1, 8192, 8}, {1, 10240, 8}, {2, 16400, 2}};  // the layers' own
  std::vector<Size> sizes = small;
  sizes.insert(sizes.end(), large.begin(), large.end());
  if (tier != Tier::quick)
    sizes.insert(sizes.end(), {{16, 4096, 8}, {5, 16384, 8}, {1000, 33, 11}, {4099, 64, 4}, {64, 1024, 1}});

  std::vector<Case> result;
  std::uint64_t seed = 10000;
  for (const char* path : {"forward", "backward"})
    for (const DType dtype : {DType::float32, DType::bfloat16})
      for (const char* gate : {"yes", "no"})
        for (const Size& s : sizes)
          for (const char* fill : {"integer", "model", "outlier", "edge"}) {
            const bool integer = fill == std::string("integer");
            if (integer && !has_integer_fill(s.rows, s.width / s.groups)) continue;
            if (tier == Tier::quick && s.rows * s.width > 2048 &&
                (fill == std::string("outlier") || fill == std::string("edge")))
              continue;
            ++seed;
            const char* eps = integer ? "0.25" : seed % 3 == 0 ? "1e-06" : "1e-05";
            result.push_back({"gated_rms_norm",
                              path,
                              {{"rows", s.rows}, {"width", s.width}, {"groups", s.groups}},
                              {{"gate", gate}, {"layout", seed % 4 == 0 ? "strided" : "compact"}, {"eps", eps}},
                              dtype,
                              fill,
                              seed});
          }
  return result;
}

}  // namespace

Family gated_rms_norm_family() {
  return {.name = "gated_rms_norm", .cases = cases, .check = check, .calls = calls, .expect = expect};
}

}  // namespace assay::harness
