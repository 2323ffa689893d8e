// causal_conv1d: the convolution over time in front of the Mamba-2 scan (reference/causal_conv1d.h).
//
//   causal_conv1d/forward batch=2 seq_len=37 channels=24 taps=4 activation=silu bias=yes context=packed layout=strided
//                         dtype=bf16 fill=model seed=7
//   causal_conv1d/update batch=2 channels=24 taps=4 state_len=4 activation=silu bias=yes layout=strided ...
//
// context: none, states (initial and final state and their gradients), packed (seq_idx).
// layout: compact, or strided: hidden_states and their gradient are views, as slices of in_proj's output are.
#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "harness/cases/conv_fill.h"
#include "harness/cases/conv_limits.h"
#include "harness/cases/norm_case.h"
#include "reference/causal_conv1d.h"

namespace assay::harness {
namespace {

using reference::Tensor;

bool is_update(const Case& c) { return c.path == "update"; }

ConvProblem problem_of(const Case& c) {
  return {.batch = c.size("batch"),
          .seq_len = is_update(c) ? 1 : c.size("seq_len"),
          .channels = c.size("channels"),
          .taps = c.size("taps"),
          .state_len = is_update(c) ? c.size("state_len") : c.size("taps") - 1,
          .fill = c.fill,
          .seed = c.seed};
}

void check(const Case& c) {
  const std::vector<std::string> paths = {"forward", "backward", "update"};
  if (is_update(c))
    check_form(c, {"batch", "channels", "taps", "state_len"},
               {{"activation", {"silu", "none"}}, {"bias", {"yes", "no"}}, {"layout", {"compact", "strided"}}}, paths);
  else
    check_form(c, {"batch", "seq_len", "channels", "taps"},
               {{"activation", {"silu", "none"}},
                {"bias", {"yes", "no"}},
                {"context", {"none", "states", "packed"}},
                {"layout", {"compact", "strided"}}},
               paths);
  const auto fail = [&](const std::string& text) { throw std::invalid_argument(to_line(c) + ": " + text); };
  if (c.size("channels") < 1) fail("channels=0; want at least 1");
  if (c.size("taps") < 1) fail("taps=0; want at least 1");
  if (is_update(c) && c.size("state_len") < c.size("taps") - 1)
    fail(fmt::format("state_len={}; want at least taps - 1 = {}", c.size("state_len"), c.size("taps") - 1));
  if (!is_update(c) && c.option("context") == "states" && c.size("taps") == 1)
    fail("context=states needs taps of 2 and more: the state has taps - 1 columns");
  if (c.fill == "integer" && !has_integer_fill(problem_of(c))) fail("fill=integer needs at most 4096 tokens");
}

// Rows `gap` elements further apart than they are wide.
void make_tokens_strided(HostTensor& t, std::int64_t gap) {
  const std::int64_t row = t.shape.back() + gap;
  t.strides = t.shape.size() == 2 ? Shape{row, 1} : Shape{std::max<std::int64_t>(t.shape[1], 1) * row, row, 1};
}

std::vector<Call> calls(const Case& c) {
  const ConvProblem p = problem_of(c);
  const ConvInputs in = conv_inputs(p);
  const Shape tokens = is_update(c) ? Shape{p.batch, p.channels} : Shape{p.batch, p.seq_len, p.channels};
  const Shape state = {p.batch, p.channels, p.state_len};
  const std::string context = is_update(c) ? "none" : c.option("context");
  const bool backward = c.path == "backward", states = context == "states", bias = c.option("bias") == "yes";

  Call call{c.operation(), {{"activation", c.option("activation")}}, {}};
  const auto add = [&](const char* name, const Shape& shape, const std::vector<double>& values = {}) {
    call.tensors.push_back(case_tensor(call.op, name, c.dtype, shape, values));
  };
  const auto add_tokens = [&](const char* name, std::int64_t gap, const std::vector<double>& values = {}) {
    add(name, tokens, values);
    if (c.option("layout") == "strided") make_tokens_strided(call.tensors.back(), gap);
  };
  add_tokens("input.hidden_states", 16, in.hidden_states);
  if (context == "packed")
    call.tensors.push_back(case_tensor(call.op, "input.seq_idx", DType::int32, {p.batch, p.seq_len}, in.seq_idx));
  if (states) add("input.initial_state", state, in.state);
  if (is_update(c)) add("conv_state", state, in.state);
  add("param.weight", {p.channels, p.taps}, in.weight);
  if (bias) add("param.bias", {p.channels}, in.bias);
  if (!backward) {
    add("output.hidden_states", tokens);
    if (states) add("output.final_state", state);
    return {call};
  }
  add("grad.output.hidden_states", tokens, in.d_output);
  if (states) add("grad.output.final_state", state, in.d_state);
  add_tokens("grad.input.hidden_states", 24);
  if (states) add("grad.input.initial_state", state);
  add("grad.weight", {p.channels, p.taps});
  if (bias) add("grad.bias", {p.channels});
  return {call};
}

// The call's tensors as the reference takes them, absent ones empty.
template <class T>
struct Operands {
  Tensor<T> x, weight, bias, initial_state, d_y, d_final_state;
  std::vector<std::int32_t> seq_idx;
  bool silu;

