// ssd_scan: the state space scan of Mamba-2 (reference/ssd_scan.h).
//
//   ssd_scan/forward batch=2 seq_len=129 heads=4 head_dim=32 groups=2 state_size=64 gate=no D=head bias=yes
//   softplus=yes
//     limits=open states=both documents=no dt=model params=f32 layout=strided dtype=bf16 fill=model seed=7
//
// limits:    of Delta: open (0 to infinity), or closed (both of them at work).
// states:    none, final (output), both (an initial state, too).
// documents: no, packed (seq_idx), or varlen (the states at their ends, too: one row, no initial state).
// dt:        its dtype: the model's, or f32. params: that of D, dt_bias and the initial state.
// layout:    compact, or strided: x, B and C are views, as slices of the convolution's output are; dt and z, as slices
//            of in_proj's; so are their gradients.
// ssd_scan/backward has the same options; states: gradients of the final state (final) and the initial one (both).
#include <fmt/format.h>

#include <cmath>
#include <stdexcept>

#include "harness/cases/norm_case.h"
#include "harness/cases/ssd_scan_backward_limits.h"
#include "harness/cases/ssd_scan_fill.h"
#include "harness/cases/ssd_scan_limits.h"
#include "reference/ssd_scan.h"

namespace assay::harness {
namespace {

using reference::Tensor;

constexpr std::int64_t kChunkSize = 128;  // of the presets

ScanProblem problem_of(const Case& c) {
  return {.batch = c.size("batch"),
          .seq_len = c.size("seq_len"),
          .heads = c.size("heads"),
          .head_dim = c.size("head_dim"),
          .groups = c.size("groups"),
          .state_size = c.size("state_size"),
          .softplus = c.option("softplus") == "yes",
          .bias = c.option("bias") == "yes",
          .limited = c.option("limits") == "closed",
          .fill = c.fill,
          .seed = c.seed};
}

void check(const Case& c) {
  const std::vector<std::string> answers = {"yes", "no"};
  check_form(c, {"batch", "seq_len", "heads", "head_dim", "groups", "state_size"},
             {{"gate", answers},
              {"D", {"head", "channel", "none"}},
              {"bias", answers},
              {"softplus", answers},
              {"limits", {"open", "closed"}},
              {"states", {"none", "final", "both"}},
              {"documents", {"no", "packed", "varlen"}},
              {"dt", {"model", "f32"}},
              {"params", {"f32", "model"}},
              {"layout", {"compact", "strided"}}},
             {"forward", "backward"});
  const auto fail = [&](const std::string& text) { throw std::invalid_argument(to_line(c) + ": " + text); };
  for (const char* axis : {"heads", "head_dim", "groups", "state_size"})
    if (c.size(axis) < 1) fail(fmt::format("{}=0; want at least 1", axis));
  if (c.size("heads") % c.size("groups") != 0)
    fail(fmt::format("groups={} does not divide heads={}", c.size("groups"), c.size("heads")));
  if (c.option("documents") == "varlen" &&
      (c.size("batch") != 1 || c.option("states") == "both" || c.path == "backward"))
    fail("documents=varlen needs batch=1 and no initial state, and is for forward alone");
  if (c.fill == "integer" && c.path == "backward") fail("fill=integer is for forward alone");
  if (c.fill == "integer" && !has_integer_fill(problem_of(c)))
    fail("fill=integer needs seq_len of at most 320 and state_size of at most 256");
}

// Tokens `stride` elements apart.
void make_strided(HostTensor& t, std::int64_t stride) {
  t.strides.assign(t.shape.size(), 1);
  for (std::size_t i = t.shape.size() - 1; i-- > 2;) t.strides[i] = t.strides[i + 1] * t.shape[i + 1];
  t.strides[1] = stride;
  t.strides[0] = stride * std::max<std::int64_t>(t.shape[1], 1);
}

std::vector<Call> calls(const Case& c) {
  const ScanProblem p = problem_of(c);
  const ScanInputs in = scan_inputs(p);
  const Shape x = {p.batch, p.seq_len, p.heads, p.head_dim}, keys = {p.batch, p.seq_len, p.groups, p.state_size},
              states = {p.batch, p.heads, p.head_dim, p.state_size};
  const std::int64_t convolved = p.heads * p.head_dim + 2 * p.groups * p.state_size,
                     projected = convolved + p.heads * p.head_dim + p.heads;
  const DType params = c.option("params") == "f32" ? DType::float32 : c.dtype;
  const std::string op = "ssd_scan.forward", bwd = "ssd_scan.backward";
  Call call{op,
            {{"chunk_size", kChunkSize},
             {"dt_softplus", std::int64_t{p.softplus}},
             {"dt_min", in.dt_min},
             {"dt_max", in.dt_max}},
            {}};
  const auto add = [&](const char* name, DType dtype, const Shape& shape, const std::vector<double>& values = {}) {
    call.tensors.push_back(case_tensor(op, name, dtype, shape, values));
  };
  const auto add_tokens = [&](const char* name, DType dtype, const Shape& shape, const std::vector<double>& values,
                              std::int64_t stride) {
    add(name, dtype, shape, values);
    if (c.option("layout") == "strided") make_strided(call.tensors.back(), stride);
  };
  add_tokens("input.x", c.dtype, x, in.x, convolved);
  add_tokens("input.dt", c.option("dt") == "f32" ? DType::float32 : c.dtype, {p.batch, p.seq_len, p.heads}, in.dt,
             projected);
  add("input.A", DType::float32, {p.heads}, in.A);
  add_tokens("input.B", c.dtype, keys, in.B, convolved);
  add_tokens("input.C", c.dtype, keys, in.C, convolved);
  if (c.option("D") == "channel") add("input.D", params, {p.heads, p.head_dim}, in.D);
  if (c.option("D") == "head") add("input.D", params, {p.heads}, {in.D.begin(), in.D.begin() + p.heads});
  if (c.option("gate") == "yes") add_tokens("input.z", c.dtype, x, in.z, projected);
  if (p.bias) add("input.dt_bias", params, {p.heads}, in.dt_bias);
  if (c.option("states") == "both") add("input.initial_state", params, states, in.initial_state);
  const bool varlen = c.option("documents") == "varlen";
  const auto boundaries = static_cast<std::int64_t>(in.cu_seqlens.size());
  if (c.option("documents") != "no")
    add("input.seq_idx", DType::int32, {p.batch, p.seq_len},
        varlen ? seq_idx_of(in.cu_seqlens, p.seq_len) : in.seq_idx);
  if (varlen) add("input.cu_seqlens", DType::int32, {boundaries}, in.cu_seqlens);
  Call backward{bwd, call.attributes, call.tensors};
  const bool has_final_state = c.option("states") != "none";
  add("output.y", c.dtype, x);
  if (has_final_state) add("output.final_state", DType::float32, states);
  if (varlen) add("output.varlen_states", c.dtype, {boundaries - 1, p.heads, p.head_dim, p.state_size});
  if (c.path == "forward") return {call};
  call.tensors.push_back(saved_tensor());

  const ScanGradients d = scan_gradients(p);
  std::vector<HostTensor> gradients;
  for (const HostTensor& t : backward.tensors) {
    if (t.dtype == DType::int32) continue;  // seq_idx
    const bool small = t.name == "input.A" || t.name == "input.D" || t.name == "input.dt_bias";
    HostTensor& g =
        gradients.emplace_back(case_tensor(bwd, "grad." + t.name, small ? DType::float32 : t.dtype, t.shape));
    g.strides = t.strides;
  }
  backward.tensors.push_back(case_tensor(bwd, "grad.output.y", c.dtype, x, d.y));
  if (has_final_state)
    backward.tensors.push_back(case_tensor(bwd, "grad.output.final_state", DType::float32, states, d.final_state));
  backward.tensors.push_back(saved_tensor());
  for (HostTensor& g : gradients) backward.tensors.push_back(std::move(g));
  return {call, backward};
}

// The call's tensors as the reference takes them, absent ones empty.
template <class T>
struct Operands {
  Tensor<T> x, dt, A, B, C, D, z, dt_bias, initial_state;
  std::vector<std::int32_t> seq_idx, cu_seqlens;
  const Call& call;

