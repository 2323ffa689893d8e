#include "cuda/gemm/gemm.h"

#include <cuda_bf16.h>

#include "cuda/common/check.h"
#include "cuda/common/column_sum.h"
#include "cuda/gemm/product.h"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;

constexpr std::size_t kAlignment = 256;

void check_dims(const char* function, const LinearDims& d) {
  constexpr std::int64_t kMax = 1 << 30;  // of cuBLASLt's sizes, which are 32 bits wide in part
  const auto size = [&](const char* name, std::int64_t found, std::int64_t least) {
    require(found >= least && found <= kMax, function, ": ", name, " = ", found, "; want ", least, " .. 2^30");
  };
  size("rows", d.rows, 0);
  size("in_features", d.in_features, 1);
  size("out_features", d.out_features, 1);
  size("x_stride", d.x_stride, d.in_features);
  size("y_stride", d.y_stride, d.out_features);
}

std::int64_t partials(const LinearDims& d) { return (d.rows + gemm::kRowsPerPartial - 1) / gemm::kRowsPerPartial; }

std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

std::size_t linear_forward_workspace() { return gemm::product_workspace(); }

std::size_t linear_backward_workspace(const LinearDims& dims) {
  check_dims("linear_backward_workspace", dims);
  return aligned(gemm::product_workspace()) +
         static_cast<std::size_t>(partials(dims) * dims.out_features) * sizeof(float);
}

template <class T>
void linear_forward(const LinearDims& dims, const LinearForward<T>& t, cudaStream_t stream) {
  const char* const function = "linear_forward";
  check_dims(function, dims);
  if (dims.rows == 0) return;
  require(t.x && t.weight && t.y, function, ": x, weight or y is null; want a pointer");
  require(t.workspace || linear_forward_workspace() == 0, function,
          ": workspace is null; want linear_forward_workspace() bytes");
  gemm::multiply<T>({.rows = dims.rows,
                     .columns = dims.out_features,
                     .depth = dims.in_features,
                     .a = {t.x, dims.x_stride},
                     .b = {t.weight, dims.in_features},
                     .bias = t.bias,
                     .out = t.y,
                     .out_stride = dims.y_stride},
                    t.workspace, stream);
}

template <class T>
void linear_backward(const LinearDims& dims, const LinearBackward<T>& t, cudaStream_t stream) {
  const char* const function = "linear_backward";
  check_dims(function, dims);
  const std::int64_t weights = dims.out_features * dims.in_features;
  if (dims.rows == 0) {  // the sum of no rows
    if (t.d_weight) column_sum<T>(nullptr, 0, weights, t.d_weight, stream);
    if (t.d_bias) column_sum<T>(nullptr, 0, dims.out_features, t.d_bias, stream);
    return;
  }
  require(t.d_y && (t.x || !t.d_weight) && (t.weight || !t.d_x), function,
          ": x, weight or d_y is null; want a pointer");
  require(t.workspace, function, ": workspace is null; want linear_backward_workspace(dims) bytes");
  if (t.d_x) {
    gemm::multiply<T>({.rows = dims.rows,
                       .columns = dims.in_features,
                       .depth = dims.out_features,
                       .a = {t.d_y, dims.y_stride},
                       .b = {t.weight, dims.in_features, true},
                       .bias = nullptr,
                       .out = t.d_x,
                       .out_stride = dims.in_features},
                      t.workspace, stream);
  }
  if (t.d_weight) {
    gemm::multiply<T>({.rows = dims.out_features,
                       .columns = dims.in_features,
                       .depth = dims.rows,
                       .a = {t.d_y, dims.y_stride, true},
                       .b = {t.x, dims.x_stride, true},
                       .bias = nullptr,
                       .out = t.d_weight,
                       .out_stride = dims.in_features},
                      t.workspace, stream);
  }
  if (t.d_bias) {
    auto* const sums =
        reinterpret_cast<float*>(static_cast<std::byte*>(t.workspace) + aligned(gemm::product_workspace()));
    gemm::sum_rows(t.d_y, dims.rows, dims.out_features, dims.y_stride, sums, stream);
    column_sum<T>(sums, partials(dims), dims.out_features, t.d_bias, stream);
  }
}

template void linear_forward(const LinearDims&, const LinearForward<float>&, cudaStream_t);
template void linear_forward(const LinearDims&, const LinearForward<bf16>&, cudaStream_t);
template void linear_backward(const LinearDims&, const LinearBackward<float>&, cudaStream_t);
template void linear_backward(const LinearDims&, const LinearBackward<bf16>&, cudaStream_t);

}  // namespace assay::gpu
