// What the family's tests share: a layer with its inputs, and its definition in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "cuda/common/testing.h"
#include "cuda/mamba2_mixer/mamba2_mixer.h"

namespace assay::gpu {

inline std::size_t count(std::int64_t n) { return static_cast<std::size_t>(n); }

// A layer with its inputs, for any path.
template <class T>
struct Layer {
  Mamba2MixerDims d;
  bool biases = true;
  std::vector<std::int32_t> mask, seq_idx;  // [batch, seq_len], or empty
  float dt_min = 0.0f, dt_max = HUGE_VALF;

  struct Values {
    std::vector<T> hidden_states, in_proj, in_bias, conv, conv_bias, norm, out_proj, out_bias, conv_state;
    std::vector<float> dt_bias, A_log, D, ssm_state;
  };
  Values values() const {
    // Projections of width n scaled so that their outputs are of size 1.
    const auto scaled = [](std::vector<T> v, double scale) {
      for (T& x : v) x = T(static_cast<float>(static_cast<float>(x) * scale));
      return v;
    };
    Values v{.hidden_states = test_values<T>(count(d.tokens() * d.hidden_size), 1),
             .in_proj = scaled(test_values<T>(count(d.projected() * d.hidden_size), 2),
                               3 / std::sqrt(static_cast<double>(d.hidden_size))),
             .in_bias = test_values<T>(count(d.projected()), 3),
             .conv = test_values<T>(count(d.conv_channels() * d.taps), 4),
             .conv_bias = test_values<T>(count(d.conv_channels()), 5),
             .norm = test_values<T>(count(d.inner()), 6),
             .out_proj = scaled(test_values<T>(count(d.hidden_size * d.inner()), 7),
                                3 / std::sqrt(static_cast<double>(d.inner()))),
             .out_bias = test_values<T>(count(d.hidden_size), 8),
             .conv_state = test_values<T>(count(d.batch * d.conv_channels() * d.taps), 9),
             .dt_bias = test_values<float>(count(d.heads), 10),
             .A_log = test_values<float>(count(d.heads), 11),
             .D = test_values<float>(count(d.heads), 12),
             .ssm_state = test_values<float>(count(d.batch * d.inner() * d.state_size), 13)};
    for (float& b : v.dt_bias) b -= 2;
    return v;
  }
};

// A layer's parameters on the device.
template <class T>
struct DeviceParams {
  TestBuffer<T> in_proj, in_bias, conv, conv_bias, norm, out_proj, out_bias;
  TestBuffer<float> dt_bias, A_log, D;

  explicit DeviceParams(const typename Layer<T>::Values& v)
      : in_proj(v.in_proj), in_bias(v.in_bias), conv(v.conv), conv_bias(v.conv_bias), norm(v.norm), out_proj(v.out_proj),
        out_bias(v.out_bias), dt_bias(v.dt_bias), A_log(v.A_log), D(v.D) {}

  Mamba2MixerParams<T> of(const Layer<T>& layer) const {
    return {.in_proj_weight = in_proj.data(),
            .in_proj_bias = layer.biases ? in_bias.data() : nullptr,
            .conv_weight = conv.data(),
            .conv_bias = layer.biases ? conv_bias.data() : nullptr,
            .dt_bias = dt_bias.data(),
            .A_log = A_log.data(),
            .D = D.data(),
            .norm_weight = norm.data(),
            .out_proj_weight = out_proj.data(),
            .out_proj_bias = layer.biases ? out_bias.data() : nullptr,
            .eps = 1e-5f,
            .dt_min = layer.dt_min,
            .dt_max = layer.dt_max};
  }
};

enum class Path { train, prefill, continued, decode };

// The element of a layer's values that the definition reads with `by` added, exactly. The states cannot be nudged.
struct Nudge {
  const void* values = nullptr;
  std::int64_t element = 0;
  double by = 0;
};

// The definition, token by token, in double.
template <class T>
struct Model {
  std::vector<double> out, conv_state, ssm_state;

