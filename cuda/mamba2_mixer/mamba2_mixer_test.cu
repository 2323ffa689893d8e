// The border, the three paths against the definition in double, and against each other. Parity with the reference, step
// by step, is the harness's job.
#include <gtest/gtest.h>

#include <cstdio>

#include "cuda/mamba2_mixer/testing.h"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;

template <class T>
struct Results {
  std::vector<T> out, projected, conv_state;
  std::vector<float> ssm_state;
};

template <class S>
std::vector<S> stored(const std::vector<float>& values) {
  std::vector<S> result;
  for (const float v : values) result.push_back(S(v));
  return result;
}

// From the states in `values`.
template <class S, class T>
Results<T> run(const Layer<T>& layer, const typename Layer<T>::Values& v, Path path, Method method = Method::automatic,
               bool look_between = false) {
  const Mamba2MixerDims& d = layer.d;
  const TestBuffer<T> u(v.hidden_states), conv_state(v.conv_state), out(count(d.tokens() * d.hidden_size)), projected(count(d.tokens() * d.projected()));
  const TestBuffer<S> ssm_state(stored<S>(v.ssm_state));
  const TestBuffer<std::int32_t> mask(layer.mask), seq_idx(layer.seq_idx);
  const TestBuffer<char> workspace(mamba2_mixer_workspace(d, sizeof(T)));
  const DeviceParams<T> device_params(v);
  const Mamba2MixerParams<T> params = device_params.of(layer);
  Mamba2MixerForward<T> t{.hidden_states = u.data(),
                          .mask = layer.mask.empty() ? nullptr : mask.data(),
                          .out = out.data(),
                          .workspace = workspace.data()};
  t.taps.projected = projected.data();
  const TestBuffer<T> convolved(look_between ? count(d.tokens() * d.conv_channels()) : 0);
  if (look_between) t.taps.convolved = convolved.data();
  const Mamba2MixerCache<T, S> cache{conv_state.data(), ssm_state.data()};
  const std::int32_t* documents = layer.seq_idx.empty() ? nullptr : seq_idx.data();
  if (path == Path::train) mamba2_mixer_train_forward(d, params, t, documents, nullptr, method);
  if (path == Path::prefill || path == Path::continued)
    mamba2_mixer_prefill(d, params, t, cache, path == Path::continued, nullptr, method);
  if (path == Path::decode) mamba2_mixer_decode(d, params, t, cache, nullptr, method);
  std::vector<float> state;
  for (const S s : ssm_state.download()) state.push_back(static_cast<float>(s));
  return {out.download(), projected.download(), conv_state.download(), state};
}

// The largest |got - want|.
template <class T>
double error(const std::vector<T>& got, const std::vector<double>& want) {
  EXPECT_EQ(got.size(), want.size());
  double worst = 0;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    const double e = std::abs(static_cast<double>(static_cast<float>(got[i])) - want[i]);
    worst = std::isnan(e) ? HUGE_VAL : std::max(worst, e);
  }
  return worst;
}

// Values between the steps stay below 16 (3 sigmas of sums of size 1, and a state that gathers some tokens), and pass
// at most some 300 roundings in a row on their way: 80 terms of a projection twice, 64 of a scan's row, 128 tokens'
// decays. Each moves the output by a unit of that size, or by less.
constexpr double kFloatError = 16 * 300 * 0x1p-24;

TEST(Mamba2Mixer, EveryPathIsTheDefinition) {
  const Mamba2MixerDims odd{
      .batch = 3, .seq_len = 5, .hidden_size = 7, .heads = 6, .head_dim = 3, .groups = 3, .state_size = 5, .taps = 3};
  for (const std::int64_t seq_len : {1, 2, 3, 4, 5, 31, 32, 33, 70}) {
    for (const Mamba2MixerDims& dims : {kTiny, odd}) {
      Layer<float> layer{.d = with_tokens(dims, seq_len), .biases = seq_len % 2 == 1};
      if (seq_len % 3 == 0) layer.dt_min = 0.1f, layer.dt_max = 0.2f;
      for (std::int64_t i = 0; i < layer.d.tokens(); ++i) layer.mask.push_back(i % 5 != 1);
      const auto values = layer.values();
      for (const Path path : {Path::train, Path::prefill, Path::continued, Path::decode}) {
        if (path == Path::decode && seq_len != 1) continue;
        if (path == Path::prefill && seq_len == 1) continue;  // moves a state that it ignores: below
        SCOPED_TRACE(testing::Message() << seq_len << " tokens, path " << static_cast<int>(path));
        const Model<float> model(layer, values, path);
        const auto got = run<float>(layer, values, path);
        EXPECT_LE(error(got.out, model.out), kFloatError);
        if (path == Path::train) continue;
        EXPECT_LE(error(got.conv_state, model.conv_state), kFloatError);
        EXPECT_LE(error(got.ssm_state, model.ssm_state), kFloatError);
      }
    }
  }
}

