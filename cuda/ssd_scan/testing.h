// For the family's tests: a scan with its inputs, run by either variant, and the definition as a scalar model in double
// with limits that follow from the data.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/common/testing.h"
#include "cuda/ssd_scan/ssd_scan.h"

namespace assay::gpu {

struct ScanOptions {
  bool D = true, D_per_channel = false, z = false, dt_bias = true, softplus = true, strided = false;
  bool initial_state = false, documents = false;
  bool varlen = false;  // documents, empty ones among them, and the states at their ends
  float dt_min = 0.0f, dt_max = HUGE_VALF;
};

template <class T>
struct ScanProblem {
  int batch, seq_len, heads, head_dim, groups, state_size;
  ScanOptions options = {};

  SsdScanDims dims() const {
    const std::int64_t channels = heads * head_dim, vectors = groups * state_size, more = options.strided ? 16 : 0;
    return {.batch = batch,
            .seq_len = seq_len,
            .heads = heads,
            .head_dim = head_dim,
            .groups = groups,
            .state_size = state_size,
            .x_stride = channels + more,
            .dt_stride = heads + more,
            .B_stride = vectors + 2 * more,
            .C_stride = vectors + 3 * more,
            .z_stride = channels + 4 * more};
  }
  std::size_t outputs() const { return static_cast<std::size_t>(batch * seq_len * heads * head_dim); }
  std::size_t states() const { return static_cast<std::size_t>(batch * heads * head_dim * state_size); }

  struct Inputs {
    std::vector<T> x, B, C, z;
    std::vector<float> dt, A, D, dt_bias, initial_state;
    std::vector<std::int32_t> seq_idx, cu_seqlens;
  };
  std::int64_t documents() const { return static_cast<std::int64_t>(inputs().cu_seqlens.size()) - 1; }
  Inputs inputs() const {
    const SsdScanDims d = dims();
    const auto count = [&](std::int64_t stride) { return static_cast<std::size_t>(batch * seq_len * stride); };
    Inputs in{.x = test_values<T>(count(d.x_stride), 1),
              .B = test_values<T>(count(d.B_stride), 2),
              .C = test_values<T>(count(d.C_stride), 3),
              .z = test_values<T>(count(d.z_stride), 4),
              .dt = test_values<float>(count(d.dt_stride), 5),
              .A = test_values<float>(static_cast<std::size_t>(heads), 6),
              .D = test_values<float>(static_cast<std::size_t>(heads * head_dim), 7),
              .dt_bias = test_values<float>(static_cast<std::size_t>(heads), 8),
              .initial_state = test_values<float>(states(), 9),
              .seq_idx = {},
              .cu_seqlens = {}};
    // From a head that forgets within some tokens to one that remembers more than a chunk.
    for (std::size_t h = 0; h < in.A.size(); ++h) in.A[h] = -std::abs(in.A[h]) / static_cast<float>(1 << 3 * (h % 4));
    for (float& b : in.dt_bias) b -= 2;  // softplus from 0.05 to 0.7
    if (options.varlen) {  // of 1, 0, 2, 3, 0, ... 129, ... tokens, and some tokens after the last
      in.cu_seqlens = {0};
      for (const int length : {1, 0, 2, 3, 0, 31, 64, 129, 5, 200}) {
        if (in.cu_seqlens.back() + length < seq_len) in.cu_seqlens.push_back(in.cu_seqlens.back() + length);
      }
      for (int t = 0, document = 0; t < seq_len; ++t) {
        while (document + 1 < static_cast<int>(in.cu_seqlens.size()) &&
               in.cu_seqlens[static_cast<std::size_t>(document) + 1] <= t) {
          ++document;
        }
        in.seq_idx.push_back(document);
      }
    }
    if (options.documents) {             // of 1, 2, 4, ... 64, 1, ... tokens; row 0 begins by going on, row 1 does not
      for (int b = 0; b < batch; ++b) {
        for (int t = 0, document = b % 2, left = 1, next = 1; t < seq_len; ++t, --left) {
          if (left == 0) ++document, next = next == 64 ? 1 : 2 * next, left = next;
          in.seq_idx.push_back(document);
        }
      }
    }
    return in;
  }

