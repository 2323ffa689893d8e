// The chunked form, backward. Beside the names of ssd_scan.cc: Gamma is the gradient of the state that leaves a chunk, and
//
//   M_ij = (dy_i . x_j) L_ij Delta_j
//   Z_j  = sum_{i >= j} G_ij L_ij dy_i + u_j (Gamma B_j)        dx_j = Delta_j Z_j + D dy_j
//   dC_i = sum_j M_ij B_j + E_i (H^T dy_i)                      dB_j = sum_i M_ij C_i + U_j (Gamma^T x_j)
//   Gamma of the chunk before = exp(cum_last) Gamma + sum_i E_i dy_i C_i^T
//
// Delta_m A decays everything that passes from a token before m to one from m on; its gradient is the sum of all that:
//
//   r_m = sum_{j < m <= i} M_ij G_ij + sum_{i >= m} E_i dy_i . (H C_i) + sum_{j < m} U_j x_j . (Gamma B_j)
//         + exp(cum_last) <Gamma, H>
//   dDelta_m = Z_m . x_m + A r_m        dA = sum_m Delta_m r_m
//
// (The same as differences of row and column sums of M G, but those cancel: in float they lose a digit or two.)
#include "reference/row_pieces.h"
#include "reference/ssd_scan.h"
#include "reference/ssd_scan_plan.h"
#include "reference/sums.h"

namespace assay::reference {
namespace {

template <class T>
struct Backward {
  const Numerics<T>& num;
  const SsdScanPlan<T>& plan;
  const SsdScanInputs<T>& in;
  const SsdScanForward<T>& forward;
  const Tensor<T>& d_y;          // after the gate
  SsdScanBackward<T>& out;
  Tensor<T> gamma;               // [batch, chunks, heads, head_dim, state_size]
  Tensor<T> state_products;      // [batch, chunks, heads]: exp(cum_last) <Gamma, H>
  Tensor<T> d_v, delta_r;        // [batch, heads, seq_len]: dv, and Delta_m r_m

  const T* entering(Index b, Index chunk, Index head) const {
    return forward.entering_states.data() + state_offset(b, chunk, head);
  }
  Index state_offset(Index b, Index chunk, Index head) const {
    return ((b * plan.chunks + chunk) * plan.heads + head) * plan.state_count();
  }

  // Gamma of every chunk, from the last to the first.
  void pass_state_gradients(MaybeTensor<T> d_final_state) {
    const Index count = plan.state_count(), P = plan.head_dim, N = plan.state_size;
    for_units(plan.batch * plan.heads, plan.seq_len * count, [&](Index unit) {
      const Index b = unit / plan.heads, head = unit % plan.heads;
      Tensor<T> running({P, N}), weighted = Tensor<T>::uninitialized({std::min(plan.chunk_size, plan.seq_len), P});
      if (d_final_state) std::copy_n(d_final_state->data() + unit * count, count, running.data());
      for (Index chunk = plan.chunks - 1; chunk >= 0; --chunk) {
        const std::span<T> leaving(gamma.data() + state_offset(b, chunk, head), static_cast<std::size_t>(count));
        std::copy_n(running.data(), count, leaving.data());
        num.store(leaving);
        const ChunkDecays<T> decays(num, plan, b, head, chunk);
        state_products[(b * plan.chunks + chunk) * plan.heads + head] =
            decays.through * dot(running.data(), entering(b, chunk, head), count);
        const MatrixView<const T> dy = plan.rows(d_y.data(), b, chunk, head, plan.heads, P);
        for (Index i = 0; i < decays.length; ++i)
          for (Index p = 0; p < P; ++p) weighted[i * P + p] = dy.data[i * dy.stride + p] * decays.in[i];
        const MatrixView<const T> E_dy(weighted.data(), decays.length, P);
        num.store({weighted.data(), static_cast<std::size_t>(decays.length * P)});
        for (T& value : running.span()) value *= decays.through;
        gemm_tn(E_dy, plan.rows(in.C.data(), b, chunk, head / plan.heads_per_group, plan.groups, N), view(running, P),
                Sum::accumulate);
      }
      if (in.initial_state) {
        num.store(running.span());
        std::copy_n(running.data(), count, out.d_initial_state.data() + unit * count);
      }
    });
  }

