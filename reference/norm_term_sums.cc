#include "reference/check.h"
#include "reference/row_pieces.h"
#include "reference/term_sums.h"
#include "reference/terms.h"

namespace assay::reference {
namespace {

template <class T>
struct Sums {
  Tensor<T> d_hidden_states, d_gate, d_weight;
};

// The gradient with f of every factor in the place of the factor, f(v) = |v| or v^2.
template <class T, class F>
Sums<T> sums_of(const F& f, const Tensor<T>& hidden_states, MaybeTensor<T> gate, const Tensor<T>& weight, const Tensor<T>& rstd,
                const Tensor<T>& d_y, Index group_size) {
  const Index rows = hidden_states.dim(0), width = hidden_states.dim(1);
  Sums<T> out{Tensor<T>({rows, width}), gate ? Tensor<T>({rows, width}) : Tensor<T>{}, {}};
  out.d_weight = sum_over_rows<T>(rows, width, [&](Index begin, Index end, T* d_weight) {
    std::vector<T> vhat(width);
    for (Index row = begin; row < end; ++row) {
      const T *x = &hidden_states(row, 0), *dy = &d_y(row, 0), *z = gate ? &(*gate)(row, 0) : nullptr;
      for (Index first = 0; first < width; first += group_size) {
        const T r = rstd(first / group_size, row);
        T c = 0;
        for (Index j = first; j < first + group_size; ++j) {
          vhat[j] = f(x[j] * (z ? silu(z[j]) : T(1)) * r);
          c += f(weight[j]) * f(dy[j]) * vhat[j];
        }
        c *= f(T(1) / static_cast<T>(group_size));
        for (Index j = first; j < first + group_size; ++j) {
          const T d_v = f(r) * (f(weight[j]) * f(dy[j]) + vhat[j] * c);
          out.d_hidden_states(row, j) = d_v * (z ? f(silu(z[j])) : T(1));
          if (z) out.d_gate(row, j) = d_v * f(x[j]) * f(silu_derivative(z[j]));
          d_weight[j] += f(dy[j]) * vhat[j];
        }
      }
    }
  });
  return out;
}

}  // namespace

template <class T>
NormBackwardTermSums<T> gated_rms_norm_backward_term_sums(const Tensor<T>& hidden_states, MaybeTensor<T> gate,
                                                          const Tensor<T>& weight, const Tensor<T>& rstd, const Tensor<T>& d_y,
                                                          Index group_size) {
  const char* name = "gated_rms_norm_backward_term_sums";
  require(hidden_states.rank() == 2, name, ": hidden_states has shape ", to_string(hidden_states.shape()), "; want [rows, width]");
  const Index rows = hidden_states.dim(0), width = hidden_states.dim(1);
  require(group_size > 0 && width % group_size == 0, name, ": group_size = ", group_size, "; want a divisor of width = ", width);
  if (gate) require_shape(name, "gate", *gate, hidden_states.shape());
  require_shape(name, "weight", weight, {width});
  require_shape(name, "rstd", rstd, {width / group_size, rows});
  require_shape(name, "d_y", d_y, {rows, width});
  Sums<T> absolute = sums_of(Absolute<T>{}, hidden_states, gate, weight, rstd, d_y, group_size),
          squares = sums_of(Square<T>{}, hidden_states, gate, weight, rstd, d_y, group_size);
  return {.d_hidden_states = {std::move(absolute.d_hidden_states), std::move(squares.d_hidden_states)},
          .d_gate = {std::move(absolute.d_gate), std::move(squares.d_gate)},
          .d_weight = {std::move(absolute.d_weight), std::move(squares.d_weight)}};
}

template <class T>
NormBackwardTermSums<T> rms_norm_backward_term_sums(const Tensor<T>& h, const Tensor<T>& weight, const Tensor<T>& rstd,
                                                    const Tensor<T>& d_y, MaybeTensor<T> d_residual_out) {
  const char* name = "rms_norm_backward_term_sums";
  if (d_residual_out) require_shape(name, "d_residual_out", *d_residual_out, h.shape());
  NormBackwardTermSums<T> sums =
      gated_rms_norm_backward_term_sums<T>(h, nullptr, weight, rstd.reshaped({1, rstd.size()}), d_y, h.dim(-1));
  for (Index i = 0; d_residual_out && i < h.size(); ++i) {
    sums.d_hidden_states.absolute[i] += Absolute<T>{}((*d_residual_out)[i]);
    sums.d_hidden_states.squares[i] += Square<T>{}((*d_residual_out)[i]);
  }
  return sums;
}

#define ASSAY_INSTANTIATE(T)                                                                                                      \
  template NormBackwardTermSums<T> gated_rms_norm_backward_term_sums(const Tensor<T>&, MaybeTensor<T>, const Tensor<T>&,         \
                                                                     const Tensor<T>&, const Tensor<T>&, Index);                 \
  template NormBackwardTermSums<T> rms_norm_backward_term_sums(const Tensor<T>&, const Tensor<T>&, const Tensor<T>&,              \
                                                               const Tensor<T>&, MaybeTensor<T>);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
