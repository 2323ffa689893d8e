#include "reference/term_sums.h"

#include <cmath>

#include "reference/embedding.h"
#include "reference/linear.h"
#include "reference/ssd_scan_plan.h"
#include "reference/terms.h"

namespace assay::reference {
namespace {

template <class T>
Tensor<T> absolute(const Tensor<T>& t) {
  return mapped(Absolute<T>{}, t);
}
template <class T>
Tensor<T> squared(const Tensor<T>& t) {
  return mapped(Square<T>{}, t);
}
// f applied to an input that may be absent; null stays null.
template <class T>
struct Mapped {
  Tensor<T> value;
  const Tensor<T>* pointer;
  template <class F>
  Mapped(const Tensor<T>* t, const F& f) : value(t ? f(*t) : Tensor<T>{}), pointer(t ? &value : nullptr) {}
  Mapped(const Mapped&) = delete;
};

template <class T>
Tensor<T> as_rows(const Tensor<T>& t) {
  return t.reshaped({t.size() / std::max<Index>(1, t.dim(-1)), t.dim(-1)});
}

}  // namespace

template <class T>
TermSums<T> linear_term_sums(const Tensor<T>& x, const Tensor<T>& weight, MaybeTensor<T> bias) {
  const auto on = [&](auto f) {
    const Mapped<T> b(bias, f);
    return linear_forward<T>({}, f(x), f(weight), b.pointer);
  };
  return {on(absolute<T>), on(squared<T>)};
}

template <class T>
TermSums<T> linear_input_gradient_term_sums(const Tensor<T>& weight, const Tensor<T>& d_y) {
  Shape shape = d_y.shape();
  shape.back() = weight.dim(1);
  const Tensor<T> x(shape);
  const auto on = [&](auto f) { return linear_backward<T>({}, x, f(weight), f(d_y)).x; };
  return {on(absolute<T>), on(squared<T>)};
}

template <class T>
TermSums<T> linear_weight_gradient_term_sums(const Tensor<T>& x, const Tensor<T>& d_y) {
  const auto on = [&](auto f) {
    const Tensor<T> a = as_rows(f(d_y)), b = as_rows(f(x));
    require(a.dim(0) == b.dim(0), "linear_weight_gradient_term_sums: x has ", b.dim(0), " tokens, d_y ", a.dim(0));
    Tensor<T> out({a.dim(1), b.dim(1)});
    if (a.dim(0) > 0) gemm_tn(view(a, a.dim(0)), view(b, b.dim(0)), view(out, a.dim(1)));
    return out;
  };
  return {on(absolute<T>), on(squared<T>)};
}

template <class T>
TermSums<T> linear_bias_gradient_term_sums(const Tensor<T>& d_y) {
  const auto on = [&](auto f) {
    const Tensor<T> rows = as_rows(f(d_y));
    Tensor<T> out({rows.dim(1)});
    for (Index i = 0; i < rows.size(); ++i) out[i % out.size()] += rows[i];
    return out;
  };
  return {on(absolute<T>), on(squared<T>)};
}

template <class T>
TermSums<T> causal_conv1d_term_sums(const CausalConv1dInputs<T>& in) {
  const auto on = [&](auto f) {
    const Tensor<T> x = f(in.x), weight = f(in.weight);
    const Mapped<T> bias(in.bias, f), state(in.initial_state, f);
    return causal_conv1d_forward<T>({}, {.x = x, .weight = weight, .bias = bias.pointer, .initial_state = state.pointer,
                                         .seq_idx = in.seq_idx, .silu = false}).y;
  };
  return {on(absolute<T>), on(squared<T>)};
}

template <class T>
CausalConv1dBackwardTermSums<T> causal_conv1d_backward_term_sums(const CausalConv1dInputs<T>& in, const Tensor<T>& d_y,
                                                                 MaybeTensor<T> d_final_state) {
  const Numerics<T> num;
  CausalConv1dInputs<T> linear = in;
  linear.silu = false;
  Tensor<T> d_p = d_y;
  if (in.silu) {
    require_shape("causal_conv1d_backward_term_sums", "d_y", d_y, in.x.shape());
    const Tensor<T> p = causal_conv1d_forward(num, linear).y;
    for (Index i = 0; i < p.size(); ++i) d_p[i] *= num.silu_derivative(p[i]);
  }
  const auto on = [&](auto f) {
    const Tensor<T> x = f(in.x), weight = f(in.weight);
    const Mapped<T> state(in.initial_state, f), d_state(d_final_state, f);
    return causal_conv1d_backward<T>(num, {.x = x, .weight = weight, .bias = in.bias, .initial_state = state.pointer,
                                           .seq_idx = in.seq_idx, .silu = false}, f(d_p), d_state.pointer);
  };
  CausalConv1dBackward<T> sums = on(absolute<T>), squares = on(squared<T>);
  return {.d_x = {std::move(sums.d_x), std::move(squares.d_x)},
          .d_weight = {std::move(sums.d_weight), std::move(squares.d_weight)},
          .d_bias = {std::move(sums.d_bias), std::move(squares.d_bias)},
          .d_initial_state = {std::move(sums.d_initial_state), std::move(squares.d_initial_state)}};
}

template <class T>
SsdScanTermSums<T> ssd_scan_term_sums(const SsdScanInputs<T>& in) {
  const Numerics<T> num;
  const SsdScanPlan<T> plan("ssd_scan_term_sums", num, in);
  // The scan takes Delta as it is and multiplies each token's input by it once: |x| takes its sign, x^2 another factor of it.
  Tensor<T> delta(in.dt.shape()), x_absolute(in.x.shape()), x_squared(in.x.shape());
  for (Index b = 0; b < plan.batch; ++b)
    for (Index t = 0; t < plan.seq_len; ++t)
      for (Index h = 0; h < plan.heads; ++h) {
        const T d = delta(b, t, h) = plan.delta(b, h, t);
        for (Index p = 0; p < plan.head_dim; ++p) {
          const T x = in.x(b, t, h, p);
          x_absolute(b, t, h, p) = std::fabs(x) * (d < 0 ? -1 : 1);
          x_squared(b, t, h, p) = x * x * d;
        }
      }
  Tensor<T> twice_A = in.A;
  for (T& a : twice_A.span()) a *= 2;
  const auto on = [&](auto f, const Tensor<T>& x, const Tensor<T>& A) {
    const Tensor<T> B = f(in.B), C = f(in.C);
    const Mapped<T> state(in.initial_state, f);
    SsdScanForward<T> out = ssd_scan_forward<T>(num, {.x = x, .dt = delta, .A = A, .B = B, .C = C, .initial_state = state.pointer,
                                                      .seq_idx = in.seq_idx, .chunk_size = in.chunk_size, .dt_softplus = false,
                                                      .dt_min = -std::numeric_limits<T>::infinity()});
    if (in.D) {
      Tensor<T> skip = in.x;  // D x
      const bool by_channel = in.D->rank() == 2;
      for (Index i = 0; i < skip.size(); ++i)
        skip[i] *= (*in.D)[by_channel ? i % (plan.heads * plan.head_dim) : i / plan.head_dim % plan.heads];
      skip = f(skip);
      for (Index i = 0; i < skip.size(); ++i) out.y[i] += skip[i];
    }
    return out;
  };
  SsdScanForward<T> sums = on(absolute<T>, x_absolute, in.A), squares = on(squared<T>, x_squared, twice_A);
  return {.y = {std::move(sums.y), std::move(squares.y)},
          .final_state = {std::move(sums.final_state), std::move(squares.final_state)}};
}

template <class T>
SsmStateUpdateTermSums<T> ssm_state_update_term_sums(const SsmStateUpdateInputs<T>& in, const Tensor<T>& state) {
  const Numerics<T> num;
  require(in.x.rank() == 3, "ssm_state_update_term_sums: x has shape ", to_string(in.x.shape()), "; want [batch, heads, head_dim]");
  const Index heads = in.x.dim(1), head_dim = in.x.dim(2);
  require_shape("ssm_state_update_term_sums", "dt", in.dt, {in.x.dim(0), heads});
  // As in the scan: |x| takes the step's sign, x^2 another factor of it.
  Tensor<T> delta = in.dt, x_absolute = in.x, x_squared = in.x;
  for (Index i = 0; i < delta.size(); ++i) {
    const T v = in.dt[i] + (in.dt_bias ? (*in.dt_bias)[i % heads] : T(0));
    delta[i] = std::max(in.dt_softplus ? num.softplus(v) : v, in.dt_min);
  }
  for (Index i = 0; i < in.x.size(); ++i) {
    const T d = delta[i / head_dim];
    x_absolute[i] = std::fabs(in.x[i]) * (d < 0 ? -1 : 1);
    x_squared[i] = in.x[i] * in.x[i] * d;
  }
  Tensor<T> twice_A = in.A;
  for (T& a : twice_A.span()) a *= 2;
  struct Step {
    Tensor<T> y, state;
  };
  const auto on = [&](auto f, const Tensor<T>& x, const Tensor<T>& A) {
    const Tensor<T> B = f(in.B), C = f(in.C);
    Step step{.y = {}, .state = f(state)};
    step.y = ssm_state_update<T>(num, {.x = x, .dt = delta, .A = A, .B = B, .C = C, .dt_softplus = false, .state_rows = in.state_rows},
                                 step.state, Storage::native);
    if (!in.D) return step;
    Tensor<T> skip = in.x;
    for (Index i = 0; i < skip.size(); ++i)
      skip[i] *= (*in.D)[in.D->rank() == 2 ? i % (heads * head_dim) : i / head_dim % heads];
    skip = f(skip);
    for (Index i = 0; i < skip.size(); ++i)
      if (in.state_rows.empty() || in.state_rows[i / (heads * head_dim)] >= 0) step.y[i] += skip[i];
    return step;
  };
  Step sums = on(absolute<T>, x_absolute, in.A), squares = on(squared<T>, x_squared, twice_A);
  return {.y = {std::move(sums.y), std::move(squares.y)}, .state = {std::move(sums.state), std::move(squares.state)}};
}

template <class T>
TermSums<T> embedding_gradient_term_sums(std::span<const std::int64_t> ids, const Tensor<T>& d_y, Index vocabulary) {
  const auto on = [&](auto f) { return embedding_backward<T>({}, ids, f(d_y), vocabulary); };
  return {on(absolute<T>), on(squared<T>)};
}

template <class T>
TermSums<T> cross_entropy_term_sums(const Tensor<T>& logits, const Tensor<Index>& targets, const CrossEntropy<T>& forward) {
  TermSums<T> out{Tensor<T>({1}), Tensor<T>({1})};
  for (Index t = 0; t < targets.size(); ++t) {
    if (targets[t] == kIgnoredTarget) continue;
    for (const T term : {forward.log_sum_exp[t], logits(t, targets[t])})
      out.absolute[0] += std::fabs(term), out.squares[0] += term * term;
  }
  return out;
}

template <class T>
TermSums<T> cross_entropy_gradient_term_sums(const Tensor<T>& logits, const Tensor<Index>& targets,
                                             const CrossEntropy<T>& forward, std::type_identity_t<T> scale) {
  const Tensor<T> d_logits = cross_entropy_backward<T>({}, logits, targets, forward, scale);
  TermSums<T> out{absolute(d_logits), squared(d_logits)};  // right but at the targets, where softmax - 1 was taken
  for (Index t = 0; t < targets.size(); ++t) {
    if (targets[t] == kIgnoredTarget) continue;
    const Index at = t * logits.dim(1) + targets[t];
    const T softmax = scale * exp(logits[at] - forward.log_sum_exp[t]);
    out.absolute[at] = std::fabs(softmax) + std::fabs(scale);
    out.squares[at] = softmax * softmax + scale * scale;
  }
  return out;
}

#define ASSAY_INSTANTIATE(T)                                                                                   \
  template TermSums<T> linear_term_sums(const Tensor<T>&, const Tensor<T>&, MaybeTensor<T>);                   \
  template TermSums<T> linear_input_gradient_term_sums(const Tensor<T>&, const Tensor<T>&);                    \
  template TermSums<T> linear_weight_gradient_term_sums(const Tensor<T>&, const Tensor<T>&);                   \
  template TermSums<T> linear_bias_gradient_term_sums(const Tensor<T>&);                                       \
  template TermSums<T> causal_conv1d_term_sums(const CausalConv1dInputs<T>&);                                  \
  template CausalConv1dBackwardTermSums<T> causal_conv1d_backward_term_sums(const CausalConv1dInputs<T>&,      \
                                                                            const Tensor<T>&, MaybeTensor<T>); \
  template SsdScanTermSums<T> ssd_scan_term_sums(const SsdScanInputs<T>&);                                     \
  template SsmStateUpdateTermSums<T> ssm_state_update_term_sums(const SsmStateUpdateInputs<T>&, const Tensor<T>&);                 \
  template TermSums<T> embedding_gradient_term_sums(std::span<const std::int64_t>, const Tensor<T>&, Index);   \
  template TermSums<T> cross_entropy_term_sums(const Tensor<T>&, const Tensor<Index>&, const CrossEntropy<T>&); \
  template TermSums<T> cross_entropy_gradient_term_sums(const Tensor<T>&, const Tensor<Index>&, const CrossEntropy<T>&, T);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
