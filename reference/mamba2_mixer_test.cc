#include "reference/mamba2_mixer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "reference/linear.h"
#include "reference/testing/compare.h"
#include "reference/testing/gradient_check.h"
#include "reference/testing/layer_check.h"

namespace assay::reference {
namespace {

using testing::Random;
using testing::relative_l2;
const Numerics<double> kExact;

NemotronV3Config small_config(Random& random) {
  NemotronV3Config c;
  c.hidden_size = random.integer(3, 9);
  c.n_groups = random.integer(1, 2);
  c.mamba_num_heads = c.n_groups * random.integer(1, 2);
  c.mamba_head_dim = random.integer(1, 4);
  c.ssm_state_size = random.integer(1, 5);
  c.conv_kernel = random.integer(2, 4);
  c.chunk_size = random.integer(1, 8);
  c.use_conv_bias = c.use_bias = true;
  return c;
}

Parameters<double> random_parameters(const NemotronV3Config& c, Random& random) {
  Parameters<double> p;
  p.set("in_proj.weight", random.tensor<double>({c.in_proj_rows(), c.hidden_size}));
  p.set("conv1d.weight", random.tensor<double>({c.conv_dim(), 1, c.conv_kernel}));
  if (c.use_conv_bias) p.set("conv1d.bias", random.tensor<double>({c.conv_dim()}));
  p.set("_fp32_params.dt_bias", random.tensor<double>({c.mamba_num_heads}));
  p.set("_fp32_params.A_log", random.tensor<double>({c.mamba_num_heads}));
  p.set("_fp32_params.D", random.tensor<double>({c.mamba_num_heads}));
  p.set("norm.weight", random.tensor<double>({c.mamba_intermediate_size()}));
  p.set("out_proj.weight", random.tensor<double>({c.hidden_size, c.mamba_intermediate_size()}));
  if (c.use_bias) {
    p.set("in_proj.bias", random.tensor<double>({c.in_proj_rows()}));
    p.set("out_proj.bias", random.tensor<double>({c.hidden_size}));
  }
  return p;
}

Tensor<double> tokens(const Tensor<double>& u, Index begin, Index end) {
  Tensor<double> part({u.dim(0), end - begin, u.dim(2)});
  for (Index b = 0; b < u.dim(0); ++b)
    std::copy_n(u.data() + (b * u.dim(1) + begin) * u.dim(2), (end - begin) * u.dim(2), part.data() + b * (end - begin) * u.dim(2));
  return part;
}

struct States {
  Tensor<double> conv, ssm;
  States(const NemotronV3Config& c, Index batch)
      : conv({batch, c.conv_dim(), c.conv_kernel}), ssm({batch, c.mamba_num_heads, c.mamba_head_dim, c.ssm_state_size}) {}
};

class Mamba2MixerProperty : public ::testing::TestWithParam<int> {
 protected:
  Random random{static_cast<std::uint64_t>(GetParam())};
  NemotronV3Config config = small_config(random);
  Parameters<double> parameters = random_parameters(config, random);
  ParameterScope<double> p{parameters};
  Index batch = random.integer(1, 3), seq_len = random.integer(2, 20);
  Tensor<double> u = random.tensor<double>({batch, seq_len, config.hidden_size}, -2, 2);
};
INSTANTIATE_TEST_SUITE_P(Sizes, Mamba2MixerProperty, ::testing::Range(0, 25));

TEST_P(Mamba2MixerProperty, PrefillThenDecodeIsTraining) {
  const auto train = mamba2_mixer_forward(kExact, config, p, u);
  for (const Index prompt : {Index{1}, seq_len / 2, seq_len}) {
    if (prompt == 0) continue;
    States states(config, batch);
    EXPECT_LT(relative_l2(mamba2_mixer_prefill(kExact, config, p, tokens(u, 0, prompt), nullptr, states.conv, states.ssm),
                          tokens(train, 0, prompt)), 1e-12);
    for (Index t = prompt; t < seq_len; ++t)
      EXPECT_LT(relative_l2(mamba2_mixer_decode(kExact, config, p, tokens(u, t, t + 1), nullptr, states.conv, states.ssm),
                            tokens(train, t, t + 1)), 1e-11);
  }
}

TEST_P(Mamba2MixerProperty, TwoPrefillsAreOneWhereTheyContinue) {
  States whole(config, batch), pieces(config, batch);
  const auto want = mamba2_mixer_prefill(kExact, config, p, u, nullptr, whole.conv, whole.ssm);
  const Index cut = random.integer(1, seq_len - 1);
  mamba2_mixer_prefill(kExact, config, p, tokens(u, 0, cut), nullptr, pieces.conv, pieces.ssm);
  const auto second = mamba2_mixer_prefill(kExact, config, p, tokens(u, cut, seq_len), nullptr, pieces.conv, pieces.ssm,
                                           Mamba2Prefill::continued);
  EXPECT_LT(relative_l2(second, tokens(want, cut, seq_len)), 1e-12);
  EXPECT_LT(relative_l2(pieces.ssm, whole.ssm), 1e-12);
  EXPECT_LT(relative_l2(pieces.conv, whole.conv), 1e-13);
  // Upstream forgets: the second piece alone, on a fresh cache, gives the same output.
  States fresh(config, batch), used = pieces;
  const auto alone = mamba2_mixer_prefill(kExact, config, p, tokens(u, cut, seq_len), nullptr, fresh.conv, fresh.ssm);
  const auto forgot = mamba2_mixer_prefill(kExact, config, p, tokens(u, cut, seq_len), nullptr, used.conv, used.ssm);
  EXPECT_TRUE(testing::same_bits(forgot, alone));
  EXPECT_TRUE(testing::same_bits(used.ssm, fresh.ssm));
  EXPECT_EQ(testing::same_bits(used.conv, fresh.conv), seq_len - cut > 1);  // a single token shifts what was there
}

TEST_P(Mamba2MixerProperty, PackedIsSeparate) {
  const Index cut = random.integer(1, seq_len - 1);
  SeqIdx seq_idx({batch, seq_len});
  for (Index i = 0; i < batch * seq_len; ++i) seq_idx[i] = i % seq_len >= cut;
  const auto packed = mamba2_mixer_forward(kExact, config, p, u, nullptr, &seq_idx);
  EXPECT_LT(relative_l2(tokens(packed, 0, cut), mamba2_mixer_forward(kExact, config, p, tokens(u, 0, cut))), 1e-12);
  EXPECT_LT(relative_l2(tokens(packed, cut, seq_len), mamba2_mixer_forward(kExact, config, p, tokens(u, cut, seq_len))), 1e-12);
}

TEST_P(Mamba2MixerProperty, RightPaddingChangesNoRealToken) {
  const Index real = random.integer(1, seq_len - 1);
  PaddingMask mask({batch, seq_len});
  for (Index i = 0; i < batch * seq_len; ++i) mask[i] = i % seq_len < real;
  EXPECT_LT(relative_l2(tokens(mamba2_mixer_forward(kExact, config, p, u, &mask), 0, real),
                        mamba2_mixer_forward(kExact, config, p, tokens(u, 0, real))), 1e-12);
}

TEST_P(Mamba2MixerProperty, LeftPaddingIsHarmlessOnlyWithoutBiasesOrWithTheSecondMask) {
  const Index padding = random.integer(1, seq_len - 1);
  PaddingMask mask({batch, seq_len});
  for (Index i = 0; i < batch * seq_len; ++i) mask[i] = i % seq_len >= padding;
  const auto apart = [&](const Mamba2MixerOptions& options) {
    return relative_l2(tokens(mamba2_mixer_forward(kExact, config, p, u, &mask, nullptr, nullptr, options), padding, seq_len),
                       mamba2_mixer_forward(kExact, config, p, tokens(u, padding, seq_len)));
  };
  parameters["in_proj.bias"] = Tensor<double>({config.in_proj_rows()});
  EXPECT_GT(apart({}), 1e-6);  // silu(conv bias) was written into the state
  EXPECT_LT(apart({.mask_after_conv = true}), 1e-12);
  parameters["conv1d.bias"] = Tensor<double>({config.conv_dim()});
  EXPECT_LT(apart({}), 1e-12);
}

TEST_P(Mamba2MixerProperty, MaskedTokensGetNoGradientButTheConvBiasDoes) {
  const Index padding = random.integer(1, seq_len - 1);
  PaddingMask mask({batch, seq_len});
  for (Index i = 0; i < batch * seq_len; ++i) mask[i] = i % seq_len >= padding;
  Mamba2MixerSaved<double> saved;
  mamba2_mixer_forward(kExact, config, p, u, &mask, nullptr, &saved);
  Tensor<double> d_out = random.tensor<double>(u.shape());
  Parameters<double> d_p;
  const auto d_u = mamba2_mixer_backward(kExact, config, p, u, &mask, nullptr, saved, d_out, GradientScope<double>(d_p));
  for (Index i = 0; i < d_u.size(); ++i)
    if (!mask[i / config.hidden_size]) {
      EXPECT_EQ(d_u[i], 0);
    }
  EXPECT_GT(std::fabs(d_p["conv1d.bias"][0]), 0);
}

TEST_P(Mamba2MixerProperty, GateInTheScanIsTheSameFunction) {  // they differ by rounding alone
  Mamba2MixerSaved<double> at_norm, in_scan;
  const Mamba2MixerOptions options{.gate_in_scan = true};
  EXPECT_LT(relative_l2(mamba2_mixer_forward(kExact, config, p, u, nullptr, nullptr, &in_scan, options),
                        mamba2_mixer_forward(kExact, config, p, u, nullptr, nullptr, &at_norm)), 1e-12);
  const auto d_out = random.tensor<double>(u.shape());
  Parameters<double> d_norm, d_scan;
  const auto d_u = mamba2_mixer_backward(kExact, config, p, u, nullptr, nullptr, at_norm, d_out, GradientScope<double>(d_norm));
  const auto d_v = mamba2_mixer_backward(kExact, config, p, u, nullptr, nullptr, in_scan, d_out, GradientScope<double>(d_scan), options);
  EXPECT_LT(relative_l2(d_v, d_u), 1e-11);
  for (const auto& [name, gradient] : d_norm.entries()) EXPECT_LT(relative_l2(d_scan[name], gradient.value), 1e-10) << name;
}

TEST(Mamba2Mixer, ABindingLimitHoldsInTrainingAndPrefillButNotInDecode) {
  Random random(3);
  NemotronV3Config config = small_config(random);
  const Parameters<double> parameters = random_parameters(config, random);
  const ParameterScope<double> p(parameters);
  const auto u = random.tensor<double>({2, 6, config.hidden_size});
  const auto free = mamba2_mixer_forward(kExact, config, p, u);
  NemotronV3Config limited = config;
  limited.time_step_limit[0] = limited.time_step_limit[1] = 0.7;
  const auto train = mamba2_mixer_forward(kExact, limited, p, u);
  EXPECT_GT(relative_l2(train, free), 1e-3);
  States states(config, 2), unlimited(config, 2);
  EXPECT_LT(relative_l2(mamba2_mixer_prefill(kExact, limited, p, tokens(u, 0, 5), nullptr, states.conv, states.ssm), tokens(train, 0, 5)), 1e-12);
  unlimited = states;
  const auto step = mamba2_mixer_decode(kExact, limited, p, tokens(u, 5, 6), nullptr, states.conv, states.ssm);
  EXPECT_TRUE(testing::same_bits(step, mamba2_mixer_decode(kExact, config, p, tokens(u, 5, 6), nullptr, unlimited.conv, unlimited.ssm)));
  EXPECT_GT(relative_l2(step, tokens(train, 5, 6)), 1e-3);
  // Hugging Face's torch path clamps from below by time_step_min on every path.
  config.time_step_min = 0.7;
  States clamped(config, 2);
  const Mamba2MixerOptions hugging_face{.clamp_by_time_step_min = true};
  const auto all = mamba2_mixer_forward(kExact, config, p, u, nullptr, nullptr, nullptr, hugging_face);
  EXPECT_GT(relative_l2(all, free), 1e-3);
  mamba2_mixer_prefill(kExact, config, p, tokens(u, 0, 5), nullptr, clamped.conv, clamped.ssm, Mamba2Prefill::from_zeros, hugging_face);
  EXPECT_LT(relative_l2(mamba2_mixer_decode(kExact, config, p, tokens(u, 5, 6), nullptr, clamped.conv, clamped.ssm, hugging_face),
                        tokens(all, 5, 6)), 1e-12);
}

// The mask stands before in_proj alone: a padded token is a zero, out of which in_proj's bias makes an input.
TEST(Mamba2Mixer, APaddedTokenStillHasTheBiasOfInProj) {
  Random random(9);
  NemotronV3Config c;
  c.hidden_size = 6, c.n_groups = 2, c.mamba_num_heads = 4, c.mamba_head_dim = 3, c.ssm_state_size = 5, c.chunk_size = 4;
  c.use_bias = true, c.use_conv_bias = false;
  Parameters<double> parameters = random_parameters(c, random);
  const ParameterScope<double> p(parameters);
  const auto u = random.tensor<double>({2, 9, c.hidden_size});
  PaddingMask mask({2, 9}, 1);
  mask(0, 0) = mask(0, 1) = mask(1, 4) = 0;
  auto zeroed = u;
  for (Index i = 0; i < u.size(); ++i) zeroed[i] *= mask[i / c.hidden_size];
  const auto out = mamba2_mixer_forward(kExact, c, p, u, &mask);
  EXPECT_TRUE(testing::same_bits(out, mamba2_mixer_forward(kExact, c, p, zeroed)));
  EXPECT_GT(relative_l2(tokens(out, 2, 9), mamba2_mixer_forward(kExact, c, p, tokens(u, 2, 9))), 1e-3);  // written to the state
  States states(c, 2), same(c, 2);
  const auto prefill = mamba2_mixer_prefill(kExact, c, p, u, &mask, states.conv, states.ssm);
  EXPECT_LT(relative_l2(prefill, out), 1e-12);
  mamba2_mixer_prefill(kExact, c, p, zeroed, nullptr, same.conv, same.ssm);
  EXPECT_TRUE(testing::same_bits(states.ssm, same.ssm));
}

// Every feature on: projection and convolution biases, two rows, three chunks and a short one, documents, a mask, and time_step_limit.
TEST(Mamba2Mixer, GradientsByFiniteDifferencesAndAdjoint) {
  Random random(8);
  NemotronV3Config c;
  c.hidden_size = 6, c.n_groups = 2, c.mamba_num_heads = 4, c.mamba_head_dim = 3, c.ssm_state_size = 5, c.chunk_size = 6;
  c.use_bias = true;
  Parameters<double> parameters = random_parameters(c, random);
  const ParameterScope<double> p(parameters);
  const Index batch = 2, seq_len = 20;
  auto u = random.tensor<double>({batch, seq_len, c.hidden_size});
  const auto d_out = random.tensor<double>(u.shape());
  SeqIdx seq_idx({batch, seq_len});
  PaddingMask mask({batch, seq_len}, 1);
  for (Index b = 0; b < batch; ++b)
    for (Index t = 0; t < seq_len; ++t) seq_idx(b, t) = (t >= 7) + (t >= 12);
  mask(0, 0) = mask(1, 0) = mask(1, 1) = mask(1, 13) = 0;
  // Steps of a third of the tokens each are clamped from below and above, the limits between steps, where there is no kink.
  auto masked = u;
  for (Index i = 0; i < u.size(); ++i) masked[i] *= mask[i / c.hidden_size];
  const auto projected = linear_forward(kExact, masked, p["in_proj.weight"], p.find("in_proj.bias"));
  std::vector<double> steps;
  for (Index t = 0; t < batch * seq_len; ++t)
    for (Index h = 0; h < c.mamba_num_heads; ++h)
      steps.push_back(softplus(projected[(t + 1) * c.in_proj_rows() - c.mamba_num_heads + h] + p["_fp32_params.dt_bias"][h]));
  std::sort(steps.begin(), steps.end());
  const auto widest_gap = [&](std::size_t begin, std::size_t end) {
    std::size_t best = begin;
    for (std::size_t i = begin; i < end; ++i)
      if (steps[i + 1] - steps[i] > steps[best + 1] - steps[best]) best = i;
    EXPECT_GT(steps[best + 1] - steps[best], 0.01);
    return (steps[best] + steps[best + 1]) / 2;
  };
  const double lo = widest_gap(steps.size() / 5, steps.size() / 2), hi = widest_gap(steps.size() / 2, steps.size() * 4 / 5);
  for (const int variant : {0, 1, 2}) {
    const Mamba2MixerOptions options{.mask_after_conv = variant == 1, .gate_in_scan = variant == 1};
    if (variant == 2) c.time_step_limit[0] = lo, c.time_step_limit[1] = hi;
    const auto loss = [&] {
      return testing::inner(mamba2_mixer_forward(kExact, c, p, u, &mask, &seq_idx, nullptr, options), d_out);
    };
    Mamba2MixerSaved<double> saved;
    mamba2_mixer_forward(kExact, c, p, u, &mask, &seq_idx, &saved, options);
    Parameters<double> d_p;
    const auto d_u = mamba2_mixer_backward(kExact, c, p, u, &mask, &seq_idx, saved, d_out, GradientScope<double>(d_p), options);
    testing::expect_gradient("hidden_states", u, d_u, loss, {6 * 6, 7 * 6, 11 * 6, 12 * 6, (20 + 12) * 6});
    testing::check_gradients(parameters, d_p, loss);
    testing::check_adjoint(parameters, d_p, u, d_u, loss);
  }
}

TEST(Mamba2Mixer, PackedStreamsAndEmptyOnes) {
  Random random(2);
  const NemotronV3Config c = small_config(random);
  const Parameters<double> parameters = random_parameters(c, random);
  const ParameterScope<double> p(parameters);
  const auto stream = random.tensor<double>({9, c.hidden_size});
  const auto flat = mamba2_mixer_forward(kExact, c, p, stream);
  EXPECT_EQ(flat.shape(), stream.shape());
  EXPECT_EQ(relative_l2(flat, mamba2_mixer_forward(kExact, c, p, stream.reshaped({1, 9, c.hidden_size}))), 0);
  const Tensor<double> none({2, 0, c.hidden_size});
  EXPECT_EQ(mamba2_mixer_forward(kExact, c, p, none).shape(), none.shape());
  EXPECT_THROW(mamba2_mixer_forward(kExact, c, p, Tensor<double>({2, 3, c.hidden_size + 1})), std::invalid_argument);
}

class Mamba2MixerFixture : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Train, Mamba2MixerFixture, ::testing::ValuesIn(testing::fixture_names("mamba2_train_")));

TEST_P(Mamba2MixerFixture, Reproduced) {
  const auto run = [](const auto& num, const auto& parameters, const testing::Fixture& fixture) {
    using T = typename std::remove_cvref_t<decltype(num)>::Scalar;
    const NemotronV3Config config = fixture.model_config();
    const auto u = fixture["input.hidden_states"].as<T>();
    PaddingMask mask;
    if (const auto* m = fixture.find("input.attention_mask")) mask = m->template as<std::uint8_t>();
    SeqIdx seq_idx;
    if (const auto* cu = fixture.find("input.cu_seqlens")) {
      const std::vector<std::int32_t> numbers(cu->data.begin(), cu->data.end());
      seq_idx = SeqIdx({1, u.dim(1)}, seq_idx_from_cu_seqlens(numbers, u.dim(1)));
    }
    const auto* m = mask.empty() ? nullptr : &mask;
    const auto* s = seq_idx.empty() ? nullptr : &seq_idx;
    Mamba2MixerSaved<T> saved;
    testing::Results<T> results;
    Parameters<T> d_p;
    results["output.hidden_states"] = mamba2_mixer_forward(num, config, ParameterScope<T>(parameters), u, m, s, &saved);
    results["grad.input.hidden_states"] =
        mamba2_mixer_backward(num, config, ParameterScope<T>(parameters), u, m, s, saved,
                              fixture["grad.output.hidden_states"].as<T>(), GradientScope<T>(d_p));
    testing::add_gradients(results, d_p);
    return results;
  };
  testing::check_fixture(GetParam(), {.relative_l2 = 5e-6}, run);
}

class Mamba2DecodeFixture : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Decode, Mamba2DecodeFixture, ::testing::ValuesIn(testing::fixture_names("mamba2_prefill_decode_")));

