// rms_norm: RMSNorm with an optional residual added first (reference/rms_norm.h).
//
//   rms_norm/backward rows=7 width=96 residual=same eps=1e-05 dtype=bf16 fill=model seed=7
//
// residual: none, same (the stream has the model's dtype), fp32 (the stream is kept in float32; bf16 models only).
// layout: compact, or strided: input.hidden_states is a view whose rows lie further apart than their width.
#include <fmt/format.h>

#include <stdexcept>

#include "harness/cases/norm_case.h"
#include "harness/cases/norm_limits.h"
#include "reference/rms_norm.h"

namespace assay::harness {
namespace {

using reference::Tensor;

void check(const Case& c) {
  check_form(c, {"rows", "width"},
             {{"residual", {"none", "same", "fp32"}}, {"layout", {"compact", "strided"}}, {"eps", {}}});
  const double eps = eps_option(c);
  const auto fail = [&](const char* text) { throw std::invalid_argument(to_line(c) + ": " + text); };
  if (c.size("width") < 1) fail("width=0; want at least 1");
  if (c.option("residual") == "fp32" && c.dtype == DType::float32)
    fail("residual=fp32 of an f32 model; want residual=same");
  if (c.fill == "integer" && eps != 0.25) fail("fill=integer needs eps=0.25");
  if (c.fill == "integer" && !has_integer_fill(c.size("rows"), c.size("width")))
    fail("fill=integer needs a width that is a power of two from 4 to 4096 and at most 64 rows");
}

std::vector<Call> calls(const Case& c) {
  const std::int64_t rows = c.size("rows"), width = c.size("width");
  const bool residual = c.option("residual") != "none";
  const DType stream = c.option("residual") == "fp32" ? DType::float32 : c.dtype;
  const NormInputs in = norm_inputs({.rows = rows,
                                     .width = width,
                                     .group = width,
                                     .gate = false,
                                     .residual = residual,
                                     .fill = c.fill,
                                     .seed = c.seed,
                                     .eps = eps_option(c)});
  const Shape full = {rows, width};

  const std::string fwd = "rms_norm.forward", bwd = "rms_norm.backward";
  Call forward{fwd, {{"eps", eps_option(c)}}, {}};
  forward.tensors.push_back(case_tensor(fwd, "input.hidden_states", c.dtype, full, in.hidden_states));
  if (c.option("layout") == "strided") make_rows_strided(forward.tensors.back(), 8);
  if (residual) forward.tensors.push_back(case_tensor(fwd, "input.residual", stream, full, in.residual));
  forward.tensors.push_back(case_tensor(fwd, "param.weight", c.dtype, {width}, in.weight));
  forward.tensors.push_back(case_tensor(fwd, "output.hidden_states", c.dtype, full));
  if (residual) forward.tensors.push_back(case_tensor(fwd, "output.residual", stream, full));
  if (c.path == "forward") return {forward};

  Call backward{bwd, forward.attributes, {}};
  if (residual)
    backward.tensors.push_back(unwritten_tensor(bwd, "output.residual", stream, full));
  else
    backward.tensors.push_back(forward.tensor("input.hidden_states"));
  backward.tensors.push_back(forward.tensor("param.weight"));
  backward.tensors.push_back(case_tensor(bwd, "grad.output.hidden_states", c.dtype, full, in.d_output));
  if (residual) backward.tensors.push_back(case_tensor(bwd, "grad.output.residual", stream, full, in.d_residual));
  backward.tensors.push_back(saved_tensor());
  backward.tensors.push_back(case_tensor(bwd, "grad.input.hidden_states", c.dtype, full));
  if (residual) backward.tensors.push_back(case_tensor(bwd, "grad.input.residual", stream, full));
  backward.tensors.push_back(case_tensor(bwd, "grad.weight", c.dtype, {width}));
  forward.tensors.push_back(saved_tensor());
  return {forward, backward};
}

NormOperands operands(const HostTensor& h, const std::vector<double>& x, const std::vector<double>& weight, DType dtype,
                      double eps, const assay_contract& contract, bool exact) {
  NormOperands in;
  in.width = in.group = h.shape.back();
  in.rows = in.width == 0 ? 0 : h.size() / in.width;
  in.eps = eps;
  in.x = x;
  in.weight = weight;
  in.dtype = dtype;
  in.contract = contract;
  in.final_rounding = !exact;
  return in;
}

std::vector<Expectation> expect_forward(const Call& call, const assay_contract& contract, bool exact) {
  std::vector<Expectation> result;
  const double eps = call.number("eps");
  const DType dtype = call.tensor("output.hidden_states").dtype;
  if (call.find("output.residual")) {  // the sum, rounded once
    Expectation e = expectation_of(call, "output.residual", exact);
    const std::vector<double> a = call.tensor("input.hidden_states").to_double(),
                              b = call.tensor("input.residual").to_double();
    e.oracle.resize(a.size());
    e.matched.resize(a.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      e.oracle[i] = a[i] + b[i];
      e.matched[i] = round_to(e.dtype, static_cast<float>(a[i]) + static_cast<float>(b[i]));
    }
    e.limit = sum_tolerance(e.oracle, e.dtype, !exact).limit;
    e.freedom.resize(a.size());
    result.push_back(std::move(e));
  }
  // y is judged on the candidate's own sum.
  const HostTensor& h =
      call.find("output.residual") ? call.tensor("output.residual") : call.tensor("input.hidden_states");
  const HostTensor& weight = call.tensor("param.weight");
  Expectation e = expectation_of(call, "output.hidden_states", exact);
  e.oracle = to_double(
      reference::rms_norm_forward<double>({}, to_reference_rows<double>(h), to_reference<double>(weight), nullptr, eps)
          .hidden_states);
  e.matched =
      to_double(reference::rms_norm_forward<float>(matched_numerics(dtype), to_reference_rows<float>(h),
                                                   to_reference<float>(weight), nullptr, static_cast<float>(eps))
                    .hidden_states);
  const std::vector<double> x = h.to_double(), w = weight.to_double();
  Tolerance t = norm_forward_tolerance(operands(h, x, w, dtype, eps, contract, exact), e.oracle);
  e.limit = std::move(t.limit);
  e.freedom = std::move(t.freedom);
  result.push_back(std::move(e));
  return result;
}

template <class T>
reference::RmsNormBackward<T> backward(const reference::Numerics<T>& num, const Call& call, const HostTensor& h) {
  const Tensor<T> stream = to_reference_rows<T>(h), weight = to_reference<T>(call.tensor("param.weight"));
  const auto forward = reference::rms_norm_forward<T>(num, stream, weight, nullptr, static_cast<T>(call.number("eps")));
  const HostTensor* extra = call.find("grad.output.residual");
  const Tensor<T> d_residual = extra ? to_reference_rows<T>(*extra) : Tensor<T>();
  const reference::RmsNormOptions options{.residual_in_fp32 = extra && extra->dtype == DType::float32};
  return reference::rms_norm_backward<T>(num, stream, weight, forward.rstd,
                                         to_reference_rows<T>(call.tensor("grad.output.hidden_states")),
                                         extra ? &d_residual : nullptr, options);
}

std::vector<Expectation> expect_backward(const Call& call, const assay_contract& contract, bool exact) {
  const HostTensor& h =
      call.find("output.residual") ? call.tensor("output.residual") : call.tensor("input.hidden_states");
  const DType dtype = call.tensor("grad.input.hidden_states").dtype;
  const auto oracle = backward<double>({}, call, h);
  const auto matched = backward<float>(matched_numerics(dtype), call, h);
  const std::vector<double> x = h.to_double(), w = call.tensor("param.weight").to_double(),
                            d_y = call.tensor("grad.output.hidden_states").to_double();
  const std::vector<double> extra =
      call.find("grad.output.residual") ? call.tensor("grad.output.residual").to_double() : std::vector<double>();
  NormOperands in = operands(h, x, w, dtype, call.number("eps"), contract, exact);
  in.d_y = d_y;
  in.d_x_extra = extra;

  std::vector<Expectation> result;
  const auto add = [&](const char* name, const Tensor<double>& exact_value,
                       const Tensor<float>& matched_value) -> Expectation& {
    Expectation e = expectation_of(call, name, exact);
    e.oracle = to_double(exact_value);
    e.matched = to_double(matched_value);
    return result.emplace_back(std::move(e));
  };
  const auto take = [](Expectation& e, Tolerance t) { e.limit = std::move(t.limit), e.freedom = std::move(t.freedom); };
  Expectation& d_x = add("grad.input.hidden_states", oracle.d_hidden_states, matched.d_hidden_states);
  NormBackwardTolerance t = norm_backward_tolerance(in, d_x.oracle, {}, to_double(oracle.d_weight), dtype);
  take(d_x, t.d_x);
  take(add("grad.weight", oracle.d_weight, matched.d_weight), t.d_weight);
  if (call.find("grad.input.residual")) {
    const bool own = matched.d_residual.size() > 0;
    Expectation& d_r = add("grad.input.residual", own ? oracle.d_residual : oracle.d_hidden_states,
                           own ? matched.d_residual : matched.d_hidden_states);
    take(d_r, norm_backward_tolerance(in, d_r.oracle, {}, to_double(oracle.d_weight), d_r.dtype).d_x);
  }
  return result;
}

std::vector<Case> cases(Tier tier) {
  // One below, at and above warp, vector and block boundaries; odd primes; many short rows; the layers' own widths.
  static const std::vector<std::pair<std::int64_t, std::int64_t>> small = {
      {0, 64},  {1, 1},   {3, 2},   {2, 3},   {5, 4},   {3, 7},    {9, 8},    {2, 9},    {7, 16},   {5, 31},  {4, 32},
      {3, 33},  {7, 64},  {2, 97},  {3, 127}, {5, 128}, {2, 129},  {67, 16},  {130, 24}, {4, 255},  {3, 256}, {2, 257},
      {33, 40}, {3, 511}, {2, 512}, {3, 513}, {1, 768}, {2, 1021}, {2, 1023}, {3, 1024}, {1, 1025}, {257, 8}};
  static const std::vector<std::pair<std::int64_t, std::int64_t>> large = {
      {3, 2688}, {2, 4096}, {1, 4480}, {3, 4099}, {1, 5120}, {1, 8192}};
  std::vector<std::pair<std::int64_t, std::int64_t>> sizes = small;
  sizes.insert(sizes.end(), large.begin(), large.end());
  if (tier != Tier::quick) sizes.insert(sizes.end(), {{37, 2688}, {16, 4096}, {64, 1024}, {1000, 33}, {4099, 64}});

  std::vector<Case> result;
  std::uint64_t seed = 0;
  for (const char* path : {"forward", "backward"})
    for (const DType dtype : {DType::float32, DType::bfloat16})
      for (const char* residual : {"none", "same", "fp32"}) {
        if (dtype == DType::float32 && residual == std::string("fp32")) continue;
        for (const auto& [rows, width] : sizes)
          for (const char* fill : {"integer", "model", "outlier", "edge"}) {
            const bool integer = fill == std::string("integer");
            if (integer && !has_integer_fill(rows, width)) continue;
            if (tier == Tier::quick && rows * width > 2048 &&
                (fill == std::string("outlier") || fill == std::string("edge")))
              continue;
            ++seed;
            const char* eps = integer ? "0.25" : seed % 3 == 0 ? "1e-06" : "1e-05";
            Case c{"rms_norm",
                   path,
                   {{"rows", rows}, {"width", width}},
                   {{"residual", residual}, {"layout", seed % 4 == 0 ? "strided" : "compact"}, {"eps", eps}},
                   dtype,
                   fill,
                   seed};
            result.push_back(std::move(c));
          }
      }
  return result;
}

}  // namespace

Family rms_norm_family() {
  return {.name = "rms_norm",
          .cases = cases,
          .check = check,
          .calls = calls,
          .expect = [](const Call& call, const assay_contract& contract, bool exact) {
            return call.op == "rms_norm.forward" ? expect_forward(call, contract, exact)
                                                 : expect_backward(call, contract, exact);
          },
          .judged_on = {"output.residual"}};
}

}  // namespace assay::harness
