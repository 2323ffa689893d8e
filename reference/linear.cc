#include "reference/linear.h"

#include "reference/check.h"
#include "reference/gemm.h"
#include "reference/row_pieces.h"

namespace assay::reference {
namespace {

// x as [rows, in], where in = weight.dim(1).
template <class T>
Index rows_of(const char* name, const char* argument, const Tensor<T>& x, Index width) {
  require(x.rank() >= 1 && x.dim(-1) == width, name, ": ", argument, " has shape ", to_string(x.shape()), "; want [.., ", width, "]");
  return x.size() / std::max<Index>(1, width);
}

}  // namespace

template <class T>
Tensor<T> linear_forward(const Numerics<T>& num, const Tensor<T>& x, const Tensor<T>& weight, MaybeTensor<T> bias) {
  const char* name = "linear_forward";
  require(weight.rank() == 2, name, ": weight has shape ", to_string(weight.shape()), "; want [out, in]");
  const Index out = weight.dim(0), in = weight.dim(1), rows = rows_of(name, "x", x, in);
  if (bias) require_shape(name, "bias", *bias, {out});

  Shape shape = x.shape();
  shape.back() = out;
  Tensor<T> y = Tensor<T>::uninitialized(shape);
  gemm_nt(MatrixView<const T>(x.data(), rows, in), view(weight, out), MatrixView<T>(y.data(), rows, out));
  if (bias || num.storage != Storage::native)
    parallel_for(rows, rows_per_piece(out), [&](Index begin, Index end) {
      for (Index row = begin; row < end; ++row) {
        const std::span<T> values(y.data() + row * out, static_cast<std::size_t>(out));
        if (bias)
          for (Index j = 0; j < out; ++j) values[j] += (*bias)[j];
        num.store(values);
      }
    });
  return y;
}

template <class T>
LinearGradients<T> linear_backward(const Numerics<T>& num, const Tensor<T>& x, const Tensor<T>& weight, const Tensor<T>& d_y,
                                   bool has_bias) {
  const char* name = "linear_backward";
  require(weight.rank() == 2, name, ": weight has shape ", to_string(weight.shape()), "; want [out, in]");
  const Index out = weight.dim(0), in = weight.dim(1), rows = rows_of(name, "x", x, in);
  Shape shape = x.shape();
  shape.back() = out;
  require_shape(name, "d_y", d_y, shape);

  LinearGradients<T> d{.x = Tensor<T>::uninitialized(x.shape()), .weight = Tensor<T>::uninitialized(weight.shape()), .bias = {}};
  const MatrixView<const T> dy(d_y.data(), rows, out);
  gemm(dy, view(weight, out), MatrixView<T>(d.x.data(), rows, in));
  gemm_tn(dy, MatrixView<const T>(x.data(), rows, in), view(d.weight, out));
  if (has_bias)
    d.bias = sum_over_rows<T>(rows, out, [&](Index begin, Index end, T* sum) {
      for (Index row = begin; row < end; ++row)
        for (Index j = 0; j < out; ++j) sum[j] += d_y[row * out + j];
    });
  num.store(d.x.span());
  num.store(d.weight.span());
  num.store(d.bias.span());
  return d;
}

template Tensor<float> linear_forward(const Numerics<float>&, const Tensor<float>&, const Tensor<float>&, MaybeTensor<float>);
template Tensor<double> linear_forward(const Numerics<double>&, const Tensor<double>&, const Tensor<double>&, MaybeTensor<double>);
template LinearGradients<float> linear_backward(const Numerics<float>&, const Tensor<float>&, const Tensor<float>&,
                                                const Tensor<float>&, bool);
template LinearGradients<double> linear_backward(const Numerics<double>&, const Tensor<double>&, const Tensor<double>&,
                                                 const Tensor<double>&, bool);

}  // namespace assay::reference
