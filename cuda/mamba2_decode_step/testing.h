// For the family's tests: a step with its inputs, run by either variant and by the three kernels that it stands for,
// and the definition as a scalar model in double with limits that follow from the data.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/causal_conv1d/causal_conv1d.h"
#include "cuda/common/testing.h"
#include "cuda/gated_rms_norm/gated_rms_norm.h"
#include "cuda/mamba2_decode_step/mamba2_decode_step.h"
#include "cuda/ssm_state_update/ssm_state_update.h"

namespace assay::gpu {

struct DecodeOptions {
  bool bias = true, strided = false, padded = false;
  int taps = 4, conv_len = 4;
};

template <class T, class S>
struct DecodeProblem {
  int batch, heads, head_dim, groups, state_size;
  DecodeOptions options = {};

  Mamba2DecodeStepDims dims() const {
    Mamba2DecodeStepDims d{.batch = batch,
                           .heads = heads,
                           .head_dim = head_dim,
                           .groups = groups,
                           .state_size = state_size,
                           .taps = options.taps,
                           .conv_len = options.conv_len,
                           .row_stride = 0};
    const std::int64_t more = options.strided ? 24 : 0;
    d.row_stride = (d.width() + more + 7) / 8 * 8;
    return d;
  }
  int cache_rows() const { return batch + (options.padded ? 2 : 0); }

  struct Inputs {
    std::vector<T> projected, conv_weight, conv_bias, norm_weight, conv_state;
    std::vector<float> dt_bias, A, D;
    std::vector<std::int32_t> rows;
    std::vector<S> state;
  };
  Inputs inputs() const {
    const Mamba2DecodeStepDims d = dims();
    const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
    Inputs in{.projected = test_values<T>(size(batch * d.row_stride), 1),
              .conv_weight = test_values<T>(size(d.conv_channels() * d.taps), 2),
              .conv_bias = test_values<T>(size(d.conv_channels()), 3),
              .norm_weight = test_values<T>(size(d.inner()), 4),
              .conv_state = test_values<T>(size(cache_rows() * d.conv_channels() * d.conv_len), 5),
              .dt_bias = test_values<float>(size(heads), 6),
              .A = test_values<float>(size(heads), 7),
              .D = test_values<float>(size(heads), 8),
              .rows = {},
              .state = test_values<S>(size(cache_rows() * d.inner() * state_size), 9)};
    for (float& a : in.A) a = -std::abs(a) - 0.125f;
    if (options.padded) {  // backwards, every third row padding
      for (int b = 0; b < batch; ++b) in.rows.push_back(b % 3 == 1 ? -1 : batch + 1 - b);
    }
    return in;
  }

  struct Results {
    std::vector<T> out, conv_state;
    std::vector<S> state;
  };
  static constexpr float kEps = 1e-5f;

  // The inputs on the device.
  struct Memory {
    explicit Memory(const Inputs& in)
        : projected(in.projected),
          conv_weight(in.conv_weight),
          conv_bias(in.conv_bias),
          norm_weight(in.norm_weight),
          conv_state(in.conv_state),
          dt_bias(in.dt_bias),
          A(in.A),
          D(in.D),
          rows(in.rows),
          state(in.state) {}
    TestBuffer<T> projected, conv_weight, conv_bias, norm_weight, conv_state;
    TestBuffer<float> dt_bias, A, D;
    TestBuffer<std::int32_t> rows;
    TestBuffer<S> state;
  };

  Results run(Method method) const {
    const Memory m(inputs());
    const TestBuffer<T> out(static_cast<std::size_t>(batch * dims().inner()));
    mamba2_decode_step(dims(),
                       Mamba2DecodeStep<T, S>{.projected = m.projected.data(),
                                              .conv_weight = m.conv_weight.data(),
                                              .conv_bias = options.bias ? m.conv_bias.data() : nullptr,
                                              .dt_bias = m.dt_bias.data(),
                                              .A = m.A.data(),
                                              .D = m.D.data(),
                                              .norm_weight = m.norm_weight.data(),
                                              .eps = kEps,
                                              .state_rows = options.padded ? m.rows.data() : nullptr,
                                              .conv_state = m.conv_state.data(),
                                              .state = m.state.data(),
                                              .out = out.data()},
                       nullptr, method);
    return {out.download(), m.conv_state.download(), m.state.download()};
  }

