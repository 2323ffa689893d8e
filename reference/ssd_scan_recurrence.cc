#include "reference/ssd_scan_recurrence.h"

#include "reference/row_pieces.h"
#include "reference/ssd_scan_plan.h"
#include "reference/sums.h"

namespace assay::reference {
namespace {

// One head of one batch row: its sequences, and the recurrence over them.
template <class T>
struct HeadScan {
  const SsdScanPlan<T>& plan;
  const SsdScanInputs<T>& in;
  Index b, head, group;

  HeadScan(const SsdScanPlan<T>& plan_, const SsdScanInputs<T>& in_, Index unit)
      : plan(plan_), in(in_), b(unit / plan.heads), head(unit % plan.heads), group(head / plan.heads_per_group) {}

  const T* x(Index t) const { return &in.x(b, t, head, 0); }
  const T* B(Index t) const { return &in.B(b, t, group, 0); }
  const T* C(Index t) const { return &in.C(b, t, group, 0); }
  T delta(Index t) const { return plan.delta(b, head, t); }
  T D(Index p) const { return !in.D ? T(0) : in.D->rank() == 2 ? (*in.D)(head, p) : (*in.D)[head]; }
  // a_t = kappa_t exp(Delta_t A)
  T decay(const Numerics<T>& num, Index t) const {
    const std::int32_t* run = plan.run.data() + b * plan.seq_len;
    const bool continues = plan.run.empty() || run[t] == (t == 0 ? 0 : run[t - 1]);
    return continues ? num.exp(delta(t) * in.A[head]) : T(0);
  }
  void start(T* state) const {
    const Index count = plan.state_count();
    if (in.initial_state) std::copy_n(in.initial_state->data() + (b * plan.heads + head) * count, count, state);
    else std::fill_n(state, count, T(0));
  }
  // next = a_t state + Delta_t x_t B_t^T; the two may be the same.
  void step(const Numerics<T>& num, Index t, const T* state, T* next) const {
    const T a = decay(num, t);
    for (Index p = 0; p < plan.head_dim; ++p)
      for (Index n = 0; n < plan.state_size; ++n) {
        const Index i = p * plan.state_size + n;
        next[i] = a * state[i] + delta(t) * x(t)[p] * B(t)[n];
      }
  }
};

}  // namespace

template <class T>
SsdScanForward<T> ssd_scan_recurrence_forward(const Numerics<T>& num, const SsdScanInputs<T>& in) {
  const SsdScanPlan<T> plan("ssd_scan_recurrence_forward", num, in);
  SsdScanForward<T> out;
  out.y = Tensor<T>(in.x.shape());
  out.final_state = Tensor<T>({plan.batch, plan.heads, plan.head_dim, plan.state_size});
  if (in.z) out.ungated_y = out.y;
  for_units(plan.batch * plan.heads, plan.seq_len * plan.state_count(), [&](Index unit) {
    const HeadScan<T> scan(plan, in, unit);
    T* state = out.final_state.data() + unit * plan.state_count();
    scan.start(state);
    for (Index t = 0; t < plan.seq_len; ++t) {
      scan.step(num, t, state, state);
      for (Index p = 0; p < plan.head_dim; ++p) {
        const T u = dot(state + p * plan.state_size, scan.C(t), plan.state_size) + scan.D(p) * scan.x(t)[p];
        if (in.z) out.ungated_y(scan.b, t, scan.head, p) = num.store(u);
        out.y(scan.b, t, scan.head, p) = num.store(in.z ? u * num.silu((*in.z)(scan.b, t, scan.head, p)) : u);
      }
    }
  });
  return out;
}

template <class T>
SsdScanBackward<T> ssd_scan_recurrence_backward(const Numerics<T>& num, const SsdScanInputs<T>& in, const Tensor<T>& d_y,
                                                MaybeTensor<T> d_final_state) {
  const char* name = "ssd_scan_recurrence_backward";
  const SsdScanPlan<T> plan(name, num, in);
  require_shape(name, "d_y", d_y, in.x.shape());
  SsdScanBackward<T> out;
  out.d_x = Tensor<T>(in.x.shape());
  out.d_dt = Tensor<T>(in.dt.shape());
  out.d_A = Tensor<T>({plan.heads});
  out.d_B = Tensor<T>(in.B.shape());
  out.d_C = Tensor<T>(in.B.shape());
  if (in.D) out.d_D = Tensor<T>(in.D->shape());
  if (in.z) out.d_z = Tensor<T>(in.z->shape());
  if (in.dt_bias) out.d_dt_bias = Tensor<T>({plan.heads});
  if (in.initial_state) out.d_initial_state = Tensor<T>(in.initial_state->shape());

  const Index count = plan.state_count(), P = plan.head_dim, N = plan.state_size;
  for (Index unit = 0; unit < plan.batch * plan.heads; ++unit) {
    const HeadScan<T> scan(plan, in, unit);
    const Index b = scan.b, head = scan.head;
    Tensor<T> states({plan.seq_len + 1, count});  // h_{-1}, h_0, ...
    scan.start(states.data());
    for (Index t = 0; t < plan.seq_len; ++t) scan.step(num, t, &states(t, 0), &states(t + 1, 0));

    std::vector<T> q(static_cast<std::size_t>(count)), dy(static_cast<std::size_t>(P));
    if (d_final_state) std::copy_n(d_final_state->data() + unit * count, count, q.data());
    for (Index t = plan.seq_len - 1; t >= 0; --t) {
      const T *before = &states(t, 0), *after = &states(t + 1, 0), *x = scan.x(t), *B = scan.B(t), *C = scan.C(t);
      for (Index p = 0; p < P; ++p) {
        dy[p] = d_y(b, t, head, p);
        if (!in.z) continue;
        const T z = (*in.z)(b, t, head, p), u = dot(after + p * N, C, N) + scan.D(p) * x[p];
        out.d_z(b, t, head, p) = num.store(dy[p] * u * num.silu_derivative(z));
        dy[p] *= num.silu(z);
      }
      T along_input = 0, along_state = 0;  // sum q x B, sum q h_{t-1}
      for (Index p = 0; p < P; ++p) {
        T q_B = 0;
        for (Index n = 0; n < N; ++n) {
          const Index i = p * N + n;
          q[i] += dy[p] * C[n];
          out.d_C(b, t, scan.group, n) += dy[p] * after[i];
          out.d_B(b, t, scan.group, n) += scan.delta(t) * q[i] * x[p];
          q_B += q[i] * B[n];
          along_state += q[i] * before[i];
        }
        out.d_x(b, t, head, p) = num.store(scan.D(p) * dy[p] + scan.delta(t) * q_B);
        along_input += q_B * x[p];
        if (in.D) out.d_D[in.D->rank() == 2 ? head * P + p : head] += dy[p] * x[p];
      }
      const T a = scan.decay(num, t), e = a * along_state;
      out.d_A[head] += scan.delta(t) * e;
      out.d_dt(b, t, head) = num.store(through_step(num, plan, in, b, head, t, in.A[head] * e + along_input));
      if (in.dt_bias) out.d_dt_bias[head] += through_step(num, plan, in, b, head, t, in.A[head] * e + along_input);
      for (T& value : q) value *= a;
    }
    if (in.initial_state) std::copy(q.begin(), q.end(), out.d_initial_state.data() + unit * count);
  }
  num.store(out.d_B.span());
  num.store(out.d_C.span());
  return out;
}

template SsdScanForward<float> ssd_scan_recurrence_forward(const Numerics<float>&, const SsdScanInputs<float>&);
template SsdScanForward<double> ssd_scan_recurrence_forward(const Numerics<double>&, const SsdScanInputs<double>&);
template SsdScanBackward<float> ssd_scan_recurrence_backward(const Numerics<float>&, const SsdScanInputs<float>&,
                                                             const Tensor<float>&, MaybeTensor<float>);
template SsdScanBackward<double> ssd_scan_recurrence_backward(const Numerics<double>&, const SsdScanInputs<double>&,
                                                              const Tensor<double>&, MaybeTensor<double>);

}  // namespace assay::reference
