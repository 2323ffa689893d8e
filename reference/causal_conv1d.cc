#include "reference/causal_conv1d.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>
#include <type_traits>
#include <vector>

#include "reference/check.h"
#include "reference/elementary_pack.h"
#include "reference/row_pieces.h"
#include "reference/stream.h"

namespace assay::reference {
namespace {

// Channels of one run of backward: ring, weights and sums of four taps are 26 KiB in double, which stay in the L1 cache. And
// of tokens that forward computes together.
constexpr Index kChannelBlock = 256;
constexpr Index kTokensTogether = 4;

// [channels, columns] -> columns rows of channels, so that a loop runs along channels.
template <class T>
Tensor<T> transposed(const T* data, Index channels, Index columns) {
  Tensor<T> rows = Tensor<T>::uninitialized({columns, channels});
  for (Index c = 0; c < channels; ++c)
    for (Index j = 0; j < columns; ++j) rows(j, c) = data[c * columns + j];
  return rows;
}

// What the taps of a token read, null for nothing. Four taps that all read something, the common case, come as an array: its
// loops unroll, and its addresses stay in registers.
template <class T>
using FourSources = std::array<const T*, 4>;
template <class Sources>
constexpr bool kAllRead = requires { std::tuple_size<std::remove_cvref_t<Sources>>::value; };

template <class T, class Body>
void with_sources(const std::vector<const T*>& s, const Body& body) {
  if (s.size() == 4 && s[0] && s[1] && s[2] && s[3]) body(FourSources<T>{s[0], s[1], s[2], s[3]});
  else body(s);
}

// The convolution's geometry: which row of memory each tap of each token reads.
template <class T>
struct Window {
  const CausalConv1dInputs<T>& in;
  Index batch, seq_len, channels, taps;
  Tensor<T> weight;   // [taps, channels]
  Tensor<T> bias;     // [channels], 0 without one
  Tensor<T> initial;  // [batch, taps - 1, channels], empty without one

  Window(const char* name, const CausalConv1dInputs<T>& inputs) : in(inputs) {
    const Tensor<T>& x = in.x;
    const Tensor<T>& w = in.weight;
    require(x.rank() == 3, name, ": x has shape ", to_string(x.shape()), "; want [batch, seq_len, channels]");
    batch = x.dim(0), seq_len = x.dim(1), channels = x.dim(2);
    const bool plain = w.rank() == 2, with_one = w.rank() == 3 && w.dim(1) == 1;
    require((plain || with_one) && w.dim(0) == channels && w.dim(-1) >= 1, name, ": weight has shape ", to_string(w.shape()),
            "; want [", channels, ", K] or [", channels, ", 1, K]");
    taps = w.dim(-1);
    if (in.bias) require_shape(name, "bias", *in.bias, {channels});
    if (in.initial_state) require_shape(name, "initial_state", *in.initial_state, {batch, channels, taps - 1});
    require(in.seq_idx.empty() || static_cast<Index>(in.seq_idx.size()) == batch * seq_len, name, ": seq_idx has ",
            in.seq_idx.size(), " numbers; want ", batch * seq_len);
    require(in.seq_idx.empty() || !in.initial_state, name, ": seq_idx and initial_state are both given; want one of them at most");
    weight = transposed(w.data(), channels, taps);
    bias = in.bias ? *in.bias : Tensor<T>({channels});
    if (in.initial_state) {
      initial = Tensor<T>::uninitialized({batch, taps - 1, channels});
      for (Index b = 0; b < batch; ++b)
        for (Index c = 0; c < channels; ++c)
          for (Index j = 0; j < taps - 1; ++j) initial(b, j, c) = (*in.initial_state)(b, c, j);
    }
  }

  std::int32_t document(Index b, Index t) const { return in.seq_idx.empty() ? 0 : in.seq_idx[b * seq_len + t]; }

  // What tap j of token t reads; null: nothing.
  const T* source(Index b, Index t, Index j) const {
    const Index from = t - (taps - 1) + j;
    if (from >= 0) return document(b, from) == document(b, t) ? in.x.data() + (b * seq_len + from) * channels : nullptr;
    return initial.empty() ? nullptr : initial.data() + (b * (taps - 1) + from + taps - 1) * channels;
  }

  // p at token t: one fma per tap, oldest to newest, starting from the bias. `lanes` are of the channels from `first` on,
  // which the sources begin with.
  template <class Sources, class Lanes>
  Pack<T> sum(const Sources& sources, Index first, const Lanes& lanes) const {
    const T* w = weight.data() + first;
    Pack<T> p = lanes.load(bias.data() + first);
    for (std::size_t j = 0; j < sources.size(); ++j)
      if (kAllRead<Sources> || sources[j]) p = fma(lanes.load(w + static_cast<Index>(j) * channels), lanes.load(sources[j]), p);
    return p;
  }

