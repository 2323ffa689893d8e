#include "reference/attention_stack.h"
#include "reference/sums.h"
#include "reference/terms.h"

namespace assay::reference {
namespace {

// Scores and P_bar of one row become P = exp(score - lse) and S_bar = P (P_bar - delta); 0 if the row sees nothing. P as f
// makes it.
template <class T, class F>
void differentiate_row(const Numerics<T>& num, const F& f, T lse, T delta, std::span<T> p, std::span<T> d_s) {
  if (lse == kUnseenScore<T>) {
    std::fill(p.begin(), p.end(), T(0));
    std::fill(d_s.begin(), d_s.end(), T(0));
    return;
  }
  for (T& score : p) score -= lse;
  exp(p, p, num.function_scale());
  for (std::size_t j = 0; j < p.size(); ++j) d_s[j] = (p[j] = f(p[j])) * (d_s[j] + F::kMinus * delta);
}

// [groups, keys, head_dim] -> [B, keys, Hkv, head_dim]: the groups of each key/value head added up in order, times
// scale, rounded once.
template <class T>
Tensor<T> summed_over_groups(const Numerics<T>& num, const AttentionSizes<T>& n, const Tensor<T>& per_group, T scale) {
  Tensor<T> sum = Tensor<T>::uninitialized({n.batch, n.keys, n.kv_heads, n.head_dim});
  for_units(n.batch * n.keys * n.kv_heads, n.groups_per_kv() * n.head_dim, [&](Index row) {
    const Index b = row / (n.keys * n.kv_heads), key = row / n.kv_heads % n.keys;
    const Index first = (b * n.kv_heads + row % n.kv_heads) * n.groups_per_kv(), last = first + n.groups_per_kv();
    for (Index d = 0; d < n.head_dim; ++d) {
      T total = 0;
      for (Index group = first; group < last; ++group) total += per_group[(group * n.keys + key) * n.head_dim + d];
      sum[row * n.head_dim + d] = num.store(scale * total);
    }
  });
  return sum;
}

// By terms.h: the gradients, or the sums of f of their terms.
template <class T, class F>
AttentionGradients<T> backward(const char* name, const F& f, const Numerics<T>& num, const Tensor<T>& q,
                               const Tensor<T>& k, const Tensor<T>& v, const AttentionMask<T>& mask,
                               const AttentionOutput<T>& out, const Tensor<T>& d_o) {
  constexpr HeadLayout kLayout = HeadLayout::tokens_first;
  const AttentionSizes<T> n = attention_sizes(name, q, k, v, kLayout);
  mask.check(n.batch, n.heads, n.queries, n.keys);
  if (d_o.shape() != q.shape() || out.o.shape() != q.shape())
    throw std::invalid_argument(std::string(name) + ": d_o " + to_string(d_o.shape()) + ", o " +
                                to_string(out.o.shape()) + "; want " + to_string(q.shape()));
  const auto &f_q = mapped(f, q), &f_k = mapped(f, k), &f_v = mapped(f, v), &f_o = mapped(f, out.o), &f_d_o = mapped(f, d_o);
  const auto key_columns = packed_as_columns(n, k, kLayout), key_rows = packed_as_rows(n, f_k, kLayout);
  const auto value_columns = packed_as_columns(n, f_v, kLayout);
  // Gradients of k and v for every group of query heads by itself, so that groups are independent; summed up
  // afterwards.
  const Shape per_group = {n.groups(), n.keys, n.head_dim};
  Tensor<T> d_q = Tensor<T>::uninitialized(q.shape()), d_k = Tensor<T>::uninitialized(per_group),
            d_v = Tensor<T>::uninitialized(per_group);
  const T scale = f(n.scale());
  const auto backward_of = [&](const Stack<T>& stack, T* d_keys, T* d_values) {
    const Matrix<T> q_rows = stacked(f_q, stack), d_o_rows = stacked(f_d_o, stack);
    const auto of_keys = [&](T* t) {
      return MatrixView<T>(t + stack.keys.begin * n.head_dim, stack.cols(), n.head_dim);
    };

    Matrix<T> p = masked_scores(n, stack, mask, stacked(q, stack), key_columns[stack.kv]);
    Matrix<T> d_s(stack.rows(), stack.cols());
    multiply(view(d_o_rows), value_columns[stack.kv].column_range(stack.keys.begin, stack.keys.end),
             view(d_s));  // P_bar = o_bar v^T
    for (Index r = 0; r < stack.rows(); ++r)
      differentiate_row(num, f, out.log_sum_exp(stack.b, stack.head_of(r), stack.token_of(r)),
                        dot(stack.row_of(f_d_o, r), stack.row_of(f_o, r), n.head_dim), row_of(p, r), row_of(d_s, r));
    num.store(elements(p));
    num.store(elements(d_s));
    multiply_tn(view(p), PackedMatrix<T>::of(view(d_o_rows)).all(), of_keys(d_values), Sum::accumulate);
    multiply_tn(view(d_s), PackedMatrix<T>::of(view(q_rows)).all(), of_keys(d_keys), Sum::accumulate);
    Matrix<T> d_q_rows(stack.rows(), n.head_dim);
    multiply(view(d_s), key_rows[stack.kv].row_range(stack.keys.begin, stack.keys.end), view(d_q_rows));
    for (Index r = 0; r < stack.rows(); ++r) {
      T* row = stack.row_of(d_q, r);
      for (Index d = 0; d < n.head_dim; ++d) row[d] = num.store(scale * d_q_rows(r, d));
    }
  };
  parallel_for(n.groups(), 1, [&](Index begin, Index end) {
    for (Index group = begin; group < end; ++group) {
      T* d_keys = d_k.data() + group * n.keys * n.head_dim;
      T* d_values = d_v.data() + group * n.keys * n.head_dim;
      std::fill_n(d_keys, n.keys * n.head_dim, T(0));
      std::fill_n(d_values, n.keys * n.head_dim, T(0));
      for (Index stack = 0; stack < n.stacks_per_group(); ++stack)
        backward_of(stack_of(n, mask, group, stack), d_keys, d_values);
    }
  });
  return {std::move(d_q), summed_over_groups(num, n, d_k, scale), summed_over_groups(num, n, d_v, T(1))};
}

}  // namespace

template <class T>
AttentionGradients<T> attention_backward(const Numerics<T>& num, const Tensor<T>& q, const Tensor<T>& k,
                                         const Tensor<T>& v, const AttentionMask<T>& mask,
                                         const AttentionOutput<T>& out, const Tensor<T>& d_o) {
  return backward("attention_backward", Value<T>{}, num, q, k, v, mask, out, d_o);
}

template <class T>
AttentionBackwardTerms<T> attention_backward_terms(const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v,
                                                   const AttentionMask<T>& mask, const AttentionOutput<T>& out,
                                                   const Tensor<T>& d_o) {
  const auto sums = [&](const auto& f) {
    return backward("attention_backward_terms", f, Numerics<T>{}, q, k, v, mask, out, d_o);
  };
  return {sums(Absolute<T>{}), sums(Square<T>{})};
}

#define ASSAY_INSTANTIATE(T)                                                                                          \
  template AttentionGradients<T> attention_backward(const Numerics<T>&, const Tensor<T>&, const Tensor<T>&,           \
                                                    const Tensor<T>&, const AttentionMask<T>&,                        \
                                                    const AttentionOutput<T>&, const Tensor<T>&);                     \
  template AttentionBackwardTerms<T> attention_backward_terms(const Tensor<T>&, const Tensor<T>&, const Tensor<T>&,   \
                                                              const AttentionMask<T>&, const AttentionOutput<T>&,     \
                                                              const Tensor<T>&);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