  struct Results {
    std::vector<T> y, ungated_y;
    std::vector<float> final_state;
    std::vector<T> varlen_states;
  };
  Results run(Method method) const {
    const Inputs in = inputs();
    const TestBuffer<T> x(in.x), B(in.B), C(in.C), z(in.z), y(outputs()), ungated_y(outputs());
    const TestBuffer<float> dt(in.dt), A(in.A), D(in.D), dt_bias(in.dt_bias), initial(in.initial_state), last(states());
    const TestBuffer<std::int32_t> seq_idx(in.seq_idx), cu_seqlens(in.cu_seqlens);
    const TestBuffer<T> varlen(options.varlen ? static_cast<std::size_t>(documents()) * states() : 0);
    const TestBuffer<unsigned char> workspace(ssd_scan_forward_workspace(dims(), sizeof(T)));
    SsdScanForward<T> t{.x = x.data(),
                        .dt = dt.data(),
                        .A = A.data(),
                        .B = B.data(),
                        .C = C.data(),
                        .D_per_channel = options.D_per_channel,
                        .dt_softplus = options.softplus,
                        .dt_min = options.dt_min,
                        .dt_max = options.dt_max,
                        .y = y.data(),
                        .final_state = last.data(),
                        .workspace = workspace.data()};
    if (options.D) t.D = D.data();
    if (options.z) t.z = z.data(), t.ungated_y = ungated_y.data();
    if (options.dt_bias) t.dt_bias = dt_bias.data();
    if (options.initial_state) t.initial_state = initial.data();
    if (options.documents || options.varlen) t.seq_idx = seq_idx.data();
    if (options.varlen) t.cu_seqlens = cu_seqlens.data(), t.documents = documents(), t.varlen_states = varlen.data();
    ssd_scan_forward(dims(), t, nullptr, method);
    return {y.download(), options.z ? ungated_y.download() : std::vector<T>(), last.download(),
            options.varlen ? varlen.download() : std::vector<T>()};
  }