  explicit Operands(const Call& call)
      : x(tensor(call, "input.hidden_states")),
        weight(tensor(call, "param.weight")),
        bias(tensor(call, "param.bias")),
        initial_state(tensor(call, "input.initial_state")),
        d_y(tensor(call, "grad.output.hidden_states")),
        d_final_state(tensor(call, "grad.output.final_state")),
        silu(std::get<std::string>(call.attributes.at(0).second) == "silu") {
    if (const HostTensor* ids = call.find("input.seq_idx"))
      for (std::int64_t i = 0; i < ids->size(); ++i) seq_idx.push_back(static_cast<std::int32_t>(ids->at(i)));
  }
  static Tensor<T> tensor(const Call& call, const char* name) {
    return call.find(name) ? to_reference<T>(call.tensor(name)) : Tensor<T>();
  }

  reference::CausalConv1dInputs<T> inputs(const Call& call) const {
    return {.x = x,
            .weight = weight,
            .bias = call.find("param.bias") ? &bias : nullptr,
            .initial_state = call.find("input.initial_state") ? &initial_state : nullptr,
            .seq_idx = seq_idx,
            .silu = silu};
  }
};

// What the three operations compute, by tensor name.
template <class T>
std::vector<std::pair<std::string, Tensor<T>>> evaluate(const reference::Numerics<T>& num, const Call& call) {
  const Operands<T> o(call);
  if (call.op == "causal_conv1d.forward") {
    auto r = reference::causal_conv1d_forward<T>(num, o.inputs(call));
    return {{"output.hidden_states", std::move(r.y)}, {"output.final_state", std::move(r.final_state)}};
  }
  if (call.op == "causal_conv1d.backward") {
    auto r = reference::causal_conv1d_backward<T>(num, o.inputs(call), o.d_y,
                                                  call.find("grad.output.final_state") ? &o.d_final_state : nullptr);
    return {{"grad.input.hidden_states", std::move(r.d_x)},
            {"grad.weight", std::move(r.d_weight)},
            {"grad.bias", std::move(r.d_bias)},
            {"grad.input.initial_state", std::move(r.d_initial_state)}};
  }
  HostTensor before = call.tensor("conv_state");
  before.bytes = before.before;
  Tensor<T> state = to_reference<T>(before);
  Tensor<T> y = reference::causal_conv1d_update<T>(num, o.x, state, o.weight,
                                                   call.find("param.bias") ? &o.bias : nullptr, o.silu);
  return {{"output.hidden_states", std::move(y)}, {"conv_state", std::move(state)}};
}

// The last `past` columns of an update's state, which its taps read.
std::vector<double> last_columns(const HostTensor& state, std::int64_t past) {
  std::vector<double> result;
  const std::int64_t length = state.shape.back();
  for (std::int64_t cell = 0; cell < state.shape[0] * state.shape[1]; ++cell)
    for (std::int64_t i = length - past; i < length; ++i)
      result.push_back(load(state.dtype, state.before.data() + (cell * length + i) * size_of(state.dtype)));
  return result;
}

std::vector<Expectation> expect(const Call& call, const assay_contract& contract, bool exact) {
  const HostTensor &x = call.tensor("input.hidden_states"), &weight = call.tensor("param.weight");
  const auto oracle = evaluate<double>({}, call);
  const auto matched = evaluate<float>(matched_numerics(x.dtype), call);

  const auto values = [&](const char* name) {
    return call.find(name) ? call.tensor(name).to_double() : std::vector<double>();
  };
  const std::vector<double> xs = x.to_double(), ws = weight.to_double(), bias = values("param.bias"),
                            seq_idx = values("input.seq_idx"), d_y = values("grad.output.hidden_states"),
                            d_final = values("grad.output.final_state");
  const bool update = call.op == "causal_conv1d.update";
  const std::int64_t taps = weight.shape[1];
  const std::vector<double> initial =
      update ? last_columns(call.tensor("conv_state"), taps - 1) : values("input.initial_state");
  const ConvOperands in{.batch = x.shape[0],
                        .seq_len = update ? 1 : x.shape[1],
                        .channels = x.shape.back(),
                        .taps = taps,
                        .silu = std::get<std::string>(call.attributes.at(0).second) == "silu",
                        .x = xs,
                        .weight = ws,
                        .bias = bias,
                        .initial_state = initial,
                        .d_final_state = d_final,
                        .seq_idx = seq_idx,
                        .d_y = d_y,
                        .dtype = x.dtype,
                        .contract = contract,
                        .exact = exact};
  ConvBackwardTolerance gradients;
  if (call.op == "causal_conv1d.backward") gradients = conv_backward_tolerance(in);

  std::vector<Expectation> result;
  for (std::size_t k = 0; k < oracle.size(); ++k) {
    const std::string& name = oracle[k].first;
    if (!call.find(name)) continue;
    Expectation& e = result.emplace_back(expectation_of(call, name, exact));
    e.oracle = to_double(oracle[k].second);
    e.matched = to_double(matched[k].second);
    Tolerance t = name == "output.hidden_states"       ? conv_forward_tolerance(in)
                  : name == "grad.input.hidden_states" ? std::move(gradients.d_x)
                  : name == "grad.weight"              ? std::move(gradients.d_weight)
                  : name == "grad.bias"                ? std::move(gradients.d_bias)
                  : name == "grad.input.initial_state" ? std::move(gradients.d_initial_state)
                                                       : make_tolerance(e.oracle.size());  // states are copies
    e.limit = std::move(t.limit);
    e.freedom = std::move(t.freedom);
  }
  return result;
}

// Every fill of every size with two of these, in turn.
struct Choice {
  const char *activation, *bias, *context;
};
constexpr Choice kChoices[] = {{"silu", "yes", "packed"}, {"none", "yes", "states"}, {"silu", "yes", "states"},
                               {"none", "no", "packed"},  {"silu", "no", "states"},  {"silu", "yes", "none"}};

std::vector<Case> cases(Tier tier) {
  struct Size {
    std::int64_t batch, seq_len, channels, taps;
  };
  // No token, fewer than taps, one below, at and above a tile of 128 tokens and a step of 4; primes; one block and more
  // of channels; taps with and without a tiled kernel; the presets' own channels.
  static const std::vector<Size> small = {
      {0, 5, 8, 4},   {2, 0, 8, 4},    {1, 1, 1, 2},    {2, 1, 8, 4},   {2, 2, 5, 4},   {1, 3, 16, 4},  {3, 4, 7, 3},
      {2, 5, 24, 2},  {1, 7, 64, 4},   {2, 31, 9, 4},   {1, 33, 40, 3}, {2, 97, 13, 4}, {1, 127, 8, 4}, {1, 128, 16, 4},
      {2, 129, 8, 4}, {1, 131, 24, 2}, {1, 130, 17, 3}, {2, 255, 8, 4}, {1, 257, 4, 4}, {1, 261, 5, 4}, {3, 16, 128, 4},
      {1, 4, 264, 4}, {2, 11, 96, 2},  {1, 9, 16, 1},   {1, 6, 8, 5},   {2, 37, 31, 7}, {1, 18, 144, 4}};
  static const std::vector<Size> large = {{1, 6, 6144, 4}, {1, 5, 9728, 4}, {1, 3, 10240, 4}};
  std::vector<Size> sizes = small;
  sizes.insert(sizes.end(), large.begin(), large.end());
  if (tier != Tier::quick)
    sizes.insert(sizes.end(),
                 {{1, 1024, 768, 4}, {3, 385, 96, 4}, {2, 2049, 24, 4}, {1, 40, 6144, 4}, {97, 11, 16, 4}});
  std::vector<Case> result;
  std::uint64_t seed = 20000, turn = 0;
  const auto add = [&](const char* path, std::vector<std::pair<std::string, std::int64_t>> axes, DType dtype,
                       const Choice& choice, const char* fill) {
    ++seed;
    std::vector<std::pair<std::string, std::string>> options = {{"activation", choice.activation},
                                                                {"bias", choice.bias}};
    if (path != std::string("update")) {
      const bool no_state = axes.back().second == 1 && choice.context == std::string("states");
      options.emplace_back("context", no_state ? "none" : choice.context);
    }
    options.emplace_back("layout", seed % 3 == 0 ? "strided" : "compact");
    result.push_back({"causal_conv1d", path, std::move(axes), std::move(options), dtype, fill, seed});
  };
  const auto quick_skips = [&](std::int64_t elements, const std::string& fill) {
    return tier == Tier::quick && elements > 4096 && (fill == "outlier" || fill == "edge");
  };
  for (const DType dtype : {DType::float32, DType::bfloat16}) {
    for (const char* path : {"forward", "backward"})
      for (const Size& s : sizes)
        for (const char* fill : {"integer", "model", "outlier", "edge"}) {
          const std::int64_t tokens = s.batch * s.seq_len;
          if (quick_skips(tokens * s.channels, fill)) continue;
          if (fill == std::string("integer") && !has_integer_fill({.batch = s.batch, .seq_len = s.seq_len})) continue;
          for (int n = 0; n < 2; ++n)
            add(path, {{"batch", s.batch}, {"seq_len", s.seq_len}, {"channels", s.channels}, {"taps", s.taps}}, dtype,
                kChoices[turn++ % std::size(kChoices)], fill);
        }
    struct UpdateSize {
      std::int64_t batch, channels, taps, state_len;
    };
    for (const UpdateSize& s : std::initializer_list<UpdateSize>{{0, 8, 4, 4},
                                                                 {1, 1, 2, 1},
                                                                 {1, 8, 4, 4},
                                                                 {3, 5, 4, 3},
                                                                 {2, 13, 3, 3},
                                                                 {5, 7, 2, 2},
                                                                 {2, 31, 4, 4},
                                                                 {16, 24, 4, 4},
                                                                 {17, 24, 4, 4},
                                                                 {33, 40, 4, 4},
                                                                 {4, 9, 3, 5},
                                                                 {2, 97, 4, 6},
                                                                 {3, 7, 1, 1},
                                                                 {2, 5, 5, 5},
                                                                 {3, 11, 6, 8},
                                                                 {2, 128, 4, 3},
                                                                 {1, 6144, 4, 4},
                                                                 {1, 10240, 4, 4}})
      for (const char* fill : {"integer", "model", "outlier", "edge"}) {
        if (quick_skips(s.batch * s.channels, fill)) continue;
        for (int n = 0; n < 2; ++n)
          add("update", {{"batch", s.batch}, {"channels", s.channels}, {"taps", s.taps}, {"state_len", s.state_len}},
              dtype, kChoices[turn++ % std::size(kChoices)], fill);
      }
  }
  return result;
}

}  // namespace

Family causal_conv1d_family() {
  return {.name = "causal_conv1d", .cases = cases, .check = check, .calls = calls, .expect = expect};
}

}  // namespace assay::harness
