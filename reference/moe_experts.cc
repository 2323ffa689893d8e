#include "reference/moe_experts.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <stdexcept>

#include "reference/gemm.h"
#include "reference/mlp.h"
#include "reference/row_pieces.h"
#include "reference/sums.h"

namespace assay::reference {
namespace {

// Multiplications of an expert's product from which on its rows are shared by the threads; below, the experts are.
constexpr Index kWorthSharing = 1 << 22;

struct ExpertSizes {
  Index tokens, k, experts, width, inner;  // T, k, E, Dl, Fm
};

template <class T>
ExpertSizes sizes_of(const ParameterScope<T>& p, const ExpertPermutation& permutation, const Tensor<T>& latent,
                     const Tensor<T>& weights) {
  const Tensor<T>& up = p["gate_and_up_projs"];
  if (latent.rank() != 2 || up.rank() != 3 || up.dim(1) != latent.dim(1))
    throw std::invalid_argument("experts: latent " + to_string(latent.shape()) + ", gate_and_up_projs " +
                                to_string(up.shape()) + "; want [T, Dl] and [E, Dl, Fm]");
  const ExpertSizes n = {latent.dim(0), weights.dim(1), up.dim(0), latent.dim(1), up.dim(2)};
  p.with_shape("down_projs", {n.experts, n.inner, n.width});
  if (weights.dim(0) != n.tokens || static_cast<Index>(permutation.offsets.size()) != n.experts + 1)
    throw std::invalid_argument("experts: weights " + to_string(weights.shape()) + ", permutation of " +
                                std::to_string(permutation.offsets.size()) + " offsets; want " +
                                to_string({n.tokens, n.k}) + " and " + std::to_string(n.experts + 1));
  return n;
}

// body(e, begin, end) for every expert and its range of permuted slots, which may be empty.
template <class Body>
void for_experts(const ExpertSizes& n, const ExpertPermutation& permutation, const Body& body) {
  const Index slots = static_cast<Index>(permutation.slots.size());
  const bool shares_rows = slots / std::max<Index>(1, n.experts) * n.width * n.inner >= kWorthSharing;
  parallel_for(n.experts, shares_rows ? n.experts : 1, [&](Index first, Index last) {
    for (Index e = first; e < last; ++e) body(e, permutation.offsets[e], permutation.offsets[e + 1]);
  });
}

// Expert e's matrix or bias row in a stack of them.
template <class T>
MatrixView<const T> expert_matrix(const Tensor<T>& stack, Index e) {
  return {stack.data() + e * stack.dim(1) * stack.dim(2), stack.dim(1), stack.dim(2)};
}
template <class T>
MatrixView<T> expert_matrix(Tensor<T>& stack, Index e) {
  return {stack.data() + e * stack.dim(1) * stack.dim(2), stack.dim(1), stack.dim(2)};
}
template <class T>
const T* expert_row(const Tensor<T>* stack, Index e) {
  return stack ? stack->data() + e * stack->dim(1) : nullptr;
}

template <class T>
MatrixView<T> matrix(Tensor<T>& t) {
  return {t.data(), t.dim(0), t.dim(1)};
}
template <class T>
MatrixView<const T> matrix(const Tensor<T>& t) {
  return {t.data(), t.dim(0), t.dim(1)};
}
template <class T>
MatrixView<T> slot_rows(Tensor<T>& t, Index begin, Index end) {
  return {t.data() + begin * t.dim(1), end - begin, t.dim(1)};
}

// The token rows that the permuted slots [begin, end) read.
template <class T>
Tensor<T> gathered(const Tensor<T>& rows, const ExpertPermutation& permutation, Index k, Index begin, Index end) {
  const Index width = rows.dim(1);
  Tensor<T> result = Tensor<T>::uninitialized({end - begin, width});
  for_units(end - begin, width, [&](Index i) {
    std::copy_n(rows.data() + permutation.slots[begin + i] / k * width, width, result.data() + i * width);
  });
  return result;
}

// Adds up, for every token, the rows of its slots: experts ascending, because the permutation is sorted by expert.
// add(sum, row, i) is one addition.
template <class T, class Add>
Tensor<T> summed_over_slots(const Tensor<T>& slot_rows, const ExpertPermutation& permutation, const ExpertSizes& n,
                            const Add& add) {
  std::vector<std::vector<Index>> rows_of(n.tokens);
  for (Index i = 0; i < static_cast<Index>(permutation.slots.size()); ++i)
    rows_of[permutation.slots[i] / n.k].push_back(i);
  Tensor<T> total = Tensor<T>::uninitialized({n.tokens, n.width});
  for_units(n.tokens, n.width * n.k, [&](Index t) {
    T* sum = total.data() + t * n.width;
    std::fill_n(sum, n.width, T(0));
    for (Index i : rows_of[t]) {
      const T* row = slot_rows.data() + i * n.width;
      for (Index d = 0; d < n.width; ++d) sum[d] = add(sum[d], row[d], i);
    }
  });
  return total;
}

// sum[j] = sum_i weight(i) rows(i, j), i ascending.
template <class T, class Weight>
void sum_rows(const Tensor<T>& rows, const Weight& weight, T* sum) {
  const Index width = rows.dim(1);
  parallel_for(width, 512, [&](Index begin, Index end) {
    std::fill(sum + begin, sum + end, T(0));
    for (Index i = 0; i < rows.dim(0); ++i) {
      const T w = weight(i);
      for (Index j = begin; j < end; ++j) sum[j] += w * rows[i * width + j];
    }
  });
}

template <class T>
std::span<T> row_span(MatrixView<T> m, Index i) {
  return {m.data + i * m.stride, static_cast<std::size_t>(m.cols)};
}

// row = round(row), and with a bias round(row + w bias).
template <class T>
void store_with_bias(const Numerics<T>& num, std::span<T> row, T w, const T* bias) {
  num.store(row);
  if (!bias) return;
  for (std::size_t j = 0; j < row.size(); ++j) row[j] += w * bias[j];
  num.store(row);
}

template <class T>
void store_matrix(const Numerics<T>& num, MatrixView<T> m) {
  if (num.storage == Storage::native) return;
  for_units(m.rows, m.cols, [&](Index i) { num.store(row_span(m, i)); });
}

}  // namespace

ExpertPermutation permute_by_expert(const Tensor<Index>& indices, const Tensor<std::uint8_t>* token_mask, Index experts,
                                    Index first, Index last) {
  const Index k = indices.dim(1);
  const auto goes_to = [&](Index slot) {
    const Index e = indices[slot];
    const bool is_real = !token_mask || (*token_mask)[slot / k] != 0;
    return is_real && e >= first && e < last ? e : -1;
  };
  ExpertPermutation permutation;
  permutation.offsets.assign(experts + 1, 0);
  for (Index slot = 0; slot < indices.size(); ++slot)
    if (goes_to(slot) >= 0) ++permutation.offsets[goes_to(slot) + 1];
  std::partial_sum(permutation.offsets.begin(), permutation.offsets.end(), permutation.offsets.begin());
  permutation.slots.resize(permutation.offsets.back());
  std::vector<Index> next(permutation.offsets.begin(), permutation.offsets.end() - 1);
  for (Index slot = 0; slot < indices.size(); ++slot)
    if (goes_to(slot) >= 0) permutation.slots[next[goes_to(slot)]++] = slot;
  return permutation;
}

template <class T>
Tensor<T> experts_forward(const Numerics<T>& num, bool weight_after_down, const ParameterScope<T>& p,
                          const ExpertPermutation& permutation, const Tensor<T>& latent, const Tensor<T>& weights,
                          Tensor<T>& h) {
  const ExpertSizes n = sizes_of(p, permutation, latent, weights);
  const Tensor<T>&up = p["gate_and_up_projs"], &down = p["down_projs"];
  const Tensor<T>*up_bias = p.find("gate_up_proj_bias"), *down_bias = p.find("down_proj_bias");
  const Index slots = static_cast<Index>(permutation.slots.size());
  h = Tensor<T>::uninitialized({slots, n.inner});
  Tensor<T> out = Tensor<T>::uninitialized({slots, n.width});

  for_experts(n, permutation, [&](Index e, Index begin, Index end) {
    const auto weight_of = [&](Index i) { return weight_after_down ? T(1) : weights[permutation.slots[begin + i]]; };
    const Index rows = end - begin;
    const Tensor<T> x = gathered(latent, permutation, n.k, begin, end);
    const MatrixView<T> h_rows = slot_rows(h, begin, end), o_rows = slot_rows(out, begin, end);
    gemm(matrix(x), expert_matrix(up, e), h_rows);

    Tensor<T> a = Tensor<T>::uninitialized({rows, n.inner});
    for_units(rows, n.inner, [&](Index i) {
      const std::span<T> h_row = row_span(h_rows, i), a_row = row_span(matrix(a), i);
      store_with_bias(num, h_row, T(1), expert_row(up_bias, e));
      const T w = weight_of(i);
      for (Index f = 0; f < n.inner; ++f) a_row[f] = w * relu2(h_row[f]);
      num.store(a_row);
    });

    gemm(matrix(a), expert_matrix(down, e), o_rows);
    if (down_bias || num.storage != Storage::native)
      for_units(rows, n.width, [&](Index i) { store_with_bias(num, row_span(o_rows, i), weight_of(i), expert_row(down_bias, e)); });
  });
  return summed_over_slots(out, permutation, n, [&](T sum, T row, Index i) {
    return sum + (weight_after_down ? weights[permutation.slots[i]] * row : row);
  });
}

template <class T>
ExpertGradients<T> experts_backward(const Numerics<T>& num, bool weight_after_down, const ParameterScope<T>& p,
                                    const ExpertPermutation& permutation, const Tensor<T>& latent,
                                    const Tensor<T>& weights, const Tensor<T>& h, const Tensor<T>& d_acc,
                                    const GradientScope<T>& d_p) {
  const ExpertSizes n = sizes_of(p, permutation, latent, weights);
  const Tensor<T>&up = p["gate_and_up_projs"], &down = p["down_projs"];
  const Tensor<T>*up_bias = p.find("gate_up_proj_bias"), *down_bias = p.find("down_proj_bias");
  ExpertGradients<T> d{{}, Tensor<T>(weights.shape())};
  Tensor<T> d_up = Tensor<T>::uninitialized(up.shape()), d_down = Tensor<T>::uninitialized(down.shape());
  Tensor<T> d_rows = Tensor<T>::uninitialized({static_cast<Index>(permutation.slots.size()), n.width});
  Tensor<T> d_up_bias(up_bias ? up_bias->shape() : Shape{0}), d_down_bias(down_bias ? down_bias->shape() : Shape{0});

  for_experts(n, permutation, [&](Index e, Index begin, Index end) {
    const Index rows = end - begin;
    const auto slot = [&](Index i) { return permutation.slots[begin + i]; };
    const auto weight_before_down = [&](Index i) { return weight_after_down ? T(1) : weights[slot(i)]; };
    const Tensor<T> x = gathered(latent, permutation, n.k, begin, end);
    Tensor<T> d_o = gathered(d_acc, permutation, n.k, begin, end);
    if (weight_after_down) {
      // o = a Down + bd; acc += w o: the weight meets o_bar, and w_bar needs o itself.
      for_units(rows, n.width, [&](Index i) {
        const std::span<T> row = row_span(matrix(d_o), i);
        for (T& value : row) value *= weights[slot(i)];
        num.store(row);
      });
    }
    Tensor<T> d_a = Tensor<T>::uninitialized({rows, n.inner}), a = Tensor<T>::uninitialized({rows, n.inner});
    gemm_nt(matrix(d_o), expert_matrix(down, e), matrix(d_a));
    for_units(rows, n.inner, [&](Index i) {
      const std::span<T> d_a_row = row_span(matrix(d_a), i), a_row = row_span(matrix(a), i);
      const T* h_row = h.data() + (begin + i) * n.inner;
      num.store(d_a_row);
      for (Index f = 0; f < n.inner; ++f) a_row[f] = relu2(h_row[f]);
      if (!weight_after_down) {
        T d_w = dot(d_a_row.data(), a_row.data(), n.inner);
        if (down_bias) d_w += dot(d_o.data() + i * n.width, expert_row(down_bias, e), n.width);
        d.weights[slot(i)] = num.store(d_w);
      }
      const T w = weight_before_down(i);
      for (Index f = 0; f < n.inner; ++f) {
        a_row[f] = w * a_row[f];
        d_a_row[f] = w * relu2_derivative(h_row[f]) * d_a_row[f];  // h_bar from here on
      }
      num.store(a_row);
      num.store(d_a_row);
    });
    if (up_bias) sum_rows(d_a, [](Index) { return T(1); }, d_up_bias.data() + e * n.inner);
    if (down_bias) sum_rows(d_o, weight_before_down, d_down_bias.data() + e * n.width);
    if (weight_after_down) {
      Tensor<T> o = Tensor<T>::uninitialized({rows, n.width});
      gemm(matrix(a), expert_matrix(down, e), matrix(o));
      for_units(rows, n.width, [&](Index i) {
        const std::span<T> row = row_span(matrix(o), i);
        for (Index c = 0; c < n.width; ++c) row[c] = num.store(row[c]) + (down_bias ? (*down_bias)(e, c) : T(0));
        d.weights[slot(i)] = dot(row.data(), d_acc.data() + slot(i) / n.k * n.width, n.width);
      });
    }
    const MatrixView<T> d_down_e = expert_matrix(d_down, e), d_up_e = expert_matrix(d_up, e), d_x = slot_rows(d_rows, begin, end);
    gemm_tn(matrix(a), matrix(d_o), d_down_e);  // 0 for an expert without tokens
    gemm_tn(matrix(x), matrix(d_a), d_up_e);
    gemm_nt(matrix(d_a), expert_matrix(up, e), d_x);
    for (const MatrixView<T>& gradient : {d_down_e, d_up_e, d_x}) store_matrix(num, gradient);
  });
  for (Tensor<T>* gradient : {&d_up_bias, &d_down_bias}) num.store(gradient->span());
  d_p.add(num, "gate_and_up_projs", std::move(d_up));
  d_p.add(num, "down_projs", std::move(d_down));
  if (up_bias) d_p.add(num, "gate_up_proj_bias", std::move(d_up_bias));
  if (down_bias) d_p.add(num, "down_proj_bias", std::move(d_down_bias));
  d.latent = summed_over_slots(d_rows, permutation, n, [](T sum, T row, Index) { return sum + row; });
  num.store(d.latent.span());
  return d;
}

#define ASSAY_INSTANTIATE(T)                                                                                       \
  template Tensor<T> experts_forward(const Numerics<T>&, bool, const ParameterScope<T>&, const ExpertPermutation&, \
                                     const Tensor<T>&, const Tensor<T>&, Tensor<T>&);                              \
  template ExpertGradients<T> experts_backward(const Numerics<T>&, bool, const ParameterScope<T>&,                 \
                                               const ExpertPermutation&, const Tensor<T>&, const Tensor<T>&,       \
                                               const Tensor<T>&, const Tensor<T>&, const GradientScope<T>&);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