  // Everything else of one chunk of one group.
  void chunk_gradients(Index b, Index chunk, Index group) {
    const Index length = plan.length(chunk), P = plan.head_dim, N = plan.state_size;
    const MatrixView<const T> B = plan.rows(in.B.data(), b, chunk, group, plan.groups, N);
    const MatrixView<const T> C = plan.rows(in.C.data(), b, chunk, group, plan.groups, N);
    Tensor<T> G({length, length}), L({length, length}), W({length, length}), d_G({length, length});
    Tensor<T> Z({length, P}), through_state({length, P}), wide({length, N}), d_B({length, N}), d_C({length, N});
    std::vector<T> r(static_cast<std::size_t>(length)), direct(r), to_state(r), from_state(r);
    lower_product<T>(C, B, view(G, length));

    for (Index head = group * plan.heads_per_group; head < (group + 1) * plan.heads_per_group; ++head) {
      const ChunkDecays<T> decays(num, plan, b, head, chunk);
      const MatrixView<const T> x = plan.rows(in.x.data(), b, chunk, head, plan.heads, P);
      const MatrixView<const T> dy = plan.rows(d_y.data(), b, chunk, head, plan.heads, P);
      const MatrixView<const T> Gamma(gamma.data() + state_offset(b, chunk, head), P, N), H(entering(b, chunk, head), P, N);
      decays.between(view(L, length));
      lower_product<T>(dy, x, view(W, length));
      std::fill(r.begin(), r.end(), T(0));
      for (Index i = 0; i < length; ++i) {
        T* l = &L(i, 0);
        T* w = &W(i, 0);
        T* d_g = &d_G(i, 0);
        const T* g = &G(i, 0);
        for (Index j = 0; j <= i; ++j) {
          w[j] = w[j] * l[j] * decays.delta[j];  // M
          d_g[j] += w[j];
          l[j] = g[j] * l[j];
        }
        T past = 0;  // sum_{j < m} M_ij G_ij
        for (Index m = 0; m <= i; ++m) {
          r[m] += past;
          past += w[m] * g[m];
        }
      }
      num.store(L.span());
      lower_transposed_times<T>(view(L, length), dy, view(Z, length));
      gemm_nt(B, Gamma, view(through_state, length));
      const MatrixView<T> d_x = plan.rows(out.d_x.data(), b, chunk, head, plan.heads, P);
      for (Index j = 0; j < length; ++j) {
        T* z = &Z(j, 0);
        T* s = &through_state(j, 0);
        const T* x_j = x.data + j * x.stride;
        const T* dy_j = dy.data + j * dy.stride;
        for (Index p = 0; p < P; ++p) s[p] *= decays.out[j];
        to_state[j] = decays.delta[j] * dot(s, x_j, P);
        for (Index p = 0; p < P; ++p) z[p] += s[p];
        direct[j] = dot(z, x_j, P);
        T* d_x_j = d_x.data + j * d_x.stride;
        const T* D = !in.D ? nullptr : in.D->data() + head * (in.D->rank() == 2 ? P : 1);
        for (Index p = 0; p < P; ++p) d_x_j[p] = decays.delta[j] * z[p];
        if (D)
          for (Index p = 0; p < P; ++p) d_x_j[p] += (in.D->rank() == 2 ? D[p] : D[0]) * dy_j[p];
        num.store({d_x_j, static_cast<std::size_t>(P)});
      }

      gemm(dy, H, view(wide, length));
      for (Index i = 0; i < length; ++i) {
        T* row = &wide(i, 0);
        for (Index n = 0; n < N; ++n) row[n] *= decays.in[i];
        from_state[i] = dot(row, C.data + i * C.stride, N);
        for (Index n = 0; n < N; ++n) d_C(i, n) += row[n];
      }
      gemm(x, Gamma, view(wide, length));
      for (Index j = 0; j < length; ++j) {
        const T U = decays.out[j] * decays.delta[j];
        for (Index n = 0; n < N; ++n) d_B(j, n) += U * wide(j, n);
      }
      T suffix = state_products[(b * plan.chunks + chunk) * plan.heads + head], prefix = 0;
      for (Index m = length - 1; m >= 0; --m) r[m] += suffix += from_state[m];
      for (Index m = 0; m < length; ++m) r[m] += prefix, prefix += to_state[m];
      for (Index m = 0; m < length; ++m) {
        const Index t = plan.begin(chunk) + m;
        delta_r(b, head, t) = decays.delta[m] * r[m];
        d_v(b, head, t) = through_step(num, plan, in, b, head, t, direct[m] + in.A[head] * r[m]);
      }
    }

    num.store(d_G.span());
    gemm(view(d_G, length), B, view(d_C, length), Sum::accumulate);
    gemm_tn(view(d_G, length), C, view(d_B, length), Sum::accumulate);
    store_rows(d_B, plan.rows(out.d_B.data(), b, chunk, group, plan.groups, N));
    store_rows(d_C, plan.rows(out.d_C.data(), b, chunk, group, plan.groups, N));
  }

  void store_rows(const Tensor<T>& from, MatrixView<T> to) const {
    for (Index i = 0; i < to.rows; ++i) {
      const std::span<T> row(to.data + i * to.stride, static_cast<std::size_t>(to.cols));
      std::copy_n(&from(i, 0), to.cols, row.data());
      num.store(row);
    }
  }
};

// dz, and dy before the gate: dy silu(z), rounded as upstream stores it.
template <class T>
Tensor<T> through_gate(const Numerics<T>& num, const SsdScanInputs<T>& in, const Tensor<T>& ungated, const Tensor<T>& d_y,
                       Tensor<T>& d_z) {
  d_z = Tensor<T>::uninitialized(d_y.shape());
  Tensor<T> inner = Tensor<T>::uninitialized(d_y.shape());
  parallel_for(d_y.size(), 32768, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const T z = (*in.z)[i];
      d_z[i] = num.store(d_y[i] * ungated[i] * num.silu_derivative(z));
      inner[i] = num.store(d_y[i] * num.silu(z));
    }
  });
  return inner;
}

