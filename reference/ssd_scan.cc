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

// M is cut along its diagonal in steps of this many rows, a multiple of the rows of every kernel: neither what a product visits
// beyond the diagonal nor how a decay is made depends on the kernel.
constexpr Index kDiagonalStep = 8;

// A policy that rounds nothing may cut the chunks into pieces, and passes its state from one to the next: less of a triangle to
// make and to multiply. Even chunks are halved until they are no longer than this.
constexpr Index kLongestPiece = 64;

template <class T>
Index piece_size(const Numerics<T>& num, Index chunk_size) {
  if (num.storage == Storage::native)
    while (chunk_size > kLongestPiece && chunk_size % 2 == 0) chunk_size /= 2;
  return chunk_size;
}

// Inputs come from far away, and outputs, to be overwritten: asked for a few at a time between products, nobody waits for them.
template <int to_write, class T>
void prefetch(const T* p, Index count) {
  for (Index i = 0; i < count; i += static_cast<Index>(64 / sizeof(T))) __builtin_prefetch(p + i, to_write, to_write ? 3 : 2);
}

// to [count, rows] = the first `count` columns of from, transposed; in bands that keep to few lines of either.
template <class T>
void transpose(const T* from, Index stride, Index rows, Index count, T* to) {
  constexpr Index band = 8;
  for (Index column = 0; column < count; column += band)  // to pack rows is to transpose them
    gemm_kernels<T>().front().pack(from + column, stride, 1, rows, std::min(band, count - column), rows, to + column * rows);
}

// Some heads of one group of one batch row, piece after piece; the plan's chunks are pieces. What the heads share is packed once
// for a piece. States are kept as packed columns, [state_size, head_dim]: then x is the second factor of both of its products,
// and is packed once, too. M and U B are made in the layout of packed rows, [token j][rows of a panel].
template <class T>
class HeadsForward {
 public:
  HeadsForward(const Numerics<T>& num, const SsdScanPlan<T>& plan, const SsdScanInputs<T>& in, SsdScanForward<T>& out, Index b,
               Index first_head, Index heads)
      : num_(num), plan_(plan), in_(in), out_(out), b_(b), first_head_(first_head), heads_(heads), P_(plan.head_dim), N_(plan.state_size),
        height_(M_.step()), pieces_of_a_chunk_(in.chunk_size / plan.chunk_size),
        tokens_((std::min(plan.chunk_size, plan.seq_len) + kDiagonalStep - 1) / kDiagonalStep * kDiagonalStep),
        products_({tokens_, tokens_}), by_token_({kByToken, tokens_}) {
    require(height_ == 4 || height_ == 8, "ssd_scan_forward: a kernel of ", height_, " rows; want 4 or 8");
    x_.resize(P_, tokens_);
    tile_ = Tensor<T>::uninitialized({height_, x_.step()});
  }

  void run() {
    for (Index k = 0; k < heads_; ++k) {
      states_.push_back(PackedOperand<T>::columns());
      if (in_.initial_state) {
        states_[k].pack(P_, N_, in_.initial_state->data() + state_of(k), N_, 1);
      } else {
        states_[k].resize(P_, N_);
        std::fill(states_[k].span().begin(), states_[k].span().end(), T(0));
      }
    }
    const Index group = first_head_ / plan_.heads_per_group;
    for (Index piece = 0; piece < plan_.chunks; ++piece) {
      const MatrixView<const T> B = plan_.rows(in_.B.data(), b_, piece, group, plan_.groups, N_);
      const MatrixView<const T> C = plan_.rows(in_.C.data(), b_, piece, group, plan_.groups, N_);
      multiply_B_C(B, C);
      C_.pack(C.rows, N_, C.data, C.stride, 1);
      B_.pack(N_, B.rows, B.data, 1, B.stride);
      for (Index k = 0; k < heads_; ++k) run_piece(piece, k);
    }
    for (Index k = 0; k < heads_; ++k)
      for (Index p = 0; p < P_; p += states_[k].step()) unpack(states_[k], p, out_.final_state.data() + state_of(k));
  }