  Model(const Layer<T>& layer, const typename Layer<T>::Values& v, Path path, const Nudge& nudge = {}) {
    const Mamba2MixerDims& d = layer.d;
    const auto at = [&](const auto& values, std::int64_t i) {
      const double by = &values == nudge.values && i == nudge.element ? nudge.by : 0;
      return static_cast<double>(static_cast<float>(values[count(i)])) + by;
    };
    const auto silu = [](double z) { return z / (1 + std::exp(-z)); };
    const std::int64_t inner = d.inner(), channels = d.conv_channels(), keys = d.groups * d.state_size;
    const bool from_states = path == Path::continued || path == Path::decode;
    for (std::int64_t b = 0; b < d.batch; ++b) {
      // Columns of xBC, those of the cache in front.
      std::vector<std::vector<double>> columns;
      for (std::int64_t j = 0; j < d.taps; ++j) {
        columns.emplace_back();
        for (std::int64_t c = 0; c < channels; ++c)
          columns.back().push_back(from_states ? at(v.conv_state, (b * channels + c) * d.taps + j) : 0.0);
      }
      std::vector<double> h(count(inner * d.state_size));
      if (from_states)
        for (std::size_t i = 0; i < h.size(); ++i) h[i] = v.ssm_state[count(b) * h.size() + i];
      for (std::int64_t s = 0; s < d.seq_len; ++s) {
        const std::int64_t token = b * d.seq_len + s;
        const double real = layer.mask.empty() ? 1 : layer.mask[count(token)];
        std::vector<double> projected(count(d.projected()));
        for (std::int64_t j = 0; j < d.projected(); ++j) {
          double& sum = projected[count(j)];
          sum = layer.biases ? at(v.in_bias, j) : 0;
          for (std::int64_t k = 0; k < d.hidden_size; ++k)
            sum += real * at(v.hidden_states, token * d.hidden_size + k) * at(v.in_proj, j * d.hidden_size + k);
        }
        columns.emplace_back(projected.begin() + inner, projected.begin() + inner + channels);
        const auto document = [&](std::int64_t of) { return layer.seq_idx.empty() ? 0 : layer.seq_idx[count(of)]; };
        std::vector<double> xBC(count(channels));
        for (std::int64_t c = 0; c < channels; ++c) {
          double p = layer.biases ? at(v.conv_bias, c) : 0;
          for (std::int64_t j = 0; j < d.taps; ++j) {
            const std::int64_t from = s - (d.taps - 1) + j;
            if (from >= 0 && document(b * d.seq_len + from) != document(token)) continue;
            p += at(v.conv, c * d.taps + j) * columns[count(from + d.taps)][count(c)];
          }
          xBC[count(c)] = silu(p);
        }
        std::vector<double> y(count(inner));
        const bool fresh = !layer.seq_idx.empty() && document(token) != (s == 0 ? 0 : document(token - 1));
        for (std::int64_t i = 0; i < inner; ++i) {
          const std::int64_t head = i / d.head_dim, group = head / (d.heads / d.groups) * d.state_size;
          double delta = std::log1p(std::exp(projected[count(inner + channels + head)] + at(v.dt_bias, head)));
          if (path != Path::decode) delta = std::min<double>(std::max<double>(delta, layer.dt_min), layer.dt_max);
          const double decay = fresh ? 0 : std::exp(-delta * std::exp(at(v.A_log, head)));
          y[count(i)] = at(v.D, head) * xBC[count(i)];
          for (std::int64_t n = 0; n < d.state_size; ++n) {
            double& state = h[count(i * d.state_size + n)];
            state = decay * state + delta * xBC[count(i)] * xBC[count(inner + group + n)];
            y[count(i)] += state * xBC[count(inner + keys + group + n)];
          }
        }
        const std::int64_t group_size = inner / d.groups;
        for (std::int64_t first = 0; first < inner; first += group_size) {
          double squares = 0;
          for (std::int64_t i = first; i < first + group_size; ++i) {
            y[count(i)] *= silu(projected[count(i)]);
            squares += y[count(i)] * y[count(i)];
          }
          const double rstd = 1 / std::sqrt(squares / static_cast<double>(group_size) + static_cast<double>(1e-5f));
          for (std::int64_t i = first; i < first + group_size; ++i) y[count(i)] *= rstd * at(v.norm, i);
        }
        for (std::int64_t j = 0; j < d.hidden_size; ++j) {
          double sum = layer.biases ? at(v.out_bias, j) : 0;
          for (std::int64_t i = 0; i < inner; ++i) sum += y[count(i)] * at(v.out_proj, j * inner + i);
          out.push_back(sum);
        }
      }
      for (std::int64_t c = 0; c < channels; ++c)
        for (std::int64_t j = 0; j < d.taps; ++j)
          conv_state.push_back(columns[columns.size() - count(d.taps - j)][count(c)]);
      ssm_state.insert(ssm_state.end(), h.begin(), h.end());
    }
  }
};

inline const Mamba2MixerDims kTiny{
    .batch = 2, .seq_len = 21, .hidden_size = 32, .heads = 4, .head_dim = 16, .groups = 2, .state_size = 16, .taps = 4};

inline Mamba2MixerDims with_tokens(Mamba2MixerDims d, std::int64_t seq_len) {
  d.seq_len = seq_len;
  return d;
}

}  // namespace assay::gpu
