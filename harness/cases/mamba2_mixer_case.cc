// mamba2_mixer: the Mamba-2 layer (reference/mamba2_mixer.h), judged step by step, each on the candidate's own inputs
// to it, and as a whole by gate 3.
//
//   mamba2_mixer/prefill batch=2 seq_len=37 preset=tiny mask=left states=continued cache=model dtype=bf16 fill=model
//   seed=7 mamba2_mixer/train_forward batch=1 seq_len=37 preset=tiny mask=none documents=packed ... mamba2_mixer/decode
//   batch=3 preset=tiny mask=none cache=f32 taps=all ...
//
// preset:    whose sizes, biases and limits of Delta (golden/presets).
// mask:      none; left or right padding, of another length in every row; holes, anywhere.
// documents: no, or packed: seq_idx.
// states:    what the cache holds before a prefill: fresh (zeros), ignored (values that must not matter), continued.
// cache:     the dtype of ssm_state: the model's, or f32.
// taps:      of a decode step: all of them, or ends: none between the projections, which lets the candidate fuse.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "harness/cases/float_errors.h"
#include "harness/cases/mamba2_mixer_end_to_end.h"
#include "harness/cases/mamba2_mixer_presets.h"
#include "harness/cases/mamba2_mixer_steps.h"
#include "harness/cases/norm_case.h"
#include "harness/core/random.h"

namespace assay::harness {
namespace {

bool is_prefill(const Case& c) { return c.path == "prefill"; }
bool is_decode(const Case& c) { return c.path == "decode"; }
bool is_training(const Case& c) { return c.path == "train_forward"; }

void check(const Case& c) {
  const std::vector<std::string> paths = {"train_forward", "prefill", "decode"};
  const std::pair<std::string, std::vector<std::string>> preset = {"preset", mixer_presets()},
                                                         mask = {"mask", {"none", "left", "right", "holes"}},
                                                         cache = {"cache", {"model", "f32"}};
  if (is_decode(c))
    check_form(c, {"batch"}, {preset, mask, cache, {"taps", {"all", "ends"}}}, paths);
  else if (is_prefill(c))
    check_form(c, {"batch", "seq_len"}, {preset, mask, {"states", {"fresh", "ignored", "continued"}}, cache}, paths);
  else
    check_form(c, {"batch", "seq_len"}, {preset, mask, {"documents", {"no", "packed"}}}, paths);
  if (c.fill == "integer")
    throw std::invalid_argument(to_line(c) +
                                ": the layer has no integer fill; those of its operations are their own cases");
}

using Values = std::vector<double>;

template <class Draw>
Values drawn(std::int64_t size, Draw draw) {
  Values values(static_cast<std::size_t>(size));
  for (std::int64_t i = 0; i < size; ++i) values[static_cast<std::size_t>(i)] = draw(i);
  return values;
}

// The tensors of one case.
class Inputs {
 public:
  Inputs(const Case& c, const reference::NemotronV3Config& config, std::int64_t batch, std::int64_t seq_len)
      : c_(c), m_(config), batch_(batch), seq_len_(seq_len) {}

  // Zeros, denormals and tokens of all sizes (edge); some channels 100 times larger (outlier).
  Values hidden_states() const {
    const Random values(c_.seed, "input.hidden_states"), kinds(c_.seed, "kind");
    return drawn(batch_ * seq_len_ * m_.hidden_size, [&](std::int64_t i) {
      const double value = values.normal(i);
      if (c_.fill == "outlier")
        return kinds.uniform(i % m_.hidden_size) < 4.0 / static_cast<double>(m_.hidden_size) ? 100 * value : value;
      if (c_.fill != "edge") return value;
      constexpr double kScales[] = {0, 0x1p-130, 0x1p-60, 0x1p4, 1};
      return value * kScales[kinds.integer(i / m_.hidden_size, 0, std::size(kScales) - 1)];
    });
  }
  Values mask() const {
    const Random random(c_.seed, "input.attention_mask");
    const std::string& kind = c_.option("mask");
    return drawn(batch_ * seq_len_, [&](std::int64_t i) {
      const std::int64_t t = i % seq_len_, padding = random.integer(i / seq_len_, 0, (seq_len_ + 1) / 2);
      const bool real = kind == "left"    ? t >= padding
                        : kind == "right" ? t < seq_len_ - padding
                                          : random.uniform(static_cast<std::uint64_t>(i) + (1u << 20)) < 0.7;
      return real ? 1.0 : 0.0;
    });
  }
  // Documents of 1 token and more, numbered from 0 in row 0 and from 1 in row 1.
  Values documents() const {
    const Random lengths(c_.seed, "document lengths");
    Values result;
    std::uint64_t draw = 0;
    for (std::int64_t b = 0; b < batch_; ++b) {
      double document = static_cast<double>(b % 2);
      for (std::int64_t left = 0, t = 0; t < seq_len_; ++t) {
        if (left == 0) left = lengths.integer(draw++, 1, std::max<std::int64_t>(2, seq_len_ / 2)), document += t > 0;
        --left, result.push_back(document);
      }
    }
    return result;
  }
  // As layers are initialised: uniform within 1 / sqrt(fan in).
  Values uniform(const std::string& name, std::int64_t size, std::int64_t fan_in) const {
    const Random random(c_.seed, name);
    const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
    return drawn(size, [&](std::int64_t i) { return bound * (2 * random.uniform(i) - 1); });
  }
  // `middle` and around it.
  Values around(const std::string& name, std::int64_t size, double middle, double spread) const {
    const Random random(c_.seed, name);
    return drawn(size, [&](std::int64_t i) { return middle + spread * random.normal(i); });
  }
  // softplus(dt_bias) log-uniform from 0.001 to 0.1.
  Values dt_bias() const {
    const Random random(c_.seed, "param._fp32_params.dt_bias");
    return drawn(m_.mamba_num_heads, [&](std::int64_t i) {
      const double dt = 1e-3 * std::pow(100, random.uniform(i));
      return dt + std::log(-std::expm1(-dt));
    });
  }
  // A uniform from 1 to 16, as the model's initialisation has it.
  Values A_log() const {
    const Random random(c_.seed, "param._fp32_params.A_log");
    return drawn(m_.mamba_num_heads, [&](std::int64_t i) { return std::log(1 + 15 * random.uniform(i)); });
  }