TEST(Mamba2Mixer, DocumentsDoNotSeeEachOther) {
  Layer<float> layer{.d = with_tokens(kTiny, 40)};
  for (std::int64_t i = 0; i < layer.d.tokens(); ++i)
    layer.seq_idx.push_back(static_cast<std::int32_t>(i % 40 < 1 ? 0 : i % 40 < 3 ? 1 : i % 40 < 22 ? 2 : 3));
  const auto values = layer.values();
  EXPECT_LE(error(run<float>(layer, values, Path::train).out, Model<float>(layer, values, Path::train).out),
            kFloatError);
}

TEST(Mamba2Mixer, ASingleTokenOfAPrefillMovesTheConvStateAndForgetsTheRest) {
  const Layer<float> layer{.d = with_tokens(kTiny, 1)};
  auto values = layer.values();
  const auto got = run<float>(layer, values, Path::prefill);
  const Model<float> fresh(layer, values, Path::prefill), moved(layer, values, Path::continued);
  EXPECT_LE(error(got.out, fresh.out), kFloatError);
  EXPECT_LE(error(got.ssm_state, fresh.ssm_state), kFloatError);
  EXPECT_LE(error(got.conv_state, moved.conv_state), kFloatError);
}

template <class T>
class Mamba2MixerTypes : public testing::Test {};
using Types = testing::Types<float, bf16>;
TYPED_TEST_SUITE(Mamba2MixerTypes, Types);

TYPED_TEST(Mamba2MixerTypes, TheConvStateIsInProjsOutputAndTheBf16StateIsRoundedOnce) {
  using T = TypeParam;
  for (const std::int64_t seq_len : {0, 1, 3, 4, 21}) {
    SCOPED_TRACE(testing::Message() << seq_len << " tokens");
    const Layer<T> layer{.d = with_tokens(kTiny, seq_len)};
    const auto& d = layer.d;
    const auto values = layer.values();
    const auto exact = run<float>(layer, values, Path::prefill), rounded = run<bf16>(layer, values, Path::prefill);
    EXPECT_EQ(distance(rounded.out, exact.out), 0);
    for (std::size_t i = 0; i < exact.ssm_state.size(); ++i)
      ASSERT_EQ(rounded.ssm_state[i], static_cast<float>(bf16(exact.ssm_state[i])));
    for (std::int64_t b = 0; b < d.batch; ++b)
      for (std::int64_t c = 0; c < d.conv_channels(); ++c)
        for (std::int64_t j = 0; j < d.taps; ++j) {
          const std::int64_t token = seq_len - d.taps + j;
          const std::int64_t cell = (b * d.conv_channels() + c) * d.taps;
          const float kept =
              seq_len == 1
                  ? static_cast<float>(values.conv_state[count(cell + j + 1 < cell + d.taps ? cell + j + 1 : cell)])
                  : 0.0f;
          const float want =
              token >= 0
                  ? static_cast<float>(exact.projected[count((b * seq_len + token) * d.projected() + d.inner() + c)])
                  : kept;
          ASSERT_EQ(static_cast<float>(exact.conv_state[count(cell + j)]), want) << "column " << j;
        }
  }
}

TYPED_TEST(Mamba2MixerTypes, TrainingAndPrefillAgreeBitForBit) {
  using T = TypeParam;
  for (const std::int64_t seq_len : {1, 21, 130}) {
    const Layer<T> layer{.d = with_tokens(kTiny, seq_len)};
    const auto values = layer.values();
    EXPECT_EQ(distance(run<float>(layer, values, Path::train).out, run<float>(layer, values, Path::prefill).out), 0);
  }
}

// Some tokens of every batch row.
template <class T>
std::vector<T> tokens_of(const std::vector<T>& all, const Mamba2MixerDims& d, std::int64_t first, std::int64_t tokens) {
  std::vector<T> result;
  for (std::int64_t b = 0; b < d.batch; ++b) {
    const auto from = all.begin() + (b * d.seq_len + first) * d.hidden_size;
    result.insert(result.end(), from, from + tokens * d.hidden_size);
  }
  return result;
}