  // Values, and beside each the sum of the magnitudes that it is made of.
  struct Model {
    std::vector<double> y, y_size, ungated_y, ungated_size, final_state, state_size, varlen_states, varlen_size;
    double largest_cum = 0;  // of 128 tokens
  };
  Model model() const {
    const Inputs in = inputs();
    const SsdScanDims d = dims();
    Model out{.y = std::vector<double>(outputs()),
              .y_size = std::vector<double>(outputs()),
              .ungated_y = std::vector<double>(options.z ? outputs() : 0),
              .ungated_size = std::vector<double>(options.z ? outputs() : 0),
              .final_state = std::vector<double>(states()),
              .state_size = std::vector<double>(states()),
              .varlen_states = std::vector<double>(options.varlen ? static_cast<std::size_t>(documents()) * states() : 0),
              .varlen_size = {}};
    out.varlen_size = out.varlen_states;
    const auto at = [](const auto& values, std::int64_t i) {
      return static_cast<double>(static_cast<float>(values[static_cast<std::size_t>(i)]));
    };
    for (std::int64_t row = 0; row < batch * heads * head_dim; ++row) {
      const std::int64_t b = row / (heads * head_dim), channel = row % (heads * head_dim), head = channel / head_dim;
      const std::int64_t vector = head / (heads / groups) * state_size;
      std::vector<double> h(static_cast<std::size_t>(state_size)), size(h);
      for (std::size_t n = 0; n < h.size(); ++n) {
        if (options.initial_state) h[n] = in.initial_state[static_cast<std::size_t>(row) * h.size() + n];
        size[n] = std::abs(h[n]);
      }
      std::int32_t before = 0;
      for (std::int64_t token = b * seq_len; token < (b + 1) * seq_len; ++token) {
        double delta = at(in.dt, token * d.dt_stride + head) + (options.dt_bias ? at(in.dt_bias, head) : 0.0);
        if (options.softplus) delta = std::log1p(std::exp(delta));
        delta = std::min<double>(std::max<double>(delta, options.dt_min), options.dt_max);
        out.largest_cum = std::max(out.largest_cum, 128 * -delta * at(in.A, head));
        double decay = std::exp(delta * at(in.A, head));
        if (options.documents || options.varlen) {
          const std::int32_t document = in.seq_idx[static_cast<std::size_t>(token)];
          if (document != before) decay = 0;
          before = document;
        }
        const double x = at(in.x, token * d.x_stride + channel);
        double y = 0, y_size = 0;
        for (std::size_t n = 0; n < h.size(); ++n) {
          const auto i = static_cast<std::int64_t>(n);
          const double input = delta * x * at(in.B, token * d.B_stride + vector + i);
          const double C = at(in.C, token * d.C_stride + vector + i);
          h[n] = decay * h[n] + input;
          size[n] = decay * size[n] + std::abs(input);
          y += h[n] * C;
          y_size += size[n] * std::abs(C);
        }
        if (options.D) {
          const double skip = at(in.D, options.D_per_channel ? channel : head) * x;
          y += skip;
          y_size += std::abs(skip);
        }
        const auto place = static_cast<std::size_t>(token * heads * head_dim + channel);
        if (options.z) {
          out.ungated_y[place] = y;
          out.ungated_size[place] = y_size;
          const double z = at(in.z, token * d.z_stride + channel), gate = z / (1 + std::exp(-z));
          y *= gate;
          y_size *= std::abs(gate);
        }
        out.y[place] = y;
        out.y_size[place] = y_size;
        for (std::size_t m = 0; m + 1 < in.cu_seqlens.size(); ++m) {  // batch = 1
          if (in.cu_seqlens[m + 1] != token + 1 || in.cu_seqlens[m] == token + 1) continue;
          const auto from = static_cast<std::int64_t>(m) * static_cast<std::int64_t>(states()) + row * state_size;
          std::copy(h.begin(), h.end(), out.varlen_states.begin() + from);
          std::copy(size.begin(), size.end(), out.varlen_size.begin() + from);
        }
      }
      std::copy(h.begin(), h.end(), out.final_state.begin() + row * state_size);
      std::copy(size.begin(), size.end(), out.state_size.begin() + row * state_size);
    }
    return out;
  }

  // How far a result may be from the model's, as a part of its magnitudes. Float: at most 2^-23 (truncation) for each
  // of 128 + state_size terms of a chunk's sums, 16 for functions and products around them; cum is a sum of nine steps,
  // each off by half an ulp of its size, and stands in an exponent. bf16: of the terms of y each passes two roundings
  // of 2^-8 at most (the weights of x; or U B, then the state), of those of the state one.
  double limit(const Model& m, int roundings) const {
    const double in_float = (128 + state_size + 16 + 9 * m.largest_cum / 2) * 0x1p-23;
    return in_float + (sizeof(T) == 2 ? roundings * 0x1p-8 : 0.0);
  }
};

// The largest |got - want| beyond `rounding` |want|, the last rounding to the result's type, over the limit.
template <class T>
double excess(const std::vector<T>& got, const std::vector<double>& want, const std::vector<double>& size,
              double limit) {
  EXPECT_EQ(got.size(), want.size());
  const double rounding = sizeof(T) == 2 ? 0x1p-8 : 0x1p-24;
  double worst = 0;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    const double error = std::abs(static_cast<double>(static_cast<float>(got[i])) - want[i]);
    const double ratio = error / (rounding * std::abs(want[i]) + limit * size[i] + 0x1p-126);
    worst = std::isnan(ratio) ? HUGE_VAL : std::max(worst, ratio);
  }
  return worst;
}

}  // namespace assay::gpu
