#include "reference/ssm_state_update.h"

#include <algorithm>
#include <vector>

#include "reference/check.h"
#include "reference/row_pieces.h"
#include "reference/sums.h"

namespace assay::reference {
namespace {

template <class T>
void check(const SsmStateUpdateInputs<T>& in, const Tensor<T>& state) {
  const char* name = "ssm_state_update";
  require(in.x.rank() == 3, name, ": x has shape ", to_string(in.x.shape()), "; want [batch, heads, head_dim]");
  const Index batch = in.x.dim(0), heads = in.x.dim(1), head_dim = in.x.dim(2);
  require(in.B.rank() == 3 && in.B.dim(0) == batch && in.B.dim(1) > 0 && heads % in.B.dim(1) == 0, name, ": B has shape ",
          to_string(in.B.shape()), "; want [", batch, ", a divisor of ", heads, ", state_size]");
  require_shape(name, "C", in.C, in.B.shape());
  require_shape(name, "dt", in.dt, {batch, heads});
  require_shape(name, "A", in.A, {heads});
  if (in.D && in.D->rank() == 2) require_shape(name, "D", *in.D, {heads, head_dim});
  else if (in.D) require_shape(name, "D", *in.D, {heads});
  if (in.z) require_shape(name, "z", *in.z, in.x.shape());
  if (in.dt_bias) require_shape(name, "dt_bias", *in.dt_bias, {heads});
  const Index rows = in.state_rows.empty() ? batch : state.rank() == 4 ? state.dim(0) : 0;
  require_shape(name, "state", state, {rows, heads, head_dim, in.B.dim(2)});
  require(in.state_rows.empty() || static_cast<Index>(in.state_rows.size()) == batch, name, ": state_rows has ",
          in.state_rows.size(), " numbers; want ", batch);
  for (const std::int32_t row : in.state_rows)
    require(row < rows, name, ": state_rows names row ", row, "; the state has ", rows);
}

}  // namespace

template <class T>
Tensor<T> ssm_state_update(const Numerics<T>& num, const SsmStateUpdateInputs<T>& in, Tensor<T>& state, Storage state_storage) {
  check(in, state);
  const Index batch = in.x.dim(0), heads = in.x.dim(1), P = in.x.dim(2), groups = in.B.dim(1), N = in.B.dim(2);
  const Numerics<T> cache{.storage = state_storage};
  Tensor<T> y(in.x.shape());
  parallel_for(batch * heads, rows_per_piece(P * N), [&](Index begin, Index end) {
    std::vector<T> input(static_cast<std::size_t>(N));
    for (Index unit = begin; unit < end; ++unit) {
      const Index b = unit / heads, head = unit % heads, group = head / (heads / groups);
      const Index row = in.state_rows.empty() ? b : in.state_rows[b];
      if (row < 0) continue;
      const T v = in.dt(b, head) + (in.dt_bias ? (*in.dt_bias)[head] : T(0));
      const T delta = std::max(in.dt_softplus ? num.softplus(v) : v, in.dt_min), decay = num.exp(delta * in.A[head]);
      for (Index n = 0; n < N; ++n) input[n] = in.B(b, group, n) * delta;
      for (Index p = 0; p < P; ++p) {
        const T x = in.x(b, head, p);
        const std::span<T> h(&state(row, head, p, 0), static_cast<std::size_t>(N));
        for (Index n = 0; n < N; ++n) h[n] = h[n] * decay + input[n] * x;
        T out = dot(h.data(), &in.C(b, group, 0), N);
        if (in.D) out += (in.D->rank() == 2 ? (*in.D)(head, p) : (*in.D)[head]) * x;
        if (in.z) out *= num.silu((*in.z)(b, head, p));
        y(b, head, p) = num.store(out);
        cache.store(h);
      }
    }
  });
  return y;
}

template Tensor<float> ssm_state_update(const Numerics<float>&, const SsmStateUpdateInputs<float>&, Tensor<float>&, Storage);
template Tensor<double> ssm_state_update(const Numerics<double>&, const SsmStateUpdateInputs<double>&, Tensor<double>&, Storage);

}  // namespace assay::reference
