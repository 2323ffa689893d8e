// The chunked form, forward. With L, E, u of ssd_scan_plan.h, U = u Delta, and H the state entering a chunk:
//
//   G_ij  = C_i . B_j                              one matrix for each chunk and group
//   y_i   = sum_{j <= i} G_ij L_ij Delta_j x_j + E_i (H C_i) + D x_i
//   H'    = exp(cum_last) H + sum_j x_j (U_j B_j)^T
#include "reference/ssd_scan.h"

#include <array>

#include "reference/ahead.h"
#include "reference/panel_product.h"
#include "reference/row_pieces.h"
#include "reference/ssd_scan_plan.h"
#include "reference/stream.h"

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

// Some heads of one group of one batch row, piece after piece; the plan's chunks are pieces. What the heads share is packed once
// for a piece. States are kept as packed columns, [state_size, head_dim]: then x is the second factor of both of its products,
// and is packed once, too, a panel of channels at a time, while the panel before it multiplies. M and U B are made in the layout
// of packed rows, [token j][rows of a panel].
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
    H_.resize(P_, N_);
    width_ = H_.step();
    tile_ = Tensor<T>::uninitialized({height_, width_});
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
    begin_loading(channels(0, 0, 0));
    load(0, next_.x.rows);
    for (Index piece = 0; piece < plan_.chunks; ++piece) {
      const auto rows_of = [&](const Tensor<T>& t, Index i) { return plan_.rows(t.data(), b_, i, group, plan_.groups, N_); };
      const MatrixView<const T> B = rows_of(in_.B, piece), C = rows_of(in_.C, piece);
      multiply_C_B(C, B);
      B_.pack(N_, B.rows, B.data, 1, B.stride);
      if (const Index next = piece + 1; next < plan_.chunks) {
        const MatrixView<const T> next_B = rows_of(in_.B, next), next_C = rows_of(in_.C, next);
        B_ahead_ = {next_B.data, next_B.rows, N_, next_B.stride};
        C_ahead_ = {next_C.data, next_C.rows, N_, next_C.stride};
        shared_lines_ = pieces(B_ahead_.lines(), pieces(heads_, 2) * pieces(P_, width_) * pieces(B.rows, height_));
      }
      for (Index k = 0; k < heads_; ++k) run_piece(piece, k);
    }
    for (Index k = 0; k < heads_; ++k)
      for (Index p = 0; p < P_; p += width_) unpack(states_[k], p, out_.final_state.data() + state_of(k) + p * N_);
    finish_streams();
  }

 private:
  static Index pieces(Index n, Index size) { return (n + size - 1) / size; }
  bool rounds() const { return num_.storage != Storage::native; }
  Index state_of(Index k) const { return (b_ * plan_.heads + first_head_ + k) * plan_.state_count(); }
  // The panel at p, to [head_dim of the panel, state_size].
  void unpack(const PackedOperand<T>& state, Index p, T* to) const {
    stream_transposed(state.panel(p), state.width(p), N_, std::min(width_, P_ - p), to);
  }

  // G_ij = C_i . B_j, j <= i.
  void multiply_C_B(MatrixView<const T> C, MatrixView<const T> B) {
    C_.pack(C.rows, N_, C.data, C.stride, 1);
    columns_of_B_.pack(B.rows, N_, B.data, B.stride, 1);
    for (Index j = 0; j < B.rows; j += columns_of_B_.step())
      for (Index i = j / height_ * height_; i < C.rows; i += height_)
        multiply_panels(C_, i, columns_of_B_, j, N_, products_.data() + i * tokens_ + j, tokens_);
    G_.pack(C.rows, tokens_, products_.data(), tokens_, 1);
  }

  // The channels of a head that make a panel, and what a piece of them takes from memory: x, and the entering state, null if the
  // piece does not begin a chunk.
  struct Channels {
    MatrixView<const T> x{nullptr, 0, 0, 0};  // none: beyond the last piece
    T* entering = nullptr;
  };
  Channels channels(Index piece, Index k, Index p) const {
    if (p >= P_) ++k, p = 0;
    if (k == heads_) ++piece, k = 0;
    if (piece >= plan_.chunks) return {};
    const Index chunks = out_.entering_states.dim(1), chunk = piece / pieces_of_a_chunk_, head = first_head_ + k;
    const bool begins = piece % pieces_of_a_chunk_ == 0;
    const MatrixView<const T> x = plan_.rows(in_.x.data(), b_, piece, head, plan_.heads, P_);
    return {{x.data + p, x.rows, std::min(width_, P_ - p), x.stride},
            begins ? out_.entering_states.data() + (((b_ * chunks + chunk) * plan_.heads + head) * P_ + p) * N_ : nullptr};
  }
  void begin_loading(const Channels& next) {
    next_ = next;
    x_ahead_ = {next.x.data, next.x.rows, next.x.cols, next.x.stride};
    x_lines_ = pieces(x_ahead_.lines() * height_, std::max<Index>(1, next.x.rows));
    next_x_.resize(next.x.cols, next.x.rows);
  }
  // Some rows of x.
  void load(Index begin, Index end) {
    end = std::min(end, next_.x.rows);
    if (begin < end) next_x_.pack_depth(begin, end, next_.x.data, 1, next_.x.stride);
  }

  void run_piece(Index piece, Index k) {
    // What passes several pieces of a chunk is scaled as if it passed one exp.
    const bool ends = (piece + 1) % pieces_of_a_chunk_ == 0 || piece + 1 == plan_.chunks;
    const ChunkDecays<T> decays(num_, plan_, b_, first_head_ + k, piece, ends ? num_.function_scale() : T(1));
    const T A = in_.A[first_head_ + k];
    height_ == 8 ? weigh<8>(decays, A) : weigh<4>(decays, A);
    if (rounds()) weigh_B(decays);
    PackedOperand<T>& state = states_[k];
    const bool has_past = piece > 0 || in_.initial_state;
    if (rounds()) {
      std::copy(state.span().begin(), state.span().end(), H_.span().begin());
      num_.store(H_.span());
    }
    const PackedOperand<T>& H = rounds() ? H_ : state;
    for (Index p = 0; p < P_; p += width_) {
      T* entering = next_.entering;
      std::swap(x_, next_x_);
      begin_loading(channels(piece, k, p + width_));
      if (entering) unpack(H, p, entering);
      outputs(decays, piece, k, p, has_past ? &H : nullptr);
      if (!rounds()) weigh_x(decays);
      advance(decays, state, p);
    }
  }

  // Of the rows of M from i on, those columns that may not be zero; filled up.
  static Index depth(Index i) { return (i / kDiagonalStep + 1) * kDiagonalStep; }

  // Element (i, j) of a matrix in panels of `height` rows.
  template <Index height, class Packed>
  static auto& element(Packed& matrix, Index i, Index j) {
    return matrix.panel(i - i % height)[j * height + i % height];
  }

  // M_ij = G_ij L_ij Delta_j: a policy that rounds M makes every L_ij by one exp, as upstream does, any other as the recurrence.
  template <Index height>
  void weigh(const ChunkDecays<T>& decays, T A) {
    M_.resize(decays.length, tokens_);
    rounds() ? weigh_by_exps<height>(decays) : weigh_by_steps<height>(decays, A);
    for (Index i = 0; i < decays.length; ++i) {
      for (Index j = 0; j < decays.document_begin[i]; ++j) element<height>(M_, i, j) = 0;
      for (Index j = i + 1; j < depth(i); ++j) element<height>(M_, i, j) = 0;
    }
    for (Index i = 0; i < decays.length; i += height) num_.store({M_.panel(i), static_cast<std::size_t>(depth(i) * height)});
  }

  // L_ij = exp(cum_i - cum_j)
  template <Index height>
  void weigh_by_exps(const ChunkDecays<T>& decays) {
    for (Index i = 0; i < decays.length; i += height) {
      T* m = M_.panel(i);
      const T* g = G_.panel(i);
      const Index columns = std::min(depth(i), decays.length);
      for (Index j = 0; j < columns; ++j)
        for (Index e = 0; e < height; ++e) m[j * height + e] = std::min(decays.cum[std::min(i + e, decays.length - 1)] - decays.cum[j], T(0));
      const std::span<T> panel(m, static_cast<std::size_t>(columns * height));
      exp(std::span<const T>(panel), panel, num_.function_scale());
      for (Index j = 0; j < columns; ++j)
        for (Index e = 0; e < height; ++e) m[j * height + e] = g[j * height + e] * m[j * height + e] * decays.delta[j];
    }
  }

  // L_ij = a_i L_{i-1,j}, a_i = exp(Delta_i A), in steps along the diagonal: L_ij = (a_{r+1} ... a_i) L_rj for j <= r, the first
  // row of i's step.
  template <Index height>
  void weigh_by_steps(const ChunkDecays<T>& decays, T A) {
    const Index length = decays.length;
    T *a = by_token_.data(), *weight = a + tokens_;  // weight_j = L_ij Delta_j of the last row made
    for (Index i = 0; i < tokens_; ++i) a[i] = i < length ? decays.delta[i] * A : T(0);
    exp(std::span<const T>(a, weight), std::span<T>(a, weight));
    for (Index r = 0; r < length; r += kDiagonalStep) {
      std::array<std::array<T, kDiagonalStep>, kDiagonalStep> within{};  // [j][i]: a_{j+1} ... a_i, counted from r
      for (Index j = 0; j < kDiagonalStep; ++j)
        for (Index i = j; i < kDiagonalStep; ++i) within[j][i] = i == j ? T(1) : within[j][i - 1] * a[r + i];
      const auto decay = [&](Index j) -> const auto& { return within[std::max<Index>(j - r, 0)]; };
      for (Index j = 0; j < r; ++j) weight[j] *= a[r];
      for (Index j = r; j < r + kDiagonalStep; ++j) weight[j] = j < length ? num_.function_scale() * decays.delta[j] : T(0);
      for (Index i = r; i < std::min(r + kDiagonalStep, length); i += height)
        for (Index j = 0; j < r + kDiagonalStep; ++j) {
          const Pack<T> w = Pack<T>::all(weight[j]);
          const T *g = G_.panel(i) + j * height, *of_rows = decay(j).data() + (i - r);
          T* m = M_.panel(i) + j * height;
          for_packs<T>(height, [&](auto lanes) { lanes.store(m, lanes.load(g) * (lanes.load(of_rows) * w)); });
        }
      for (Index j = 0; j < r + kDiagonalStep; ++j) weight[j] *= decay(j).back();
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
    Ux_.resize(x_.extent(), decays.length);
    const Index width = x_.step();
    T* ux = Ux_.panel(0);
    const T* x = x_.panel(0);
    for (Index j = 0; j < decays.length; ++j) {
      const Pack<T> U = Pack<T>::all(decays.out[j] * decays.delta[j]);
      for (Index c = j * width; c < (j + 1) * width; c += Pack<T>::width) (U * Pack<T>::load(x + c)).store(ux + c);
    }
  }

  // y of the piece, in the channels of x's panel, from p on. H is the entering state, null for zero.
  void outputs(const ChunkDecays<T>& decays, Index piece, Index k, Index p, const PackedOperand<T>* H) {
    const Index head = first_head_ + k, length = decays.length, width = x_.step(), count = x_.extent();
    const MatrixView<T> y = plan_.rows(out_.y.data(), b_, piece, head, plan_.heads, P_);
    T* tile = tile_.data();
    for (Index i = 0; i < length; i += height_) {
      const Index end = std::min(i + height_, length);
      x_ahead_.fetch(x_lines_);
      if (i > 0) load(i - height_, i);  // asked for a tile ago
      if (k >= heads_ / 2) {            // earlier, they would be pushed out again
        B_ahead_.fetch(shared_lines_);
        C_ahead_.fetch(shared_lines_);
      }
      if (H) multiply_panels(C_, i, *H, p, N_, tile, width);
      multiply_panels(M_, i, x_, 0, std::min(length, depth(i)), tile, width, H ? decays.in.data() + i : nullptr);
      for (Index row = i; row < end; ++row)
        finish(tile + (row - i) * width, x_.panel(0) + row * width, head * P_ + p, count, y.data + row * y.stride + p);
    }
    load((length - 1) / height_ * height_, next_.x.rows);
  }

  // y = row + D x, gated, for `count` channels; `channel` counts from the first head's first. The row is used up.
  void finish(T* row, const T* x, Index channel, Index count, T* y) {
    const bool by_channel = in_.D && in_.D->rank() == 2;
    const T* D = !in_.D ? nullptr : in_.D->data() + (by_channel ? channel : channel / P_);
    const auto ungated = [&](auto lanes) {
      const Pack<T> sum = lanes.load(row);
      return D ? sum + (by_channel ? lanes.load(D) : Pack<T>::all(*D)) * lanes.load(x) : sum;
    };
    if (!rounds() && !in_.z) return stream(y, count, ungated);
    for_packs<T>(count, [&](auto lanes) { lanes.store(row, ungated(lanes)); });
    const auto n = static_cast<std::size_t>(count);
    if (in_.z) {
      const Index offset = y - out_.y.data();
      T* ungated_y = out_.ungated_y.data() + offset;
      std::copy_n(row, count, ungated_y);
      num_.store({ungated_y, n});
      silu(std::span<const T>(in_.z->data() + offset, n), std::span<T>(y, n), num_.function_scale());
      for (Index p = 0; p < count; ++p) row[p] *= y[p];
    }
    std::copy_n(row, count, y);
    num_.store({y, n});
  }

  // H', in place, in the channels of x's panel, from p on.
  void advance(const ChunkDecays<T>& decays, PackedOperand<T>& state, Index p) {
    const Index width = x_.step();
    T* h = state.panel(p);
    std::array<T, 8> through;
    through.fill(decays.through);
    for (Index n = 0; n < N_; n += height_)
      multiply_panels(rounds() ? UB_ : B_, n, rounds() ? x_ : Ux_, 0, decays.length, h + n * width, width, through.data());
  }

  static constexpr Index kByToken = 2;
  const Numerics<T>& num_;
  const SsdScanPlan<T>& plan_;
  const SsdScanInputs<T>& in_;
  SsdScanForward<T>& out_;
  Index b_, first_head_, heads_, P_, N_;
  PackedOperand<T> C_ = PackedOperand<T>::rows(), G_ = PackedOperand<T>::rows(), B_ = PackedOperand<T>::rows();  // of B the rows are states
  PackedOperand<T> columns_of_B_ = PackedOperand<T>::columns();
  PackedOperand<T> M_ = PackedOperand<T>::rows(), UB_ = PackedOperand<T>::rows();
  PackedOperand<T> x_ = PackedOperand<T>::columns(), next_x_ = PackedOperand<T>::columns(), Ux_ = PackedOperand<T>::columns();
  PackedOperand<T> H_ = PackedOperand<T>::columns();  // rounded
  Channels next_;                         // of next_x_
  Ahead<T> x_ahead_, B_ahead_, C_ahead_;  // of the next channels, and of the next piece
  Index x_lines_ = 0, shared_lines_ = 0;  // for each tile
  std::vector<PackedOperand<T>> states_;  // of each head
  Index height_, width_;  // rows and columns of a panel
  Index pieces_of_a_chunk_;
  Index tokens_;        // of a piece, filled up to the diagonal's step
  Tensor<T> products_;  // [tokens, tokens]: G
  Tensor<T> by_token_;  // what weigh_by_steps() needs of every token
  Tensor<T> tile_;      // [rows, columns] of panels: y
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
