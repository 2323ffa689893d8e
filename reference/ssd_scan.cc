// The chunked form, forward. With L, E, u of ssd_scan_plan.h, U = u Delta, and H the state entering a chunk:
//
//   G_ij  = C_i . B_j                              one matrix for each chunk and group
//   y_i   = sum_{j <= i} G_ij L_ij Delta_j x_j + E_i (H C_i) + D x_i
//   H'    = exp(cum_last) H + sum_j x_j (U_j B_j)^T
#include "reference/ssd_scan.h"

#include <array>

#include "reference/pack.h"
#include "reference/panel_product.h"
#include "reference/row_pieces.h"
#include "reference/ssd_scan_plan.h"

namespace assay::reference {
namespace {

// M is cut along its diagonal in steps of this many rows, a multiple of the rows of every kernel: what a product visits
// beyond the diagonal does not depend on the kernel.
constexpr Index kDiagonalStep = 8;

// Outputs come from far away, to be overwritten: early enough, nobody waits for them.
template <class T>
void prefetch_for_writing(const T* p, Index count) {
  for (Index i = 0; i < count; i += static_cast<Index>(64 / sizeof(T))) __builtin_prefetch(p + i, 1);
}

// to [columns, rows] = from^T, in bands that keep to few lines of either.
template <class T>
void transpose(const T* from, Index rows, Index columns, T* to) {
  constexpr Index band = 8;
  for (Index column = 0; column < columns; column += band)  // to pack rows is to transpose them
    gemm_kernels<T>().front().pack(from + column, columns, 1, rows, std::min(band, columns - column), rows, to + column * rows);
}

// Some heads of one group of one batch row, chunk after chunk. What the heads share is packed once for a chunk. States are
// kept transposed, [state_size, head_dim]: then x is the second factor of both of its products, and is packed once, too.
// M and U B are made in the layout of packed rows, [token j][rows of a panel]: what belongs to token j is repeated for all
// rows of a panel, and every loop runs over a whole panel.
template <class T>
class HeadsForward {
 public:
  HeadsForward(const Numerics<T>& num, const SsdScanPlan<T>& plan, const SsdScanInputs<T>& in, SsdScanForward<T>& out, Index b,
               Index first_head, Index heads)
      : num_(num), plan_(plan), in_(in), out_(out), b_(b), first_head_(first_head), heads_(heads), P_(plan.head_dim), N_(plan.state_size),
        height_(M_.step()),
        tokens_((std::min(plan.chunk_size, plan.seq_len) + kDiagonalStep - 1) / kDiagonalStep * kDiagonalStep),
        states_({heads, N_, P_}), products_({tokens_, tokens_}), repeated_(Tensor<T>::uninitialized({3, tokens_ * height_})) {
    require(kDiagonalStep % height_ == 0, "ssd_scan_forward: a kernel of ", height_, " rows; want a divisor of ", kDiagonalStep);
    x_.resize(P_, tokens_);
    tile_ = Tensor<T>::uninitialized({tokens_, x_.step()});
  }

  void run() {
    for (Index k = 0; k < heads_ && in_.initial_state; ++k) transpose(in_.initial_state->data() + state_of(k), P_, N_, state(k));
    const Index group = first_head_ / plan_.heads_per_group;
    for (Index chunk = 0; chunk < plan_.chunks; ++chunk) {
      const MatrixView<const T> B = plan_.rows(in_.B.data(), b_, chunk, group, plan_.groups, N_);
      const MatrixView<const T> C = plan_.rows(in_.C.data(), b_, chunk, group, plan_.groups, N_);
      multiply_B_C(B, C);
      C_.pack(C.rows, N_, C.data, C.stride, 1);
      B_.pack(N_, B.rows, B.data, 1, B.stride);
      for (Index k = 0; k < heads_; ++k) run_chunk(chunk, k);
    }
    for (Index k = 0; k < heads_; ++k) transpose(state(k), N_, P_, out_.final_state.data() + state_of(k));
  }

 private:
  T* state(Index k) { return states_.data() + k * plan_.state_count(); }
  Index state_of(Index k) const { return (b_ * plan_.heads + first_head_ + k) * plan_.state_count(); }

  // G_ij = C_i . B_j, j <= i: as G^T, whose columns are then packed as rows of G.
  void multiply_B_C(MatrixView<const T> B, MatrixView<const T> C) {
    rows_of_B_.pack(B.rows, N_, B.data, B.stride, 1);
    columns_of_C_.pack(C.rows, N_, C.data, C.stride, 1);
    for (Index i = 0; i < C.rows; i += columns_of_C_.step())
      for (Index j = 0; j < std::min(B.rows, i + columns_of_C_.step()); j += height_)
        multiply_panels(rows_of_B_, j, columns_of_C_, i, N_, products_.data() + j * tokens_ + i, tokens_, Sum::overwrite);
    G_.pack(C.rows, tokens_, products_.data(), 1, tokens_);
  }

