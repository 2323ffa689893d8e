// The chunked form, forward. With L, E, u of ssd_scan_plan.h, U = u Delta, and H the state entering a chunk:
//
//   G_ij  = C_i . B_j                              one matrix for each chunk and group
//   y_i   = sum_{j <= i} G_ij L_ij Delta_j x_j + E_i (H C_i) + D x_i
//   H'    = exp(cum_last) H + sum_j x_j (U_j B_j)^T
#include "reference/ssd_scan.h"

#include <utility>

#include "reference/row_pieces.h"
#include "reference/ssd_scan_plan.h"

namespace assay::reference {
namespace {

// H' of one chunk of one head, in place.
template <class T>
void advance_state(const Numerics<T>& num, const SsdScanPlan<T>& plan, const SsdScanInputs<T>& in, Index b, Index head, Index chunk,
                   MatrixView<T> state, Tensor<T>& weighted) {
  const ChunkDecays<T> decays(num, plan, b, head, chunk);
  const MatrixView<const T> B = plan.rows(in.B.data(), b, chunk, head / plan.heads_per_group, plan.groups, plan.state_size);
  for (Index j = 0; j < decays.length; ++j) {
    const T U = decays.out[j] * decays.delta[j];
    for (Index n = 0; n < plan.state_size; ++n) weighted[j * plan.state_size + n] = B.data[j * B.stride + n] * U;
  }
  const MatrixView<T> UB(weighted.data(), decays.length, plan.state_size);
  num.store({UB.data, static_cast<std::size_t>(UB.rows * UB.cols)});
  for (Index i = 0; i < plan.state_count(); ++i) state.data[i] *= decays.through;
  gemm_tn(plan.rows(in.x.data(), b, chunk, head, plan.heads, plan.head_dim), UB, state, Sum::accumulate);
}

// The states entering every chunk, and the final one.
template <class T>
void pass_states(const Numerics<T>& num, const SsdScanPlan<T>& plan, const SsdScanInputs<T>& in, SsdScanForward<T>& out) {
  const Index count = plan.state_count();
  for_units(plan.batch * plan.heads, plan.seq_len * count, [&](Index unit) {
    const Index b = unit / plan.heads, head = unit % plan.heads;
    const MatrixView<T> state(out.final_state.data() + unit * count, plan.head_dim, plan.state_size);
    Tensor<T> weighted = Tensor<T>::uninitialized({std::min(plan.chunk_size, plan.seq_len), plan.state_size});
    if (in.initial_state) std::copy_n(in.initial_state->data() + unit * count, count, state.data);
    else std::fill_n(state.data, count, T(0));
    for (Index chunk = 0; chunk < plan.chunks; ++chunk) {
      T* entering = out.entering_states.data() + ((b * plan.chunks + chunk) * plan.heads + head) * count;
      std::copy_n(state.data, count, entering);
      num.store({entering, static_cast<std::size_t>(count)});
      advance_state(num, plan, in, b, head, chunk, state, weighted);
    }
  });
}

// y of one chunk of one head. past [length, head_dim]: H C_i, no data where H = 0; L [length, length] is scratch.
template <class T>
void chunk_outputs(const Numerics<T>& num, const SsdScanPlan<T>& plan, const SsdScanInputs<T>& in, Index b, Index head, Index chunk,
                   MatrixView<const T> G, MatrixView<T> L, MatrixView<const T> past, SsdScanForward<T>& out) {
  const ChunkDecays<T> decays(num, plan, b, head, chunk);
  const Index length = decays.length, P = plan.head_dim;
  decays.between(L);
  for (Index i = 0; i < length; ++i) {
    T* row = L.data + i * L.stride;
    const T* products = G.data + i * G.stride;
    for (Index j = 0; j <= i; ++j) row[j] = products[j] * row[j] * decays.delta[j];
  }
  num.store({L.data, static_cast<std::size_t>(length * length)});

  const MatrixView<const T> x = plan.rows(in.x.data(), b, chunk, head, plan.heads, P);
  const MatrixView<T> y = plan.rows(out.y.data(), b, chunk, head, plan.heads, P);
  lower_times<T>(L, x, y);

  const T* D = !in.D ? nullptr : in.D->data() + head * (in.D->rank() == 2 ? P : 1);
  for (Index i = 0; i < length; ++i) {
    const std::span<T> row(y.data + i * y.stride, static_cast<std::size_t>(P));
    const T* x_i = x.data + i * x.stride;
    if (past.data)
      for (Index p = 0; p < P; ++p) row[p] += decays.in[i] * past.data[i * past.stride + p];
    if (D)
      for (Index p = 0; p < P; ++p) row[p] += (in.D->rank() == 2 ? D[p] : D[0]) * x_i[p];
    if (in.z) {
      const Index offset = row.data() - out.y.data();
      const std::span<T> ungated(out.ungated_y.data() + offset, row.size());
      std::copy(row.begin(), row.end(), ungated.begin());
      num.store(ungated);
      for (Index p = 0; p < P; ++p) row[p] *= num.silu((*in.z)[offset + p]);
    }
    num.store(row);
  }
}

}  // namespace

template <class T>
SsdScanForward<T> ssd_scan_forward(const Numerics<T>& num, const SsdScanInputs<T>& in) {
  const SsdScanPlan<T> plan("ssd_scan_forward", num, in);
  SsdScanForward<T> out;
  out.y = Tensor<T>::uninitialized(in.x.shape());
  out.final_state = Tensor<T>::uninitialized({plan.batch, plan.heads, plan.head_dim, plan.state_size});
  out.entering_states = Tensor<T>::uninitialized({plan.batch, plan.chunks, plan.heads, plan.head_dim, plan.state_size});
  if (in.z) out.ungated_y = Tensor<T>::uninitialized(in.x.shape());

  pass_states(num, plan, in, out);
  for_units(plan.batch * plan.chunks * plan.groups, plan.chunk_work(), [&](Index unit) {
    const Index b = unit / (plan.chunks * plan.groups), chunk = unit / plan.groups % plan.chunks, group = unit % plan.groups;
    const Index length = plan.length(chunk), P = plan.head_dim, first_head = group * plan.heads_per_group;
    const Index width = plan.heads_per_group * P;
    const MatrixView<const T> C = plan.rows(in.C.data(), b, chunk, group, plan.groups, plan.state_size);
    Tensor<T> products = Tensor<T>::uninitialized({length, length}), decays = Tensor<T>::uninitialized({length, length});
    lower_product<T>(C, plan.rows(in.B.data(), b, chunk, group, plan.groups, plan.state_size), view(products, length));
    // H C of all heads of the group in one product; without an initial state the first chunk has H = 0.
    Tensor<T> past;
    if (chunk > 0 || in.initial_state) {
      past = Tensor<T>::uninitialized({length, width});
      const T* entering = out.entering_states.data() + ((b * plan.chunks + chunk) * plan.heads + first_head) * plan.state_count();
      gemm_nt(C, MatrixView<const T>(entering, width, plan.state_size), view(past, length));
    }
    for (Index k = 0; k < plan.heads_per_group; ++k)
      chunk_outputs(num, plan, in, b, first_head + k, chunk, view(std::as_const(products), length), view(decays, length),
                    MatrixView<const T>(past.empty() ? nullptr : past.data() + k * P, length, P, width), out);
  });
  return out;
}

// Within the chunk of the document's last token e: h = exp(cum_e) H [document older than the chunk] + sum_j U_j x_j B_j^T.
template <class T>
Tensor<T> ssd_scan_varlen_states(const Numerics<T>& num, const SsdScanInputs<T>& in, std::span<const std::int32_t> cu_seqlens) {
  const char* name = "ssd_scan_varlen_states";
  require(in.x.rank() == 4 && in.x.dim(0) == 1, name, ": x has shape ", to_string(in.x.shape()), "; want a batch of 1");
  const Index tokens = in.x.dim(1), documents = static_cast<Index>(cu_seqlens.size()) - 1;
  const std::vector<std::int32_t> seq_idx = seq_idx_from_cu_seqlens(cu_seqlens, tokens);
  require(cu_seqlens.back() <= tokens, name, ": cu_seqlens ends at ", cu_seqlens.back(), "; want at most seq_len = ", tokens);

  // Each document alone, up to its end, cut at the chunks of the whole row: the entering states are those of the row.
  SsdScanInputs<T> packed = in;
  packed.seq_idx = seq_idx;
  packed.initial_state = nullptr;
  const SsdScanForward<T> whole = ssd_scan_forward(num, packed);
  const Index heads = in.x.dim(2), P = in.x.dim(3), N = in.B.dim(3), groups = in.B.dim(2);
  Tensor<T> states({documents, heads, P, N});
  for (Index m = 0; m < documents; ++m) {
    const Index last = cu_seqlens[m + 1] - 1;
    if (last < cu_seqlens[m]) continue;
    const Index chunk = last / in.chunk_size, begin = chunk * in.chunk_size, length = last + 1 - begin;
    const auto slice = [&](const Tensor<T>& t, Index width) {
      Shape shape = t.shape();
      shape[1] = length;
      Tensor<T> part = Tensor<T>::uninitialized(shape);
      std::copy_n(t.data() + begin * width, length * width, part.data());
      return part;
    };
    const Tensor<T> x = slice(in.x, heads * P), dt = slice(in.dt, heads), B = slice(in.B, groups * N), C = slice(in.C, groups * N);
    Tensor<T> entering = Tensor<T>::uninitialized({1, heads, P, N});
    std::copy_n(whole.entering_states.data() + chunk * entering.size(), entering.size(), entering.data());
    std::vector<std::int32_t> part_idx(seq_idx.begin() + begin, seq_idx.begin() + last + 1);
    const std::int32_t before = begin == 0 ? 0 : seq_idx[begin - 1];
    for (std::int32_t& s : part_idx) s -= before;  // 0 continues the entering state
    const SsdScanInputs<T> part{.x = x, .dt = dt, .A = in.A, .B = B, .C = C, .dt_bias = in.dt_bias, .initial_state = &entering,
                                .seq_idx = part_idx, .chunk_size = in.chunk_size, .dt_softplus = in.dt_softplus,
                                .dt_min = in.dt_min, .dt_max = in.dt_max};
    const SsdScanForward<T> end = ssd_scan_forward(num, part);
    std::copy_n(end.final_state.data(), end.final_state.size(), states.data() + m * end.final_state.size());
  }
  num.store(states.span());
  return states;
}

template Tensor<float> ssd_scan_varlen_states(const Numerics<float>&, const SsdScanInputs<float>&, std::span<const std::int32_t>);
template Tensor<double> ssd_scan_varlen_states(const Numerics<double>&, const SsdScanInputs<double>&, std::span<const std::int32_t>);
template SsdScanForward<float> ssd_scan_forward(const Numerics<float>&, const SsdScanInputs<float>&);
template SsdScanForward<double> ssd_scan_forward(const Numerics<double>&, const SsdScanInputs<double>&);

}  // namespace assay::reference
