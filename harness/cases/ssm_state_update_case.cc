// ssm_state_update: one decode step of the Mamba-2 scan (reference/ssm_state_update.h).
//
//   ssm_state_update/forward batch=3 heads=4 head_dim=16 groups=2 state_size=16 cache=f32 gate=yes D=head bias=yes
//     softplus=yes rows=indexed layout=strided dtype=bf16 fill=model seed=7
//
// rows: all (batch row b uses cache row b), or indexed (any row of a larger cache; every fourth is padding).
// layout: compact, or strided: x, B, C, dt, z are views, as slices of in_proj's output and of the convolution's are.
#include <fmt/format.h>

#include <stdexcept>

#include "harness/cases/norm_case.h"
#include "harness/cases/ssm_state_update_fill.h"
#include "harness/cases/ssm_state_update_limits.h"
#include "reference/ssm_state_update.h"

namespace assay::harness {
namespace {

using reference::Tensor;

constexpr std::int64_t kSpareRows = 3;  // of the cache, beyond the batch, where rows are indexed

void check(const Case& c) {
  const std::vector<std::string> answers = {"yes", "no"};
  check_form(c, {"batch", "heads", "head_dim", "groups", "state_size"},
             {{"cache", {"f32", "bf16"}},
              {"gate", answers},
              {"D", {"head", "channel", "none"}},
              {"bias", answers},
              {"softplus", answers},
              {"rows", {"all", "indexed"}},
              {"layout", {"compact", "strided"}}});
  const auto fail = [&](const std::string& text) { throw std::invalid_argument(to_line(c) + ": " + text); };
  if (c.path != "forward") fail("path \"" + c.path + "\" is unknown (forward)");
  for (const char* axis : {"heads", "head_dim", "groups", "state_size"})
    if (c.size(axis) < 1) fail(fmt::format("{}=0; want at least 1", axis));
  if (c.size("heads") % c.size("groups") != 0)
    fail(fmt::format("groups={} does not divide heads={}", c.size("groups"), c.size("heads")));
  if (c.fill == "integer" && c.size("state_size") > 256) fail("fill=integer needs state_size of at most 256");
}

// Rows `gap` elements further apart than they are long.
void make_strided(HostTensor& t, std::int64_t gap) {
  t.strides.assign(t.shape.size(), 1);
  for (std::size_t i = t.shape.size() - 1; i-- > 0;) t.strides[i] = t.strides[i + 1] * t.shape[i + 1];
  t.strides[0] += gap;
}

std::vector<Call> calls(const Case& c) {
  const std::int64_t batch = c.size("batch"), heads = c.size("heads"), head_dim = c.size("head_dim"),
                     groups = c.size("groups"), state_size = c.size("state_size");
  const bool indexed = c.option("rows") == "indexed", softplus = c.option("softplus") == "yes";
  const std::int64_t cache_rows = indexed ? batch + kSpareRows : batch;
  const StateUpdateInputs in = state_update_inputs({.batch = batch,
                                                    .cache_rows = cache_rows,
                                                    .heads = heads,
                                                    .head_dim = head_dim,
                                                    .groups = groups,
                                                    .state_size = state_size,
                                                    .softplus = softplus,
                                                    .bias = c.option("bias") == "yes",
                                                    .fill = c.fill,
                                                    .seed = c.seed});
  const std::string op = "ssm_state_update.forward";
  Call call{op, {{"dt_softplus", std::int64_t{softplus}}}, {}};
  const auto add = [&](const char* name, DType dtype, Shape shape, const std::vector<double>& values) -> HostTensor& {
    return call.tensors.emplace_back(case_tensor(op, name, dtype, std::move(shape), values));
  };
  const auto add_view = [&](const char* name, Shape shape, const std::vector<double>& values, std::int64_t gap) {
    HostTensor& t = add(name, c.dtype, std::move(shape), values);
    if (c.option("layout") == "strided") make_strided(t, gap);
  };
  const Shape x = {batch, heads, head_dim}, keys = {batch, groups, state_size};
  add_view("input.x", x, in.x, 24);
  add_view("input.dt", {batch, heads}, in.dt, 3);
  add("input.A", DType::float32, {heads}, in.A);
  add_view("input.B", keys, in.B, 16);
  add_view("input.C", keys, in.C, 5);
  if (c.option("D") == "channel") add("input.D", DType::float32, {heads, head_dim}, in.D);
  if (c.option("D") == "head") add("input.D", DType::float32, {heads}, {in.D.begin(), in.D.begin() + heads});
  if (c.option("gate") == "yes") add_view("input.z", x, in.z, 8);
  if (c.option("bias") == "yes") add("input.dt_bias", DType::float32, {heads}, in.dt_bias);
  if (indexed) add("input.state_batch_indices", DType::int32, {batch}, in.cache_row);
  add("state", c.option("cache") == "bf16" ? DType::bfloat16 : DType::float32,
      {cache_rows, heads, head_dim, state_size}, in.state);
  add("output.y", c.dtype, x, {});
  return {call};
}

template <class T>
struct Step {
  Tensor<T> y, state;
};
template <class T>
Step<T> evaluate(const reference::Numerics<T>& num, const Call& call, const HostTensor& before) {
  const auto tensor = [&](const char* name) {
    const HostTensor* t = call.find(name);
    return t ? to_reference<T>(*t) : Tensor<T>();
  };
  const Tensor<T> x = tensor("input.x"), dt = tensor("input.dt"), A = tensor("input.A"), B = tensor("input.B"),
                  C = tensor("input.C"), D = tensor("input.D"), z = tensor("input.z"), bias = tensor("input.dt_bias");
  const auto optional = [&](const char* name, const Tensor<T>& t) { return call.find(name) ? &t : nullptr; };
  std::vector<std::int32_t> rows;
  if (const HostTensor* t = call.find("input.state_batch_indices"))
    for (std::int64_t i = 0; i < t->size(); ++i) rows.push_back(static_cast<std::int32_t>(t->at(i)));
  const bool rounds = std::is_same_v<T, float> && before.dtype == DType::bfloat16;
  Step<T> step{.y = {}, .state = to_reference<T>(before)};
  if (x.dim(0) == 0) return {.y = Tensor<T>(x.shape()), .state = std::move(step.state)};
  step.y = reference::ssm_state_update<T>(num,
                                          {.x = x,
                                           .dt = dt,
                                           .A = A,
                                           .B = B,
                                           .C = C,
                                           .D = optional("input.D", D),
                                           .z = optional("input.z", z),
                                           .dt_bias = optional("input.dt_bias", bias),
                                           .dt_softplus = call.integer("dt_softplus") != 0,
                                           .state_rows = rows},
                                          step.state, rounds ? reference::Storage::bfloat16 : reference::Storage::native);
  return step;
}

std::vector<Expectation> expect(const Call& call, const assay_contract& contract, bool exact) {
  HostTensor before = call.tensor("state");
  before.bytes = before.before;
  auto numerics = matched_numerics(call.tensor("output.y").dtype);
  if (contract.softplus == ASSAY_SOFTPLUS_NAIVE) numerics.softplus_form = reference::Softplus::naive;
  const Step<double> oracle = evaluate<double>({}, call, before);
  const Step<float> matched = evaluate<float>(numerics, call, before);
  StateUpdateTolerance t = state_update_tolerance(call, before.to_double(), contract, exact);

  const auto expectation = [&](const char* name, const Tensor<double>& value, const Tensor<float>& rounded,
                               Tolerance& tolerance) {
    Expectation e = expectation_of(call, name, exact);
    e.oracle = to_double(value);
    e.matched = to_double(rounded);
    e.limit = std::move(tolerance.limit);
    e.freedom = std::move(tolerance.freedom);
    return e;
  };
  return {expectation("output.y", oracle.y, matched.y, t.y),
          expectation("state", oracle.state, matched.state, t.state)};
}

std::vector<Case> cases(Tier tier) {
  struct Size {
    std::int64_t batch, heads, head_dim, groups, state_size;
  };
  std::vector<Size> sizes = {{0, 2, 4, 1, 8},     {1, 1, 1, 1, 1},    {2, 3, 5, 3, 7},    {3, 4, 16, 2, 16},
                             {2, 6, 17, 2, 31},   {1, 4, 33, 1, 32},  {5, 2, 3, 1, 33},   {2, 2, 64, 1, 48},
                             {1, 3, 31, 3, 64},   {2, 4, 8, 4, 100},  {1, 2, 64, 1, 128}, {1, 2, 20, 2, 129},
                             {1, 1, 16, 1, 256},  {1, 1, 5, 1, 257},  {9, 5, 2, 5, 12},   {1, 2, 128, 1, 16},
                             {1, 64, 64, 8, 128}};  // the last one: a layer's own
  if (tier != Tier::quick) sizes.insert(sizes.end(), {{4, 64, 64, 8, 128}, {2, 128, 64, 8, 256}, {67, 8, 16, 2, 32}});
  std::vector<Case> result;
  std::uint64_t seed = 20000;
  for (const DType dtype : {DType::float32, DType::bfloat16})
    for (const char* cache : {"f32", "bf16"})
      for (const Size& s : sizes)
        for (const char* fill : {"integer", "model", "outlier", "edge"}) {
          if (fill == std::string("integer") && s.state_size > 256) continue;
          const bool large = s.batch * s.heads * s.head_dim * s.state_size > 100000;
          if (tier == Tier::quick && large && (fill != std::string("model") || (dtype == DType::float32) != (cache[0] == 'f')))
            continue;
          ++seed;
          const char* skip[] = {"head", "channel", "none"};
          result.push_back({"ssm_state_update",
                            "forward",
                            {{"batch", s.batch},
                             {"heads", s.heads},
                             {"head_dim", s.head_dim},
                             {"groups", s.groups},
                             {"state_size", s.state_size}},
                            {{"cache", cache},
                             {"gate", seed % 2 == 0 ? "yes" : "no"},
                             {"D", skip[seed / 2 % 3]},
                             {"bias", seed % 5 == 0 ? "no" : "yes"},
                             {"softplus", seed % 7 == 0 ? "no" : "yes"},
                             {"rows", seed % 3 == 0 ? "indexed" : "all"},
                             {"layout", seed / 3 % 2 == 0 ? "strided" : "compact"}},
                            dtype,
                            fill,
                            seed});
        }
  return result;
}

}  // namespace

Family ssm_state_update_family() {
  return {.name = "ssm_state_update", .cases = cases, .check = check, .calls = calls, .expect = expect};
}

}  // namespace assay::harness
