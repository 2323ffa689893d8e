#include "reference/attention.h"

#include <array>

#include "reference/attention_stack.h"
#include "reference/sums.h"

namespace assay::reference {
namespace {

// The largest of a row, -inf if there is none. A NaN is passed over.
template <class T>
T largest_of(std::span<const T> row) {
  using P = Pack<T>;
  constexpr std::size_t registers = 4, width = P::width;  // independent, or each maximum would wait for the one before
  P lanes[registers] = {P::all(kUnseenScore<T>), P::all(kUnseenScore<T>), P::all(kUnseenScore<T>),
                        P::all(kUnseenScore<T>)};
  std::size_t i = 0;
  for (; i + registers * width <= row.size(); i += registers * width)
    for (std::size_t r = 0; r < registers; ++r) lanes[r] = max(P::load(&row[i + r * width]), lanes[r]);
  for (; i + width <= row.size(); i += width) lanes[0] = max(P::load(&row[i]), lanes[0]);
  T each[width];
  max(max(lanes[0], lanes[1]), max(lanes[2], lanes[3])).store(each);
  T largest = *std::max_element(each, each + width);
  for (; i < row.size(); ++i) largest = std::max(largest, row[i]);
  return largest;
}

template <class T>
struct RowSum {
  T divisor, log_sum_exp;
};

// A row of scores becomes exp(score - largest). If it sees nothing it becomes 0, to be divided by 1.
template <class T>
RowSum<T> exponentiate(const Numerics<T>& num, std::span<T> row) {
  const auto is_unseen = [](T score) { return score == kUnseenScore<T>; };
  const T largest = largest_of<T>(row);
  if (is_unseen(largest) && std::all_of(row.begin(), row.end(), is_unseen)) {
    std::fill(row.begin(), row.end(), T(0));
    return {T(1), kUnseenScore<T>};
  }
  for (T& score : row) score -= largest;
  exp(row, row, num.function_scale());
  const T divisor = sum(row.data(), static_cast<Index>(row.size()));
  return {divisor, largest + num.log(divisor)};
}

}  // namespace

template <class T>
AttentionOutput<T> attention_forward(const Numerics<T>& num, const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v,
                                     const AttentionMask<T>& mask, HeadLayout layout) {
  const AttentionSizes<T> n = attention_sizes("attention_forward", q, k, v, layout);
  mask.check(n.batch, n.heads, n.queries, n.keys);
  const auto keys = packed_as_columns(n, k, layout), values = packed_as_rows(n, v, layout);
  AttentionOutput<T> out{Tensor<T>::uninitialized(q.shape()), Tensor<T>::uninitialized({n.batch, n.heads, n.queries})};
  parallel_for(n.groups() * n.stacks_per_group(), 1, [&](Index begin, Index end) {
    for (Index task = begin; task < end; ++task) {
      const Stack<T> stack = stack_of(n, mask, task / n.stacks_per_group(), task % n.stacks_per_group());
      Matrix<T> p = masked_scores(n, stack, mask, stacked(q, stack), keys[stack.kv]);
      std::vector<T> divisors(stack.rows());
      for (Index r = 0; r < stack.rows(); ++r) {
        const auto [divisor, log_sum_exp] = exponentiate(num, row_of(p, r));
        divisors[r] = divisor;
        out.log_sum_exp(stack.b, stack.head_of(r), stack.token_of(r)) = log_sum_exp;
      }
      num.store(elements(p));
      Matrix<T> o(stack.rows(), n.head_dim);
      multiply(view(p), values[stack.kv].row_range(stack.keys.begin, stack.keys.end), view(o));
      for (Index r = 0; r < stack.rows(); ++r) {
        T* row = stack.row_of(out.o, r);
        for (Index d = 0; d < n.head_dim; ++d) row[d] = num.store(o(r, d) / divisors[r]);
      }
    }
  });
  return out;
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

#define ASSAY_INSTANTIATE(T)                                                                            \
  template AttentionOutput<T> attention_forward(const Numerics<T>&, const Tensor<T>&, const Tensor<T>&, \
                                                const Tensor<T>&, const AttentionMask<T>&, HeadLayout); \
  template AttentionTerms<T> attention_terms(const Tensor<T>&, const Tensor<T>&, const Tensor<T>&,      \
                                             const AttentionMask<T>&, HeadLayout);                      \
  template AttentionOutput<T> merge_attention(const Numerics<T>&, const std::vector<AttentionOutput<T>>&);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