  // causal_conv1d_update, ssm_state_update, gated_rms_norm_forward: each reads the other's output in place. Not for
  // padded rows, which the first does not know.
  Results run_three_kernels() const {
    const Memory m(inputs());
    const Mamba2DecodeStepDims d = dims();
    const auto size = [&](std::int64_t n) { return static_cast<std::size_t>(batch * n); };
    const TestBuffer<T> xBC(size(d.conv_channels())), y(size(d.inner())), out(size(d.inner()));
    causal_conv1d_update(
        {.batch = batch, .seq_len = 1, .channels = d.conv_channels(), .taps = d.taps, .row_stride = d.row_stride},
        CausalConv1dUpdate<T>{.hidden_states = m.projected.data() + d.inner(),
                              .state = m.conv_state.data(),
                              .state_len = d.conv_len,
                              .weight = m.conv_weight.data(),
                              .bias = options.bias ? m.conv_bias.data() : nullptr,
                              .silu = true,
                              .out = xBC.data()},
        nullptr);
    ssm_state_update({.batch = batch,
                      .heads = heads,
                      .head_dim = head_dim,
                      .groups = groups,
                      .state_size = state_size,
                      .x_stride = d.conv_channels(),
                      .dt_stride = d.row_stride,
                      .B_stride = d.conv_channels(),
                      .C_stride = d.conv_channels(),
                      .z_stride = d.row_stride,
                      .state_stride = d.inner() * state_size},
                     SsmStateUpdate<T, S>{.x = xBC.data(),
                                          .dt = m.projected.data() + d.inner() + d.conv_channels(),
                                          .A = m.A.data(),
                                          .B = xBC.data() + d.inner(),
                                          .C = xBC.data() + d.inner() + groups * state_size,
                                          .D = m.D.data(),
                                          .dt_bias = m.dt_bias.data(),
                                          .state = m.state.data(),
                                          .y = y.data()},
                     nullptr);
    gated_rms_norm_forward({.rows = batch,
                            .width = d.inner(),
                            .group_size = d.group_size(),
                            .row_stride = d.inner(),
                            .gate_stride = d.row_stride},
                           GatedRmsNormForward<T>{.hidden_states = y.data(),
                                                  .gate = m.projected.data(),
                                                  .weight = m.norm_weight.data(),
                                                  .eps = kEps,
                                                  .out = out.data(),
                                                  .rstd = nullptr},
                           nullptr);
    return {out.download(), m.conv_state.download(), m.state.download()};
  }

