// The mixer's cases: their presets are the models' own, and the layer that carries freedoms is the reference's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "harness/cases/mamba2_mixer_end_to_end.h"
#include "harness/cases/mamba2_mixer_presets.h"
#include "harness/cases/mamba2_mixer_steps.h"
#include "harness/core/judge.h"
#include "harness/io/model_config.h"

namespace assay::harness {
namespace {

TEST(MixerPresets, AreThoseOfTheModelFiles) {
  for (const std::string& name : mixer_presets()) {
    SCOPED_TRACE(name);
    const reference::NemotronV3Config ours = mixer_preset(name), model = preset(name, ASSAY_GOLDEN);
    EXPECT_EQ(ours.hidden_size, model.hidden_size);
    EXPECT_EQ(ours.mamba_num_heads, model.mamba_num_heads);
    EXPECT_EQ(ours.mamba_head_dim, model.mamba_head_dim);
    EXPECT_EQ(ours.n_groups, model.n_groups);
    EXPECT_EQ(ours.ssm_state_size, model.ssm_state_size);
    EXPECT_EQ(ours.conv_kernel, model.conv_kernel);
    EXPECT_EQ(ours.chunk_size, model.chunk_size);
    EXPECT_EQ(ours.use_conv_bias, model.use_conv_bias);
    EXPECT_EQ(ours.use_bias, model.use_bias);
    EXPECT_EQ(ours.layer_norm_epsilon, model.layer_norm_epsilon);
    EXPECT_EQ(ours.time_step_limit[0], model.time_step_limit[0]);
    EXPECT_EQ(ours.time_step_limit[1], model.time_step_limit[1]);
  }
}

Call call_of(const char* line) {
  const Case c = parse_case(line);
  family("mamba2_mixer").check(c);
  Call call = family("mamba2_mixer").calls(c).back();
  for (HostTensor& t : call.tensors) {
    if (t.role == Role::inout) t.before = t.bytes;
    if (t.role == Role::tap) t.bytes.clear();
  }
  return call;
}

constexpr const char* kLines[] = {
    "mamba2_mixer/train_forward batch=2 seq_len=17 preset=tiny-all mask=left documents=packed dtype=f32 fill=model "
    "seed=1",
    "mamba2_mixer/prefill batch=2 seq_len=2 preset=tiny mask=holes states=continued cache=model dtype=f32 fill=model "
    "seed=2",
    "mamba2_mixer/prefill batch=1 seq_len=19 preset=tiny-plain mask=none states=ignored cache=f32 dtype=bf16 "
    "fill=model seed=3",
    "mamba2_mixer/decode batch=3 preset=tiny mask=none cache=f32 taps=all dtype=bf16 fill=model seed=4",
    "mamba2_mixer/train_backward batch=2 seq_len=17 preset=tiny-all mask=left documents=packed dtype=f32 fill=model "
    "seed=5"};

// With no step moved, the layer that carries freedoms to the end gives the reference's bits: its steps are the layer's.
TEST(MixerEndToEnd, NothingMovesWithoutFreedom) {
  for (const char* line : kLines) {
    SCOPED_TRACE(line);
    for (const Expectation& e : mixer_end_to_end(call_of(line), {})) {
      EXPECT_TRUE(e.relative_alone);
      for (const double f : e.freedom) ASSERT_EQ(f, 0) << e.tensor;
    }
  }
}

// How far `output` moves, root mean square, when `tap` has a freedom of 1e-6.
double moved(const Call& call, const char* tap, const char* output) {
  Expectation step{.tensor = tap};
  step.oracle.resize(static_cast<std::size_t>(call.tensor(tap).size()));
  step.matched = step.oracle;
  step.freedom.assign(step.oracle.size(), 1e-6);
  for (const Expectation& e : mixer_end_to_end(call, {step})) {
    if (e.tensor != output) continue;
    double squares = 0;
    for (const double f : e.freedom) squares += f * f;
    return std::sqrt(squares / static_cast<double>(e.size()));
  }
  return NAN;
}

TEST(MixerEndToEnd, AMovedStepMovesTheEnd) {
  const Call call = call_of(kLines[0]);
  for (const char* tap : {"tap.projected", "tap.A", "tap.convolved", "tap.scanned", "tap.normed"}) {
    SCOPED_TRACE(tap);
    EXPECT_GT(moved(call, tap, "output.hidden_states"), 1e-12);  // double alone moves it by 1e-16
    EXPECT_LT(moved(call, tap, "output.hidden_states"), 1e-3);
  }
}

TEST(MixerEndToEnd, AMovedGradientMovesThoseBehindIt) {
  const Call call = call_of(kLines[4]);
  for (const auto& [tap, gradient] : {std::pair{"tap.d_normed", "grad.norm.weight"},
                                      {"tap.d_scanned", "grad._fp32_params.D"},
                                      {"tap.d_A", "grad._fp32_params.A_log"},
                                      {"tap.d_convolved", "grad.conv1d.weight"},
                                      {"tap.d_projected", "grad.in_proj.weight"},
                                      {"tap.d_masked", "grad.input.hidden_states"}}) {
    SCOPED_TRACE(tap);
    EXPECT_GT(moved(call, tap, gradient), 1e-12);
    EXPECT_LT(moved(call, tap, gradient), 1e-3);
    EXPECT_EQ(moved(call, tap, "grad.out_proj.weight"), 0);  // of the step before them all
  }
}

double matched_rms(const Expectation& e) {
  double squares = 0;
  for (std::size_t i = 0; i < e.oracle.size(); ++i) squares += std::pow(e.matched[i] - e.oracle[i], 2);
  return std::sqrt(squares / static_cast<double>(e.size()));
}

// The keys of one token cancel to what their roundings leave, and it has nine tenths of the error: a reference of the
// same roundings with longer chunks errs almost three times as much, and both are right.
TEST(MixerEndToEnd, WhereOneTokenDecidesTheErrorTheTensorIsSmall) {
  Call call = call_of(
      "mamba2_mixer/train_forward batch=2 seq_len=37 preset=tiny mask=holes documents=no dtype=bf16 fill=edge "
      "seed=66159");
  const Expectation e = mixer_end_to_end(call, {}).front();
  for (auto& [name, value] : call.attributes)
    if (name == "chunk_size") value = std::int64_t{64};
  const Expectation longer = mixer_end_to_end(call, {}).front();
  EXPECT_GT(matched_rms(longer), kRmsFactor * matched_rms(e));
  EXPECT_LT(telling_elements(e), 8);
  EXPECT_EQ(judge(e, longer.matched).status, Status::passed);
}

// Where no token stands out, a layer's elements err each for themselves.
TEST(MixerEndToEnd, OtherwiseItIsNot) {
  for (const char* line : {"mamba2_mixer/train_forward batch=2 seq_len=37 preset=tiny mask=holes documents=no "
                           "dtype=bf16 fill=model seed=66159",
                           kLines[0]}) {
    SCOPED_TRACE(line);
    EXPECT_FALSE(is_small(mixer_end_to_end(call_of(line), {}).front()));
  }
}

TEST(MixerSteps, WithoutTapsOnlyTheWholeIsJudged) {
  for (const char* line : {kLines[3], kLines[4]}) {
    const Call call = call_of(line);
    EXPECT_TRUE(mixer_steps(call).empty());
    for (const Expectation& e : family("mamba2_mixer").expect(call, assay_contract{}, false))
      EXPECT_TRUE(e.relative_alone) << e.tensor;
  }
}

// A tensor whose channels are of several steps is judged where all of them show what they read.
TEST(MixerSteps, TogetherGiveATensorThatTheyShare) {
  const Case c = parse_case(kLines[4]);
  const std::vector<Call> calls = family("mamba2_mixer").calls(c);
  Call whole = calls.back();
  for (const HostTensor& t : calls.front().tensors)
    if (t.role == Role::tap) whole.tensors.push_back(t);
  const auto judged = [](const Call& call, const std::string& tensor) {
    const auto all = family("mamba2_mixer").expect(call, assay_contract{}, false);
    return std::count_if(all.begin(), all.end(),
                         [&](const Expectation& e) { return e.tensor == tensor && !e.relative_alone; });
  };
  EXPECT_EQ(judged(whole, "tap.d_projected"), 1);
  EXPECT_EQ(judged(whole, "tap.d_convolved"), 1);
  EXPECT_EQ(judged(whole, "grad.in_proj.weight"), 1);
  whole.tensor("tap.d_scanned").bytes.clear();  // the scan's share of both
  EXPECT_EQ(judged(whole, "tap.d_projected"), 0);
  EXPECT_EQ(judged(whole, "tap.d_convolved"), 0);
  EXPECT_EQ(judged(whole, "grad.in_proj.weight"), 1);
}

TEST(MixerCase, HasNoIntegerFill) {
  const Case c =
      parse_case("mamba2_mixer/decode batch=3 preset=tiny mask=none cache=f32 taps=all dtype=bf16 fill=integer seed=4");
  EXPECT_THROW(family("mamba2_mixer").check(c), std::invalid_argument);
}

}  // namespace
}  // namespace assay::harness
