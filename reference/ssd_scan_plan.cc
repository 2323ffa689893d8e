#include "reference/ssd_scan_plan.h"

#include "reference/row_pieces.h"

namespace assay::reference {

template <class T>
SsdScanPlan<T>::SsdScanPlan(const char* name, const Numerics<T>& num, const SsdScanInputs<T>& in, Index piece_size) {
  require(in.x.rank() == 4, name, ": x has shape ", to_string(in.x.shape()), "; want [batch, seq_len, heads, head_dim]");
  batch = in.x.dim(0), seq_len = in.x.dim(1), heads = in.x.dim(2), head_dim = in.x.dim(3);
  require(in.B.rank() == 4, name, ": B has shape ", to_string(in.B.shape()), "; want [batch, seq_len, groups, state_size]");
  groups = in.B.dim(2), state_size = in.B.dim(3);
  require(groups > 0 && heads % groups == 0, name, ": groups = ", groups, "; want a divisor of heads = ", heads);
  require_shape(name, "B", in.B, {batch, seq_len, groups, state_size});
  require_shape(name, "C", in.C, in.B.shape());
  require_shape(name, "dt", in.dt, {batch, seq_len, heads});
  require_shape(name, "A", in.A, {heads});
  if (in.D && in.D->rank() == 2) require_shape(name, "D", *in.D, {heads, head_dim});
  else if (in.D) require_shape(name, "D", *in.D, {heads});
  if (in.z) require_shape(name, "z", *in.z, in.x.shape());
  if (in.dt_bias) require_shape(name, "dt_bias", *in.dt_bias, {heads});
  if (in.initial_state) require_shape(name, "initial_state", *in.initial_state, {batch, heads, head_dim, state_size});
  require(in.seq_idx.empty() || static_cast<Index>(in.seq_idx.size()) == batch * seq_len, name, ": seq_idx has ", in.seq_idx.size(),
          " numbers; want ", batch * seq_len);
  require(in.chunk_size >= 1, name, ": chunk_size = ", in.chunk_size, "; want >= 1");
  heads_per_group = heads / groups;
  chunk_size = piece_size;
  chunks = (seq_len + chunk_size - 1) / chunk_size;

  for (std::size_t i = 0; i < in.seq_idx.size(); ++i) {
    const bool first = i % static_cast<std::size_t>(seq_len) == 0;
    const std::int32_t before = first ? 0 : in.seq_idx[i - 1], document = first ? 0 : run[i - 1];
    run.push_back(document + (in.seq_idx[i] != before));
  }

  v = Tensor<T>::uninitialized({batch, heads, seq_len});
  delta = cum = v;
  for_units(batch * heads, 16 * seq_len, [&](Index unit) {
    const Index b = unit / heads, head = unit % heads;
    T* raw = v.data() + unit * seq_len;
    T* step = delta.data() + unit * seq_len;
    T* sum = cum.data() + unit * seq_len;
    const T bias = in.dt_bias ? (*in.dt_bias)[head] : T(0);
    for (Index t = 0; t < seq_len; ++t) raw[t] = in.dt(b, t, head) + bias;
    const std::span<const T> from(raw, static_cast<std::size_t>(seq_len));
    const std::span<T> to(step, from.size());
    if (!in.dt_softplus) std::copy(from.begin(), from.end(), to.begin());
    else if (num.softplus_form == Softplus::naive) softplus_naive(from, to, num.function_scale());
    else softplus(from, to, num.function_scale());
    for (Index t = 0; t < seq_len; ++t) {
      step[t] = std::min(std::max(step[t], in.dt_min), in.dt_max);
      sum[t] = step[t] * in.A[head] + (t % chunk_size == 0 ? T(0) : sum[t - 1]);
    }
  });
}

template <class T>
ChunkDecays<T>::ChunkDecays(const Numerics<T>& num, const SsdScanPlan<T>& plan, Index b, Index head, Index chunk, T through_scale)
    : length(plan.length(chunk)), num_(num) {
  const Index first = (b * plan.heads + head) * plan.seq_len + plan.begin(chunk), last = length - 1;
  delta = plan.delta.data() + first;
  cum = plan.cum.data() + first;

  const std::int32_t* run = plan.run.empty() ? nullptr : plan.run.data() + b * plan.seq_len + plan.begin(chunk);
  document_begin.assign(static_cast<std::size_t>(length), 0);
  if (run)
    for (Index i = 1; i < length; ++i) document_begin[i] = run[i] == run[i - 1] ? document_begin[i - 1] : i;
  const std::int32_t entering = plan.entering_run(b, chunk);
  Index continuing = length;  // tokens before this one continue the entering state
  if (run) continuing = std::find_if(run, run + length, [=](std::int32_t r) { return r != entering; }) - run;

  in.assign(static_cast<std::size_t>(length), T(0));
  out = in;
  exp(std::span<const T>(cum, static_cast<std::size_t>(continuing)), std::span<T>(in).first(static_cast<std::size_t>(continuing)),
      num.function_scale());
  for (Index j = document_begin[last]; j < length; ++j) out[j] = std::min(cum[last] - cum[j], T(0));
  const std::span<T> open = std::span<T>(out).subspan(static_cast<std::size_t>(document_begin[last]));
  exp(open, open, through_scale);
  through = continuing == length ? reference::exp(cum[last]) * through_scale : T(0);
}

template <class T>
void ChunkDecays<T>::between(MatrixView<T> L) const {
  for (Index i = 0; i < length; ++i) {
    T* row = L.data + i * L.stride;
    const Index first = document_begin[i];
    std::fill(row, row + first, T(0));
    for (Index j = first; j <= i; ++j) row[j] = std::min(cum[i] - cum[j], T(0));
    const std::span<T> open(row + first, static_cast<std::size_t>(i + 1 - first));
    exp(open, open, num_.function_scale());
    std::fill(row + i + 1, row + length, T(0));
  }
}

std::vector<std::int32_t> seq_idx_from_cu_seqlens(std::span<const std::int32_t> cu_seqlens, Index tokens) {
  const char* name = "seq_idx_from_cu_seqlens";
  require(!cu_seqlens.empty() && cu_seqlens[0] == 0, name, ": cu_seqlens does not begin at 0");
  for (std::size_t i = 1; i < cu_seqlens.size(); ++i)
    require(cu_seqlens[i] >= cu_seqlens[i - 1], name, ": cu_seqlens[", i, "] = ", cu_seqlens[i], " is below the one before, ",
            cu_seqlens[i - 1]);
  std::vector<std::int32_t> seq_idx(static_cast<std::size_t>(tokens));
  for (Index t = 0; t < tokens; ++t)
    seq_idx[t] = static_cast<std::int32_t>(std::upper_bound(cu_seqlens.begin() + 1, cu_seqlens.end(), t) - (cu_seqlens.begin() + 1));
  return seq_idx;
}

template struct SsdScanPlan<float>;
template struct SsdScanPlan<double>;
template struct ChunkDecays<float>;
template struct ChunkDecays<double>;

}  // namespace assay::reference