  // Values, and beside each how far a result may be from it.
  struct Model {
    std::vector<T> conv_state;  // a copy: no error
    std::vector<double> out, out_limit, state, state_limit;
  };
  Model model() const;
};

// The definition, in double, with no rounding in between. `u`: what a rounding to T costs, as a part of the value: half
// an ulp, 2^-8 or 2^-24. In float every value passes at most 80 roundings and a few functions of 2 ulp on its way (256
// terms of a sum, a sixteenth of them in a row, dominate): 128 units of 2^-24 of the magnitudes it is made of bound
// them.
template <class T, class S>
typename DecodeProblem<T, S>::Model DecodeProblem<T, S>::model() const {
  constexpr double kFloat = 128 * 0x1p-24, u = std::is_same_v<T, float> ? 0x1p-24 : 0x1p-8,
                   u_state = std::is_same_v<S, float> ? 0x1p-24 : 0x1p-8;
  const Inputs in = inputs();
  const Mamba2DecodeStepDims d = dims();
  const auto at = [](const auto& values, std::int64_t i) {
    return static_cast<double>(static_cast<float>(values[static_cast<std::size_t>(i)]));
  };
  const auto silu_of = [](double z) { return z / (1 + std::exp(-z)); };
  const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  Model m{.conv_state = in.conv_state,
          .out = std::vector<double>(size(batch * d.inner())),
          .out_limit = std::vector<double>(size(batch * d.inner())),
          .state = std::vector<double>(in.state.size()),
          .state_limit = std::vector<double>(in.state.size())};
  for (std::size_t i = 0; i < in.state.size(); ++i) m.state[i] = to_float(in.state[i]);
  for (int b = 0; b < batch; ++b) {
    const int row = options.padded ? in.rows[size(b)] : b;
    if (row < 0) continue;
    // x, B, C, each off by a rounding to T and what the sum of its taps does to silu, whose slope is at most 1.1.
    std::vector<double> value(size(d.conv_channels())), error(value.size());
    for (std::int64_t c = 0; c < d.conv_channels(); ++c) {
      T* const columns = m.conv_state.data() + (row * d.conv_channels() + c) * d.conv_len;
      const T now = in.projected[size(b * d.row_stride + d.inner() + c)];
      double p = options.bias ? at(in.conv_bias, c) : 0.0, magnitudes = std::abs(p);
      for (std::int64_t j = 0; j < d.taps; ++j) {
        const T column = j + 1 == d.taps ? now : columns[d.conv_len - d.taps + 1 + j];
        const double term = at(in.conv_weight, c * d.taps + j) * to_float(column);
        p += term, magnitudes += std::abs(term);
      }
      for (std::int64_t j = 0; j + 1 < d.conv_len; ++j) columns[j] = columns[j + 1];
      if (d.conv_len > 0) columns[d.conv_len - 1] = now;
      value[size(c)] = silu_of(p);
      error[size(c)] = u * std::abs(silu_of(p)) + 1.1 * kFloat * magnitudes;
    }
    for (std::int64_t group = 0; group < groups; ++group) {
      std::vector<double> v(size(d.group_size())), v_error(v.size());
      double squares = 0, squares_error = 0;
      for (std::int64_t i = 0; i < d.group_size(); ++i) {
        const std::int64_t channel = group * d.group_size() + i, head = channel / head_dim;
        const double dt =
            at(in.projected, b * d.row_stride + d.inner() + d.conv_channels() + head) + at(in.dt_bias, head);
        const double delta = std::log1p(std::exp(dt)), decay = std::exp(delta * at(in.A, head));
        const double x = value[size(channel)], x_error = error[size(channel)];
        double y = at(in.D, head) * x, y_error = std::abs(at(in.D, head)) * (x_error + kFloat * std::abs(x));
        for (int n = 0; n < state_size; ++n) {
          const std::int64_t B_at = d.inner() + group * state_size + n, C_at = B_at + groups * state_size;
          const std::int64_t at_state = (row * d.inner() + channel) * state_size + n;
          const double B = value[size(B_at)], C = value[size(C_at)], h = m.state[size(at_state)];
          const double added = delta * B * x, next = h * decay + added;
          const double next_error = kFloat * (std::abs(h) + std::abs(added)) +
                                    delta * (error[size(B_at)] * (std::abs(x) + x_error) + std::abs(B) * x_error);
          m.state[size(at_state)] = next;
          m.state_limit[size(at_state)] = next_error + u_state * (std::abs(next) + next_error);
          y += next * C;
          y_error += next_error * (std::abs(C) + error[size(C_at)]) + std::abs(next) * error[size(C_at)] +
                     kFloat * std::abs(next * C);
        }
        const double gate = silu_of(at(in.projected, b * d.row_stride + channel));
        y_error += u * (std::abs(y) + y_error);
        v[size(i)] = y * gate;
        v_error[size(i)] = (y_error + kFloat * std::abs(y)) * std::abs(gate);
        squares += v[size(i)] * v[size(i)];
        squares_error += (2 * std::abs(v[size(i)]) + v_error[size(i)]) * v_error[size(i)];
      }
      // rstd falls with the sum of squares: relative error at most that of the smallest sum, halved by the root.
      const double count = static_cast<double>(d.group_size()), inside = squares / count + static_cast<double>(kEps);
      const double smallest = inside - squares_error / count;
      const double rstd = 1 / std::sqrt(inside);
      const double rstd_error = smallest > 0 ? 1 / std::sqrt(smallest) - rstd + kFloat * rstd : HUGE_VAL;
      for (std::int64_t i = 0; i < d.group_size(); ++i) {
        const std::int64_t channel = group * d.group_size() + i;
        const double w = at(in.norm_weight, channel), out = w * v[size(i)] * rstd;
        const double out_error =
            std::abs(w) * (v_error[size(i)] * (rstd + rstd_error) + std::abs(v[size(i)]) * rstd_error);
        m.out[size(b * d.inner() + channel)] = out;
        m.out_limit[size(b * d.inner() + channel)] = out_error + u * (std::abs(out) + out_error);
      }
    }
  }
  return m;
}

// The largest |got - want| / limit; infinite for a NaN, and where there is no limit and a difference.
template <class Element>
double excess(const std::vector<Element>& got, const std::vector<double>& want, const std::vector<double>& limit) {
  EXPECT_EQ(got.size(), want.size());
  double worst = 0;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    const double error = std::abs(static_cast<double>(static_cast<float>(got[i])) - want[i]);
    const double ratio = error == 0 ? 0 : error / (limit[i] + 0x1p-126);
    worst = std::isnan(ratio) ? HUGE_VAL : std::max(worst, ratio);
  }
  return worst;
}

}  // namespace assay::gpu