 private:
  bool rounds() const { return num_.storage != Storage::native; }
  Index state_of(Index k) const { return (b_ * plan_.heads + first_head_ + k) * plan_.state_count(); }
  // The panel at p, to [head_dim, state_size].
  void unpack(const PackedOperand<T>& state, Index p, T* to) const {
    transpose(state.panel(p), state.width(p), N_, std::min(state.step(), P_ - p), to + p * N_);
  }

  // G_ij = C_i . B_j, j <= i: as G^T, whose columns are then packed as rows of G.
  void multiply_B_C(MatrixView<const T> B, MatrixView<const T> C) {
    rows_of_B_.pack(B.rows, N_, B.data, B.stride, 1);
    columns_of_C_.pack(C.rows, N_, C.data, C.stride, 1);
    for (Index i = 0; i < C.rows; i += columns_of_C_.step())
      for (Index j = 0; j < std::min(B.rows, i + columns_of_C_.step()); j += height_)
        multiply_panels(rows_of_B_, j, columns_of_C_, i, N_, products_.data() + j * tokens_ + i, tokens_, Sum::overwrite);
    G_.pack(C.rows, tokens_, products_.data(), 1, tokens_);
  }

  // What a piece of one head takes from memory: its x, and the entering state, null if it does not begin a chunk.
  struct Work {
    MatrixView<const T> x{nullptr, 0, 0, 0};
    T* entering = nullptr;
  };
  Work work(Index piece, Index k) const {
    if (k == heads_) ++piece, k = 0;
    if (piece == plan_.chunks) return {};
    const Index chunks = out_.entering_states.dim(1), chunk = piece / pieces_of_a_chunk_, head = first_head_ + k;
    const bool begins = piece % pieces_of_a_chunk_ == 0;
    return {plan_.rows(in_.x.data(), b_, piece, head, plan_.heads, P_),
            begins ? out_.entering_states.data() + ((b_ * chunks + chunk) * plan_.heads + head) * plan_.state_count() : nullptr};
  }

  void run_piece(Index piece, Index k) {
    const Work now = work(piece, k), next = work(piece, k + 1);
    // What passes several pieces of a chunk is scaled as if it passed one exp.
    const bool ends = (piece + 1) % pieces_of_a_chunk_ == 0 || piece + 1 == plan_.chunks;
    const ChunkDecays<T> decays(num_, plan_, b_, first_head_ + k, piece, ends ? num_.function_scale() : T(1));
    x_.pack(P_, now.x.rows, now.x.data, 1, now.x.stride);
    height_ == 8 ? weigh<8>(decays) : weigh<4>(decays);
    rounds() ? weigh_B(decays) : weigh_x(decays);
    PackedOperand<T>& state = states_[k];
    const bool has_past = piece > 0 || in_.initial_state;
    if (rounds() && has_past) {
      H_.resize(P_, N_);
      std::copy(state.span().begin(), state.span().end(), H_.span().begin());
      num_.store(H_.span());
    }
    for (Index p = 0; p < P_; p += x_.step()) {
      if (now.entering) unpack(state, p, now.entering);
      outputs(decays, piece, k, p, !has_past ? nullptr : rounds() ? &H_ : &state, next);
      advance(decays, state, p, next);
    }
    if (now.entering) num_.store({now.entering, static_cast<std::size_t>(plan_.state_count())});
  }

  // Of the rows of M from i on, those columns that may not be zero; filled up.
  static Index depth(Index i) { return (i / kDiagonalStep + 1) * kDiagonalStep; }

