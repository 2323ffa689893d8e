#include "reference/layer_term_sums.h"

#include "reference/gemm.h"
#include "reference/linear.h"
#include "reference/terms.h"

namespace assay::reference {
namespace {

template <class T>
Tensor<T> activated(Tensor<T> h) {
  for (T& value : h.span()) value = relu2(value);
  return h;
}

// sums(f) for both f.
template <class T, class F>
auto both(const F& sums) {
  struct {
    decltype(sums(Absolute<T>{})) absolute, squares;
  } result{sums(Absolute<T>{}), sums(Square<T>{})};
  return result;
}
// The slots of one expert, as matrices of their own.
template <class T>
struct Expert {
  Index begin, end;
  Tensor<T> up, down, x, h, a;  // [Dl, Fm], [Fm, Dl], [rows, Dl], [rows, Fm] twice; a: what enters the down projection
  std::vector<T> weights;
  const T *up_bias, *down_bias;  // of this expert, null if absent
};

template <class T>
class Experts {
 public:
  Experts(bool after_down, const ParameterScope<T>& p, const ExpertPermutation& permutation, const Tensor<T>& latent,
          const Tensor<T>& weights, const Tensor<T>& h)
      : up(p["gate_and_up_projs"]), down(p["down_projs"]), up_bias(p.find("gate_up_proj_bias")), down_bias(p.find("down_proj_bias")),
        weight_after_down(after_down), permutation_(permutation), latent_(latent), weights_(weights), h_(h) {
    const Index slots = static_cast<Index>(permutation.slots.size());
    require_shape("experts_term_sums", "h", h, {slots, up.dim(2)});
    require_shape("experts_term_sums", "latent", latent, {weights.dim(0), up.dim(1)});
    require(static_cast<Index>(permutation.offsets.size()) == up.dim(0) + 1, "experts_term_sums: permutation of ",
            permutation.offsets.size(), " offsets; want ", up.dim(0) + 1);
  }

  Index count() const { return up.dim(0); }
  Index token(Index slot) const { return permutation_.slots[slot] / weights_.dim(1); }
  Expert<T> operator[](Index e) const {
    Expert<T> x{.begin = permutation_.offsets[e], .end = permutation_.offsets[e + 1], .up = slice(up, e), .down = slice(down, e),
                .x = rows_of(latent_, e), .h = {}, .a = {}, .weights = {}, .up_bias = row(up_bias, e), .down_bias = row(down_bias, e)};
    const Index inner = up.dim(2);
    x.h = Tensor<T>({x.end - x.begin, inner}, std::vector<T>(h_.data() + x.begin * inner, h_.data() + x.end * inner));
    x.a = activated(x.h);
    for (Index i = x.begin; i < x.end; ++i) {
      x.weights.push_back(weights_[permutation_.slots[i]]);
      for (Index f = 0; f < inner && !weight_after_down; ++f) x.a(i - x.begin, f) *= x.weights.back();
    }
    return x;
  }
  // The rows of a tensor [T, width] that expert e's slots read.
  Tensor<T> rows_of(const Tensor<T>& t, Index e) const {
    Tensor<T> rows({permutation_.offsets[e + 1] - permutation_.offsets[e], t.dim(1)});
    for (Index i = 0; i < rows.dim(0); ++i)
      std::copy_n(t.data() + token(permutation_.offsets[e] + i) * t.dim(1), t.dim(1), rows.data() + i * t.dim(1));
    return rows;
  }

  const Tensor<T>&up, &down;
  const Tensor<T>*up_bias, *down_bias;
  bool weight_after_down;

 private:
  static Tensor<T> slice(const Tensor<T>& stack, Index e) {
    const Index size = stack.dim(1) * stack.dim(2);
    return {{stack.dim(1), stack.dim(2)}, std::vector<T>(stack.data() + e * size, stack.data() + (e + 1) * size)};
  }
  static const T* row(const Tensor<T>* stack, Index e) { return stack ? stack->data() + e * stack->dim(1) : nullptr; }

