#include "harness/cases/mamba2_decode_step_fill.h"

#include <algorithm>
#include <cmath>

#include "harness/cases/conv_fill.h"
#include "harness/cases/ssm_state_update_fill.h"
#include "harness/core/random.h"

namespace assay::harness {
namespace {

// +-(1, 3, ..., most) scale in place of each value.
void make_odd(std::vector<double>& values, const Random& random, std::int64_t most, double scale) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double size = static_cast<double>(2 * random.integer(2 * i, 0, (most - 1) / 2) + 1) * scale;
    values[i] = random.uniform(2 * i + 1) < 0.5 ? -size : size;
  }
}

}  // namespace

DecodeStepInputs decode_step_inputs(const DecodeStepProblem& p) {
  const StateUpdateInputs update = state_update_inputs({.batch = p.batch,
                                                        .cache_rows = p.cache_rows,
                                                        .heads = p.heads,
                                                        .head_dim = p.head_dim,
                                                        .groups = p.groups,
                                                        .state_size = p.state_size,
                                                        .softplus = true,
                                                        .bias = true,
                                                        .fill = p.fill,
                                                        .seed = p.seed});
  ConvInputs conv = conv_inputs({.batch = std::max(p.batch, p.cache_rows),
                                 .seq_len = 1,
                                 .channels = p.channels(),
                                 .taps = p.taps,
                                 .state_len = p.conv_len,
                                 .fill = p.fill,
                                 .seed = p.seed});
  DecodeStepInputs in{.projected = {},
                      .conv_weight = std::move(conv.weight),
                      .conv_bias = std::move(conv.bias),
                      .dt_bias = update.dt_bias,
                      .A = update.A,
                      .D = {update.D.begin(), update.D.begin() + p.heads},
                      .norm_weight = {},
                      .conv_state = std::move(conv.state),
                      .state = update.state,
                      .cache_row = update.cache_row};
  in.conv_state.resize(p.cache_rows * p.channels() * p.conv_len);
  if (p.fill == "integer") {
    make_odd(conv.hidden_states, Random(p.seed, "projected"), 3, 16);
    make_odd(in.conv_weight, Random(p.seed, "param.conv_weight"), 3, 8);
    make_odd(in.conv_bias, Random(p.seed, "param.conv_bias"), 9, 128);
    make_odd(in.conv_state, Random(p.seed, "conv_state"), 3, 16);
    for (double& h : in.state) h *= 0x1p14;
  }
  // The squares of what is normed must not overflow: the convolution's large values are 2^20.
  if (p.fill == "edge")
    for (double& x : conv.hidden_states) x = std::clamp(x, -1024.0, 1024.0);
  const auto append = [&](const std::vector<double>& values, std::int64_t row, std::int64_t width) {
    in.projected.insert(in.projected.end(), values.begin() + row * width, values.begin() + (row + 1) * width);
  };
  for (std::int64_t row = 0; row < p.batch; ++row) {
    append(update.z, row, p.inner());
    append(conv.hidden_states, row, p.channels());
    append(update.dt, row, p.heads);
  }
  const Random weights(p.seed, "param.norm_weight");
  for (std::int64_t i = 0; i < p.inner(); ++i) in.norm_weight.push_back(1 + 0.25 * weights.normal(i));
  return in;
}

}  // namespace assay::harness
