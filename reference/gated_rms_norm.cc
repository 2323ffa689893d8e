#include "reference/gated_rms_norm.h"

#include <vector>

#include "reference/check.h"
#include "reference/elementary_pack.h"
#include "reference/row_pieces.h"
#include "reference/stream.h"
#include "reference/sums.h"

namespace assay::reference {
namespace {

template <class T>
void check_input(const char* name, const Tensor<T>& hidden_states, MaybeTensor<T> gate, const Tensor<T>& weight,
                 Index group_size) {
  require(hidden_states.rank() == 2, name, ": hidden_states has shape ", to_string(hidden_states.shape()), "; want [rows, width]");
  const Index width = hidden_states.dim(1);
  if (gate) require_shape(name, "gate", *gate, hidden_states.shape());
  require_shape(name, "weight", weight, {width});
  require(group_size > 0 && width % group_size == 0, name, ": group_size = ", group_size, "; want a divisor of width = ", width);
}

// opened = silu(gate), slope = silu'(gate), from one exponential.
template <class T>
void silu_with_derivative(const T* gate, T* opened, T* slope, Index width, T scale) {
  for_packs<T>(width, [=](auto lanes) {
    const Pack<T> z = lanes.load(gate);
    Pack<T> complement;
    const Pack<T> sigma = pack::sigmoid(z, Pack<T>::all(scale), complement);
    lanes.store(opened, z * sigma);
    lanes.store(slope, sigma * fma(z, complement, Pack<T>::all(1)));
  });
}

}  // namespace

template <class T>
GatedRmsNormForward<T> gated_rms_norm_forward(const Numerics<T>& num, const Tensor<T>& hidden_states, MaybeTensor<T> gate,
                                              const Tensor<T>& weight, Index group_size, std::type_identity_t<T> eps) {
  check_input("gated_rms_norm_forward", hidden_states, gate, weight, group_size);
  require(eps >= 0, "gated_rms_norm_forward: eps = ", eps, "; want eps >= 0");
  const Index rows = hidden_states.dim(0), width = hidden_states.dim(1), groups = width / group_size;

  GatedRmsNormForward<T> out{.hidden_states = Tensor<T>::uninitialized({rows, width}), .rstd = Tensor<T>({groups, rows})};
  parallel_for(rows, rows_per_piece(width), [&](Index begin, Index end) {
    std::vector<T> opened_gate(gate ? group_size : 0);
    for (Index row = begin; row < end; ++row) {
      const T* x = hidden_states.data() + row * width;
      const std::span<T> y(out.hidden_states.data() + row * width, static_cast<std::size_t>(width));
      for (Index first = 0, group = 0; group < groups; first += group_size, ++group) {
        const T *v = x + first, *w = weight.data() + first, *opened = opened_gate.data();
        if (gate) silu({gate->data() + row * width + first, opened_gate.size()}, std::span<T>(opened_gate), num.function_scale());
        const auto norm = [&](auto value) {
          const T squares = sum_in_lanes<T>(group_size, [=](Pack<T> sum, const auto& load) { return fma(value(load), value(load), sum); });
          const T rstd = num.rsqrt(squares / static_cast<T>(group_size) + eps);
          stream(y.data() + first, group_size, [=, r = Pack<T>::all(rstd)](auto lanes) {
            return lanes.load(w) * (value([&](const T* p) { return lanes.load(p); }) * r);
          });
          out.rstd(group, row) = rstd;
        };
        if (gate) norm([=](const auto& load) { return load(v) * load(opened); });
        else norm([=](const auto& load) { return load(v); });
      }
      num.store(y);
    }
    finish_streams();
  });
  return out;
}

template <class T>
GatedRmsNormBackward<T> gated_rms_norm_backward(const Numerics<T>& num, const Tensor<T>& hidden_states, MaybeTensor<T> gate,
                                                const Tensor<T>& weight, const Tensor<T>& rstd, const Tensor<T>& d_y,
                                                Index group_size) {
  const char* name = "gated_rms_norm_backward";
  check_input(name, hidden_states, gate, weight, group_size);
  const Index rows = hidden_states.dim(0), width = hidden_states.dim(1), groups = width / group_size;
  require_shape(name, "rstd", rstd, {groups, rows});
  require_shape(name, "d_y", d_y, {rows, width});

  GatedRmsNormBackward<T> out{.d_hidden_states = Tensor<T>::uninitialized({rows, width}),
                              .d_gate = gate ? Tensor<T>::uninitialized({rows, width}) : Tensor<T>{},
                              .d_weight = {}};
  out.d_weight = sum_over_rows<T>(rows, width, [&](Index begin, Index end, T* d_weight) {
    std::vector<T> opened(gate ? group_size : 0), slope(opened.size()), product(opened.size());
    for (Index row = begin; row < end; ++row) {
      const std::span<T> dx(out.d_hidden_states.data() + row * width, static_cast<std::size_t>(width));
      for (Index first = 0, group = 0; group < groups; first += group_size, ++group) {
        const Index at = row * width + first;
        const T *x = hidden_states.data() + at, *dy = d_y.data() + at, *w = weight.data() + first, *v = x;
        T *d_v = dx.data() + first, *d_w = d_weight + first;
        if (gate) {
          silu_with_derivative(gate->data() + at, opened.data(), slope.data(), group_size, num.function_scale());
          for (Index j = 0; j < group_size; ++j) product[j] = x[j] * opened[j];
          v = product.data();
        }
        const T r = rstd(group, row);
        const T c = dot(w, dy, v, group_size) * r / static_cast<T>(group_size);
        for_packs<T>(group_size, [=, rp = Pack<T>::all(r), cp = Pack<T>::all(c)](auto lanes) {
          const Pack<T> dy_j = lanes.load(dy), vhat = lanes.load(v) * rp;
          lanes.store(d_v, rp * (lanes.load(w) * dy_j - vhat * cp));
          lanes.store(d_w, lanes.load(d_w) + dy_j * vhat);
        });
        if (gate) {
          const std::span<T> d_gate(out.d_gate.data() + at, static_cast<std::size_t>(group_size));
          for_packs<T>(group_size, [&](auto lanes) {
            const Pack<T> d = lanes.load(d_v);
            lanes.store(d_gate.data(), d * lanes.load(x) * lanes.load(slope.data()));
            lanes.store(d_v, d * lanes.load(opened.data()));
          });
          num.store(d_gate);
        }
      }
      num.store(dx);
    }
  });
  num.store(out.d_weight.span());
  return out;
}

template GatedRmsNormForward<float> gated_rms_norm_forward(const Numerics<float>&, const Tensor<float>&, MaybeTensor<float>,
                                                           const Tensor<float>&, Index, float);
template GatedRmsNormForward<double> gated_rms_norm_forward(const Numerics<double>&, const Tensor<double>&,
                                                            MaybeTensor<double>, const Tensor<double>&, Index, double);
template GatedRmsNormBackward<float> gated_rms_norm_backward(const Numerics<float>&, const Tensor<float>&, MaybeTensor<float>,
                                                             const Tensor<float>&, const Tensor<float>&, const Tensor<float>&,
                                                             Index);
template GatedRmsNormBackward<double> gated_rms_norm_backward(const Numerics<double>&, const Tensor<double>&,
                                                              MaybeTensor<double>, const Tensor<double>&,
                                                              const Tensor<double>&, const Tensor<double>&, Index);

}  // namespace assay::reference