 private:
  const Case& c_;
  const reference::NemotronV3Config& m_;
  std::int64_t batch_, seq_len_;
};

std::vector<Call> calls(const Case& c) {
  const reference::NemotronV3Config m = mixer_preset(c.option("preset"));
  const std::int64_t batch = c.size("batch"), seq_len = is_decode(c) ? 1 : c.size("seq_len");
  const std::int64_t H = m.mamba_num_heads, inner = m.mamba_intermediate_size(), channels = m.conv_dim(),
                     projected = m.in_proj_rows(), K = m.conv_kernel;
  const Inputs in(c, m, batch, seq_len);
  const std::string op = c.operation();
  Call call{op, {{"n_groups", m.n_groups}, {"eps", m.layer_norm_epsilon}}, {}};
  if (!is_decode(c)) {
    call.attributes.emplace_back("chunk_size", m.chunk_size);
    call.attributes.emplace_back("dt_min", m.time_step_limit[0]);
    call.attributes.emplace_back("dt_max", m.time_step_limit[1]);
  }
  if (is_prefill(c)) call.attributes.emplace_back("continued", std::int64_t{c.option("states") == "continued"});
  const auto add = [&](const std::string& name, DType dtype, const Shape& shape, const Values& values = {}) {
    call.tensors.push_back(case_tensor(op, name, dtype, shape, values));
  };
  const Shape u = {batch, seq_len, m.hidden_size};
  add("input.hidden_states", c.dtype, u, in.hidden_states());
  const bool masked = c.option("mask") != "none";
  if (masked) add("input.attention_mask", DType::int32, {batch, seq_len}, in.mask());
  if (is_training(c) && c.option("documents") == "packed")
    add("input.seq_idx", DType::int32, {batch, seq_len}, in.documents());

  const auto parameter = [&](const std::string& name, const Shape& shape, std::int64_t fan_in) {
    add("param." + name, c.dtype, shape, in.uniform("param." + name, element_count(shape), fan_in));
  };
  parameter("in_proj.weight", {projected, m.hidden_size}, m.hidden_size);
  if (m.use_bias) parameter("in_proj.bias", {projected}, m.hidden_size);
  parameter("conv1d.weight", {channels, 1, K}, K);
  if (m.use_conv_bias) parameter("conv1d.bias", {channels}, K);
  add("param._fp32_params.dt_bias", DType::float32, {H}, in.dt_bias());
  add("param._fp32_params.A_log", DType::float32, {H}, in.A_log());
  add("param._fp32_params.D", DType::float32, {H}, in.around("param._fp32_params.D", H, 1, 0.2));
  add("param.norm.weight", c.dtype, {inner}, in.around("param.norm.weight", inner, 1, 0.2));
  parameter("out_proj.weight", {m.hidden_size, inner}, inner);
  if (m.use_bias) parameter("out_proj.bias", {m.hidden_size}, inner);

  if (!is_training(c)) {
    const Shape conv = {batch, channels, K}, ssm = {batch, H, m.mamba_head_dim, m.ssm_state_size};
    const bool zeros = is_prefill(c) && c.option("states") == "fresh";
    add("conv_state", c.dtype, conv, zeros ? Values() : in.around("conv_state", element_count(conv), 0, 0.6));
    add("ssm_state", c.option("cache") == "f32" ? DType::float32 : c.dtype, ssm,
        zeros ? Values() : in.around("ssm_state", element_count(ssm), 0, 0.2));
  }
  add("output.hidden_states", c.dtype, u);
  if (masked) add("tap.masked", c.dtype, u);
  add("tap.projected", c.dtype, {batch, seq_len, projected});
  add("tap.A", DType::float32, {H});
  if (!is_decode(c) || c.option("taps") == "all") {
    add("tap.convolved", c.dtype, {batch, seq_len, channels});
    add("tap.scanned", c.dtype, {batch, seq_len, inner});
  }
  add("tap.normed", c.dtype, {batch, seq_len, inner});
  return {call};
}

// A copy: no element may differ.
Expectation copied(const Call& call, const char* name, Values values) {
  Expectation e = expectation_of(call, name, false);
  e.limit.assign(values.size(), 0), e.freedom.assign(values.size(), 0);
  e.matched = values, e.oracle = std::move(values);
  return e;
}

bool shown(const Call& call, const char* tap) { return call.find(tap) && !call.tensor(tap).bytes.empty(); }

Expectation masked_input(const Call& call) {
  Values u = call.tensor("input.hidden_states").to_double();
  const HostTensor& mask = call.tensor("input.attention_mask");
  const std::int64_t width = call.tensor("input.hidden_states").shape.back();
  for (std::size_t i = 0; i < u.size(); ++i)
    if (mask.at(static_cast<std::int64_t>(i) / width) == 0) u[i] = 0;
  return copied(call, "tap.masked", std::move(u));
}

// A = -exp(A_log): a function's error, and a rounding.
Expectation decay_rates(const Call& call, const assay_contract& contract) {
  Expectation e = expectation_of(call, "tap.A", false);
  for (const double a : call.tensor("param._fp32_params.A_log").to_double()) {
    e.oracle.push_back(-std::exp(a));
    e.matched.push_back(static_cast<float>(e.oracle.back()));
    const double error = exp_error(a, contract) * std::exp(a);
    e.limit.push_back(with_rounding(true, DType::float32, e.oracle.back(), error));
    e.freedom.push_back(error);
  }
  return e;
}

// After a prefill: the last columns of xBC, as in_proj gave them.
Expectation prefilled_conv_state(const Call& call) {
  const MixerSizes n(call);
  const HostTensor &projected = call.tensor("tap.projected"), &state = call.tensor("conv_state");
  const bool forgets = call.integer("continued") == 0 && n.seq_len != 1;
  Values columns(static_cast<std::size_t>(state.size()));
  for (std::int64_t i = 0; i < state.size(); ++i) {
    const std::int64_t j = i % n.taps, c = i / n.taps % n.channels, b = i / n.taps / n.channels,
                       t = n.seq_len - n.taps + j;
    const std::int64_t older = i + n.seq_len;  // the same cell's column j + seq_len
    columns[static_cast<std::size_t>(i)] =
        t >= 0    ? projected.at((b * n.seq_len + t) * n.projected() + n.inner + c)
        : forgets ? 0
                  : load(state.dtype, state.before.data() + static_cast<std::size_t>(older) * size_of(state.dtype));
  }
  return copied(call, "conv_state", std::move(columns));
}

// One step's expectation under the layer's name.
Expectation as_the_layers(Expectation e, const Call& call, const std::string& name) {
  const Expectation layer = expectation_of(call, name, false);
  e.tensor = name, e.shape = layer.shape, e.axes = layer.axes;
  if (e.dtype != layer.dtype) throw std::logic_error(name + ": a step's dtype is not the layer's");
  return e;
}

// What the contract says of products holds for projections and scan; convolution, norm and the decode step have none on
// tensor cores.
assay_contract contract_of(const MixerStep& step, assay_contract contract) {
  if (step.call.op == "linear.forward" || step.call.op == "ssd_scan.forward") return contract;
  contract.multiply = ASSAY_MULTIPLY_IEEE;
  contract.accumulate = ASSAY_ACCUMULATE_FP32;
  return contract;
}

// A state that the scan hands to a narrower cache is rounded once more.
void round_to_cache(Expectation& e) {
  if (e.dtype == DType::float32) return;
  for (std::size_t i = 0; i < e.oracle.size(); ++i) {
    e.limit[i] = with_rounding(true, e.dtype, e.oracle[i], e.limit[i]);
    e.matched[i] = round_to(e.dtype, e.matched[i]);
  }
}

std::vector<Expectation> expect(const Call& call, const assay_contract& contract, bool) {
  std::vector<Expectation> result;
  if (shown(call, "tap.masked")) result.push_back(masked_input(call));
  if (shown(call, "tap.A")) result.push_back(decay_rates(call, contract));
  if (shown(call, "tap.projected") && call.op == "mamba2_mixer.prefill") result.push_back(prefilled_conv_state(call));
  for (const MixerStep& step : mixer_steps(call)) {
    const Family& operation = family(step.call.op.substr(0, step.call.op.find('.')));
    for (Expectation& e : operation.expect(step.call, contract_of(step, contract), false))
      for (const auto& [of_step, of_layer] : step.outputs) {
        if (e.tensor != of_step) continue;
        if (of_step == "output.final_state") round_to_cache(e);
        result.push_back(as_the_layers(std::move(e), call, of_layer));
        break;
      }
  }
  std::vector<Expectation> whole = mixer_end_to_end(call, result);
  std::move(whole.begin(), whole.end(), std::back_inserter(result));
  return result;
}

std::vector<Case> cases(Tier tier) {
  struct Tokens {
    std::int64_t batch, seq_len;
  };
  // No row, no token; one; fewer than the convolution's taps; primes; one below, at and above the models' chunks of 8
  // and 16 and the kernels' of 32, 64 and 128 tokens.
  static const std::vector<Tokens> tokens = {{0, 5},  {2, 0},  {1, 1},  {2, 2},   {3, 3},  {1, 4},  {2, 5},
                                             {2, 7},  {1, 8},  {2, 15}, {1, 16},  {2, 17}, {2, 31}, {1, 33},
                                             {2, 37}, {1, 63}, {1, 65}, {1, 127}, {1, 129}};
  const std::vector<std::string> small = {"tiny", "tiny-all", "tiny-plain"};
  constexpr const char *kMasks[] = {"none", "left", "right", "holes"}, *kStates[] = {"fresh", "continued", "ignored"};
  std::vector<Case> result;
  std::uint64_t seed = 60000;
  using Options = std::vector<std::pair<std::string, std::string>>;
  const auto add = [&](const char* path, std::vector<std::pair<std::string, std::int64_t>> sizes, Options options,
                       DType dtype, const char* fill) {
    result.push_back({"mamba2_mixer", path, std::move(sizes), std::move(options), dtype, fill, seed});
  };
  const auto pick = [&](const auto& list, std::uint64_t turn) { return list[turn % std::size(list)]; };
  const auto add_all = [&](const Tokens& s, const std::string& preset, DType dtype, const char* fill) {
    const char* const cache = seed % 2 == 0 ? "f32" : "model";
    ++seed;
    add("train_forward", {{"batch", s.batch}, {"seq_len", s.seq_len}},
        {{"preset", preset}, {"mask", pick(kMasks, seed)}, {"documents", seed % 3 == 0 ? "no" : "packed"}}, dtype,
        fill);
    add("prefill", {{"batch", s.batch}, {"seq_len", s.seq_len}},
        {{"preset", preset}, {"mask", pick(kMasks, seed + 1)}, {"states", pick(kStates, seed)}, {"cache", cache}},
        dtype, fill);
  };
  const auto add_decode = [&](std::int64_t batch, const std::string& preset, DType dtype, const char* fill) {
    ++seed;
    add("decode", {{"batch", batch}},
        {{"preset", preset},
         {"mask", seed % 3 == 0 ? "holes" : "none"},
         {"cache", seed % 2 == 0 ? "f32" : "model"},
         {"taps", seed / 2 % 2 == 0 ? "all" : "ends"}},
        dtype, fill);
  };
  for (const DType dtype : {DType::float32, DType::bfloat16}) {
    for (const std::string& preset : small) {
      for (const Tokens& s : tokens)
        for (const char* fill : {"model", "outlier", "edge"})
          if (fill == std::string("model") || s.seq_len == 5 || s.seq_len == 37) add_all(s, preset, dtype, fill);
      for (const std::int64_t batch : {0, 1, 2, 3, 7, 16, 17})
        for (const char* fill : {"model", "outlier", "edge"}) add_decode(batch, preset, dtype, fill);
    }
  }
  // The real layers.
  add_all({1, 5}, "nano-30b-a3b", DType::bfloat16, "model");
  add_decode(2, "nano-30b-a3b", DType::bfloat16, "model");
  if (tier != Tier::quick) {
    for (const char* preset : {"nano-30b-a3b", "nano-4b", "nemotron-h-8b"})
      for (const DType dtype : {DType::float32, DType::bfloat16}) {
        add_all({2, 19}, preset, dtype, "model");
        add_decode(3, preset, dtype, "model");
      }
    for (const DType dtype : {DType::float32, DType::bfloat16}) add_all({2, 300}, "tiny", dtype, "model");
  }
  return result;
}

}  // namespace

Family mamba2_mixer_family() {
  return {.name = "mamba2_mixer", .cases = cases, .check = check, .calls = calls, .expect = expect, .layer = true};
}

}  // namespace assay::harness
