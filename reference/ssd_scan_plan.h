// What the forms of the scan share: checked sizes, the steps Delta, their sums within chunks, and the decays made of them.
#pragma once

#include <algorithm>
#include <vector>

#include "reference/check.h"
#include "reference/gemm.h"
#include "reference/ssd_scan.h"

namespace assay::reference {

template <class T>
struct SsdScanPlan {
  Index batch, seq_len, heads, head_dim, groups, state_size, heads_per_group, chunk_size, chunks;
  Tensor<T> v;      // [batch, heads, seq_len]: dt + dt_bias
  Tensor<T> delta;  // [batch, heads, seq_len]: Delta
  Tensor<T> cum;    // [batch, heads, seq_len]: inclusive sums of Delta A within the chunk
  std::vector<std::int32_t> run;  // [batch * seq_len]: documents by order of appearance, 0 continuing the initial state

  // `name` is the function in whose name errors speak. `piece_size`, a divisor of the inputs' chunk_size, stands in for it.
  SsdScanPlan(const char* name, const Numerics<T>& num, const SsdScanInputs<T>& in, Index piece_size);
  SsdScanPlan(const char* name, const Numerics<T>& num, const SsdScanInputs<T>& in) : SsdScanPlan(name, num, in, in.chunk_size) {}

  Index begin(Index chunk) const { return chunk * chunk_size; }
  Index length(Index chunk) const { return std::min(chunk_size, seq_len - begin(chunk)); }
  Index state_count() const { return head_dim * state_size; }
  Index chunk_work() const { return chunk_size * chunk_size * heads_per_group * (head_dim + state_size); }  // of one group
  // The run that the state entering a chunk belongs to.
  std::int32_t entering_run(Index b, Index chunk) const {
    return chunk == 0 || run.empty() ? 0 : run[static_cast<std::size_t>(b * seq_len + begin(chunk) - 1)];
  }

  // The rows of one chunk in a tensor [batch, seq_len, inner count, width], of one inner index.
  template <class U>
  MatrixView<U> rows(U* data, Index b, Index chunk, Index inner, Index inner_count, Index width) const {
    return {data + ((b * seq_len + begin(chunk)) * inner_count + inner) * width, length(chunk), width, inner_count * width};
  }
};

// The decays of one chunk of one head; i, j count from the chunk's begin.
template <class T>
struct ChunkDecays {
  Index length;
  const T* delta;        // [length]
  const T* cum;          // [length]
  std::vector<Index> document_begin;  // [length]: where the document of token i begins, at 0 or later
  std::vector<T> in;     // E_i = exp(cum_i) where token i continues the entering state, else 0
  std::vector<T> out;    // u_j = exp(cum_last - cum_j) where token j's document is still open at the end, else 0
  T through;             // exp(cum_last) where the entering state survives the chunk, else 0

  // through_scale multiplies the exps of what leaves the chunk, out and through.
  ChunkDecays(const Numerics<T>& num, const SsdScanPlan<T>& plan, Index b, Index head, Index chunk, T through_scale);
  ChunkDecays(const Numerics<T>& num, const SsdScanPlan<T>& plan, Index b, Index head, Index chunk)
      : ChunkDecays(num, plan, b, head, chunk, num.function_scale()) {}

  // L_ij = exp(cum_i - cum_j) for j <= i in one document, else 0. L [length, length].
  void between(MatrixView<T> L) const;

 private:
  const Numerics<T>& num_;
};

// Products with a lower triangular M [n, n], whose upper triangle is zero and mostly not visited.
constexpr Index kTriangleBlock = 64;
template <class T>
void lower_times(MatrixView<const T> M, MatrixView<const T> x, MatrixView<T> y) {  // y = M x
  for (Index begin = 0; begin < M.rows; begin += kTriangleBlock) {
    const Index end = std::min(M.rows, begin + kTriangleBlock);
    gemm(MatrixView<const T>(M.data + begin * M.stride, end - begin, end, M.stride), MatrixView<const T>(x.data, end, x.cols, x.stride),
         MatrixView<T>(y.data + begin * y.stride, end - begin, y.cols, y.stride));
  }
}
template <class T>
void lower_transposed_times(MatrixView<const T> M, MatrixView<const T> x, MatrixView<T> y) {  // y = M^T x
  for (Index begin = 0; begin < M.rows; begin += kTriangleBlock) {
    const Index end = std::min(M.rows, begin + kTriangleBlock), rest = M.rows - begin;
    gemm_tn(MatrixView<const T>(M.data + begin * M.stride + begin, rest, end - begin, M.stride),
            MatrixView<const T>(x.data + begin * x.stride, rest, x.cols, x.stride),
            MatrixView<T>(y.data + begin * y.stride, end - begin, y.cols, y.stride));
  }
}
template <class T>
void lower_product(MatrixView<const T> a, MatrixView<const T> b, MatrixView<T> M) {  // M = a b^T on and below the diagonal
  for (Index begin = 0; begin < M.rows; begin += kTriangleBlock) {
    const Index end = std::min(M.rows, begin + kTriangleBlock);
    gemm_nt(MatrixView<const T>(a.data + begin * a.stride, end - begin, a.cols, a.stride), MatrixView<const T>(b.data, end, b.cols, b.stride),
            MatrixView<T>(M.data + begin * M.stride, end - begin, end, M.stride));
  }
}

// dv from dDelta at one token: 0 where the clamp holds (at equality the gradient passes), then softplus'.
template <class T>
T through_step(const Numerics<T>& num, const SsdScanPlan<T>& plan, const SsdScanInputs<T>& in, Index b, Index head, Index t,
               T d_delta) {
  const T v = plan.v(b, head, t);
  const T s = in.dt_softplus ? num.softplus(v) : v;
  if (s < in.dt_min || s > in.dt_max) return 0;
  return in.dt_softplus ? d_delta * num.softplus_derivative(v) : d_delta;
}

}  // namespace assay::reference
