// Every gradient of the layer in float32 against differences of its definition in double, and the border. In bfloat16
// the harness judges it, step by step.
#include <gtest/gtest.h>

#include "cuda/mamba2_mixer/testing.h"

namespace assay::gpu {
namespace {

template <class T>
std::vector<double> widened(const std::vector<T>& values) {
  std::vector<double> result;
  for (const T v : values) result.push_back(static_cast<double>(static_cast<float>(v)));
  return result;
}

// A gradient, and the values that it is of.
struct Gradient {
  const char* name;
  const void* values;
  std::vector<double> got;
};

template <class T>
std::vector<T> loss_weights(const Mamba2MixerDims& d) {
  return test_values<T>(count(d.tokens() * d.hidden_size), 20);
}

// Forward, then backward from d_out = loss_weights.
template <class T>
std::vector<Gradient> gradients(const Layer<T>& layer, const typename Layer<T>::Values& v,
                                Method method = Method::automatic) {
  const Mamba2MixerDims& d = layer.d;
  const TestBuffer<T> u(v.hidden_states), out(v.hidden_states.size()),
      projected(count(d.tokens() * d.projected())), convolved(count(d.tokens() * d.conv_channels())),
      scanned(count(d.tokens() * d.inner())), normed(count(d.tokens() * d.inner())), d_out(loss_weights<T>(d));
  const TestBuffer<float> A(v.A_log.size()), rstd(count(d.tokens() * d.groups));
  const TestBuffer<std::int32_t> mask(layer.mask), seq_idx(layer.seq_idx);
  const std::int32_t* const documents = layer.seq_idx.empty() ? nullptr : seq_idx.data();
  const std::int32_t* const masks = layer.mask.empty() ? nullptr : mask.data();
  const DeviceParams<T> device_params(v);
  const Mamba2MixerParams<T> params = device_params.of(layer);
  const Mamba2MixerTaps<T> saved{.projected = projected.data(),
                                 .A = A.data(),
                                 .convolved = convolved.data(),
                                 .scanned = scanned.data(),
                                 .normed = normed.data(),
                                 .rstd = rstd.data()};
  {
    const TestBuffer<char> workspace(mamba2_mixer_workspace(d, sizeof(T)));
    mamba2_mixer_train_forward(
        d, params,
        Mamba2MixerForward<T>{
            .hidden_states = u.data(), .mask = masks, .out = out.data(), .taps = saved, .workspace = workspace.data()},
        documents, nullptr, method);
  }
  const TestBuffer<T> d_u(v.hidden_states.size()), d_in_proj(v.in_proj.size()), d_in_bias(v.in_bias.size()),
      d_conv(v.conv.size()), d_conv_bias(v.conv_bias.size()), d_norm(v.norm.size()), d_out_proj(v.out_proj.size()),
      d_out_bias(v.out_bias.size());
  const TestBuffer<float> d_dt_bias(v.dt_bias.size()), d_A_log(v.A_log.size()), d_D(v.D.size());
  const TestBuffer<char> workspace(mamba2_mixer_backward_workspace(d, sizeof(T), method));
  mamba2_mixer_train_backward(
      d, params,
      Mamba2MixerBackward<T>{.hidden_states = u.data(),
                             .mask = masks,
                             .seq_idx = documents,
                             .saved = saved,
                             .d_out = d_out.data(),
                             .d_hidden_states = d_u.data(),
                             .d_params = {.in_proj_weight = d_in_proj.data(),
                                          .in_proj_bias = layer.biases ? d_in_bias.data() : nullptr,
                                          .conv_weight = d_conv.data(),
                                          .conv_bias = layer.biases ? d_conv_bias.data() : nullptr,
                                          .dt_bias = d_dt_bias.data(),
                                          .A_log = d_A_log.data(),
                                          .D = d_D.data(),
                                          .norm_weight = d_norm.data(),
                                          .out_proj_weight = d_out_proj.data(),
                                          .out_proj_bias = layer.biases ? d_out_bias.data() : nullptr},
                             .workspace = workspace.data()},
      nullptr, method);
  std::vector<Gradient> result = {{"hidden_states", &v.hidden_states, widened(d_u.download())},
                                  {"in_proj.weight", &v.in_proj, widened(d_in_proj.download())},
                                  {"conv.weight", &v.conv, widened(d_conv.download())},
                                  {"dt_bias", &v.dt_bias, widened(d_dt_bias.download())},
                                  {"A_log", &v.A_log, widened(d_A_log.download())},
                                  {"D", &v.D, widened(d_D.download())},
                                  {"norm.weight", &v.norm, widened(d_norm.download())},
                                  {"out_proj.weight", &v.out_proj, widened(d_out_proj.download())}};
  if (layer.biases) {
    result.push_back({"in_proj.bias", &v.in_bias, widened(d_in_bias.download())});
    result.push_back({"conv.bias", &v.conv_bias, widened(d_conv_bias.download())});
    result.push_back({"out_proj.bias", &v.out_bias, widened(d_out_bias.download())});
  }
  return result;
}

// The largest error of up to 200 elements of each gradient against central differences, over the largest element of
// them. The definition is smooth but at the limits of Delta, and of size 1 to 16: a step of 1e-4 errs by some 1e-8.
template <class T>
void expect_gradients(const Layer<T>& layer, double limit, Method method = Method::automatic) {
  const auto values = layer.values();
  const std::vector<double> weights = widened(loss_weights<T>(layer.d));
  for (const Gradient& g : gradients(layer, values, method)) {
    constexpr double kStep = 1e-4;
    double error = 0, size = 0;
    const auto all = static_cast<std::int64_t>(g.got.size());
    const std::int64_t stride = all < 200 ? 1 : all < 2000 ? 11 : 101;  // divides no row's width: every column's turn
    for (std::int64_t i = 0; i < all; i += stride) {
      const auto above = Model<T>(layer, values, Path::train, {g.values, i, kStep}).out,
                 below = Model<T>(layer, values, Path::train, {g.values, i, -kStep}).out;
      double want = 0;
      for (std::size_t k = 0; k < above.size(); ++k) want += weights[k] * (above[k] - below[k]) / (2 * kStep);
      const double e = std::abs(g.got[count(i)] - want);
      error = std::isnan(e) ? HUGE_VAL : std::max(error, e);
      size = std::max(size, std::abs(want));
    }
    EXPECT_EQ(size > 0, layer.d.seq_len > 1 || g.values != &values.A_log) << g.name;  // one token: no state decays
    EXPECT_LE(error, limit * size) << g.name;
  }
}

// As forward's kFloatError, and as many roundings again on the way back; a unit is one of the largest element's.
constexpr double kFloatLimit = 2 * 16 * 300 * 0x1p-24;

const Mamba2MixerDims kOdd{
    .batch = 3, .seq_len = 5, .hidden_size = 7, .heads = 6, .head_dim = 3, .groups = 3, .state_size = 5, .taps = 3};

TEST(Mamba2MixerBackward, IsTheDefinitionsGradient) {
  for (const std::int64_t seq_len : {1, 3, 12, 33}) {
    for (const Mamba2MixerDims& dims : {kTiny, kOdd}) {
      SCOPED_TRACE(testing::Message() << seq_len << " tokens, " << dims.heads << " heads");
      Layer<float> layer{.d = with_tokens(dims, seq_len), .biases = seq_len % 2 == 1};
      if (seq_len == 12) layer.dt_min = 0.1f, layer.dt_max = 0.2f;
      expect_gradients(layer, kFloatLimit);
    }
  }
}

TEST(Mamba2MixerBackward, OfMaskedTokensAndDocuments) {
  for (const Method method : {Method::automatic, Method::naive}) {
    Layer<float> layer{.d = with_tokens(kTiny, 21)};
    for (std::int64_t i = 0; i < layer.d.tokens(); ++i) {
      layer.mask.push_back(i % 5 != 1);
      layer.seq_idx.push_back(static_cast<std::int32_t>(i % 21 < 1 ? 0 : i % 21 < 3 ? 1 : i % 21 < 14 ? 2 : 3));
    }
    expect_gradients(layer, kFloatLimit, method);
    const auto values = layer.values();
    const std::vector<double> d_u = gradients(layer, values, method).front().got;
    for (std::int64_t i = 0; i < layer.d.tokens() * layer.d.hidden_size; ++i) {
      if (layer.mask[count(i / layer.d.hidden_size)] == 0) {
        ASSERT_EQ(d_u[count(i)], 0);
      }
    }
  }
}

TEST(Mamba2MixerBackward, OfNoTokensIsZero) {
  for (const auto& [batch, seq_len] : {std::pair{0, 5}, std::pair{2, 0}}) {
    Layer<float> layer{.d = with_tokens(kTiny, seq_len)};
    layer.d.batch = batch;
    const auto values = layer.values();
    for (const Gradient& g : gradients(layer, values)) {
      EXPECT_EQ(g.got, std::vector<double>(g.got.size())) << g.name;
    }
  }
}

TEST(Mamba2MixerBackward, RefusesWhatItCannotUse) {
  const TestBuffer<float> some(4096);
  float* const p = some.data();
  const auto with = [&](Mamba2MixerDims d, auto change) {
    Mamba2MixerParams<float> params{p, p, p, p, p, p, p, p, p, p, 1e-5f};
    Mamba2MixerBackward<float> t{.hidden_states = p,
                                 .mask = nullptr,
                                 .seq_idx = nullptr,
                                 .saved = {p, p, p, p, p, p, p},
                                 .d_out = p,
                                 .d_hidden_states = p,
                                 .d_params = {p, p, p, p, p, p, p, p, p, p},
                                 .workspace = p};
    change(params, t);
    mamba2_mixer_train_backward(d, params, t, nullptr);
  };
  Mamba2MixerDims bad = kTiny;
  bad.groups = 3;
  expect_refusal([&] { with(bad, [](auto&, auto&) {}); }, "mamba2_mixer_train_backward: groups = 3");
  const auto refused = [&](auto change, const char* text) { expect_refusal([&] { with(kTiny, change); }, text); };
  refused([](auto& params, auto&) { params.D = nullptr; }, "a parameter is null");
  refused([](auto&, auto& t) { t.d_params.A_log = nullptr; }, "a parameter's gradient is null");
  refused([](auto& params, auto&) { params.conv_bias = nullptr; }, "a bias and its gradient; want both or neither");
  refused([](auto&, auto& t) { t.workspace = nullptr; }, "workspace is null");
  refused([](auto&, auto& t) { t.d_out = nullptr; }, "hidden_states, d_out or d_hidden_states is null");
  refused([](auto&, auto& t) { t.saved.rstd = nullptr; }, "want the taps of the forward");
  refused([](auto&, auto& t) { t.saved.A = nullptr; }, "saved.A is null");
}

}  // namespace
}  // namespace assay::gpu