// d_D: sum over batch and time of dy silu(z) x (not rounded before), for every channel, then over the channels of a head if
// D is given by head.
template <class T>
Tensor<T> skip_gradient(const Numerics<T>& num, const SsdScanPlan<T>& plan, const SsdScanInputs<T>& in, const Tensor<T>& d_y) {
  const Index width = plan.heads * plan.head_dim;
  Tensor<T> by_channel = sum_over_rows<T>(plan.batch * plan.seq_len, width, [&](Index begin, Index end, T* sum) {
    std::vector<T> gate(in.z ? static_cast<std::size_t>(width) : 0);
    for (Index i = begin; i < end; ++i) {
      const T* dy = d_y.data() + i * width;
      const T* x = in.x.data() + i * width;
      if (in.z) silu(std::span<const T>(in.z->data() + i * width, gate.size()), std::span<T>(gate), num.function_scale());
      for (Index c = 0; c < width; ++c) sum[c] += in.z ? dy[c] * gate[c] * x[c] : dy[c] * x[c];
    }
  });
  if (in.D->rank() == 2) return std::move(by_channel).reshaped({plan.heads, plan.head_dim});
  Tensor<T> by_head({plan.heads});
  for (Index h = 0; h < plan.heads; ++h) by_head[h] = sum(by_channel.data() + h * plan.head_dim, plan.head_dim);
  return by_head;
}

// Sum over batch and time of values [batch, heads, seq_len].
template <class T>
Tensor<T> sum_by_head(const SsdScanPlan<T>& plan, const Tensor<T>& values) {
  Tensor<T> by_head({plan.heads});
  for (Index b = 0; b < plan.batch; ++b)
    for (Index h = 0; h < plan.heads; ++h) by_head[h] += sum(values.data() + (b * plan.heads + h) * plan.seq_len, plan.seq_len);
  return by_head;
}

}  // namespace

template <class T>
SsdScanBackward<T> ssd_scan_backward(const Numerics<T>& num, const SsdScanInputs<T>& in, const SsdScanForward<T>& forward,
                                     const Tensor<T>& d_y, MaybeTensor<T> d_final_state) {
  const char* name = "ssd_scan_backward";
  const SsdScanPlan<T> plan(name, num, in);
  require_shape(name, "d_y", d_y, in.x.shape());
  const Shape state_shape = {plan.batch, plan.heads, plan.head_dim, plan.state_size};
  if (d_final_state) require_shape(name, "d_final_state", *d_final_state, state_shape);
  require_shape(name, "forward.entering_states", forward.entering_states,
                {plan.batch, plan.chunks, plan.heads, plan.head_dim, plan.state_size});

  SsdScanBackward<T> out;
  Tensor<T> inner_d_y;
  if (in.z) {
    require_shape(name, "forward.ungated_y", forward.ungated_y, in.x.shape());
    inner_d_y = through_gate(num, in, forward.ungated_y, d_y, out.d_z);
  }
  out.d_x = Tensor<T>::uninitialized(in.x.shape());
  out.d_B = Tensor<T>::uninitialized(in.B.shape());
  out.d_C = Tensor<T>::uninitialized(in.B.shape());
  if (in.initial_state) out.d_initial_state = Tensor<T>::uninitialized(state_shape);

  Backward<T> pass{.num = num, .plan = plan, .in = in, .forward = forward, .d_y = in.z ? inner_d_y : d_y, .out = out,
                   .gamma = Tensor<T>::uninitialized(forward.entering_states.shape()),
                   .state_products = Tensor<T>({plan.batch, plan.chunks, plan.heads}),
                   .d_v = Tensor<T>(plan.v.shape()),
                   .delta_r = Tensor<T>(plan.v.shape())};
  pass.pass_state_gradients(d_final_state);
  for_units(plan.batch * plan.chunks * plan.groups, plan.chunk_work(), [&](Index unit) {
    pass.chunk_gradients(unit / (plan.chunks * plan.groups), unit / plan.groups % plan.chunks, unit % plan.groups);
  });

  out.d_A = sum_by_head(plan, pass.delta_r);
  if (in.dt_bias) out.d_dt_bias = sum_by_head(plan, pass.d_v);
  if (in.D) out.d_D = skip_gradient(num, plan, in, d_y);
  out.d_dt = Tensor<T>::uninitialized(in.dt.shape());
  for (Index b = 0; b < plan.batch; ++b)
    for (Index t = 0; t < plan.seq_len; ++t)
      for (Index h = 0; h < plan.heads; ++h) out.d_dt(b, t, h) = num.store(pass.d_v(b, h, t));
  return out;
}

template SsdScanBackward<float> ssd_scan_backward(const Numerics<float>&, const SsdScanInputs<float>&, const SsdScanForward<float>&,
                                                  const Tensor<float>&, MaybeTensor<float>);
template SsdScanBackward<double> ssd_scan_backward(const Numerics<double>&, const SsdScanInputs<double>&,
                                                   const SsdScanForward<double>&, const Tensor<double>&, MaybeTensor<double>);

}  // namespace assay::reference