  // p [kTokensTogether, count] of the channels [first, first + count) at the tokens from `row` on, whose four taps all read x: a
  // weight is loaded once for all of them, x once for all of its taps.
  void sum_together(Index row, Index first, Index count, T* p) const {
    for_packs<T>(count, [&, p, C = channels, b = bias.data() + first, w = weight.data() + first,
                         x = in.x.data() + (row - 3) * channels + first](auto lanes) {
      Pack<T> window[kTokensTogether + 3];
      for (Index k = 0; k < kTokensTogether + 3; ++k) window[k] = lanes.load(x + k * C);
      for (Index i = 0; i < kTokensTogether; ++i) {
        Pack<T> sum = lanes.load(b);
        for (Index j = 0; j < 4; ++j) sum = fma(lanes.load(w + j * C), window[i + j], sum);
        lanes.store(p + i * count, sum);
      }
    });
  }

  // Four taps that all read x, at `count` tokens of one document from row on.
  bool all_read_x(Index row, Index count) const {
    const Index t = row % seq_len;
    if (taps != 4 || t < 3 || t + count > seq_len) return false;
    if (in.seq_idx.empty()) return true;
    const std::int32_t* documents = in.seq_idx.data() + row;
    return documents[0] >= 0 && std::all_of(documents - 3, documents + count, [=](std::int32_t d) { return d == documents[0]; });
  }

  void find_sources(Index b, Index t, std::vector<const T*>& sources) const {
    for (Index j = 0; j < taps; ++j) sources[j] = source(b, t, j);
  }
};

// The gradient of one run of tokens of a batch row, for the channels [first, first + count). dp of the last `taps` tokens
// stands in a ring.
template <class T>
class BackwardRun {
 public:
  // sums [taps + 1, channels]: where dw (by tap) and db are added up.
  BackwardRun(const Numerics<T>& num, const Window<T>& window, const Tensor<T>& d_y, T* sums, Index first, Index count)
      : num_(num), w_(window), d_y_(d_y), sums_(sums), first_(first), count_(count), ring_({window.taps, count}),
        sources_(window.taps) {}

  // Computes dp at token t; its share of dw and db is added if `counts`.
  void compute(Index b, Index t, bool counts) {
    T* dp = ring(t);
    if (w_.document(b, t) < 0) return void(std::fill_n(dp, count_, T(0)));
    const T* dy = d_y_.data() + (b * w_.seq_len + t) * w_.channels + first_;
    w_.find_sources(b, t, sources_);
    for (const T*& source : sources_)
      if (source) source += first_;
    with_sources(sources_, [&](const auto from) {
      for_packs<T>(count_, [&, counts, dp, dy, dw = sums_ + first_, C = w_.channels, scale = Pack<T>::all(num_.function_scale()),
                            silu = w_.in.silu](auto lanes) {
        Pack<T> d = lanes.load(dy);
        if (silu) d = d * pack::silu_derivative(w_.sum(from, first_, lanes), scale);
        lanes.store(dp, d);
        if (!counts) return;
        const Index taps = static_cast<Index>(from.size());
        for (Index j = 0; j < taps; ++j)
          if (kAllRead<decltype(from)> || from[j]) lanes.store(dw + j * C, fma(d, lanes.load(from[j]), lanes.load(dw + j * C)));
        lanes.store(dw + taps * C, lanes.load(dw + taps * C) + d);
      });
    });
  }

  // out [count] = sum over the tokens that read position `at` (>= -(K-1)) of w_j dp, not rounded. Their dp are in the ring.
  void gather(Index b, Index at, T* out) {
    for (Index j = 0; j < w_.taps; ++j) {
      const Index t = at + w_.taps - 1 - j;
      const bool reads = t >= 0 && t < w_.seq_len && (at < 0 || w_.document(b, t) == w_.document(b, at));
      sources_[j] = reads ? ring(t) : nullptr;
    }
    with_sources(sources_, [&](const auto from) {
      for_packs<T>(count_, [&, w = w_.weight.data() + first_, C = w_.channels](auto lanes) {
        Pack<T> sum = Pack<T>::all(0);
        for (Index j = static_cast<Index>(from.size()) - 1; j >= 0; --j)
          if (kAllRead<decltype(from)> || from[j]) sum = fma(lanes.load(w + j * C), lanes.load(from[j]), sum);
        lanes.store(out, sum);
      });
    });
  }

