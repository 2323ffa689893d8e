#include "reference/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "reference/parallel.h"
#include "reference/sums.h"

namespace assay::reference {
namespace {

constexpr Index kQueryBlock = 64;

template <class T>
struct Sizes {
  Index batch, queries, keys, heads, kv_heads, head_dim;
  Index heads_per_kv() const { return heads / kv_heads; }
  T scale() const { return T(1) / std::sqrt(T(head_dim)); }
};

template <class T>
Sizes<T> sizes_of(const char* function, const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v, HeadLayout layout) {
  const auto fail = [&](const std::string& wanted) {
    throw std::invalid_argument(std::string(function) + ": q " + to_string(q.shape()) + ", k " + to_string(k.shape()) +
                                ", v " + to_string(v.shape()) + "; want " + wanted);
  };
  if (q.rank() != 4 || k.rank() != 4 || k.shape() != v.shape()) fail("four axes each, k and v alike");
  const bool heads_first = layout == HeadLayout::heads_first;
  const Sizes<T> n = {q.dim(0), q.dim(1), k.dim(heads_first ? 2 : 1), q.dim(2), k.dim(heads_first ? 1 : 2), q.dim(3)};
  if (k.dim(0) != n.batch || k.dim(3) != n.head_dim) fail("one batch size and head_dim");
  if (n.kv_heads < 1 || n.heads % n.kv_heads != 0) fail("Hq a multiple of Hkv");
  return n;
}

// The tokens [begin, end) of one head, as a matrix.
template <class T, class TensorOfT>
MatrixView<T> head_view(TensorOfT& t, HeadLayout layout, Index b, Index head, Index begin, Index end) {
  const Index width = t.dim(3);
  return layout == HeadLayout::tokens_first
             ? MatrixView<T>{t.data() + ((b * t.dim(1) + begin) * t.dim(2) + head) * width, end - begin, width,
                             t.dim(2) * width}
             : MatrixView<T>{t.data() + ((b * t.dim(1) + head) * t.dim(2) + begin) * width, end - begin, width, width};
}
template <class T>
MatrixView<const T> read_head(const Tensor<T>& t, HeadLayout layout, Index b, Index head, Index begin, Index end) {
  return head_view<const T>(t, layout, b, head, begin, end);
}
template <class T>
MatrixView<T> write_head(Tensor<T>& t, Index b, Index head, Index begin, Index end) {
  return head_view<T>(t, HeadLayout::tokens_first, b, head, begin, end);
}

// A block of queries [begin, end) of one head, and the keys that any of them may see.
template <class T>
struct Block {
  Index b, head, begin, end;
  typename AttentionMask<T>::KeyRange keys;
  Index rows() const { return end - begin; }
  Index cols() const { return keys.end - keys.begin; }
};

template <class T>
Block<T> block_of(const Sizes<T>& n, const AttentionMask<T>& mask, Index b, Index head, Index begin) {
  Block<T> block{b, head, begin, std::min(begin + kQueryBlock, n.queries), {n.keys, 0}};
  for (Index i = block.begin; i < block.end; ++i) {
    const auto range = mask.range(i, n.keys);
    if (range.begin >= range.end) continue;
    block.keys = {std::min(block.keys.begin, range.begin), std::max(block.keys.end, range.end)};
  }
  if (block.keys.begin >= block.keys.end) block.keys = {0, 0};
  return block;
}

// tau q k^T + mask of a block, [rows, cols]; -inf where a key is not seen.
template <class T>
Matrix<T> masked_scores(const Sizes<T>& n, const Block<T>& block, const AttentionMask<T>& mask, const Tensor<T>& q,
                        const Tensor<T>& k, HeadLayout layout) {
  constexpr T kUnseen = -std::numeric_limits<T>::infinity();
  Matrix<T> scores(block.rows(), block.cols());
  gemm_nt<T>(read_head(q, HeadLayout::tokens_first, block.b, block.head, block.begin, block.end),
             read_head(k, layout, block.b, block.head / n.heads_per_kv(), block.keys.begin, block.keys.end),
             MatrixView<T>(scores.data(), block.rows(), block.cols()));
  const T scale = n.scale();
  for (Index i = 0; i < block.rows(); ++i) {
    T* row = scores.data() + i * block.cols();
    for (Index j = 0; j < block.cols(); ++j) row[j] *= scale;
    const auto seen = mask.range(block.begin + i, n.keys);
    const Index first = std::max<Index>(seen.begin - block.keys.begin, 0);
    const Index last = std::max(first, seen.end - block.keys.begin);
    std::fill(row, row + std::min(first, block.cols()), kUnseen);
    std::fill(row + std::min(last, block.cols()), row + block.cols(), kUnseen);
    if (first < last && !mask.is_only_a_range()) mask.apply(block.b, block.head, block.begin + i, seen, row + first);
  }
  return scores;
}

// body(b, head, first query of the block), in parallel over all of them.
template <class T, class Body>
void for_each_block(const Sizes<T>& n, const Body& body) {
  const Index blocks = (n.queries + kQueryBlock - 1) / kQueryBlock;
  parallel_for(n.batch * n.heads * blocks, 1, [&](Index begin, Index end) {
    for (Index task = begin; task < end; ++task)
      body(task / (n.heads * blocks), task / blocks % n.heads, task % blocks * kQueryBlock);
  });
}

// [B, S, Hq, dh] -> [B, S, Hkv, dh]: the query heads of each group added up in order, times scale, rounded once.
template <class T>
Tensor<T> summed_over_group(const Numerics<T>& num, const Tensor<T>& per_head, const Sizes<T>& n, T scale) {
  Tensor<T> sum({n.batch, n.keys, n.kv_heads, n.head_dim});
  const Index group = n.heads_per_kv() * n.head_dim;
  parallel_for(n.batch * n.keys * n.kv_heads, 64, [&](Index begin, Index end) {
    for (Index row = begin; row < end; ++row)
      for (Index d = 0; d < n.head_dim; ++d) {
        T total = 0;
        for (Index from = row * group + d; from < (row + 1) * group; from += n.head_dim) total += per_head[from];
        sum[row * n.head_dim + d] = num.store(scale * total);
      }
  });
  return sum;
}

}  // namespace

template <class T>
AttentionOutput<T> attention_forward(const Numerics<T>& num, const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v,
                                     const AttentionMask<T>& mask, HeadLayout layout) {
  const Sizes<T> n = sizes_of("attention_forward", q, k, v, layout);
  mask.check(n.batch, n.heads, n.queries, n.keys);
  constexpr T kUnseen = -std::numeric_limits<T>::infinity();
  AttentionOutput<T> out{Tensor<T>(q.shape()), Tensor<T>({n.batch, n.heads, n.queries}, kUnseen)};
  for_each_block(n, [&](Index b, Index head, Index first_query) {
    const Block<T> block = block_of(n, mask, b, head, first_query);
    if (block.cols() == 0) return;
    Matrix<T> p = masked_scores(n, block, mask, q, k, layout);
    std::vector<T> divisor(block.rows());
    for (Index i = 0; i < block.rows(); ++i) {
      const std::span<T> row(p.data() + i * block.cols(), block.cols());
      const T largest = *std::max_element(row.begin(), row.end());
      if (largest == kUnseen) {
        std::fill(row.begin(), row.end(), T(0));
        divisor[i] = 1;
        continue;
      }
      for (T& score : row) score -= largest;
      exp(row, row, num.function_scale());
      divisor[i] = sum(row.data(), block.cols());
      out.log_sum_exp(b, head, first_query + i) = largest + num.log(divisor[i]);
    }
    num.store(std::span<T>(p.data(), p.size()));
    const MatrixView<T> o = write_head(out.o, b, head, block.begin, block.end);
    gemm<T>(MatrixView<const T>(p.data(), block.rows(), block.cols()),
            read_head(v, layout, b, head / n.heads_per_kv(), block.keys.begin, block.keys.end), o);
    for (Index i = 0; i < o.rows; ++i)
      for (Index d = 0; d < o.cols; ++d) o.data[i * o.stride + d] = num.store(o.data[i * o.stride + d] / divisor[i]);
  });
  return out;
}

template <class T>
AttentionGradients<T> attention_backward(const Numerics<T>& num, const Tensor<T>& q, const Tensor<T>& k,
                                         const Tensor<T>& v, const AttentionMask<T>& mask,
                                         const AttentionOutput<T>& out, const Tensor<T>& d_o) {
  constexpr HeadLayout kLayout = HeadLayout::tokens_first;
  constexpr T kUnseen = -std::numeric_limits<T>::infinity();
  const Sizes<T> n = sizes_of("attention_backward", q, k, v, kLayout);
  mask.check(n.batch, n.heads, n.queries, n.keys);
  if (d_o.shape() != q.shape() || out.o.shape() != q.shape())
    throw std::invalid_argument("attention_backward: d_o " + to_string(d_o.shape()) + ", o " +
                                to_string(out.o.shape()) + "; want " + to_string(q.shape()));
  // Gradients of k and v for every query head by itself, so that heads are independent; summed over a group afterwards.
  const Shape per_head = {n.batch, n.keys, n.heads, n.head_dim};
  Tensor<T> d_q(q.shape()), d_k(per_head), d_v(per_head);
  parallel_for(n.batch * n.heads, 1, [&](Index first_task, Index last_task) {
    for (Index task = first_task; task < last_task; ++task) {
      const Index b = task / n.heads, head = task % n.heads, kv_head = head / n.heads_per_kv();
      for (Index first_query = 0; first_query < n.queries; first_query += kQueryBlock) {
        const Block<T> block = block_of(n, mask, b, head, first_query);
        if (block.cols() == 0) continue;
        const auto queries = [&](const Tensor<T>& t) { return read_head(t, kLayout, b, head, block.begin, block.end); };
        const auto keys = [&](const Tensor<T>& t) {
          return read_head(t, kLayout, b, kv_head, block.keys.begin, block.keys.end);
        };
        const MatrixView<const T> o_rows = queries(out.o), d_o_rows = queries(d_o);

        Matrix<T> p = masked_scores(n, block, mask, q, k, kLayout);
        Matrix<T> d_s(block.rows(), block.cols());
        const MatrixView<T> p_view(p.data(), block.rows(), block.cols()),
            d_s_view(d_s.data(), block.rows(), block.cols());
        gemm_nt<T>(d_o_rows, keys(v), d_s_view);  // P_bar = o_bar v^T
        for (Index i = 0; i < block.rows(); ++i) {
          const std::span<T> row(p.data() + i * block.cols(), block.cols());
          T* d_row = d_s.data() + i * block.cols();
          const T lse = out.log_sum_exp(b, head, block.begin + i);
          if (lse == kUnseen) {
            std::fill(row.begin(), row.end(), T(0));
            std::fill(d_row, d_row + block.cols(), T(0));
            continue;
          }
          for (T& score : row) score -= lse;
          exp(row, row, num.function_scale());
          const T delta = dot(d_o_rows.data + i * d_o_rows.stride, o_rows.data + i * o_rows.stride, n.head_dim);
          for (Index j = 0; j < block.cols(); ++j) d_row[j] = row[j] * (d_row[j] - delta);
        }
        num.store(std::span<T>(p.data(), p.size()));
        num.store(std::span<T>(d_s.data(), d_s.size()));
        gemm_tn<T>(p_view, d_o_rows, write_head(d_v, b, head, block.keys.begin, block.keys.end), Sum::accumulate);
        gemm_tn<T>(d_s_view, queries(q), write_head(d_k, b, head, block.keys.begin, block.keys.end), Sum::accumulate);
        gemm<T>(d_s_view, keys(k), write_head(d_q, b, head, block.begin, block.end));
      }
    }
  });
  const T scale = n.scale();
  for (T& value : d_q.span()) value = num.store(scale * value);
  return {std::move(d_q), summed_over_group(num, d_k, n, scale), summed_over_group(num, d_v, n, T(1))};
}

template <class T>
AttentionTerms<T> attention_terms(const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v,
                                  const AttentionMask<T>& mask, HeadLayout keys) {
  const Numerics<T> num;
  Tensor<T> magnitudes = v, squares = v, doubled_q = q;
  for (T& value : magnitudes.span()) value = std::abs(value);
  for (T& value : squares.span()) value *= value;
  for (T& value : doubled_q.span()) value *= 2;
  AttentionOutput<T> absolute = attention_forward(num, q, k, magnitudes, mask, keys);
  // P^2 = e^(2 S - 2 lse): the attention of doubled scores, whose own lse has to go.
  AttentionOutput<T> squared = attention_forward(num, doubled_q, k, squares, mask.doubled(), keys);
  const Index batch = q.dim(0), queries = q.dim(1), heads = q.dim(2), width = q.dim(3);
  for (Index b = 0; b < batch; ++b)
    for (Index i = 0; i < queries; ++i)
      for (Index h = 0; h < heads; ++h) {
        const T lse = absolute.log_sum_exp(b, h, i);
        if (lse == -std::numeric_limits<T>::infinity()) continue;  // nothing is seen, nothing is summed
        const T factor = exp(squared.log_sum_exp(b, h, i) - 2 * lse);
        for (Index d = 0; d < width; ++d) squared.o(b, i, h, d) *= factor;
      }
  return {std::move(absolute.o), std::move(squared.o)};
}

template <class T>
AttentionOutput<T> merge_attention(const Numerics<T>& num, const std::vector<AttentionOutput<T>>& parts) {
  constexpr T kUnseen = -std::numeric_limits<T>::infinity();
  if (parts.empty()) throw std::invalid_argument("merge_attention: no parts");
  const Shape& shape = parts[0].o.shape();
  for (const AttentionOutput<T>& part : parts)
    if (part.o.shape() != shape) throw std::invalid_argument("merge_attention: parts of different shapes");
  AttentionOutput<T> merged{Tensor<T>(shape), Tensor<T>(parts[0].log_sum_exp.shape(), kUnseen)};
  for (Index b = 0; b < shape[0]; ++b)
    for (Index i = 0; i < shape[1]; ++i)
      for (Index h = 0; h < shape[2]; ++h) {
        T largest = kUnseen, total = 0;
        for (const AttentionOutput<T>& part : parts) largest = std::max(largest, part.log_sum_exp(b, h, i));
        if (largest == kUnseen) continue;
        for (const AttentionOutput<T>& part : parts) total += num.exp(part.log_sum_exp(b, h, i) - largest);
        const T lse = merged.log_sum_exp(b, h, i) = largest + num.log(total);
        for (Index d = 0; d < shape[3]; ++d) {
          T o = 0;
          for (const AttentionOutput<T>& part : parts)
            o += num.exp(part.log_sum_exp(b, h, i) - lse) * part.o(b, i, h, d);
          merged.o(b, i, h, d) = num.store(o);
        }
      }
  return merged;
}

#define ASSAY_INSTANTIATE(T)                                                                                \
  template AttentionOutput<T> attention_forward(const Numerics<T>&, const Tensor<T>&, const Tensor<T>&,     \
                                                const Tensor<T>&, const AttentionMask<T>&, HeadLayout);     \
  template AttentionGradients<T> attention_backward(const Numerics<T>&, const Tensor<T>&, const Tensor<T>&, \
                                                    const Tensor<T>&, const AttentionMask<T>&,              \
                                                    const AttentionOutput<T>&, const Tensor<T>&);           \
  template AttentionTerms<T> attention_terms(const Tensor<T>&, const Tensor<T>&, const Tensor<T>&,          \
                                             const AttentionMask<T>&, HeadLayout);                          \
  template AttentionOutput<T> merge_attention(const Numerics<T>&, const std::vector<AttentionOutput<T>>&);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