  // M_ij = G_ij L_ij Delta_j. With r the first row of i's step along the diagonal, L_ij = exp(cum_i - cum_r) exp(cum_r - cum_j)
  // for j < r: both are at most 1, since cum falls. A policy that rounds M makes every L_ij by one exp, as upstream does.
  template <Index height>
  void weigh(const ChunkDecays<T>& decays) {
    const Index length = decays.length;
    T* cum = by_token_.data();  // 0 beyond the last token, as delta
    T *delta = cum + tokens_, *from_r = delta + tokens_, *to_r = from_r + tokens_;
    std::fill(std::copy_n(decays.cum, length, cum), delta, T(0));
    std::fill(std::copy_n(decays.delta, length, delta), from_r, T(0));
    for (Index i = 0; i < tokens_; ++i) from_r[i] = std::min(cum[i] - cum[i / kDiagonalStep * kDiagonalStep], T(0));
    exp(std::span<const T>(from_r, to_r), std::span<T>(from_r, to_r));
    M_.resize(length, tokens_);
    for (Index r = 0; r < length; r += kDiagonalStep) {
      const Index by_factors = rounds() ? 0 : r;
      for (Index j = 0; j < by_factors; ++j) to_r[j] = std::min(cum[r] - cum[j], T(0));
      const std::span<T> factors(to_r, static_cast<std::size_t>(by_factors));
      exp(std::span<const T>(factors), factors, num_.function_scale());
      for (Index j = 0; j < by_factors; ++j) to_r[j] *= delta[j];
      for (Index i = r; i < std::min(r + kDiagonalStep, length); i += height) {
        T* m = M_.panel(i);
        const T* g = G_.panel(i);
        std::array<T, height> of_row;
        std::copy_n(from_r + i, height, of_row.begin());
        for (Index j = 0; j < by_factors; ++j)
          for (Index e = 0; e < height; ++e) m[j * height + e] = g[j * height + e] * (of_row[e] * to_r[j]);
        for (Index e = 0; e < height; ++e) of_row[e] = cum[std::min(i + e, length - 1)];
        for (Index j = by_factors; j < depth(i); ++j)
          for (Index e = 0; e < height; ++e) m[j * height + e] = std::min(of_row[e] - cum[j], T(0));
        const std::span<T> by_exps(m + by_factors * height, m + depth(i) * height);
        exp(std::span<const T>(by_exps), by_exps, num_.function_scale());
        for (Index j = by_factors; j < depth(i); ++j)
          for (Index e = 0; e < height; ++e) m[j * height + e] = g[j * height + e] * m[j * height + e] * delta[j];
        for (Index row = i; row < std::min(i + height, length); ++row) {
          for (Index j = 0; j < decays.document_begin[row]; ++j) m[j * height + row - i] = 0;
          for (Index j = row + 1; j < depth(i); ++j) m[j * height + row - i] = 0;
        }
        num_.store({m, static_cast<std::size_t>(depth(i) * height)});
      }
    }
  }

  // U_j B_j
  void weigh_B(const ChunkDecays<T>& decays) {
    UB_.resize(N_, decays.length);
    for (Index n = 0; n < N_; n += height_) {
      T* ub = UB_.panel(n);
      const T* b = B_.panel(n);
      for (Index j = 0; j < decays.length; ++j) {
        const T U = decays.out[j] * decays.delta[j];
        for (Index e = 0; e < height_; ++e) ub[j * height_ + e] = b[j * height_ + e] * U;
      }
    }
    num_.store(UB_.span());
  }
  // U_j x_j instead: there is less of it.
  void weigh_x(const ChunkDecays<T>& decays) {
    Ux_.resize(P_, decays.length);
    for (Index p = 0; p < P_; p += x_.step()) {
      const Index width = x_.width(p);
      T* ux = Ux_.panel(p);
      const T* x = x_.panel(p);
      for (Index j = 0; j < decays.length; ++j) {
        const T U = decays.out[j] * decays.delta[j];
        for (Index c = 0; c < width; ++c) ux[j * width + c] = U * x[j * width + c];
      }
    }
  }