 private:
  T* ring(Index t) { return ring_.data() + t % w_.taps * count_; }

  const Numerics<T>& num_;
  const Window<T>& w_;
  const Tensor<T>& d_y_;
  T* sums_;
  Index first_, count_;
  Tensor<T> ring_;
  std::vector<const T*> sources_;
};

}  // namespace

template <class T>
CausalConv1dForward<T> causal_conv1d_forward(const Numerics<T>& num, const CausalConv1dInputs<T>& in) {
  const Window<T> w("causal_conv1d_forward", in);
  CausalConv1dForward<T> out{.y = Tensor<T>::uninitialized(in.x.shape()), .final_state = {}};
  const Index C = w.channels, rows_together = (rows_per_piece(C) + kTokensTogether - 1) / kTokensTogether * kTokensTogether;
  parallel_for(w.batch * w.seq_len, rows_together, [&](Index begin, Index end) {
    std::vector<const T*> sources(w.taps);
    std::array<T, kTokensTogether * kChannelBlock> sums;
    const auto activate = [&](T* p, Index count) {  // p becomes y
      const std::span<T> values(p, static_cast<std::size_t>(count));
      if (in.silu) silu(std::span<const T>(values), values, num.function_scale());
      num.store(values);
    };
    for (Index row = begin; row < end; ++row) {
      if (row + kTokensTogether <= end && w.all_read_x(row, kTokensTogether)) {
        for (Index channel = 0; channel < C; channel += kChannelBlock) {
          const Index count = std::min(kChannelBlock, C - channel);
          w.sum_together(row, channel, count, sums.data());
          activate(sums.data(), kTokensTogether * count);
          for (Index i = 0; i < kTokensTogether; ++i)
            stream(out.y.data() + (row + i) * C + channel, count, [=, p = sums.data() + i * count](auto lanes) { return lanes.load(p); });
        }
        row += kTokensTogether - 1;
        continue;
      }
      const Index b = row / w.seq_len, t = row % w.seq_len;
      T* y = out.y.data() + row * C;
      if (w.document(b, t) < 0) {
        std::fill_n(y, C, T(0));
        continue;
      }
      w.find_sources(b, t, sources);
      with_sources(sources, [&](const auto from) {
        for_packs<T>(C, [&, y](auto lanes) { lanes.store(y, w.sum(from, 0, lanes)); });
      });
      activate(y, C);
    }
    finish_streams();
  });
  if (in.seq_idx.empty()) {
    out.final_state = Tensor<T>({w.batch, w.channels, w.taps - 1});
    for (Index b = 0; b < w.batch; ++b)
      for (Index i = 0; i < w.taps - 1; ++i)
        // Column i is what tap i of the token after the last would read.
        if (const T* column = w.source(b, w.seq_len, i))
          for (Index c = 0; c < w.channels; ++c) out.final_state(b, c, i) = column[c];
  }
  return out;
}

template <class T>
CausalConv1dBackward<T> causal_conv1d_backward(const Numerics<T>& num, const CausalConv1dInputs<T>& in, const Tensor<T>& d_y,
                                               MaybeTensor<T> d_final_state) {
  const char* name = "causal_conv1d_backward";
  const Window<T> w(name, in);
  require_shape(name, "d_y", d_y, in.x.shape());
  if (d_final_state) require_shape(name, "d_final_state", *d_final_state, {w.batch, w.channels, w.taps - 1});
  const Index past = w.taps - 1;

  // Adds to out [count] the gradient of the final state's column that copies position `from`, if there is one.
  const auto add_final = [&](Index b, Index from, T* out, Index first, Index count) {
    const Index column = from - (w.seq_len - past);
    if (!d_final_state || column < 0 || column >= past) return;
    for (Index c = 0; c < count; ++c) out[c] += (*d_final_state)(b, first + c, column);
  };

  CausalConv1dBackward<T> out{.d_x = Tensor<T>::uninitialized(in.x.shape()), .d_weight = {}, .d_bias = {}, .d_initial_state = {}};
  const Tensor<T> sums = sum_over_rows<T>(w.batch * w.seq_len, (w.taps + 1) * w.channels, [&](Index begin, Index end, T* partial) {
    for (Index channel = 0; channel < w.channels; channel += kChannelBlock) {
      const Index count = std::min(kChannelBlock, w.channels - channel);
      BackwardRun<T> run(num, w, d_y, partial, channel, count);
      for (Index b = begin / w.seq_len; b * w.seq_len < end; ++b) {
        const Index first = std::max<Index>(0, begin - b * w.seq_len), last = std::min(w.seq_len, end - b * w.seq_len);
        Index next = first;  // dp is known before this token
        for (Index t = first; t < last; ++t) {
          for (; next < w.seq_len && next <= t + past; ++next) run.compute(b, next, next < last);
          T* dx = out.d_x.data() + (b * w.seq_len + t) * w.channels + channel;
          run.gather(b, t, dx);
          add_final(b, t, dx, channel, count);
          num.store({dx, static_cast<std::size_t>(count)});
        }
      }
    }
  });

  out.d_weight = Tensor<T>::uninitialized(in.weight.shape());
  for (Index c = 0; c < w.channels; ++c)
    for (Index j = 0; j < w.taps; ++j) out.d_weight[c * w.taps + j] = sums[j * w.channels + c];
  num.store(out.d_weight.span());
  if (in.bias) {
    out.d_bias = Tensor<T>::uninitialized({w.channels});
    std::copy_n(sums.data() + w.taps * w.channels, w.channels, out.d_bias.data());
    num.store(out.d_bias.span());
  }
  if (in.initial_state) {
    out.d_initial_state = Tensor<T>::uninitialized({w.batch, w.channels, past});
    std::vector<T> column(w.channels);
    BackwardRun<T> run(num, w, d_y, nullptr, 0, w.channels);
    for (Index b = 0; b < w.batch; ++b) {
      for (Index t = 0; t < std::min(past, w.seq_len); ++t) run.compute(b, t, false);
      for (Index i = 0; i < past; ++i) {
        run.gather(b, i - past, column.data());
        add_final(b, i - past, column.data(), 0, w.channels);
        for (Index c = 0; c < w.channels; ++c) out.d_initial_state(b, c, i) = num.store(column[c]);
      }
    }
  }
  return out;
}

template <class T>
Tensor<T> causal_conv1d_update(const Numerics<T>& num, const Tensor<T>& x, Tensor<T>& state, const Tensor<T>& weight,
                               MaybeTensor<T> bias, bool silu) {
  const char* name = "causal_conv1d_update";
  require(x.rank() == 2, name, ": x has shape ", to_string(x.shape()), "; want [batch, channels]");
  const Index batch = x.dim(0), channels = x.dim(1), taps = weight.rank() > 0 ? weight.dim(-1) : 0;
  require(taps >= 1 && weight.size() == channels * taps && weight.dim(0) == channels, name, ": weight has shape ",
          to_string(weight.shape()), "; want [", channels, ", K] or [", channels, ", 1, K]");
  require(state.rank() == 3 && state.dim(0) == batch && state.dim(1) == channels && state.dim(2) >= taps - 1, name,
          ": state has shape ", to_string(state.shape()), "; want [", batch, ", ", channels, ", at least ", taps - 1, "]");
  if (bias) require_shape(name, "bias", *bias, {channels});

  const Index length = state.dim(2);
  Tensor<T> y = Tensor<T>::uninitialized({batch, channels});
  for (Index i = 0; i < batch * channels; ++i) {
    const Index c = i % channels;
    T* past = state.data() + i * length;
    const T* w = weight.data() + c * taps;
    T p = bias ? (*bias)[c] : T(0);
    for (Index j = 0; j < taps - 1; ++j) p = std::fma(w[j], past[length - (taps - 1) + j], p);
    p = std::fma(w[taps - 1], x[i], p);
    y[i] = num.store(silu ? num.silu(p) : p);
    if (length > 0) {
      std::copy(past + 1, past + length, past);
      past[length - 1] = x[i];
    }
  }
  return y;
}

template CausalConv1dForward<float> causal_conv1d_forward(const Numerics<float>&, const CausalConv1dInputs<float>&);
template CausalConv1dForward<double> causal_conv1d_forward(const Numerics<double>&, const CausalConv1dInputs<double>&);
template CausalConv1dBackward<float> causal_conv1d_backward(const Numerics<float>&, const CausalConv1dInputs<float>&,
                                                            const Tensor<float>&, MaybeTensor<float>);
template CausalConv1dBackward<double> causal_conv1d_backward(const Numerics<double>&, const CausalConv1dInputs<double>&,
                                                             const Tensor<double>&, MaybeTensor<double>);
template Tensor<float> causal_conv1d_update(const Numerics<float>&, const Tensor<float>&, Tensor<float>&, const Tensor<float>&,
                                            MaybeTensor<float>, bool);
template Tensor<double> causal_conv1d_update(const Numerics<double>&, const Tensor<double>&, Tensor<double>&,
                                             const Tensor<double>&, MaybeTensor<double>, bool);

}  // namespace assay::reference
