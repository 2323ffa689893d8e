// The recurrence backwards (ssd_scan_recurrence.cc) with f of every factor in the place of the factor, f(v) = |v| or v^2. As
// f(u v) = f(u) f(v), every sum becomes the sum of f of its terms.
#include <cmath>

#include "reference/row_pieces.h"
#include "reference/ssd_scan_plan.h"
#include "reference/term_sums.h"

namespace assay::reference {
namespace {

template <class T, class F>
class GradientTerms {
 public:
  GradientTerms(const F& f, const SsdScanPlan<T>& plan, const SsdScanInputs<T>& in, const Tensor<T>& d_y, MaybeTensor<T> d_final_state)
      : f_(f), plan_(plan), in_(in), d_y_(d_y), d_final_state_(d_final_state) {
    sums.d_x = Tensor<T>(in.x.shape());
    sums.d_dt = Tensor<T>(in.dt.shape());
    sums.d_A = Tensor<T>(in.A.shape());
    sums.d_B = Tensor<T>(in.B.shape());
    sums.d_C = Tensor<T>(in.B.shape());
    if (in.D) sums.d_D = Tensor<T>(in.D->shape());
    if (in.z) sums.d_z = Tensor<T>(in.z->shape());
    if (in.dt_bias) sums.d_dt_bias = Tensor<T>(in.dt_bias->shape());
    if (in.initial_state) sums.d_initial_state = Tensor<T>(in.initial_state->shape());
  }

  // All batch rows, since they meet in d_A, d_D and d_dt_bias. Groups share nothing.
  void add_group(Index group) {
    for (Index b = 0; b < plan_.batch; ++b)
      for (Index head = group * plan_.heads_per_group; head < (group + 1) * plan_.heads_per_group; ++head) add_head(b, head, group);
  }

  SsdScanBackward<T> sums;

 private:
  void add_head(Index b, Index head, Index group) {
    // f of what passes at a token, over channels and states: x q B, and a q h_{t-1}.
    std::vector<T> at_input(static_cast<std::size_t>(plan_.seq_len)), at_decay(at_input), decay(at_input);
    for (Index t = 0; t < plan_.seq_len; ++t) decay[t] = f_(continues(b, t) ? exp(plan_.delta(b, head, t) * in_.A[head]) : T(0));
    for (Index p = 0; p < plan_.head_dim; ++p) add_channel(b, head, group, p, decay, at_input, at_decay);
    for (Index t = 0; t < plan_.seq_len; ++t) {
      const T slope = f_(through_step<T>({}, plan_, in_, b, head, t, T(1)));
      const T d_dt = slope * (at_input[t] + f_(in_.A[head]) * at_decay[t]);
      sums.d_dt(b, t, head) = d_dt;
      if (in_.dt_bias) sums.d_dt_bias[head] += d_dt;
      sums.d_A[head] += f_(plan_.delta(b, head, t)) * at_decay[t];
    }
  }