TEST_P(Mamba2DecodeFixture, Reproduced) {
  const auto run = [](const auto& num, const auto& parameters, const testing::Fixture& fixture) {
    using T = typename std::remove_cvref_t<decltype(num)>::Scalar;
    const NemotronV3Config c = fixture.model_config();
    const ParameterScope<T> p(parameters);
    const auto u = fixture["input.hidden_states"].as<T>();
    PaddingMask mask;
    if (const auto* m = fixture.find("input.attention_mask")) mask = m->template as<std::uint8_t>();
    Tensor<T> conv({u.dim(0), c.conv_dim(), c.conv_kernel}), ssm({u.dim(0), c.mamba_num_heads, c.mamba_head_dim, c.ssm_state_size});
    testing::Results<T> results;
    results["output.hidden_states"] = mamba2_mixer_prefill(num, c, p, u, mask.empty() ? nullptr : &mask, conv, ssm);
    results["output.conv_state"] = conv;
    results["output.ssm_state"] = ssm;
    for (int step = 0; step < fixture.attributes.at("decode_steps"); ++step) {
      const std::string at = "decode." + std::to_string(step) + ".";
      results[at + "output.hidden_states"] =
          mamba2_mixer_decode(num, c, p, fixture[at + "input.hidden_states"].as<T>(), nullptr, conv, ssm);
      results[at + "output.conv_state"] = conv;
      results[at + "output.ssm_state"] = ssm;
    }
    return results;
  };
  testing::check_fixture(GetParam(), {.relative_l2 = 5e-6}, run);
}

}  // namespace
}  // namespace assay::reference
