// mamba2_decode_step: one token of a Mamba-2 mixer between in_proj and out_proj, the decode path of
// reference/mamba2_mixer.h: causal_conv1d_update, ssm_state_update, gated_rms_norm.
//
//   mamba2_decode_step/forward batch=3 heads=4 head_dim=16 groups=2 state_size=16 taps=4 conv_len=4 cache=f32 bias=yes
//     rows=indexed layout=strided eps=1e-05 dtype=bf16 fill=model seed=7
//
// cache: the type of the scan's state; conv_state has the model's. bias: the convolution's. rows: all (batch row b uses
// row b of both caches), or indexed (any row of larger ones; every fourth is padding). layout: strided: rows of
// projected lie further apart than they are long.
#include <fmt/format.h>

#include <stdexcept>

#include "harness/cases/mamba2_decode_step_fill.h"
#include "harness/cases/mamba2_decode_step_limits.h"
#include "harness/cases/norm_case.h"
#include "reference/causal_conv1d.h"
#include "reference/gated_rms_norm.h"
#include "reference/ssm_state_update.h"

namespace assay::harness {
namespace {

using reference::Shape;
using reference::Tensor;

constexpr std::int64_t kSpareRows = 3;  // of the caches, beyond the batch, where rows are indexed

void check(const Case& c) {
  const std::vector<std::string> answers = {"yes", "no"};
  check_form(c, {"batch", "heads", "head_dim", "groups", "state_size", "taps", "conv_len"},
             {{"cache", {"f32", "bf16"}},
              {"bias", answers},
              {"rows", {"all", "indexed"}},
              {"layout", {"compact", "strided"}},
              {"eps", {}}},
             {"forward"});
  (void)eps_option(c);
  const auto fail = [&](const std::string& text) { throw std::invalid_argument(to_line(c) + ": " + text); };
  for (const char* axis : {"heads", "head_dim", "groups", "state_size", "taps"})
    if (c.size(axis) < 1) fail(fmt::format("{}=0; want at least 1", axis));
  if (c.size("heads") % c.size("groups") != 0)
    fail(fmt::format("groups={} does not divide heads={}", c.size("groups"), c.size("heads")));
  if (c.size("conv_len") < c.size("taps") - 1)
    fail(fmt::format("conv_len={}; want at least taps - 1 = {}", c.size("conv_len"), c.size("taps") - 1));
  if (c.fill == "integer" && c.size("taps") > 7) fail("fill=integer needs at most 7 taps");
}

std::vector<Call> calls(const Case& c) {
  const bool indexed = c.option("rows") == "indexed";
  const DecodeStepProblem p{.batch = c.size("batch"),
                            .cache_rows = c.size("batch") + (indexed ? kSpareRows : 0),
                            .heads = c.size("heads"),
                            .head_dim = c.size("head_dim"),
                            .groups = c.size("groups"),
                            .state_size = c.size("state_size"),
                            .taps = c.size("taps"),
                            .conv_len = c.size("conv_len"),
                            .fill = c.fill,
                            .seed = c.seed};
  const DecodeStepInputs in = decode_step_inputs(p);
  const std::string op = "mamba2_decode_step.forward";
  Call call{op, {{"eps", eps_option(c)}, {"groups", p.groups}}, {}};
  const auto add = [&](const char* name, DType dtype, harness::Shape shape, const std::vector<double>& values) {
    call.tensors.push_back(case_tensor(op, name, dtype, std::move(shape), values));
  };
  const std::int64_t width = p.inner() + p.channels() + p.heads;
  add("input.projected", c.dtype, {p.batch, width}, in.projected);
  if (c.option("layout") == "strided") make_rows_strided(call.tensors.back(), 24);
  if (indexed) add("input.state_batch_indices", DType::int32, {p.batch}, in.cache_row);
  add("conv_state", c.dtype, {p.cache_rows, p.channels(), p.conv_len}, in.conv_state);
  add("state", c.option("cache") == "bf16" ? DType::bfloat16 : DType::float32,
      {p.cache_rows, p.heads, p.head_dim, p.state_size}, in.state);
  add("param.conv_weight", c.dtype, {p.channels(), p.taps}, in.conv_weight);
  if (c.option("bias") == "yes") add("param.conv_bias", c.dtype, {p.channels()}, in.conv_bias);
  add("param.dt_bias", DType::float32, {p.heads}, in.dt_bias);
  add("param.A", DType::float32, {p.heads}, in.A);
  add("param.D", DType::float32, {p.heads}, in.D);
  add("param.norm_weight", c.dtype, {p.inner()}, in.norm_weight);
  add("output.hidden_states", c.dtype, {p.batch, p.inner()}, {});
  return {call};
}

HostTensor before(const HostTensor& t) {
  HostTensor result = t;
  result.bytes = t.before;
  return result;
}

template <class T>
struct Step {
  Tensor<T> conv_past, xBC, y, out, conv_state, state;
};

// Columns first .. first + width of [rows, ..], as `shape`.
template <class T>
Tensor<T> columns(const Tensor<T>& rows, std::int64_t first, std::int64_t width, Shape shape) {
  Tensor<T> result({rows.dim(0), width});
  for (std::int64_t row = 0; row < rows.dim(0); ++row)
    for (std::int64_t i = 0; i < width; ++i) result(row, i) = rows(row, first + i);
  return std::move(result).reshaped(std::move(shape));
}

// `call` with its caches as they were before.
template <class T>
Step<T> evaluate(const reference::Numerics<T>& num, const Call& call) {
  const auto tensor = [&](const char* name) { return to_reference<T>(call.tensor(name)); };
  const HostTensor cache = before(call.tensor("state"));
  const Tensor<T> projected = tensor("input.projected"), A = tensor("param.A"), D = tensor("param.D"),
                  dt_bias = tensor("param.dt_bias"), conv_weight = tensor("param.conv_weight"),
                  norm_weight = tensor("param.norm_weight");
  Step<T> step;
  step.conv_state = to_reference<T>(before(call.tensor("conv_state")));
  step.state = to_reference<T>(cache);
  const std::int64_t batch = projected.dim(0), heads = cache.shape[1], head_dim = cache.shape[2],
                     inner = heads * head_dim, state_size = cache.shape[3], groups = call.integer("groups"),
                     keys = groups * state_size, channels = step.conv_state.dim(1), conv_len = step.conv_state.dim(2),
                     past = conv_weight.dim(1) - 1;
  std::vector<std::int32_t> rows;
  for (std::int64_t b = 0; b < batch; ++b) {
    const HostTensor* t = call.find("input.state_batch_indices");
    rows.push_back(static_cast<std::int32_t>(t ? t->at(b) : static_cast<double>(b)));
  }
  // The rows of conv_state that the batch uses; padding gets zeros, which nobody sees.
  Tensor<T> columns_of_batch({batch, channels, conv_len});
  const auto for_each_column = [&](auto body) {
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t i = 0; rows[b] >= 0 && i < channels * conv_len; ++i)
        body(columns_of_batch[b * channels * conv_len + i], step.conv_state[rows[b] * channels * conv_len + i]);
  };
  for_each_column([](T& mine, const T& cached) { mine = cached; });
  step.conv_past = Tensor<T>({batch, channels, past});
  for (std::int64_t i = 0; i < batch * channels; ++i)
    for (std::int64_t j = 0; j < past; ++j)
      step.conv_past[i * past + j] = columns_of_batch[i * conv_len + conv_len - past + j];