  void add_channel(Index b, Index head, Index group, Index p, const std::vector<T>& decay, std::vector<T>& at_input,
                   std::vector<T>& at_decay) {
    const Index S = plan_.seq_len, N = plan_.state_size;
    const T D = !in_.D ? T(0) : f_(in_.D->rank() == 2 ? (*in_.D)(head, p) : (*in_.D)[head]);
    Tensor<T> h({S + 1, N});  // h_{-1}, h_0, ...
    std::vector<T> q(static_cast<std::size_t>(N));
    for (Index n = 0; n < N; ++n) {
      if (in_.initial_state) h(0, n) = f_((*in_.initial_state)(b, head, p, n));
      if (d_final_state_) q[n] = f_((*d_final_state_)(b, head, p, n));
    }
    for (Index t = 0; t < S; ++t) {
      const T input = f_(plan_.delta(b, head, t)) * f_(in_.x(b, t, head, p));
      const T *before = &h(t, 0), *B = &in_.B(b, t, group, 0);
      T* after = &h(t + 1, 0);
      for (Index n = 0; n < N; ++n) after[n] = decay[t] * before[n] + input * f_(B[n]);
    }
    for (Index t = S - 1; t >= 0; --t) {
      const T x = f_(in_.x(b, t, head, p)), delta = f_(plan_.delta(b, head, t));
      const T *before = &h(t, 0), *after = &h(t + 1, 0), *B = &in_.B(b, t, group, 0), *C = &in_.C(b, t, group, 0);
      T dy = f_(d_y_(b, t, head, p));
      if (in_.z) {
        T u = D * x;
        for (Index n = 0; n < N; ++n) u += f_(C[n]) * after[n];
        sums.d_z(b, t, head, p) = dy * u * f_(silu_derivative((*in_.z)(b, t, head, p)));
        dy *= f_(silu((*in_.z)(b, t, head, p)));
      }
      T *d_B = &sums.d_B(b, t, group, 0), *d_C = &sums.d_C(b, t, group, 0), q_B = 0, q_h = 0;
      for (Index n = 0; n < N; ++n) {
        q[n] += dy * f_(C[n]);
        d_C[n] += dy * after[n];
        d_B[n] += delta * q[n] * x;
        q_B += q[n] * f_(B[n]);
        q_h += q[n] * before[n];
        q[n] *= decay[t];
      }
      sums.d_x(b, t, head, p) = D * dy + delta * q_B;
      if (in_.D) sums.d_D[in_.D->rank() == 2 ? head * plan_.head_dim + p : head] += dy * x;
      at_input[t] += q_B * x;
      at_decay[t] += decay[t] * q_h;
    }
    for (Index n = 0; n < N && in_.initial_state; ++n) sums.d_initial_state(b, head, p, n) = q[n];
  }

  // Whether the state goes on from t - 1 to t.
  bool continues(Index b, Index t) const {
    const std::int32_t* run = plan_.run.data() + b * plan_.seq_len;
    return plan_.run.empty() || run[t] == (t == 0 ? 0 : run[t - 1]);
  }

  const F& f_;
  const SsdScanPlan<T>& plan_;
  const SsdScanInputs<T>& in_;
  const Tensor<T>& d_y_;
  MaybeTensor<T> d_final_state_;
};

template <class T, class F>
SsdScanBackward<T> sum_terms(const F& f, const SsdScanPlan<T>& plan, const SsdScanInputs<T>& in, const Tensor<T>& d_y,
                             MaybeTensor<T> d_final_state) {
  GradientTerms<T, F> terms(f, plan, in, d_y, d_final_state);
  parallel_for(plan.groups, 1, [&](Index group, Index) { terms.add_group(group); });
  return std::move(terms.sums);
}

}  // namespace

template <class T>
SsdScanBackwardTermSums<T> ssd_scan_backward_term_sums(const SsdScanInputs<T>& in, const Tensor<T>& d_y, MaybeTensor<T> d_final_state) {
  const char* name = "ssd_scan_backward_term_sums";
  const SsdScanPlan<T> plan(name, {}, in);
  require_shape(name, "d_y", d_y, in.x.shape());
  if (d_final_state) require_shape(name, "d_final_state", *d_final_state, {plan.batch, plan.heads, plan.head_dim, plan.state_size});
  auto sums = sum_terms([](T v) { return std::fabs(v); }, plan, in, d_y, d_final_state);
  auto squares = sum_terms([](T v) { return v * v; }, plan, in, d_y, d_final_state);
  const auto both = [&](Tensor<T> SsdScanBackward<T>::*gradient) {
    return TermSums<T>{std::move(sums.*gradient), std::move(squares.*gradient)};
  };
  using S = SsdScanBackward<T>;
  return {.d_x = both(&S::d_x), .d_dt = both(&S::d_dt), .d_A = both(&S::d_A), .d_B = both(&S::d_B), .d_C = both(&S::d_C),
          .d_D = both(&S::d_D), .d_z = both(&S::d_z), .d_dt_bias = both(&S::d_dt_bias),
          .d_initial_state = both(&S::d_initial_state)};
}

template SsdScanBackwardTermSums<float> ssd_scan_backward_term_sums(const SsdScanInputs<float>&, const Tensor<float>&, MaybeTensor<float>);
template SsdScanBackwardTermSums<double> ssd_scan_backward_term_sums(const SsdScanInputs<double>&, const Tensor<double>&,
                                                                     MaybeTensor<double>);

}  // namespace assay::reference
