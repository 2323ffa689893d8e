// mamba2_mixer: the Mamba-2 layer (reference/mamba2_mixer.h), judged step by step, each on the candidate's own inputs
// to it, and as a whole by gate 3.
//
//   mamba2_mixer/prefill batch=2 seq_len=37 preset=tiny mask=left states=continued cache=model dtype=bf16 fill=model
//                        seed=7
//   mamba2_mixer/train_forward batch=1 seq_len=37 preset=tiny mask=none documents=packed ...
//   mamba2_mixer/decode batch=3 preset=tiny mask=none cache=f32 taps=all ...
//
// mamba2_mixer/train_backward has the options of train_forward.
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

#include "harness/cases/mamba2_mixer_backward_call.h"
#include "harness/cases/mamba2_mixer_expect.h"
#include "harness/cases/mamba2_mixer_presets.h"
#include "harness/cases/norm_case.h"
#include "harness/core/random.h"

namespace assay::harness {
namespace {

bool is_prefill(const Case& c) { return c.path == "prefill"; }
bool is_decode(const Case& c) { return c.path == "decode"; }
bool is_backward(const Case& c) { return c.path == "train_backward"; }
bool is_training(const Case& c) { return c.path == "train_forward" || is_backward(c); }

void check(const Case& c) {
  const std::vector<std::string> paths = {"train_forward", "train_backward", "prefill", "decode"};
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
  Values tokens(const std::string& name, const std::string& kind) const {
    const Random values(c_.seed, name), kinds(c_.seed, kind);
    return drawn(batch_ * seq_len_ * m_.hidden_size, [&](std::int64_t i) {
      const double value = values.normal(i);
      if (c_.fill == "outlier")
        return kinds.uniform(i % m_.hidden_size) < 4.0 / static_cast<double>(m_.hidden_size) ? 100 * value : value;
      if (c_.fill != "edge") return value;
      constexpr double kScales[] = {0, 0x1p-130, 0x1p-60, 0x1p10, 1};
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
  const std::string op = is_backward(c) ? "mamba2_mixer.train_forward" : c.operation();
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
  add("input.hidden_states", c.dtype, u, in.tokens("input.hidden_states", "kind"));
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
  if (!is_backward(c)) return {call};
  const std::string d_output = "grad.output.hidden_states";
  const Call backward = mixer_backward_call(
      call, case_tensor("mamba2_mixer.train_backward", d_output, c.dtype, u, in.tokens(d_output, "kind of gradient")));
  return {call, backward};
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
  const auto add_backward = [&](const Tokens& s, const std::string& preset, DType dtype, const char* fill) {
    ++seed;
    add("train_backward", {{"batch", s.batch}, {"seq_len", s.seq_len}},
        {{"preset", preset}, {"mask", pick(kMasks, seed)}, {"documents", seed % 3 == 0 ? "no" : "packed"}}, dtype,
        fill);
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
  // Each size with one of the small layers, in turn; full: with all.
  for (const DType dtype : {DType::float32, DType::bfloat16})
    for (std::size_t k = 0; k < tokens.size(); ++k)
      for (std::size_t preset = 0; preset < small.size(); ++preset)
        for (const char* fill : {"model", "outlier", "edge"}) {
          const bool always = tokens[k].seq_len == 5 || tokens[k].seq_len == 37;
          if (fill != std::string("model") && !always) continue;
          if (tier == Tier::quick && !always && preset != (k + (dtype == DType::float32)) % small.size()) continue;
          add_backward(tokens[k], small[preset], dtype, fill);
        }
  // The real layers.
  add_all({1, 5}, "nano-30b-a3b", DType::bfloat16, "model");
  add_decode(2, "nano-30b-a3b", DType::bfloat16, "model");
  if (tier != Tier::quick) {
    add_backward({1, 5}, "nano-30b-a3b", DType::bfloat16, "model");  // 39 million weights' gradients to judge
    for (const char* preset : {"nano-30b-a3b", "nano-4b", "nemotron-h-8b"})
      for (const DType dtype : {DType::float32, DType::bfloat16}) {
        add_all({2, 19}, preset, dtype, "model");
        add_decode(3, preset, dtype, "model");
      }
    for (const DType dtype : {DType::float32, DType::bfloat16}) {
      add_all({2, 300}, "tiny", dtype, "model");
      add_backward({2, 300}, "tiny", dtype, "model");
    }
  }
  return result;
}

}  // namespace

Family mamba2_mixer_family() {
  return {.name = "mamba2_mixer",
          .cases = cases,
          .check = check,
          .calls = calls,
          .expect = mixer_expectations,
          .layer = true};
}

}  // namespace assay::harness