  // y of the piece, in the channels of x's panel at p. H is the entering state, null for zero.
  void outputs(const ChunkDecays<T>& decays, Index piece, Index k, Index p, const PackedOperand<T>* H, const Work& next) {
    const Index head = first_head_ + k, length = decays.length, width = x_.width(p), count = std::min(width, P_ - p);
    const MatrixView<T> y = plan_.rows(out_.y.data(), b_, piece, head, plan_.heads, P_);
    T* tile = tile_.data();
    for (Index i = 0; i < length; i += height_) {
      const Index end = std::min(i + height_, length);
      for (Index row = i + 2 * kDiagonalStep; row < std::min(i + 2 * kDiagonalStep + height_, length); ++row)
        prefetch<1>(y.data + row * y.stride + p, count);
      for (Index row = i; row < std::min(i + height_, next.x.rows); ++row) prefetch<0>(next.x.data + row * next.x.stride + p, count);
      if (H) {
        multiply_panels(C_, i, *H, p, N_, tile, width, Sum::overwrite);
        for (Index row = i; row < end; ++row)
          for (Index c = 0; c < count; ++c) tile[(row - i) * width + c] *= decays.in[row];
      }
      multiply_panels(M_, i, x_, p, std::min(length, depth(i)), tile, width, H ? Sum::accumulate : Sum::overwrite);
      for (Index row = i; row < end; ++row)
        finish(tile + (row - i) * width, x_.panel(p) + row * width, head * P_ + p, count, y.data + row * y.stride + p);
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

  // H', in place, in the channels of x's panel at p.
  void advance(const ChunkDecays<T>& decays, PackedOperand<T>& state, Index p, const Work& next) {
    const Index width = x_.width(p), count = std::min(width, P_ - p);
    T* h = state.panel(p);
    for (Index n = 0; n < N_; n += height_) {
      for (T& value : std::span<T>(h + n * width, h + std::min(n + height_, N_) * width)) value *= decays.through;
      if (next.entering) prefetch<1>(next.entering + p * N_ + n * count, std::min(height_, N_ - n) * count);
      multiply_panels(rounds() ? UB_ : B_, n, rounds() ? x_ : Ux_, p, decays.length, h + n * width, width, Sum::accumulate);
    }
  }

  static constexpr Index kByToken = 4;
  const Numerics<T>& num_;
  const SsdScanPlan<T>& plan_;
  const SsdScanInputs<T>& in_;
  SsdScanForward<T>& out_;
  Index b_, first_head_, heads_, P_, N_;
  PackedOperand<T> C_ = PackedOperand<T>::rows(), G_ = PackedOperand<T>::rows(), B_ = PackedOperand<T>::rows();  // of B the rows are states
  PackedOperand<T> rows_of_B_ = PackedOperand<T>::rows(), columns_of_C_ = PackedOperand<T>::columns();
  PackedOperand<T> M_ = PackedOperand<T>::rows(), UB_ = PackedOperand<T>::rows();
  PackedOperand<T> x_ = PackedOperand<T>::columns(), Ux_ = PackedOperand<T>::columns(), H_ = PackedOperand<T>::columns();  // H rounded
  std::vector<PackedOperand<T>> states_;  // of each head
  Index height_;             // rows of a panel
  Index pieces_of_a_chunk_;
  Index tokens_;             // of a piece, filled up to the diagonal's step
  Tensor<T> products_;       // [tokens, tokens]: G^T
  Tensor<T> by_token_;       // what weigh() needs of every token
  Tensor<T> tile_;           // [rows, columns] of panels: y
};

}  // namespace

template <class T>
SsdScanForward<T> ssd_scan_forward(const Numerics<T>& num, const SsdScanInputs<T>& in) {
  const SsdScanPlan<T> plan("ssd_scan_forward", num, in, piece_size(num, in.chunk_size));
  const Index chunks = (plan.seq_len + in.chunk_size - 1) / in.chunk_size;
  SsdScanForward<T> out;
  out.y = Tensor<T>::uninitialized(in.x.shape());
  out.final_state = Tensor<T>::uninitialized({plan.batch, plan.heads, plan.head_dim, plan.state_size});
  out.entering_states = Tensor<T>::uninitialized({plan.batch, chunks, plan.heads, plan.head_dim, plan.state_size});
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
