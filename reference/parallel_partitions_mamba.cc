#include "reference/parallel_partitions_mamba.h"

#include <algorithm>

#include "reference/causal_conv1d.h"
#include "reference/check.h"
#include "reference/gated_rms_norm.h"
#include "reference/projection.h"

namespace assay::reference {
namespace {

// A range of the last axis of `wide` and the range of `narrow` that corresponds to it.
struct Channels {
  Index wide, narrow, count;
};

template <class T>
void copy_channels(const Tensor<T>& wide, Tensor<T>& narrow, const std::vector<Channels>& ranges) {
  const Index from = wide.dim(-1), to = narrow.dim(-1);
  for (Index row = 0; row * to < narrow.size(); ++row)
    for (const Channels& range : ranges)
      std::copy_n(wide.data() + row * from + range.wide, range.count, narrow.data() + row * to + range.narrow);
}
template <class T>
void add_channels(const Tensor<T>& narrow, Tensor<T>& wide, const std::vector<Channels>& ranges) {
  const Index from = narrow.dim(-1), to = wide.dim(-1);
  for (Index row = 0; row * to < wide.size(); ++row)
    for (const Channels& range : ranges)
      for (Index i = 0; i < range.count; ++i) wide[row * to + range.wide + i] += narrow[row * from + range.narrow + i];
}
template <class T>
Tensor<T> channels_of(const Tensor<T>& wide, Index width, const std::vector<Channels>& ranges) {
  Shape shape = wide.shape();
  shape.back() = width;
  Tensor<T> narrow(shape);
  copy_channels(wide, narrow, ranges);
  return narrow;
}

// Where a rank's channels lie in in_proj's output (z | x | B | C | dt), and in the convolution's (x | B | C).
struct RankChannels {
  MambaRankSlice slice;
  Index head_width, group_width;  // of the rank: heads P, groups N
  std::vector<Channels> z, xBC, dt, conv, heads;

  Index conv_width() const { return head_width + 2 * group_width; }

  RankChannels(const NemotronV3Config& c, Index rank, Index ranks) : slice(mamba_rank_slice(c, rank, ranks)) {
    const Index inner = c.mamba_intermediate_size(), state = c.mamba_groups_state_size();
    const Index first = slice.first_head * c.mamba_head_dim, first_state = slice.first_group * c.ssm_state_size;
    head_width = slice.heads * c.mamba_head_dim;
    group_width = slice.groups * c.ssm_state_size;
    conv = {{first, 0, head_width},
            {inner + first_state, head_width, group_width},
            {inner + state + first_state, head_width + group_width, group_width}};
    xBC = conv;
    for (Channels& range : xBC) range.wide += inner;
    z = {{first, 0, head_width}};
    dt = {{inner + c.conv_dim() + slice.first_head, 0, slice.heads}};
    heads = {{slice.first_head, 0, slice.heads}};
  }
};

// conv1d.weight [Cc, 1, K] has its channels first: seen as [K, Cc] they are last.
template <class T>
Tensor<T> taps_first(const Tensor<T>& weight) {
  const Index channels = weight.dim(0), taps = weight.dim(-1);
  Tensor<T> result({taps, channels});
  for (Index c = 0; c < channels; ++c)
    for (Index j = 0; j < taps; ++j) result(j, c) = weight[c * taps + j];
  return result;
}
template <class T>
Tensor<T> channels_first(const Tensor<T>& weight) {
  const Index taps = weight.dim(0), channels = weight.dim(1);
  Tensor<T> result({channels, 1, taps});
  for (Index c = 0; c < channels; ++c)
    for (Index j = 0; j < taps; ++j) result[c * taps + j] = weight(j, c);
  return result;
}

// The rank's slices of the parameters of convolution and scan.
template <class T>
struct RankParameters {
  Tensor<T> conv_weight, conv_bias, dt_bias, A_log, D;

