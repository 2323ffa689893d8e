#include "reference/moe_experts.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <stdexcept>

#include "reference/gemm.h"
#include "reference/mlp.h"
#include "reference/parallel.h"
#include "reference/sums.h"

namespace assay::reference {
namespace {

// Rows of one forward task: enough for the product, few enough to spread a popular expert over the threads.
constexpr Index kRowBlock = 128;

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

// The token rows that the permuted slots [begin, end) read.
template <class T>
Matrix<T> gathered(const Tensor<T>& rows, const ExpertPermutation& permutation, Index k, Index begin, Index end) {
  const Index width = rows.dim(1);
  Matrix<T> result(end - begin, width);
  for (Index i = begin; i < end; ++i)
    std::copy_n(rows.data() + permutation.slots[i] / k * width, width, result.data() + (i - begin) * width);
  return result;
}

// Adds up, for every token, the rows of its slots: experts ascending, because the permutation is sorted by expert.
// partial(sum, row) is one addition.
template <class T, class Add>
Tensor<T> summed_over_slots(const Tensor<T>& slot_rows, const ExpertPermutation& permutation, const ExpertSizes& n,
                            const Add& add) {
  std::vector<std::vector<Index>> rows_of(n.tokens);
  for (Index i = 0; i < static_cast<Index>(permutation.slots.size()); ++i)
    rows_of[permutation.slots[i] / n.k].push_back(i);
  Tensor<T> total({n.tokens, n.width});
  parallel_for(n.tokens, 16, [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t)
      for (Index i : rows_of[t])
        for (Index d = 0; d < n.width; ++d) total(t, d) = add(total(t, d), slot_rows(i, d), i);
  });
  return total;
}

template <class T>
MatrixView<T> view(Matrix<T>& m) {
  return {m.data(), m.rows(), m.cols()};
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
  h = Tensor<T>({slots, n.inner});
  Tensor<T> out({slots, n.width});

  struct Task {
    Index expert, begin, end;
  };
  std::vector<Task> tasks;
  for (Index e = 0; e < n.experts; ++e)
    for (Index begin = permutation.offsets[e]; begin < permutation.offsets[e + 1]; begin += kRowBlock)
      tasks.push_back({e, begin, std::min(begin + kRowBlock, permutation.offsets[e + 1])});

  parallel_for(static_cast<Index>(tasks.size()), 1, [&](Index first_task, Index last_task) {
    for (Index task = first_task; task < last_task; ++task) {
      const auto [e, begin, end] = tasks[task];
      Matrix<T> x = gathered(latent, permutation, n.k, begin, end);
      const MatrixView<T> h_rows(h.data() + begin * n.inner, end - begin, n.inner);
      gemm<T>(view(x), expert_matrix(up, e), h_rows);
      Matrix<T> a(end - begin, n.inner);
      const T* bias = expert_row(up_bias, e);
      for (Index i = 0; i < h_rows.rows; ++i) {
        const T w = weight_after_down ? T(1) : weights[permutation.slots[begin + i]];
        for (Index f = 0; f < n.inner; ++f) {
          T& value = h_rows.data[i * n.inner + f];
          value = num.store(value);
          if (bias) value = num.store(value + bias[f]);
          a(i, f) = num.store(w * relu2(value));
        }
      }
      const MatrixView<T> o_rows(out.data() + begin * n.width, end - begin, n.width);
      gemm<T>(view(a), expert_matrix(down, e), o_rows);
      bias = expert_row(down_bias, e);
      for (Index i = 0; i < o_rows.rows; ++i) {
        const T w = weight_after_down ? T(1) : weights[permutation.slots[begin + i]];
        for (Index d = 0; d < n.width; ++d) {
          T& value = o_rows.data[i * n.width + d];
          value = num.store(value);
          if (bias) value = num.store(value + w * bias[d]);
        }
      }
    }
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
  Tensor<T> d_up(up.shape()), d_down(down.shape()), d_rows({static_cast<Index>(permutation.slots.size()), n.width});
  Tensor<T> d_up_bias(up_bias ? up_bias->shape() : Shape{0}), d_down_bias(down_bias ? down_bias->shape() : Shape{0});

  parallel_for(n.experts, 1, [&](Index first_expert, Index last_expert) {
    for (Index e = first_expert; e < last_expert; ++e) {
      const Index begin = permutation.offsets[e], rows = permutation.offsets[e + 1] - begin;
      if (rows == 0) continue;
      const auto weight_of = [&](Index i) { return weights[permutation.slots[begin + i]]; };
      Matrix<T> x = gathered(latent, permutation, n.k, begin, begin + rows);
      Matrix<T> d_o = gathered(d_acc, permutation, n.k, begin, begin + rows);
      if (weight_after_down) {
        // o = a Down + bd; acc += w o: the weight meets o_bar, and w_bar needs o itself.
        for (Index i = 0; i < rows; ++i)
          for (Index c = 0; c < n.width; ++c) d_o(i, c) *= weight_of(i);
        num.store(std::span<T>(d_o.data(), d_o.size()));
      }
      Matrix<T> d_a(rows, n.inner), a(rows, n.inner);
      gemm_nt<T>(view(d_o), expert_matrix(down, e), view(d_a));
      for (Index i = 0; i < rows; ++i) {
        const T w = weight_after_down ? T(1) : weight_of(i);
        T* d_a_row = d_a.data() + i * n.inner;
        T* a_row = a.data() + i * n.inner;
        const T* h_row = h.data() + (begin + i) * n.inner;
        num.store(std::span<T>(d_a_row, n.inner));
        for (Index f = 0; f < n.inner; ++f) a_row[f] = relu2(h_row[f]);
        T& d_w = d.weights[permutation.slots[begin + i]];
        if (!weight_after_down) d_w = dot(d_a_row, a_row, n.inner);
        if (!weight_after_down && down_bias) d_w += dot(d_o.data() + i * n.width, expert_row(down_bias, e), n.width);
        d_w = num.store(d_w);
        for (Index f = 0; f < n.inner; ++f) {
          a_row[f] = num.store(w * a_row[f]);
          d_a_row[f] = num.store(w * relu2_derivative(h_row[f]) * d_a_row[f]);  // h_bar from here on
        }
        if (up_bias)
          for (Index f = 0; f < n.inner; ++f) d_up_bias(e, f) += d_a_row[f];
        if (down_bias)
          for (Index c = 0; c < n.width; ++c) d_down_bias(e, c) += w * d_o(i, c);
      }
      if (weight_after_down) {
        Matrix<T> o(rows, n.width);
        gemm<T>(view(a), expert_matrix(down, e), view(o));
        for (Index i = 0; i < rows; ++i) {
          const Index slot = permutation.slots[begin + i];
          for (Index c = 0; c < n.width; ++c) o(i, c) = num.store(o(i, c)) + (down_bias ? (*down_bias)(e, c) : T(0));
          d.weights[slot] = dot(o.data() + i * n.width, d_acc.data() + slot / n.k * n.width, n.width);
        }
      }
      gemm_tn<T>(view(a), view(d_o), expert_matrix(d_down, e));
      gemm_tn<T>(view(x), view(d_a), expert_matrix(d_up, e));
      gemm_nt<T>(view(d_a), expert_matrix(up, e), MatrixView<T>(d_rows.data() + begin * n.width, rows, n.width));
    }
  });
  num.store(d_rows.span());
  for (Tensor<T>* gradient : {&d_up, &d_down, &d_up_bias, &d_down_bias}) num.store(gradient->span());
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