  explicit Operands(const Call& call_)
      : x(tensor(call_, "input.x")),
        dt(tensor(call_, "input.dt")),
        A(tensor(call_, "input.A")),
        B(tensor(call_, "input.B")),
        C(tensor(call_, "input.C")),
        D(tensor(call_, "input.D")),
        z(tensor(call_, "input.z")),
        dt_bias(tensor(call_, "input.dt_bias")),
        initial_state(tensor(call_, "input.initial_state")),
        seq_idx(numbers(call_, "input.seq_idx")),
        cu_seqlens(numbers(call_, "input.cu_seqlens")),
        call(call_) {}
  static std::vector<std::int32_t> numbers(const Call& call, const char* name) {
    std::vector<std::int32_t> result;
    const HostTensor* t = call.find(name);
    for (std::int64_t i = 0; t && i < t->size(); ++i) result.push_back(static_cast<std::int32_t>(t->at(i)));
    return result;
  }
  static Tensor<T> tensor(const Call& call, const char* name) {
    return call.find(name) ? to_reference<T>(call.tensor(name)) : Tensor<T>();
  }

  reference::SsdScanInputs<T> inputs() const {
    const auto optional = [&](const char* name, const Tensor<T>& t) { return call.find(name) ? &t : nullptr; };
    return {.x = x,
            .dt = dt,
            .A = A,
            .B = B,
            .C = C,
            .D = optional("input.D", D),
            .z = optional("input.z", z),
            .dt_bias = optional("input.dt_bias", dt_bias),
            .initial_state = optional("input.initial_state", initial_state),
            .seq_idx = seq_idx,
            .chunk_size = call.integer("chunk_size"),
            .dt_softplus = call.integer("dt_softplus") != 0,
            // As a kernel has them.
            .dt_min = static_cast<float>(call.number("dt_min")),
            .dt_max = static_cast<float>(call.number("dt_max"))};
  }
};

// What the operation computes, by tensor name; and y before the gate.
template <class T>
struct Results {
  std::vector<std::pair<std::string, Tensor<T>>> tensors;
  Tensor<T> ungated_y;
};
template <class T>
Results<T> evaluate(const reference::Numerics<T>& num, const Call& call) {
  const Operands<T> o(call);
  const auto inputs = o.inputs();
  auto r = reference::ssd_scan_forward<T>(num, inputs);
  if (call.op == "ssd_scan.forward") {
    Results<T> result;
    result.tensors.emplace_back("output.y", std::move(r.y));
    result.tensors.emplace_back("output.final_state", std::move(r.final_state));
    if (call.find("output.varlen_states"))
      result.tensors.emplace_back("output.varlen_states",
                                  reference::ssd_scan_varlen_states<T>(num, inputs, o.cu_seqlens));
    return result;
  }
  const Tensor<T> d_y = Operands<T>::tensor(call, "grad.output.y"),
                  d_state = Operands<T>::tensor(call, "grad.output.final_state");
  auto d =
      reference::ssd_scan_backward<T>(num, inputs, r, d_y, call.find("grad.output.final_state") ? &d_state : nullptr);
  return {{{"grad.input.x", std::move(d.d_x)},
           {"grad.input.dt", std::move(d.d_dt)},
           {"grad.input.A", std::move(d.d_A)},
           {"grad.input.B", std::move(d.d_B)},
           {"grad.input.C", std::move(d.d_C)},
           {"grad.input.D", std::move(d.d_D)},
           {"grad.input.z", std::move(d.d_z)},
           {"grad.input.dt_bias", std::move(d.d_dt_bias)},
           {"grad.input.initial_state", std::move(d.d_initial_state)}},
          std::move(r.ungated_y)};
}

// By tensor name, as evaluate().
std::vector<std::pair<std::string, Tolerance>> tolerances(const Call& call, const assay_contract& contract, bool exact,
                                                          const Tensor<double>& ungated_y) {
  const ScanOperands in = scan_operands(call);
  if (call.op == "ssd_scan.forward") {
    ScanTolerance t = scan_tolerance(in, contract, exact);
    return {{"output.y", std::move(t.y)},
            {"output.final_state", std::move(t.final_state)},
            {"output.varlen_states", std::move(t.varlen_states)}};
  }
  ScanGradientOperands gradients{.d_y = call.tensor("grad.output.y").to_double(),
                                 .d_final_state = {},
                                 .ungated_y = to_double(ungated_y),
                                 .dt_dtype = call.tensor("input.dt").dtype};
  if (const HostTensor* d = call.find("grad.output.final_state")) gradients.d_final_state = d->to_double();
  if (const HostTensor* state = call.find("input.initial_state")) gradients.initial_state_dtype = state->dtype;
  ScanGradientTolerance t = scan_gradient_tolerance(in, gradients, contract);
  return {{"grad.input.x", std::move(t.x)},
          {"grad.input.dt", std::move(t.dt)},
          {"grad.input.A", std::move(t.A)},
          {"grad.input.B", std::move(t.B)},
          {"grad.input.C", std::move(t.C)},
          {"grad.input.D", std::move(t.D)},
          {"grad.input.z", std::move(t.z)},
          {"grad.input.dt_bias", std::move(t.dt_bias)},
          {"grad.input.initial_state", std::move(t.initial_state)}};
}

std::vector<Expectation> expect(const Call& call, const assay_contract& contract, bool exact) {
  auto numerics = matched_numerics(call.tensor("input.x").dtype);
  if (contract.softplus == ASSAY_SOFTPLUS_NAIVE) numerics.softplus_form = reference::Softplus::naive;
  const auto oracle = evaluate<double>({}, call);
  const auto matched = evaluate<float>(numerics, call);
  auto tolerance = tolerances(call, contract, exact, oracle.ungated_y);

  std::vector<Expectation> result;
  for (std::size_t k = 0; k < oracle.tensors.size(); ++k) {
    const std::string& name = oracle.tensors[k].first;
    if (!call.find(name)) continue;
    Expectation& e = result.emplace_back(expectation_of(call, name, exact));
    e.oracle = to_double(oracle.tensors[k].second);
    e.matched = to_double(matched.tensors[k].second);
    e.limit = std::move(tolerance[k].second.limit);
    e.freedom = std::move(tolerance[k].second.freedom);
  }
  return result;
}

// Triton's products: bfloat16 operands on tensor cores; float32 ones were recorded in float32.
assay_contract upstream_contract(const Call& call) {
  assay_contract contract = plain_contract(call);
  if (call.tensor("input.x").dtype == DType::float32) return contract;
  contract.multiply = ASSAY_MULTIPLY_BF16;
  contract.accumulate = ASSAY_ACCUMULATE_FP32_TENSOR_CORE;
  return contract;
}

std::vector<Case> cases(Tier tier) {
  struct Size {
    std::int64_t batch, seq_len, heads, head_dim, groups, state_size;
  };
  // No row, no token; primes; one below, at and above the kernels' chunks of 32, 64 and 128 tokens and tiles of 16 and
  // 32 channels; every share of heads in a group; states of one slice and more, and too wide for the fast kernel; the
  // presets' own heads and states.
  std::vector<Size> sizes = {{0, 5, 2, 4, 1, 8},     {2, 0, 2, 16, 1, 16},   {1, 1, 1, 1, 1, 1},
                             {2, 5, 4, 3, 2, 8},     {1, 1, 2, 16, 1, 16},   {2, 7, 3, 5, 3, 7},
                             {1, 31, 6, 16, 2, 16},  {1, 32, 2, 32, 1, 32},  {1, 33, 4, 16, 4, 48},
                             {2, 63, 2, 48, 1, 16},  {2, 65, 3, 16, 3, 32},  {1, 127, 2, 32, 2, 64},
                             {1, 128, 1, 64, 1, 80}, {1, 129, 3, 16, 1, 64}, {1, 131, 8, 16, 1, 32},
                             {1, 259, 3, 16, 1, 16}, {1, 70, 1, 80, 1, 144}, {1, 40, 1, 32, 1, 256},
                             {1, 37, 2, 24, 1, 24},  {1, 19, 2, 16, 1, 257}, {3, 17, 4, 31, 2, 13}};
  const std::size_t small = sizes.size();
  sizes.insert(sizes.end(), {{1, 17, 64, 64, 8, 128}, {1, 130, 8, 64, 1, 128}, {1, 33, 12, 80, 1, 128}});
  if (tier != Tier::quick)
    sizes.insert(sizes.end(),
                 {{2, 300, 16, 64, 2, 128}, {1, 1031, 4, 32, 2, 64}, {1, 140, 96, 80, 8, 128}, {5, 257, 6, 48, 2, 96}});
  struct Choice {
    const char *D, *states, *documents;
  };
  constexpr Choice kChoices[] = {{"head", "both", "packed"},
                                 {"channel", "final", "no"},
                                 {"head", "none", "packed"},
                                 {"none", "both", "no"},
                                 {"head", "final", "packed"}};
  std::vector<Case> result;
  std::uint64_t seed = 30000;
  for (const char* path : {"forward", "backward"})
    for (const DType dtype : {DType::float32, DType::bfloat16})
      for (std::size_t k = 0; k < sizes.size(); ++k)
        for (const char* fill : {"integer", "model", "outlier", "edge"}) {
          const Size& s = sizes[k];
          if (path == std::string("backward") && fill == std::string("integer")) continue;
          if (fill == std::string("integer") && !has_integer_fill({.seq_len = s.seq_len, .state_size = s.state_size}))
            continue;
          if (tier == Tier::quick && k >= small && fill != std::string("model")) continue;
          ++seed;
          const Choice& choice = kChoices[seed % std::size(kChoices)];
          const bool varlen = path == std::string("forward") && s.batch == 1 && choice.states != std::string("both") &&
                              choice.D == std::string("head");
          const auto pick = [&](std::uint64_t one_in, const char* rare, const char* other) {
            return seed % one_in == 0 ? rare : other;
          };
          result.push_back({"ssd_scan",
                            path,
                            {{"batch", s.batch},
                             {"seq_len", s.seq_len},
                             {"heads", s.heads},
                             {"head_dim", s.head_dim},
                             {"groups", s.groups},
                             {"state_size", s.state_size}},
                            {{"gate", pick(2, "yes", "no")},
                             {"D", choice.D},
                             {"bias", pick(11, "no", "yes")},
                             {"softplus", pick(7, "no", "yes")},
                             {"limits", pick(3, "closed", "open")},
                             {"states", choice.states},
                             {"documents", varlen ? "varlen" : choice.documents},
                             {"dt", pick(4, "f32", "model")},
                             {"params", pick(6, "model", "f32")},
                             {"layout", seed / 2 % 2 == 0 ? "strided" : "compact"}},
                            dtype,
                            fill,
                            seed});
        }
  return result;
}

}  // namespace

Family ssd_scan_family() {
  return {.name = "ssd_scan",
          .cases = cases,
          .check = check,
          .calls = calls,
          .expect = expect,
          .upstream_contract = upstream_contract};
}

}  // namespace assay::harness