  RankParameters(const ParameterScope<T>& p, const RankChannels& n)
      : conv_weight(channels_first(channels_of(taps_first(p["conv1d.weight"]), n.conv_width(), n.conv))),
        conv_bias(p.find("conv1d.bias") ? channels_of(p["conv1d.bias"], n.conv_width(), n.conv) : Tensor<T>()),
        dt_bias(channels_of(p["_fp32_params.dt_bias"], n.slice.heads, n.heads)),
        A_log(channels_of(p["_fp32_params.A_log"], n.slice.heads, n.heads)),
        D(channels_of(p["_fp32_params.D"], n.slice.heads, n.heads)) {}
};

std::vector<std::int32_t> documents_of(const ContextParallelTokens& tokens, Index batch) {
  if (tokens.document.empty() || tokens.document.back() == 0) return {};
  std::vector<std::int32_t> seq_idx;
  for (Index b = 0; b < batch; ++b) seq_idx.insert(seq_idx.end(), tokens.document.begin(), tokens.document.end());
  return seq_idx;
}

template <class T>
CausalConv1dInputs<T> conv_inputs(const ContextParallelMambaRank<T>& rank, const RankParameters<T>& w,
                                  std::span<const std::int32_t> seq_idx) {
  return {
      .x = rank.xBC, .weight = w.conv_weight, .bias = w.conv_bias.empty() ? nullptr : &w.conv_bias, .seq_idx = seq_idx};
}
template <class T>
SsdScanInputs<T> scan_inputs(const NemotronV3Config& c, const ContextParallelMambaRank<T>& rank,
                             const RankParameters<T>& w, std::span<const std::int32_t> seq_idx) {
  return {.x = rank.x,
          .dt = rank.dt,
          .A = rank.A,
          .B = rank.B,
          .C = rank.C,
          .D = &w.D,
          .z = &rank.z,
          .dt_bias = &w.dt_bias,
          .seq_idx = seq_idx,
          .chunk_size = c.chunk_size,
          .dt_min = static_cast<T>(c.time_step_limit[0]),
          .dt_max = static_cast<T>(c.time_step_limit[1])};
}

template <class T>
ContextParallelMambaRank<T> scan_on_rank(const Numerics<T>& num, const NemotronV3Config& c, const ParameterScope<T>& p,
                                         const Tensor<T>& zxbcdt, const RankChannels& n,
                                         std::span<const std::int32_t> seq_idx) {
  const Index batch = zxbcdt.dim(0), seq_len = zxbcdt.dim(1);
  const RankParameters<T> w(p, n);
  ContextParallelMambaRank<T> rank;
  rank.z = channels_of(zxbcdt, n.head_width, n.z).reshaped({batch, seq_len, n.slice.heads, c.mamba_head_dim});
  rank.xBC = channels_of(zxbcdt, n.conv_width(), n.xBC);
  rank.dt = channels_of(zxbcdt, n.slice.heads, n.dt);
  const Tensor<T> convolved = causal_conv1d_forward(num, conv_inputs(rank, w, seq_idx)).y;
  const auto part = [&](Index first, Index rows, Index width) {
    return channels_of(convolved, rows * width, {{first, 0, rows * width}}).reshaped({batch, seq_len, rows, width});
  };
  rank.x = part(0, n.slice.heads, c.mamba_head_dim);
  rank.B = part(n.head_width, n.slice.groups, c.ssm_state_size);
  rank.C = part(n.head_width + n.group_width, n.slice.groups, c.ssm_state_size);
  rank.A = w.A_log;
  for (T& a : rank.A.span()) a = -num.exp(a);
  rank.scan = ssd_scan_forward(num, scan_inputs(c, rank, w, seq_idx));
  return rank;
}

template <class T>
Tensor<T> as_rows(const Tensor<T>& t, Index width) {
  return t.reshaped({t.size() / width, width});
}

}  // namespace

MambaRankSlice mamba_rank_slice(const NemotronV3Config& c, Index rank, Index ranks) {
  require(ranks >= 1 && rank >= 0 && rank < ranks && c.mamba_num_heads % ranks == 0 &&
              (c.n_groups % ranks == 0 || ranks % c.n_groups == 0),
          "mamba_rank_slice: rank ", rank, " of ", ranks, " with ", c.mamba_num_heads, " heads in ", c.n_groups,
          " groups; want heads divided by the ranks, and groups by ranks or ranks by groups");
  const Index heads = c.mamba_num_heads / ranks, sharing = std::max<Index>(1, ranks / c.n_groups);
  const Index groups = std::max<Index>(1, c.n_groups / ranks);
  return {rank * heads, heads, rank / sharing * groups, groups};
}

template <class T>
std::vector<Tensor<T>> context_parallel_mamba_forward(const Numerics<T>& num, const NemotronV3Config& config,
                                                      const ParameterScope<T>& p,
                                                      const std::vector<Tensor<T>>& hidden_states,
                                                      const ContextParallelTokens& tokens,
                                                      ContextParallelMambaSaved<T>* saved) {
  const Index ranks = static_cast<Index>(hidden_states.size()), inner = config.mamba_intermediate_size();
  std::vector<Tensor<T>> local;
  for (const Tensor<T>& u : hidden_states)
    local.push_back(projection_forward(num, p.scope("in_proj."), u, config.in_proj_rows()));
  const Tensor<T> zxbcdt = join_tokens(local, tokens);
  const Index batch = zxbcdt.dim(0), seq_len = zxbcdt.dim(1);
  const std::vector<std::int32_t> seq_idx = documents_of(tokens, batch);

  ContextParallelMambaSaved<T> s;
  Tensor<T> y({batch, seq_len, inner});
  for (Index r = 0; r < ranks; ++r) {
    const RankChannels n(config, r, ranks);
    s.scans.push_back(scan_on_rank(num, config, p, zxbcdt, n, std::span<const std::int32_t>(seq_idx)));
    add_channels(s.scans.back().scan.y.reshaped({batch, seq_len, n.head_width}), y, n.z);
  }
  s.y = shard_tokens(y, tokens);
  std::vector<Tensor<T>> out;
  for (Index r = 0; r < ranks; ++r) {
    auto norm = gated_rms_norm_forward(num, as_rows(s.y[r], inner), nullptr, p["norm.weight"],
                                       config.mamba_norm_group_size(), static_cast<T>(config.layer_norm_epsilon));
    s.rstd.push_back(std::move(norm.rstd));
    s.normed.push_back(std::move(norm.hidden_states).reshaped(s.y[r].shape()));
    out.push_back(projection_forward(num, p.scope("out_proj."), s.normed[r], config.hidden_size));
  }
  if (saved) *saved = std::move(s);
  return out;
}

template <class T>
std::vector<Tensor<T>> context_parallel_mamba_backward(
    const Numerics<T>& num, const NemotronV3Config& config, const ParameterScope<T>& p,
    const std::vector<Tensor<T>>& hidden_states, const ContextParallelTokens& tokens,
    const ContextParallelMambaSaved<T>& saved, const std::vector<Tensor<T>>& d_out, const GradientScope<T>& d_p) {
  const Index ranks = static_cast<Index>(hidden_states.size()), inner = config.mamba_intermediate_size();
  std::vector<Tensor<T>> d_y_local;
  for (Index r = 0; r < ranks; ++r) {
    const Tensor<T> d_normed = projection_backward(num, p, "out_proj.", saved.normed[r], d_out[r], d_p);
    auto d = gated_rms_norm_backward(num, as_rows(saved.y[r], inner), nullptr, p["norm.weight"], saved.rstd[r],
                                     as_rows(d_normed, inner), config.mamba_norm_group_size());
    d_p.add(num, "norm.weight", std::move(d.d_weight));
    d_y_local.push_back(std::move(d.d_hidden_states).reshaped(saved.y[r].shape()));
  }
  const Tensor<T> d_y = join_tokens(d_y_local, tokens);
  const Index batch = d_y.dim(0), seq_len = d_y.dim(1);
  const std::vector<std::int32_t> seq_idx = documents_of(tokens, batch);

  Tensor<T> d_zxbcdt({batch, seq_len, config.in_proj_rows()});
  for (Index r = 0; r < ranks; ++r) {
    const RankChannels n(config, r, ranks);
    const RankParameters<T> w(p, n);
    const ContextParallelMambaRank<T>& rank = saved.scans[r];
    auto d = ssd_scan_backward(num, scan_inputs(config, rank, w, seq_idx), rank.scan,
                               channels_of(d_y, n.head_width, n.z).reshaped(rank.x.shape()));
    Tensor<T> d_convolved({batch, seq_len, n.conv_width()});
    add_channels(d.d_x.reshaped({batch, seq_len, n.head_width}), d_convolved, {{0, 0, n.head_width}});
    add_channels(d.d_B.reshaped({batch, seq_len, n.group_width}), d_convolved, {{n.head_width, 0, n.group_width}});
    add_channels(d.d_C.reshaped({batch, seq_len, n.group_width}), d_convolved,
                 {{n.head_width + n.group_width, 0, n.group_width}});
    auto d_conv =
        causal_conv1d_backward(num, conv_inputs(rank, w, std::span<const std::int32_t>(seq_idx)), d_convolved);
    add_channels(d.d_z.reshaped({batch, seq_len, n.head_width}), d_zxbcdt, n.z);
    add_channels(d_conv.d_x, d_zxbcdt, n.xBC);
    add_channels(d.d_dt, d_zxbcdt, n.dt);

    // The rank's slice of each parameter's gradient; zero elsewhere.
    const auto add_slice = [&](const char* name, const Tensor<T>& slice, const std::vector<Channels>& ranges) {
      Tensor<T> whole(p[name].shape());
      add_channels(slice, whole, ranges);
      d_p.add(num, name, std::move(whole));
    };
    Tensor<T> d_taps(taps_first(p["conv1d.weight"]).shape());
    add_channels(taps_first(d_conv.d_weight), d_taps, n.conv);
    d_p.add(num, "conv1d.weight", channels_first(d_taps));
    if (p.find("conv1d.bias")) add_slice("conv1d.bias", d_conv.d_bias, n.conv);
    for (Index h = 0; h < n.slice.heads; ++h) d.d_A[h] *= rank.A[h];  // A = -exp(A_log)
    add_slice("_fp32_params.A_log", d.d_A, n.heads);
    add_slice("_fp32_params.D", d.d_D, n.heads);
    add_slice("_fp32_params.dt_bias", d.d_dt_bias, n.heads);
  }
  num.store(d_zxbcdt.span());  // B and C of a group shared by ranks: their sum
  const std::vector<Tensor<T>> d_local = shard_tokens(d_zxbcdt, tokens);
  std::vector<Tensor<T>> d_hidden_states;
  for (Index r = 0; r < ranks; ++r)
    d_hidden_states.push_back(projection_backward(num, p, "in_proj.", hidden_states[r], d_local[r], d_p));
  return d_hidden_states;
}

#define ASSAY_INSTANTIATE(T)                                                                                \
  template std::vector<Tensor<T>> context_parallel_mamba_forward(                                           \
      const Numerics<T>&, const NemotronV3Config&, const ParameterScope<T>&, const std::vector<Tensor<T>>&, \
      const ContextParallelTokens&, ContextParallelMambaSaved<T>*);                                         \
  template std::vector<Tensor<T>> context_parallel_mamba_backward(                                          \
      const Numerics<T>&, const NemotronV3Config&, const ParameterScope<T>&, const std::vector<Tensor<T>>&, \
      const ContextParallelTokens&, const ContextParallelMambaSaved<T>&, const std::vector<Tensor<T>>&,     \
      const GradientScope<T>&);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
