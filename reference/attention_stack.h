// What the passes of attention share: the queries in stacks, and their scores. Private to attention*.cc.
//
// A query head's keys are those of its group, so several heads of few tokens make as good a product as one head of
// many, and under a causal mask a better one: all rows of a stack are multiplied with every key that its last token
// sees.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "reference/attention.h"
#include "reference/packed_product.h"
#include "reference/row_pieces.h"

namespace assay::reference {

// Of one stack. Measured on two cores with AVX-512 at Nano's sizes; the order of sums over queries depends on them.
constexpr Index kStackRows = 64, kStackHeads = 4;

template <class T>
constexpr T kUnseenScore = -std::numeric_limits<T>::infinity();  // of a key that is not seen

inline Index ceil_div(Index n, Index d) { return (n + d - 1) / d; }

template <class T>
struct AttentionSizes {
  Index batch, queries, keys, heads, kv_heads, head_dim;
  T scale() const { return T(1) / std::sqrt(T(head_dim)); }
  Index heads_per_kv() const { return heads / kv_heads; }
  // The query heads of a key/value head, cut into groups of nearly one size.
  Index groups_per_kv() const { return ceil_div(heads_per_kv(), kStackHeads); }
  Index heads_per_group() const { return ceil_div(heads_per_kv(), groups_per_kv()); }
  Index tokens_per_stack() const { return kStackRows / heads_per_group(); }
  Index groups() const { return batch * kv_heads * groups_per_kv(); }
  Index stacks_per_group() const { return ceil_div(queries, tokens_per_stack()); }
};

template <class T>
AttentionSizes<T> attention_sizes(const char* function, const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v,
                                  HeadLayout layout) {
  const auto fail = [&](const std::string& wanted) {
    throw std::invalid_argument(std::string(function) + ": q " + to_string(q.shape()) + ", k " + to_string(k.shape()) +
                                ", v " + to_string(v.shape()) + "; want " + wanted);
  };
  if (q.rank() != 4 || k.rank() != 4 || k.shape() != v.shape()) fail("four axes each, k and v alike");
  const bool heads_first = layout == HeadLayout::heads_first;
  const AttentionSizes<T> n = {q.dim(0), q.dim(1), k.dim(heads_first ? 2 : 1), q.dim(2), k.dim(heads_first ? 1 : 2),
                               q.dim(3)};
  if (k.dim(0) != n.batch || k.dim(3) != n.head_dim) fail("one batch size and head_dim");
  if (n.kv_heads < 1 || n.heads < 1 || n.heads % n.kv_heads != 0) fail("Hq a multiple of Hkv");
  return n;
}

// Every head of keys or values, packed as `pack` says: head h of batch row b is number b Hkv + h.
template <class T, class PackHead>
std::vector<PackedMatrix<T>> packed_heads(const AttentionSizes<T>& n, const Tensor<T>& t, HeadLayout layout,
                                          const PackHead& pack) {
  const bool heads_first = layout == HeadLayout::heads_first;
  const Index from_head_to_head = n.head_dim * (heads_first ? n.keys : 1),
              stride = n.head_dim * (heads_first ? 1 : n.kv_heads);
  std::vector<PackedMatrix<T>> packed(n.batch * n.kv_heads);
  for_units(n.batch * n.kv_heads, n.keys * n.head_dim, [&](Index i) {
    const T* head = t.data() + i / n.kv_heads * n.keys * n.kv_heads * n.head_dim + i % n.kv_heads * from_head_to_head;
    packed[i] = pack(MatrixView<const T>(head, n.keys, n.head_dim, stride));
  });
  return packed;
}
// As the rows of a product's right-hand side, or as its columns.
template <class T>
std::vector<PackedMatrix<T>> packed_as_rows(const AttentionSizes<T>& n, const Tensor<T>& t, HeadLayout layout) {
  return packed_heads(n, t, layout, [](MatrixView<const T> head) { return PackedMatrix<T>::of(head); });
}
template <class T>
std::vector<PackedMatrix<T>> packed_as_columns(const AttentionSizes<T>& n, const Tensor<T>& t, HeadLayout layout) {
  return packed_heads(n, t, layout, [](MatrixView<const T> head) { return PackedMatrix<T>::of_transpose(head); });
}

// The queries [begin, end) of some heads of one key/value head, as rows, head by head.
template <class T>
struct Stack {
  Index b, kv_head, head, heads, begin, end;
  Index kv;                                  // b Hkv + kv_head
  typename AttentionMask<T>::KeyRange keys;  // that any of them may see
  Index tokens() const { return end - begin; }
  Index rows() const { return heads * tokens(); }
  Index cols() const { return keys.end - keys.begin; }
  Index head_of(Index row) const { return head + row / tokens(); }
  Index token_of(Index row) const { return begin + row % tokens(); }
  // That row of a tensor [B, queries, Hq, head_dim].
  template <class TensorOfT>
  auto* row_of(TensorOfT& t, Index row) const {
    return &t(b, token_of(row), head_of(row), 0);
  }
};

// Stack `number` of a group.
template <class T>
Stack<T> stack_of(const AttentionSizes<T>& n, const AttentionMask<T>& mask, Index group, Index number) {
  const Index begin = number * n.tokens_per_stack();
  const Index kv = group / n.groups_per_kv(), first = group % n.groups_per_kv() * n.heads_per_group();
  const Index kv_head = kv % n.kv_heads, heads = std::min(n.heads_per_group(), n.heads_per_kv() - first);
  Stack<T> stack{.b = kv / n.kv_heads,
                 .kv_head = kv_head,
                 .head = kv_head * n.heads_per_kv() + first,
                 .heads = heads,
                 .begin = begin,
                 .end = std::min(begin + n.tokens_per_stack(), n.queries),
                 .kv = kv,
                 .keys = {n.keys, 0}};
  for (Index i = stack.begin; i < stack.end; ++i) {
    const auto range = mask.range(i, n.keys);
    if (range.begin >= range.end) continue;
    stack.keys = {std::min(stack.keys.begin, range.begin), std::max(stack.keys.end, range.end)};
  }
  if (stack.keys.begin >= stack.keys.end) stack.keys = {0, 0};
  return stack;
}

// Rows of a stack out of a tensor [B, queries, Hq, head_dim].
template <class T>
Matrix<T> stacked(const Tensor<T>& t, const Stack<T>& stack) {
  Matrix<T> rows(stack.rows(), t.dim(3));
  for (Index r = 0; r < stack.rows(); ++r) std::copy_n(stack.row_of(t, r), t.dim(3), rows.data() + r * t.dim(3));
  return rows;
}

template <class T>
MatrixView<T> view(Matrix<T>& m) {
  return {m.data(), m.rows(), m.cols()};
}
template <class T>
MatrixView<const T> view(const Matrix<T>& m) {
  return {m.data(), m.rows(), m.cols()};
}
template <class T>
std::span<T> row_of(Matrix<T>& m, Index r) {
  return {m.data() + r * m.cols(), static_cast<std::size_t>(m.cols())};
}
template <class T>
std::span<T> elements(Matrix<T>& m) {
  return {m.data(), static_cast<std::size_t>(m.size())};
}

// tau q k^T + mask, [rows, cols]; -inf where a key is not seen. q: the stack's rows; k: packed as columns.
template <class T>
Matrix<T> masked_scores(const AttentionSizes<T>& n, const Stack<T>& stack, const AttentionMask<T>& mask,
                        const Matrix<T>& q, const PackedMatrix<T>& k) {
  Matrix<T> scores(stack.rows(), stack.cols());
  multiply(view(q), k.column_range(stack.keys.begin, stack.keys.end), view(scores));
  for (Index r = 0; r < stack.rows(); ++r) {
    const std::span<T> row = row_of(scores, r);
    for (T& score : row) score *= n.scale();
    const auto seen = mask.range(stack.token_of(r), n.keys);
    const Index first = std::clamp<Index>(seen.begin - stack.keys.begin, 0, stack.cols());
    const Index last = std::clamp<Index>(seen.end - stack.keys.begin, first, stack.cols());
    std::fill(row.begin(), row.begin() + first, kUnseenScore<T>);
    std::fill(row.begin() + last, row.end(), kUnseenScore<T>);
    if (first < last && !mask.is_only_a_range())
      mask.apply(stack.b, stack.head_of(r), stack.token_of(r), seen, row.data() + first);
  }
  return scores;
}

}  // namespace assay::reference