  void run_chunk(Index chunk, Index k) {
    const Index head = first_head_ + k, count = plan_.state_count();
    const ChunkDecays<T> decays(num_, plan_, b_, head, chunk);
    const MatrixView<const T> x = plan_.rows(in_.x.data(), b_, chunk, head, plan_.heads, P_);
    x_.pack(P_, x.rows, x.data, 1, x.stride);
    const std::span<T> entering(out_.entering_states.data() + ((b_ * plan_.chunks + chunk) * plan_.heads + head) * count,
                                static_cast<std::size_t>(count));
    const bool has_past = chunk > 0 || in_.initial_state;
    if (has_past) {
      transpose(state(k), N_, P_, entering.data());
      num_.store(entering);
      H_.pack(P_, N_, state(k), 1, P_);
      num_.store(H_.span());
    } else {
      std::fill(entering.begin(), entering.end(), T(0));
    }
    weigh(decays);
    outputs(decays, chunk, head, has_past);
    advance(decays, state(k));
  }

  // Of the rows of M from i on, those columns that may not be zero; filled up.
  static Index depth(Index i) { return (i / kDiagonalStep + 1) * kDiagonalStep; }

  // values[j] for all rows of a panel, for every token j; 0 beyond them.
  template <class Value>
  T* repeat(Index which, Index length, const Value& value) {
    T* out = repeated_.data() + which * tokens_ * height_;
    for (Index j = 0; j < tokens_; ++j) std::fill_n(out + j * height_, height_, j < length ? value(j) : T(0));
    return out;
  }

  // M_ij = G_ij L_ij Delta_j
  void weigh(const ChunkDecays<T>& decays) {
    const Index length = decays.length;
    const T* cum = repeat(0, length, [&](Index j) { return decays.cum[j]; });
    const T* delta = repeat(1, length, [&](Index j) { return decays.delta[j]; });
    M_.resize(length, tokens_);
    for (Index i = 0; i < length; i += height_) {
      T* m = M_.panel(i);
      const T* g = G_.panel(i);
      const Index size = depth(i) * height_;
      std::array<T, kDiagonalStep> cum_i;  // by element, for one or more tokens j
      for (Index e = 0; e < kDiagonalStep; ++e) cum_i[e] = decays.cum[std::min(i + e % height_, length - 1)];
      for (Index at = 0; at < size; at += kDiagonalStep)
        for (Index e = 0; e < kDiagonalStep; ++e) m[at + e] = std::min(cum_i[e] - cum[at + e], T(0));
      const std::span<T> panel(m, static_cast<std::size_t>(size));
      exp(std::span<const T>(panel), panel, num_.function_scale());
      for (Index e = 0; e < size; ++e) m[e] = g[e] * m[e] * delta[e];
      for (Index row = i; row < std::min(i + height_, length); ++row) {
        for (Index j = 0; j < decays.document_begin[row]; ++j) m[j * height_ + row - i] = 0;
        for (Index j = row + 1; j < depth(i); ++j) m[j * height_ + row - i] = 0;
      }
      num_.store(panel);
    }
  }

  // y of the chunk.
  void outputs(const ChunkDecays<T>& decays, Index chunk, Index head, bool has_past) {
    const Index length = decays.length;
    const MatrixView<T> y = plan_.rows(out_.y.data(), b_, chunk, head, plan_.heads, P_);
    for (Index p = 0; p < P_; p += x_.step()) {
      const Index width = x_.width(p), count = std::min(width, P_ - p);
      for (Index i = 0; has_past && i < length; i += height_) {
        T* tile = tile_.data() + i * width;
        multiply_panels(C_, i, H_, p, N_, tile, width, Sum::overwrite);
        for (Index row = i; row < std::min(i + height_, length); ++row)
          for (Index c = 0; c < count; ++c) tile_[row * width + c] *= decays.in[row];
      }
      for (Index i = 0; i < length; i += height_) {
        T* tile = tile_.data() + i * width;
        for (Index row = i + 2 * kDiagonalStep; row < std::min(i + 2 * kDiagonalStep + height_, length); ++row)
          prefetch_for_writing(y.data + row * y.stride + p, count);
        multiply_panels(M_, i, x_, p, std::min(length, depth(i)), tile, width, has_past ? Sum::accumulate : Sum::overwrite);
        for (Index row = i; row < std::min(i + height_, length); ++row)
          finish(tile_.data() + row * width, x_.panel(p) + row * width, head * P_ + p, count, y.data + row * y.stride + p);
      }
    }
  }