// The outputs of a row of prefills and decode steps, `pieces` tokens each; a piece of 1 after the first is a decode
// step.
template <class S, class T>
std::vector<T> in_pieces(const Layer<T>& layer, const std::vector<std::int64_t>& pieces) {
  const Mamba2MixerDims& d = layer.d;
  const auto values = layer.values();
  auto now = values;
  now.conv_state.assign(now.conv_state.size(), T(0.0f));
  now.ssm_state.assign(now.ssm_state.size(), 0.0f);
  std::vector<T> out(values.hidden_states.size());
  std::int64_t first = 0;
  for (const std::int64_t tokens : pieces) {
    Layer<T> piece = layer;
    piece.d.seq_len = tokens;
    now.hidden_states = tokens_of(values.hidden_states, d, first, tokens);
    const Path path = first == 0 ? Path::prefill : tokens == 1 ? Path::decode : Path::continued;
    const auto got = run<S>(piece, now, path);
    now.conv_state = got.conv_state, now.ssm_state = got.ssm_state;
    for (std::int64_t b = 0; b < d.batch; ++b)
      std::copy_n(got.out.begin() + b * tokens * d.hidden_size, tokens * d.hidden_size,
                  out.begin() + (b * d.seq_len + first) * d.hidden_size);
    first += tokens;
  }
  return out;
}

// The root mean square of got - want over the tokens first .. first + count of batch row 0.
template <class T>
double rms_error(const std::vector<T>& got, const std::vector<double>& want, std::int64_t first, std::int64_t tokens,
                 std::int64_t width) {
  double squares = 0;
  for (std::int64_t i = first * width; i < (first + tokens) * width; ++i) {
    const double e = static_cast<double>(static_cast<float>(got[count(i)])) - want[count(i)];
    squares += e * e;
  }
  return std::sqrt(squares / static_cast<double>(tokens * width));
}

// Training, one prefill, two prefills, and a prefill with decode steps to the end are one function. Against the
// definition in double none may err more than twice as much as training does (gate 3's rule) while the state is float:
// the paths share every rounding between the steps. A bfloat16 cache adds, at each step, a rounding of at most 2^-9 of
// the state (2^-9 / sqrt(3) on average over a binade), which fades with the decay a: 2^-9 / sqrt(3 (1 - a^2)) of y
// together.
template <class T>
void expect_one_function() {
  Layer<T> layer{.d = {.batch = 1,
                       .seq_len = 1500,
                       .hidden_size = 32,
                       .heads = 4,
                       .head_dim = 16,
                       .groups = 2,
                       .state_size = 16,
                       .taps = 4}};
  const auto& d = layer.d;
  const auto values = layer.values();
  const Model<T> model(layer, values, Path::train);
  const auto train = run<float>(layer, values, Path::train).out;
  const std::int64_t end = 500, start = d.seq_len - end;
  const double base = rms_error(train, model.out, start, end, d.hidden_size);
  std::vector<std::int64_t> steps(count(d.seq_len) - 1, 1);
  steps.front() = 2;  // and 1,498 decode steps
  EXPECT_EQ(distance(in_pieces<float>(layer, {d.seq_len}), train), 0);
  const auto two = in_pieces<float>(layer, {700, 800}), decoded = in_pieces<float>(layer, steps),
             narrow = in_pieces<bf16>(layer, steps);
  EXPECT_LE(rms_error(two, model.out, start, end, d.hidden_size), 2 * base);
  EXPECT_LE(rms_error(decoded, model.out, start, end, d.hidden_size), 2 * base);

  double slowest = 0, size = 0;  // decay; rms of the output
  for (std::int64_t h = 0; h < d.heads; ++h)
    slowest = std::max(slowest, std::exp(-std::log1p(std::exp(values.dt_bias[count(h)] - 3.0)) *  // dt above -3
                                         std::exp(static_cast<double>(values.A_log[count(h)]))));
  for (const double v : model.out) size += v * v;
  size = std::sqrt(size / static_cast<double>(model.out.size()));
  const double rounded = 0x1p-9 / std::sqrt(3 * (1 - slowest * slowest)) * size;
  EXPECT_LE(rms_error(narrow, model.out, start, end, d.hidden_size), 2 * base + rounded);

  // From one 500 tokens to those a thousand later.
  const auto drift = [&](const char* cache, const std::vector<T>& got) {
    const double early = rms_error(got, model.out, 0, end, d.hidden_size),
                 late = rms_error(got, model.out, start, end, d.hidden_size);
    std::printf("  decode, %s activations, %s cache: error %.3g of the output, drift %+.3g per 1,000 tokens\n",
                sizeof(T) == 2 ? "bf16" : "f32", cache, late / size, (late - early) / size);
  };
  drift("f32", decoded);
  drift("bf16", narrow);
}
TEST(Mamba2MixerPaths, AreOneFunctionInFloat) { expect_one_function<float>(); }
TEST(Mamba2MixerPaths, AreOneFunctionInBfloat16) { expect_one_function<bf16>(); }

