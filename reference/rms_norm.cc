#include "reference/rms_norm.h"

#include "reference/check.h"
#include "reference/row_pieces.h"
#include "reference/sums.h"

namespace assay::reference {

template <class T>
RmsNormForward<T> rms_norm_forward(const Numerics<T>& num, const Tensor<T>& hidden_states, const Tensor<T>& weight,
                                   MaybeTensor<T> residual, std::type_identity_t<T> eps, const RmsNormOptions& options) {
  const char* name = "rms_norm_forward";
  require(hidden_states.rank() == 2, name, ": hidden_states has shape ", to_string(hidden_states.shape()), "; want [rows, width]");
  const Index rows = hidden_states.dim(0), width = hidden_states.dim(1);
  require_shape(name, "weight", weight, {width});
  if (residual) require_shape(name, "residual", *residual, {rows, width});
  require(eps >= 0, name, ": eps = ", eps, "; want eps >= 0");

  RmsNormForward<T> out{.hidden_states = Tensor<T>::uninitialized({rows, width}),
                        .residual = residual ? Tensor<T>::uninitialized({rows, width}) : Tensor<T>{},
                        .rstd = Tensor<T>({rows})};
  parallel_for(rows, rows_per_piece(width), [&](Index begin, Index end) {
    for (Index row = begin; row < end; ++row) {
      const T* h = hidden_states.data() + row * width;
      if (residual) {
        const T* x = h;
        const T* stream = residual->data() + row * width;
        T* sum = out.residual.data() + row * width;
        for (Index j = 0; j < width; ++j) sum[j] = x[j] + stream[j];
        if (!options.residual_in_fp32) num.store({sum, static_cast<std::size_t>(width)});
        h = sum;
      }
      const T rstd = num.rsqrt(sum_of_squares(h, width) / static_cast<T>(width) + eps);
      const std::span<T> y(out.hidden_states.data() + row * width, static_cast<std::size_t>(width));
      if (options.round_normed_first) {
        for (Index j = 0; j < width; ++j) y[j] = h[j] * rstd;
        num.store(y);
        for (Index j = 0; j < width; ++j) y[j] = weight[j] * y[j];
      } else {
        for (Index j = 0; j < width; ++j) y[j] = weight[j] * (h[j] * rstd);
      }
      num.store(y);
      out.rstd[row] = rstd;
    }
  });
  return out;
}

template <class T>
RmsNormBackward<T> rms_norm_backward(const Numerics<T>& num, const Tensor<T>& h, const Tensor<T>& weight, const Tensor<T>& rstd,
                                     const Tensor<T>& d_y, MaybeTensor<T> d_residual_out, const RmsNormOptions& options) {
  const char* name = "rms_norm_backward";
  require(h.rank() == 2, name, ": h has shape ", to_string(h.shape()), "; want [rows, width]");
  const Index rows = h.dim(0), width = h.dim(1);
  require_shape(name, "weight", weight, {width});
  require_shape(name, "rstd", rstd, {rows});
  require_shape(name, "d_y", d_y, {rows, width});
  if (d_residual_out) require_shape(name, "d_residual_out", *d_residual_out, {rows, width});

  RmsNormBackward<T> out{.d_hidden_states = Tensor<T>::uninitialized({rows, width}),
                         .d_residual = d_residual_out ? Tensor<T>::uninitialized({rows, width}) : Tensor<T>{},
                         .d_weight = {}};
  out.d_weight = sum_over_rows<T>(rows, width, [&](Index begin, Index end, T* d_weight) {
    for (Index row = begin; row < end; ++row) {
      const T* x = h.data() + row * width;
      const T* dy = d_y.data() + row * width;
      const T* w = weight.data();
      const T r = rstd[row];
      const T c = dot(w, dy, x, width) * r / static_cast<T>(width);
      const std::span<T> dx(out.d_hidden_states.data() + row * width, static_cast<std::size_t>(width));
      for_packs<T>(width, [=, to = dx.data(), rp = Pack<T>::all(r), cp = Pack<T>::all(c)](auto lanes) {
        const Pack<T> dy_j = lanes.load(dy), xhat = lanes.load(x) * rp;
        lanes.store(to, rp * (lanes.load(w) * dy_j - xhat * cp));
        lanes.store(d_weight, lanes.load(d_weight) + dy_j * xhat);
      });
      if (d_residual_out) {
        const T* stream = d_residual_out->data() + row * width;
        const std::span<T> d_residual(out.d_residual.data() + row * width, static_cast<std::size_t>(width));
        for (Index j = 0; j < width; ++j) d_residual[j] = dx[j] = dx[j] + stream[j];
        if (!options.residual_in_fp32) num.store(d_residual);
      }
      num.store(dx);
    }
  });
  num.store(out.d_weight.span());
  return out;
}

template RmsNormForward<float> rms_norm_forward(const Numerics<float>&, const Tensor<float>&, const Tensor<float>&,
                                                MaybeTensor<float>, float, const RmsNormOptions&);
template RmsNormForward<double> rms_norm_forward(const Numerics<double>&, const Tensor<double>&, const Tensor<double>&,
                                                 MaybeTensor<double>, double, const RmsNormOptions&);
template RmsNormBackward<float> rms_norm_backward(const Numerics<float>&, const Tensor<float>&, const Tensor<float>&,
                                                  const Tensor<float>&, const Tensor<float>&, MaybeTensor<float>,
                                                  const RmsNormOptions&);
template RmsNormBackward<double> rms_norm_backward(const Numerics<double>&, const Tensor<double>&, const Tensor<double>&,
                                                   const Tensor<double>&, const Tensor<double>&, MaybeTensor<double>,
                                                   const RmsNormOptions&);

}  // namespace assay::reference
