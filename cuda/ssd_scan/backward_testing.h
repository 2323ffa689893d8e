// For the tests of backward: a scan with gradients coming in, run by either variant, and the recurrence run backwards
// as a scalar model in double with limits that follow from the data.
#pragma once

#include "cuda/ssd_scan/ssd_scan_backward.h"
#include "cuda/ssd_scan/testing.h"

namespace assay::gpu {

template <class T>
struct ScanBackwardProblem : ScanProblem<T> {
  using Base = ScanProblem<T>;
  using Base::batch, Base::seq_len, Base::heads, Base::head_dim, Base::groups, Base::state_size, Base::options;

  ScanBackwardProblem(int batch_, int seq_len_, int heads_, int head_dim_, int groups_, int state_size_,
                      ScanOptions options_ = {}, bool d_final_state_ = true)
      : Base{batch_, seq_len_, heads_, head_dim_, groups_, state_size_, options_}, d_final_state(d_final_state_) {}

  bool d_final_state;

  SsdScanGradientStrides strides() const {
    const std::int64_t channels = heads * head_dim, vectors = groups * state_size, more = options.strided ? 16 : 0;
    return {.x = channels + 3 * more,
            .dt = heads + more,
            .B = vectors + more,
            .C = vectors + 2 * more,
            .z = channels + more};
  }

  // Coming in, beside Base::inputs(). The ungated y is nothing but a factor of d_z: any values will do.
  struct Incoming {
    std::vector<T> d_y, ungated_y;
    std::vector<float> d_final_state;
  };
  Incoming incoming() const {
    return {test_values<T>(Base::outputs(), 21), test_values<T>(Base::outputs(), 22),
            test_values<float>(Base::states(), 23)};
  }

  // Compact. Empty where there is no such gradient.
  template <class Activation, class Number>
  struct Gradients {
    std::vector<Activation> d_x, d_B, d_C, d_z;
    std::vector<Number> d_dt, d_A, d_D, d_dt_bias, d_initial_state;
  };
  using Results = Gradients<T, float>;

  std::size_t D_size() const {
    return !options.D ? 0u : static_cast<std::size_t>(options.D_per_channel ? heads * head_dim : heads);
  }
  std::size_t vectors() const { return static_cast<std::size_t>(batch * seq_len * groups * state_size); }
  std::size_t steps() const { return static_cast<std::size_t>(batch * seq_len * heads); }

  Results run(Method method) const {
    const auto in = Base::inputs();
    const Incoming incoming = this->incoming();
    const SsdScanDims d = Base::dims();
    const SsdScanGradientStrides strides = this->strides();
    const auto rows = [&](std::int64_t stride) { return static_cast<std::size_t>(batch * seq_len * stride); };
    const TestBuffer<T> x(in.x), B(in.B), C(in.C), z(in.z), d_y(incoming.d_y), ungated_y(incoming.ungated_y);
    const TestBuffer<float> dt(in.dt), A(in.A), D(in.D), dt_bias(in.dt_bias), initial(in.initial_state);
    const TestBuffer<float> d_final(incoming.d_final_state);
    const TestBuffer<std::int32_t> seq_idx(in.seq_idx);
    const TestBuffer<T> d_x(rows(strides.x)), d_B(rows(strides.B)), d_C(rows(strides.C)), d_z(rows(strides.z));
    const TestBuffer<float> d_dt(rows(strides.dt)), d_A(in.A.size()), d_D(D_size()), d_dt_bias(in.dt_bias.size());
    const TestBuffer<float> d_initial(Base::states());
    const TestBuffer<unsigned char> workspace(ssd_scan_backward_workspace(d, strides, sizeof(T), method));
    SsdScanBackward<T> t{.x = x.data(),
                         .dt = dt.data(),
                         .A = A.data(),
                         .B = B.data(),
                         .C = C.data(),
                         .D_per_channel = options.D_per_channel,
                         .dt_softplus = options.softplus,
                         .dt_min = options.dt_min,
                         .dt_max = options.dt_max,
                         .d_y = d_y.data(),
                         .strides = strides,
                         .d_x = d_x.data(),
                         .d_dt = d_dt.data(),
                         .d_B = d_B.data(),
                         .d_C = d_C.data(),
                         .d_A = d_A.data(),
                         .workspace = workspace.data()};
    if (options.D) t.D = D.data(), t.d_D = d_D.data();
    if (options.z) t.z = z.data(), t.ungated_y = ungated_y.data(), t.d_z = d_z.data();
    if (options.dt_bias) t.dt_bias = dt_bias.data(), t.d_dt_bias = d_dt_bias.data();
    if (options.initial_state) t.initial_state = initial.data(), t.d_initial_state = d_initial.data();
    if (options.documents) t.seq_idx = seq_idx.data();
    if (d_final_state) t.d_final_state = d_final.data();
    ssd_scan_backward(d, t, nullptr, method);

    Results out{.d_x = compact(d_x.download(), strides.x, heads * head_dim),
                .d_B = compact(d_B.download(), strides.B, groups * state_size),
                .d_C = compact(d_C.download(), strides.C, groups * state_size),
                .d_z = {},
                .d_dt = compact(d_dt.download(), strides.dt, heads),
                .d_A = d_A.download(),
                .d_D = d_D.download(),
                .d_dt_bias = {},
                .d_initial_state = {}};
    if (options.z) out.d_z = compact(d_z.download(), strides.z, heads * head_dim);
    if (options.dt_bias) out.d_dt_bias = d_dt_bias.download();
    if (options.initial_state) out.d_initial_state = d_initial.download();
    return out;
  }