  // y = row + D x, gated, for `count` channels; `channel` counts from the first head's first. The row is used up.
  void finish(T* row, const T* x, Index channel, Index count, T* y) {
    const bool by_channel = in_.D && in_.D->rank() == 2;
    const T* D = !in_.D ? nullptr : in_.D->data() + (by_channel ? channel : channel / P_);
    for_packs<T>(count, [&](auto lanes) {
      Pack<T> sum = lanes.load(row);
      if (D) sum = sum + (by_channel ? lanes.load(D) : Pack<T>::all(*D)) * lanes.load(x);
      lanes.store(y, sum);
    });
    if (in_.z) {
      const Index offset = y - out_.y.data();
      const auto n = static_cast<std::size_t>(count);
      std::copy_n(y, count, out_.ungated_y.data() + offset);
      num_.store({out_.ungated_y.data() + offset, n});
      silu(std::span<const T>(in_.z->data() + offset, n), std::span<T>(row, n), num_.function_scale());
      for (Index p = 0; p < count; ++p) y[p] *= row[p];
    }
    num_.store({y, static_cast<std::size_t>(count)});
  }

  // H' of the chunk, in place.
  void advance(const ChunkDecays<T>& decays, T* state) {
    const T* U = repeat(2, decays.length, [&](Index j) { return decays.out[j] * decays.delta[j]; });
    UB_.resize(N_, decays.length);
    for (Index n = 0; n < N_; n += height_) {
      T* ub = UB_.panel(n);
      const T* b = B_.panel(n);
      for (Index e = 0; e < decays.length * height_; ++e) ub[e] = b[e] * U[e];
    }
    num_.store(UB_.span());
    for (Index i = 0; i < plan_.state_count(); ++i) state[i] *= decays.through;
    for (Index p = 0; p < P_; p += x_.step())
      for (Index n = 0; n < N_; n += height_)
        multiply_panels(UB_, n, x_, p, decays.length, state + n * P_ + p, P_, Sum::accumulate);
  }

  const Numerics<T>& num_;
  const SsdScanPlan<T>& plan_;
  const SsdScanInputs<T>& in_;
  SsdScanForward<T>& out_;
  Index b_, first_head_, heads_, P_, N_;
  PackedOperand<T> C_ = PackedOperand<T>::rows(), G_ = PackedOperand<T>::rows(), B_ = PackedOperand<T>::rows();  // of B the rows are states
  PackedOperand<T> rows_of_B_ = PackedOperand<T>::rows(), columns_of_C_ = PackedOperand<T>::columns();
  PackedOperand<T> M_ = PackedOperand<T>::rows(), UB_ = PackedOperand<T>::rows();
  PackedOperand<T> x_ = PackedOperand<T>::columns(), H_ = PackedOperand<T>::columns();
  Index height_;        // rows of a panel
  Index tokens_;        // of a chunk, filled up to the diagonal's step
  Tensor<T> states_;    // [heads, state_size, head_dim]
  Tensor<T> products_;  // [tokens, tokens]: G^T
  Tensor<T> repeated_;  // [3, tokens * height]
  Tensor<T> tile_;      // [tokens, columns of a panel]: y
};

}  // namespace

template <class T>
SsdScanForward<T> ssd_scan_forward(const Numerics<T>& num, const SsdScanInputs<T>& in) {
  const SsdScanPlan<T> plan("ssd_scan_forward", num, in);
  SsdScanForward<T> out;
  out.y = Tensor<T>::uninitialized(in.x.shape());
  out.final_state = Tensor<T>::uninitialized({plan.batch, plan.heads, plan.head_dim, plan.state_size});
  out.entering_states = Tensor<T>::uninitialized({plan.batch, plan.chunks, plan.heads, plan.head_dim, plan.state_size});
  if (in.z) out.ungated_y = Tensor<T>::uninitialized(in.x.shape());

  // As many heads of a group together as leave every thread two units.
  Index together = plan.heads_per_group, parts = 1;
  for (; together > 1 && plan.batch * plan.groups * parts < 2 * threads(); parts = (plan.heads_per_group + together - 1) / together)
    together = (together + 1) / 2;
  parallel_for(plan.batch * plan.groups * parts, 1, [&](Index unit, Index) {
    const Index first = unit % parts * together, group = unit / parts % plan.groups;
    HeadsForward<T>(num, plan, in, out, unit / parts / plan.groups, group * plan.heads_per_group + first,
                    std::min(together, plan.heads_per_group - first)).run();
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
