// linear: a linear layer as every projection of the model is one (reference/linear.h).
//
//   linear/forward rows=37 in_features=96 out_features=64 bias=yes layout=strided dtype=bf16 fill=model seed=7
//
// layout: compact, or strided: hidden_states (forward and backward) and the output's gradient are views.
#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "harness/cases/linear_limits.h"
#include "harness/cases/norm_case.h"
#include "harness/core/random.h"
#include "reference/linear.h"

namespace assay::harness {
namespace {

using reference::Tensor;

// Fill `integer`: x = +-(1, 3, ..., 63), weight and d_output = +-(1, 3, ..., 31), bias = +-(1, 3, ..., 4095). Terms are
// odd and below 2^11, 8192 of them and a bias below 2^24: exact in float32, in no narrower accumulator.
constexpr std::int64_t kMostIntegerTerms = 8192;

bool has_integer_fill(std::int64_t rows, std::int64_t in, std::int64_t out) {
  return std::max({rows, in, out}) <= kMostIntegerTerms;
}

void check(const Case& c) {
  check_form(c, {"rows", "in_features", "out_features"}, {{"bias", {"yes", "no"}}, {"layout", {"compact", "strided"}}});
  const auto fail = [&](const std::string& text) { throw std::invalid_argument(to_line(c) + ": " + text); };
  for (const char* axis : {"in_features", "out_features"})
    if (c.size(axis) < 1) fail(fmt::format("{}=0; want at least 1", axis));
  if (c.fill == "integer" && !has_integer_fill(c.size("rows"), c.size("in_features"), c.size("out_features")))
    fail("fill=integer needs sizes of at most 8192");
}

std::vector<double> drawn(const Case& c, const char* tensor, const Shape& shape, std::int64_t odd_below, double scale) {
  const Random values(c.seed, tensor), kinds(c.seed, std::string(tensor) + " kinds");
  std::vector<double> result(static_cast<std::size_t>(element_count(shape)));
  const std::int64_t width = shape.back();
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(result.size()); ++i) {
    double& value = result[static_cast<std::size_t>(i)];
    if (c.fill == "integer") {
      value = static_cast<double>(2 * values.integer(2 * i, 0, odd_below / 2 - 1) + 1);
      if (values.uniform(2 * i + 1) < 0.375) value = -value;  // sums grow with their length
      continue;
    }
    value = scale * values.normal(i);
    if (c.fill == "outlier" && kinds.uniform(i % width) < 4.0 / static_cast<double>(std::max<std::int64_t>(width, 8)))
      value *= 100;
    if (c.fill == "edge") {
      constexpr double kScales[] = {0, 0x1p-130, 0x1p-60, 0x1p20, 1};
      value *= kScales[kinds.integer(i / width, 0, std::size(kScales) - 1)];
    }
  }
  return result;
}

std::vector<Call> calls(const Case& c) {
  const std::int64_t rows = c.size("rows"), in = c.size("in_features"), out = c.size("out_features");
  const bool backward = c.path == "backward", bias = c.option("bias") == "yes",
             strided = c.option("layout") == "strided";
  const double weight_scale = 1 / std::sqrt(static_cast<double>(in));
  Call call{c.operation(), {}, {}};
  const auto add = [&](const char* name, const Shape& shape, std::int64_t odd_below = 0, double scale = 1) {
    call.tensors.push_back(
        case_tensor(call.op, name, c.dtype, shape,
                    odd_below > 0 ? drawn(c, name, shape, odd_below, scale) : std::vector<double>()));
  };
  add("input.hidden_states", {rows, in}, 64);
  if (strided) make_rows_strided(call.tensors.back(), 16);
  add("param.weight", {out, in}, 32, weight_scale);
  if (bias && !backward) add("param.bias", {out}, 4096);
  if (!backward) {
    add("output.hidden_states", {rows, out});
    return {call};
  }
  add("grad.output.hidden_states", {rows, out}, 32);
  if (strided) make_rows_strided(call.tensors.back(), 24);
  add("grad.input.hidden_states", {rows, in});
  add("grad.weight", {out, in});
  if (bias) add("grad.bias", {out});
  return {call};
}

template <class T>
std::vector<std::pair<std::string, Tensor<T>>> evaluate(const reference::Numerics<T>& num, const Call& call) {
  const Tensor<T> x = to_reference_rows<T>(call.tensor("input.hidden_states")),
                  weight = to_reference<T>(call.tensor("param.weight"));
  if (call.op == "linear.forward") {
    const Tensor<T> bias = call.find("param.bias") ? to_reference<T>(call.tensor("param.bias")) : Tensor<T>();
    return {{"output.hidden_states",
             reference::linear_forward<T>(num, x, weight, call.find("param.bias") ? &bias : nullptr)}};
  }
  auto d = reference::linear_backward<T>(num, x, weight, to_reference_rows<T>(call.tensor("grad.output.hidden_states")),
                                         call.find("grad.bias") != nullptr);
  return {{"grad.input.hidden_states", std::move(d.x)},
          {"grad.weight", std::move(d.weight)},
          {"grad.bias", std::move(d.bias)}};
}

std::vector<Expectation> expect(const Call& call, const assay_contract& contract, bool exact) {
  const DType dtype = call.tensor("input.hidden_states").dtype;
  const auto oracle = evaluate<double>({}, call);
  const auto matched = evaluate<float>(matched_numerics(dtype), call);
  const auto rows_of = [&](const char* name) { return to_reference_rows<double>(call.tensor(name)); };
  const Tensor<double> x = rows_of("input.hidden_states"), weight = to_reference<double>(call.tensor("param.weight"));
  const auto in = static_cast<double>(weight.dim(1)), out = static_cast<double>(weight.dim(0)),
             rows = static_cast<double>(x.dim(0));
  const auto sums_of = [&](const std::string& name, const std::vector<double>& sum) -> LinearSums {
    if (name == "output.hidden_states") {
      const HostTensor* given = call.find("param.bias");
      const Tensor<double> bias = given ? to_reference<double>(*given) : Tensor<double>();
      return {sum, reference::linear_term_sums(x, weight, given ? &bias : nullptr), in, given ? 1. : 0.};
    }
    const Tensor<double> d_y = rows_of("grad.output.hidden_states");
    if (name == "grad.input.hidden_states") return {sum, reference::linear_input_gradient_term_sums(weight, d_y), out};
    if (name == "grad.weight") return {sum, reference::linear_weight_gradient_term_sums(x, d_y), rows};
    return {sum, reference::linear_bias_gradient_term_sums(d_y), 0, rows};
  };

  std::vector<Expectation> result;
  for (std::size_t k = 0; k < oracle.size(); ++k) {
    const std::string& name = oracle[k].first;
    if (!call.find(name)) continue;
    Expectation& e = result.emplace_back(expectation_of(call, name, exact));
    e.oracle = to_double(oracle[k].second);
    e.matched = to_double(matched[k].second);
    Tolerance t = linear_tolerance(sums_of(name, e.oracle), dtype, contract, exact);
    e.limit = std::move(t.limit);
    e.freedom = std::move(t.freedom);
  }
  return result;
}

std::vector<Case> cases(Tier tier) {
  struct Size {
    std::int64_t rows, in, out;
  };
  // No row, one of each; primes; one below, at and above a tile of 32 rows and columns and a panel of 128 terms; rows
  // of a bias sum, 64; the presets' own projections, forward (a gradient of such a weight takes a second to judge).
  std::vector<Size> sizes = {{0, 5, 7},     {1, 1, 1},     {2, 3, 5},     {3, 32, 196}, {7, 31, 33},
                             {31, 127, 17}, {32, 128, 32}, {33, 129, 31}, {63, 16, 40}, {65, 40, 24},
                             {129, 97, 65}, {5, 1031, 13}, {257, 8, 11},  {9, 640, 336}};
  const std::size_t small = sizes.size();
  sizes.insert(sizes.end(), {{3, 2688, 10304}, {5, 4096, 2688}});
  if (tier != Tier::quick) sizes.insert(sizes.end(), {{512, 512, 384}, {1000, 96, 130}});
  std::vector<Case> result;
  std::uint64_t seed = 50000;
  for (const char* path : {"forward", "backward"})
    for (const DType dtype : {DType::float32, DType::bfloat16})
      for (std::size_t k = 0; k < sizes.size(); ++k)
        for (const char* fill : {"integer", "model", "outlier", "edge"}) {
          const Size& s = sizes[k];
          if (fill == std::string("integer") && !has_integer_fill(s.rows, s.in, s.out)) continue;
          const bool bf16_forward = path == std::string("forward") && dtype == DType::bfloat16;
          if (tier == Tier::quick && k >= small && (fill != std::string("model") || !bf16_forward)) continue;
          ++seed;
          result.push_back({"linear",
                            path,
                            {{"rows", s.rows}, {"in_features", s.in}, {"out_features", s.out}},
                            {{"bias", seed % 2 == 0 ? "yes" : "no"}, {"layout", seed % 3 == 0 ? "strided" : "compact"}},
                            dtype,
                            fill,
                            seed});
        }
  return result;
}

}  // namespace

Family linear_family() { return {.name = "linear", .cases = cases, .check = check, .calls = calls, .expect = expect}; }

}  // namespace assay::harness