  // Values, and beside each the sum of the magnitudes that it is made of.
  struct Model {
    Gradients<double, double> value, size;
    double largest_cum = 0;  // of 128 tokens
  };
  Model model() const {
    const auto in = Base::inputs();
    const Incoming incoming = this->incoming();
    const SsdScanDims d = Base::dims();
    const auto zeros = [](std::size_t count) { return std::vector<double>(count); };
    const std::size_t outputs = Base::outputs();
    Model out;
    for (auto* g : {&out.value, &out.size}) {
      *g = {zeros(outputs),
            zeros(vectors()),
            zeros(vectors()),
            zeros(options.z ? outputs : 0),
            zeros(steps()),
            zeros(static_cast<std::size_t>(heads)),
            zeros(D_size()),
            zeros(options.dt_bias ? static_cast<std::size_t>(heads) : 0),
            zeros(options.initial_state ? Base::states() : 0)};
    }
    const auto at = [](const auto& values, std::int64_t i) {
      return static_cast<double>(static_cast<float>(values[static_cast<std::size_t>(i)]));
    };
    const auto add = [&](auto member, std::int64_t i, double value, double size) {
      (out.value.*member)[static_cast<std::size_t>(i)] += value;
      (out.size.*member)[static_cast<std::size_t>(i)] += size;
    };
    using G = Gradients<double, double>;
    const auto N = static_cast<std::size_t>(state_size), P = static_cast<std::size_t>(head_dim), count = P * N;
    for (std::int64_t unit = 0; unit < batch * heads; ++unit) {
      const std::int64_t b = unit / heads, head = unit % heads, first = b * seq_len;
      const std::int64_t vector = head / (heads / groups) * state_size;
      const double A = at(in.A, head);
      struct Token {
        double delta, slope, decay;
      };
      std::vector<Token> tokens;
      // States before and after each token, their magnitudes behind them.
      std::vector<std::vector<double>> h(static_cast<std::size_t>(seq_len) + 1, std::vector<double>(2 * count));
      for (std::size_t i = 0; i < count && options.initial_state; ++i) {
        h[0][i] = in.initial_state[static_cast<std::size_t>(unit) * count + i];
        h[0][count + i] = std::abs(h[0][i]);
      }
      for (std::int64_t t = 0; t < seq_len; ++t) {
        const double v = at(in.dt, (first + t) * d.dt_stride + head) + (options.dt_bias ? at(in.dt_bias, head) : 0.0);
        const double s = options.softplus ? std::log1p(std::exp(v)) : v;
        const double slope = options.softplus ? 1 / (1 + std::exp(-v)) : 1.0;
        const double delta = std::min<double>(std::max<double>(s, options.dt_min), options.dt_max);
        const bool passes = s >= options.dt_min && s <= options.dt_max;
        bool continues = true;
        if (options.documents) {
          const auto i = static_cast<std::size_t>(first + t);
          continues = in.seq_idx[i] == (t > 0 ? in.seq_idx[i - 1] : 0);
        }
        tokens.push_back({delta, passes ? slope : 0.0, continues ? std::exp(delta * A) : 0.0});
        out.largest_cum = std::max(out.largest_cum, -128 * delta * A);
        const auto& before = h[static_cast<std::size_t>(t)];
        auto& after = h[static_cast<std::size_t>(t) + 1];
        for (std::size_t p = 0; p < P; ++p) {
          const double x = at(in.x, (first + t) * d.x_stride + head * head_dim + static_cast<std::int64_t>(p));
          for (std::size_t n = 0; n < N; ++n) {
            const double B = at(in.B, (first + t) * d.B_stride + vector + static_cast<std::int64_t>(n));
            const std::size_t i = p * N + n;
            after[i] = tokens.back().decay * before[i] + delta * x * B;
            after[count + i] = tokens.back().decay * before[count + i] + std::abs(delta * x * B);
          }
        }
      }
      std::vector<double> q(count), q_size(count);
      for (std::size_t i = 0; i < count && d_final_state; ++i) {
        q[i] = incoming.d_final_state[static_cast<std::size_t>(unit) * count + i];
        q_size[i] = std::abs(q[i]);
      }
      for (std::int64_t t = seq_len - 1; t >= 0; --t) {
        const auto& before = h[static_cast<std::size_t>(t)];
        const auto& after = h[static_cast<std::size_t>(t) + 1];
        const Token token = tokens[static_cast<std::size_t>(t)];
        double input = 0, input_size = 0, e = 0, e_size = 0;
        for (std::size_t p = 0; p < P; ++p) {
          const std::int64_t channel = head * head_dim + static_cast<std::int64_t>(p);
          const std::int64_t place = (first + t) * heads * head_dim + channel;
          const double x = at(in.x, (first + t) * d.x_stride + channel);
          double d_y = at(incoming.d_y, place);
          if (options.z) {
            const double z = at(in.z, (first + t) * d.z_stride + channel), sigmoid = 1 / (1 + std::exp(-z));
            const double d_z = d_y * at(incoming.ungated_y, place) * sigmoid * (1 + z * (1 - sigmoid));
            add(&G::d_z, place, d_z, std::abs(d_z));
            d_y *= z * sigmoid;
          }
          double q_B = 0, q_B_size = 0;
          for (std::size_t n = 0; n < N; ++n) {
            const std::size_t i = p * N + n;
            const std::int64_t column = vector + static_cast<std::int64_t>(n);
            const double B = at(in.B, (first + t) * d.B_stride + column);
            const double C = at(in.C, (first + t) * d.C_stride + column);
            q[i] += d_y * C;
            q_size[i] += std::abs(d_y * C);
            const std::int64_t to = (first + t) * groups * state_size + column;
            add(&G::d_C, to, d_y * after[i], std::abs(d_y) * after[count + i]);
            add(&G::d_B, to, token.delta * q[i] * x, token.delta * q_size[i] * std::abs(x));
            q_B += q[i] * B;
            q_B_size += q_size[i] * std::abs(B);
            e += token.decay * q[i] * before[i];
            e_size += token.decay * q_size[i] * before[count + i];
            q[i] *= token.decay;
            q_size[i] *= token.decay;
          }
          const double D = options.D ? at(in.D, options.D_per_channel ? channel : head) : 0.0;
          add(&G::d_x, place, D * d_y + token.delta * q_B, std::abs(D * d_y) + token.delta * q_B_size);
          if (options.D) add(&G::d_D, options.D_per_channel ? channel : head, d_y * x, std::abs(d_y * x));
          input += q_B * x;
          input_size += q_B_size * std::abs(x);
        }
        const double d_dt = token.slope * (A * e + input), size = token.slope * (std::abs(A) * e_size + input_size);
        add(&G::d_dt, (first + t) * heads + head, d_dt, size);
        if (options.dt_bias) add(&G::d_dt_bias, head, d_dt, size);
        add(&G::d_A, head, token.delta * e, token.delta * e_size);
      }
      for (std::size_t i = 0; i < count && options.initial_state; ++i) {
        add(&G::d_initial_state, unit * static_cast<std::int64_t>(count) + static_cast<std::int64_t>(i), q[i],
            q_size[i]);
      }
    }
    return out;
  }

  // How far a result may be from the model's, as a part of its magnitudes. Float: as Base::limit, of a state and a
  // gradient of one, and at most 2^-23 for each term of the sums over a group's channels. bf16: `roundings` of its
  // intermediates on the longest way from an input to the result, at most 2^-8 each; and that of the gated d_y.
  double limit(const Model& m, int roundings) const {
    return float_limit(m) + (sizeof(T) == 2 ? (roundings + (options.z ? 1 : 0)) * 0x1p-8 : 0.0);
  }
  double float_limit(const Model& m) const {
    return (2 * 128 + state_size + heads / groups * head_dim + 32 + 2 * 9 * m.largest_cum / 2) * 0x1p-23;
  }

 private:
  template <class Value>
  std::vector<Value> compact(const std::vector<Value>& values, std::int64_t stride, std::int64_t width) const {
    std::vector<Value> result;
    for (std::int64_t row = 0; row < batch * seq_len; ++row) {
      result.insert(result.end(), values.begin() + row * stride, values.begin() + row * stride + width);
    }
    return result;
  }
};

}  // namespace assay::gpu