  const Tensor<T> conv_bias = call.find("param.conv_bias") ? tensor("param.conv_bias") : Tensor<T>();
  step.xBC =
      reference::causal_conv1d_update<T>(num, columns(projected, inner, channels, {batch, channels}), columns_of_batch,
                                         conv_weight, call.find("param.conv_bias") ? &conv_bias : nullptr);
  for_each_column([](const T& mine, T& cached) { cached = mine; });
  step.y = Tensor<T>({batch, inner});
  step.out = Tensor<T>({batch, inner});
  if (batch == 0) return step;
  const Tensor<T> x = columns(step.xBC, 0, inner, {batch, heads, head_dim}),
                  B = columns(step.xBC, inner, keys, {batch, groups, state_size}),
                  C = columns(step.xBC, inner + keys, keys, {batch, groups, state_size}),
                  dt = columns(projected, inner + channels, heads, {batch, heads}),
                  z = columns(projected, 0, inner, {batch, inner});
  const bool rounds = std::is_same_v<T, float> && cache.dtype == DType::bfloat16;
  step.y = reference::ssm_state_update<T>(
               num, {.x = x, .dt = dt, .A = A, .B = B, .C = C, .D = &D, .dt_bias = &dt_bias, .state_rows = rows},
               step.state, rounds ? reference::Storage::bfloat16 : reference::Storage::native)
               .reshaped({batch, inner});
  step.out = reference::gated_rms_norm_forward<T>(num, step.y, &z, norm_weight, inner / groups,
                                                  static_cast<T>(call.number("eps")))
                 .hidden_states;
  return step;
}

std::vector<Expectation> expect(const Call& call, const assay_contract& contract, bool exact) {
  auto numerics = matched_numerics(call.tensor("input.projected").dtype);
  if (contract.softplus == ASSAY_SOFTPLUS_NAIVE) numerics.softplus_form = reference::Softplus::naive;
  const Step<double> oracle = evaluate<double>({}, call);
  const Step<float> matched = evaluate<float>(numerics, call);
  DecodeStepTolerance t = decode_step_tolerance(call, before(call.tensor("state")),
                                                {.conv_past = to_double(oracle.conv_past),
                                                 .xBC = to_double(oracle.xBC),
                                                 .y = to_double(oracle.y),
                                                 .out = to_double(oracle.out)},
                                                contract, exact);
  const auto expectation = [&](const char* name, bool bits, const Tensor<double>& value, const Tensor<float>& rounded,
                               Tolerance tolerance) {
    Expectation e = expectation_of(call, name, bits);
    e.oracle = to_double(value);
    e.matched = to_double(rounded);
    e.limit = std::move(tolerance.limit);
    e.freedom = std::move(tolerance.freedom);
    return e;
  };
  return {expectation("output.hidden_states", false, oracle.out, matched.out, std::move(t.out)),
          expectation("conv_state", exact, oracle.conv_state, matched.conv_state,
                      make_tolerance(oracle.conv_state.size())),  // copies
          expectation("state", exact, oracle.state, matched.state, std::move(t.state))};
}

std::vector<Case> cases(Tier tier) {
  struct Size {
    std::int64_t batch, heads, head_dim, groups, state_size, taps, conv_len;
  };
  // In bfloat16 16-byte accesses need heads in eights. The last one is a layer's own.
  std::vector<Size> sizes = {
      {0, 2, 4, 1, 8, 4, 4},    {1, 1, 1, 1, 1, 2, 1},   {2, 3, 5, 3, 7, 4, 3},    {3, 8, 16, 2, 16, 4, 4},
      {2, 24, 4, 3, 24, 4, 4},  {1, 4, 33, 1, 32, 4, 4}, {5, 8, 3, 1, 40, 4, 4},   {2, 8, 20, 1, 48, 4, 4},
      {1, 3, 31, 3, 64, 3, 3},  {2, 8, 8, 8, 100, 4, 4}, {1, 8, 16, 1, 128, 4, 4}, {1, 2, 20, 2, 129, 4, 4},
      {1, 8, 5, 1, 256, 4, 4},  {1, 1, 8, 1, 257, 4, 4}, {9, 5, 2, 5, 12, 2, 2},   {1, 8, 72, 1, 16, 4, 4},
      {2, 16, 32, 2, 32, 4, 4}, {4, 4, 6, 2, 8, 5, 6},   {1, 64, 64, 8, 128, 4, 4}};
  if (tier != Tier::quick)
    sizes.insert(sizes.end(), {{4, 64, 64, 8, 128, 4, 4}, {2, 128, 80, 8, 256, 4, 4}, {67, 8, 16, 2, 32, 4, 4}});
  std::vector<Case> result;
  std::uint64_t seed = 40000;
  for (const DType dtype : {DType::float32, DType::bfloat16})
    for (const char* cache : {"f32", "bf16"})
      for (const Size& s : sizes)
        for (const char* fill : {"integer", "model", "outlier", "edge"}) {
          const bool large = s.batch * s.heads * s.head_dim * s.state_size > 100000;
          if (tier == Tier::quick && large &&
              (fill != std::string("model") || (dtype == DType::float32) != (cache[0] == 'f')))
            continue;
          ++seed;
          result.push_back({"mamba2_decode_step",
                            "forward",
                            {{"batch", s.batch},
                             {"heads", s.heads},
                             {"head_dim", s.head_dim},
                             {"groups", s.groups},
                             {"state_size", s.state_size},
                             {"taps", s.taps},
                             {"conv_len", s.conv_len}},
                            {{"cache", cache},
                             {"bias", seed % 5 == 0 ? "no" : "yes"},
                             {"rows", seed % 3 == 0 ? "indexed" : "all"},
                             {"layout", seed / 3 % 2 == 0 ? "strided" : "compact"},
                             {"eps", seed % 2 == 0 ? "1e-06" : "1e-05"}},
                            dtype,
                            fill,
                            seed});
        }
  return result;
}

}  // namespace

Family mamba2_decode_step_family() {
  return {.name = "mamba2_decode_step", .cases = cases, .check = check, .calls = calls, .expect = expect};
}

}  // namespace assay::harness