  const ExpertPermutation& permutation_;
  const Tensor<T>&latent_, &weights_, &h_;
};

// a b, a b^T and a^T b.
template <class T>
Tensor<T> product(const Tensor<T>& a, const Tensor<T>& b) {
  Tensor<T> out({a.dim(0), b.dim(1)});
  gemm(MatrixView<const T>(a.data(), a.dim(0), a.dim(1)), MatrixView<const T>(b.data(), b.dim(0), b.dim(1)),
       MatrixView<T>(out.data(), out.dim(0), out.dim(1)));
  return out;
}
template <class T>
Tensor<T> product_nt(const Tensor<T>& a, const Tensor<T>& b) {
  return linear_forward<T>({}, a, b);
}
template <class T>
Tensor<T> product_tn(const Tensor<T>& a, const Tensor<T>& b) {
  Tensor<T> out({a.dim(1), b.dim(1)});
  gemm_tn(MatrixView<const T>(a.data(), a.dim(0), a.dim(1)), MatrixView<const T>(b.data(), b.dim(0), b.dim(1)),
          MatrixView<T>(out.data(), out.dim(0), out.dim(1)));
  return out;
}

}  // namespace

template <class T>
TermSums<T> projection_term_sums(const ParameterScope<T>& p, const Tensor<T>& x) {
  return linear_term_sums(x, p["weight"], p.find("bias"));
}

template <class T>
ProjectionBackwardTermSums<T> projection_backward_term_sums(const ParameterScope<T>& p, const Tensor<T>& x, const Tensor<T>& d_y) {
  auto both_sums = both<T>([&](const auto& f) {
    return linear_backward<T>({}, mapped(f, x), mapped(f, p["weight"]), mapped(f, d_y), p.find("bias") != nullptr);
  });
  return {.d_x = {std::move(both_sums.absolute.x), std::move(both_sums.squares.x)},
          .d_weight = {std::move(both_sums.absolute.weight), std::move(both_sums.squares.weight)},
          .d_bias = {std::move(both_sums.absolute.bias), std::move(both_sums.squares.bias)}};
}

template <class T>
MlpTermSums<T> mlp_term_sums(const ParameterScope<T>& p, const Tensor<T>& hidden_states, const MlpSaved<T>& saved) {
  return {.h = projection_term_sums(p.scope("up_proj."), hidden_states),
          .y = projection_term_sums(p.scope("down_proj."), activated(saved.h))};
}

template <class T>
MlpBackwardTermSums<T> mlp_backward_term_sums(const ParameterScope<T>& p, const Tensor<T>& hidden_states,
                                              const MlpSaved<T>& saved, const Tensor<T>& d_out) {
  Tensor<T> d_h = linear_backward<T>({}, saved.h, p["down_proj.weight"], d_out).x;
  for (Index i = 0; i < d_h.size(); ++i) d_h[i] *= relu2_derivative(saved.h[i]);
  return {.down = projection_backward_term_sums(p.scope("down_proj."), activated(saved.h), d_out),
          .up = projection_backward_term_sums(p.scope("up_proj."), hidden_states, d_h)};
}

template <class T>
ExpertTermSums<T> experts_term_sums(bool weight_after_down, const ParameterScope<T>& p, const ExpertPermutation& permutation,
                                    const Tensor<T>& latent, const Tensor<T>& weights, const Tensor<T>& h) {
  const Experts<T> experts(weight_after_down, p, permutation, latent, weights, h);
  const Index width = latent.dim(1), inner = h.dim(1);
  struct Sums {
    Tensor<T> h, acc;
  };
  auto both_sums = both<T>([&](const auto& f) {
    Sums sums{Tensor<T>(h.shape()), Tensor<T>(latent.shape())};
    for (Index e = 0; e < experts.count(); ++e) {
      const Expert<T> expert = experts[e];
      const Tensor<T> up = product(mapped(f, expert.x), mapped(f, expert.up)),
                      down = product(mapped(f, expert.a), mapped(f, expert.down));
      for (Index i = expert.begin; i < expert.end; ++i) {
        const Index at = i - expert.begin;
        const T w = f(expert.weights[at]);
        for (Index j = 0; j < inner; ++j) sums.h(i, j) = up(at, j) + (expert.up_bias ? f(expert.up_bias[j]) : T(0));
        for (Index c = 0; c < width; ++c) {
          const T bias = expert.down_bias ? f(expert.down_bias[c]) : T(0);
          sums.acc(experts.token(i), c) += weight_after_down ? w * (down(at, c) + bias) : down(at, c) + w * bias;
        }
      }
    }
    return sums;
  });
  return {.h = {std::move(both_sums.absolute.h), std::move(both_sums.squares.h)}, .acc = {std::move(both_sums.absolute.acc), std::move(both_sums.squares.acc)}};
}

template <class T>
ExpertBackwardTermSums<T> experts_backward_term_sums(bool weight_after_down, const ParameterScope<T>& p,
                                                     const ExpertPermutation& permutation, const Tensor<T>& latent,
                                                     const Tensor<T>& weights, const Tensor<T>& h, const Tensor<T>& d_acc) {
  const Experts<T> experts(weight_after_down, p, permutation, latent, weights, h);
  require_shape("experts_backward_term_sums", "d_acc", d_acc, latent.shape());
  const Index width = latent.dim(1), inner = h.dim(1);
  struct Sums {
    Tensor<T> d_a, d_latent, d_weights, d_up, d_down, d_up_bias, d_down_bias;
  };
  auto both_sums = both<T>([&](const auto& f) {
    Sums sums{Tensor<T>(h.shape()), Tensor<T>(latent.shape()), Tensor<T>(weights.shape()), Tensor<T>(experts.up.shape()),
              Tensor<T>(experts.down.shape()), {}, {}};
    if (experts.up_bias) sums.d_up_bias = Tensor<T>(experts.up_bias->shape());
    if (experts.down_bias) sums.d_down_bias = Tensor<T>(experts.down_bias->shape());
    for (Index e = 0; e < experts.count(); ++e) {
      const Expert<T> expert = experts[e];
      const Index rows = expert.end - expert.begin;
      const Tensor<T> d_acc_rows = experts.rows_of(d_acc, e);
      Tensor<T> d_o = d_acc_rows;
      for (Index i = 0; i < d_o.size() && weight_after_down; ++i) d_o[i] *= expert.weights[i / width];
      const Tensor<T> d_a = product_nt(d_o, expert.down), o = product(expert.a, expert.down),
                      d_a_sums = product_nt(mapped(f, d_o), mapped(f, expert.down));
      Tensor<T> d_h = d_a;
      for (Index i = 0; i < rows; ++i) {
        const T w = expert.weights[i], before_down = weight_after_down ? T(1) : w;
        T& d_w = sums.d_weights[permutation.slots[expert.begin + i]];
        for (Index j = 0; j < inner; ++j) {
          sums.d_a(expert.begin + i, j) = d_a_sums(i, j);
          if (!weight_after_down) d_w += f(d_a(i, j) * relu2(expert.h(i, j)));
          d_h(i, j) *= before_down * relu2_derivative(expert.h(i, j));
          if (experts.up_bias) sums.d_up_bias(e, j) += f(d_h(i, j));
        }
        for (Index c = 0; c < width; ++c) {
          const T bias = expert.down_bias ? expert.down_bias[c] : T(0);
          d_w += f((weight_after_down ? o(i, c) + bias : bias) * d_acc_rows(i, c));
          if (experts.down_bias) sums.d_down_bias(e, c) += f(before_down * d_o(i, c));
        }
      }
      const Tensor<T> d_up = product_tn(mapped(f, expert.x), mapped(f, d_h)), d_down = product_tn(mapped(f, expert.a), mapped(f, d_o)),
                      d_x = product_nt(mapped(f, d_h), mapped(f, expert.up));
      std::copy_n(d_up.data(), d_up.size(), sums.d_up.data() + e * d_up.size());
      std::copy_n(d_down.data(), d_down.size(), sums.d_down.data() + e * d_down.size());
      for (Index i = 0; i < d_x.size(); ++i) sums.d_latent(experts.token(expert.begin + i / width), i % width) += d_x[i];
    }
    return sums;
  });
  const auto terms = [&](Tensor<T> Sums::*of) { return TermSums<T>{std::move(both_sums.absolute.*of), std::move(both_sums.squares.*of)}; };
  return {.d_a = terms(&Sums::d_a), .d_latent = terms(&Sums::d_latent), .d_weights = terms(&Sums::d_weights),
          .d_up = terms(&Sums::d_up), .d_down = terms(&Sums::d_down), .d_up_bias = terms(&Sums::d_up_bias),
          .d_down_bias = terms(&Sums::d_down_bias)};
}

#define ASSAY_INSTANTIATE(T)                                                                                                     \
  template TermSums<T> projection_term_sums(const ParameterScope<T>&, const Tensor<T>&);                                         \
  template ProjectionBackwardTermSums<T> projection_backward_term_sums(const ParameterScope<T>&, const Tensor<T>&,               \
                                                                       const Tensor<T>&);                                        \
  template MlpTermSums<T> mlp_term_sums(const ParameterScope<T>&, const Tensor<T>&, const MlpSaved<T>&);                         \
  template MlpBackwardTermSums<T> mlp_backward_term_sums(const ParameterScope<T>&, const Tensor<T>&, const MlpSaved<T>&,         \
                                                         const Tensor<T>&);                                                      \
  template ExpertTermSums<T> experts_term_sums(bool, const ParameterScope<T>&, const ExpertPermutation&, const Tensor<T>&,       \
                                               const Tensor<T>&, const Tensor<T>&);                                              \
  template ExpertBackwardTermSums<T> experts_backward_term_sums(bool, const ParameterScope<T>&, const ExpertPermutation&,        \
                                                                const Tensor<T>&, const Tensor<T>&, const Tensor<T>&,            \
                                                                const Tensor<T>&);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