// The fused step is taken where nobody looks between, and has the bits of the three kernels.
TEST(Mamba2MixerPaths, FusedAndComposedDecodeAgreeBitForBit) {
  Layer<bf16> layer{.d = {.batch = 3,
                          .seq_len = 1,
                          .hidden_size = 32,
                          .heads = 8,
                          .head_dim = 8,
                          .groups = 2,
                          .state_size = 32,
                          .taps = 4}};
  const auto values = layer.values();
  const auto fused = run<bf16>(layer, values, Path::decode),
             composed = run<bf16>(layer, values, Path::decode, Method::automatic, true);
  EXPECT_EQ(distance(fused.out, composed.out), 0);
  EXPECT_EQ(distance(fused.conv_state, composed.conv_state), 0);
  EXPECT_EQ(fused.ssm_state, composed.ssm_state);
}

TEST(Mamba2MixerBorder, NoBatchRowsAndNoTokens) {
  const Layer<float> none{.d = {.batch = 0,
                                .seq_len = 5,
                                .hidden_size = 4,
                                .heads = 2,
                                .head_dim = 2,
                                .groups = 1,
                                .state_size = 3,
                                .taps = 2}};
  for (const Path path : {Path::train, Path::prefill, Path::continued})
    EXPECT_TRUE(run<float>(none, none.values(), path).out.empty());
  const Layer<float> empty{.d = with_tokens(kTiny, 0)};
  const auto values = empty.values();
  const auto kept = run<float>(empty, values, Path::continued);
  EXPECT_EQ(kept.conv_state, values.conv_state);
  EXPECT_EQ(kept.ssm_state, values.ssm_state);
  const auto cleared = run<float>(empty, values, Path::prefill);
  EXPECT_EQ(cleared.conv_state, std::vector<float>(values.conv_state.size()));
  EXPECT_EQ(cleared.ssm_state, std::vector<float>(values.ssm_state.size()));
}

TEST(Mamba2MixerBorder, RefusesWhatItCannotUse) {
  const TestBuffer<float> some(4096);
  const auto with = [&](Mamba2MixerDims d, auto change) {
    float* const p = some.data();
    Mamba2MixerParams<float> params{p, p, p, p, p, p, p, p, p, p, 1e-5f};
    Mamba2MixerForward<float> t{.hidden_states = p, .mask = nullptr, .out = p, .taps = {}, .workspace = p};
    Mamba2MixerCache<float, float> cache{p, p};
    change(params, t, cache);
    mamba2_mixer_decode(d, params, t, cache, nullptr);
  };
  const auto nothing = [](auto&, auto&, auto&) {};
  const Mamba2MixerDims one = with_tokens(kTiny, 1);
  Mamba2MixerDims bad = one;
  bad.groups = 3;
  expect_refusal([&] { with(bad, nothing); }, "mamba2_mixer_decode: groups = 3; want a divisor of heads = 4");
  bad = one, bad.hidden_size = 0;
  expect_refusal([&] { with(bad, nothing); }, "hidden_size = 0; want 1 ..");
  expect_refusal([&] { with(kTiny, nothing); }, "seq_len = 21; want 1");
  expect_refusal([&] { with(one, [](auto& p, auto&, auto&) { p.D = nullptr; }); }, "a parameter is null");
  expect_refusal([&] { with(one, [](auto&, auto& t, auto&) { t.out = nullptr; }); }, "hidden_states or out is null");
  expect_refusal([&] { with(one, [](auto&, auto& t, auto&) { t.workspace = nullptr; }); }, "workspace is null");
  expect_refusal([&] { with(one, [](auto&, auto&, auto& c) { c.ssm_state = nullptr; }); },
                 "conv_state or ssm_state is null");
}

}  // namespace
}  // namespace assay::gpu
