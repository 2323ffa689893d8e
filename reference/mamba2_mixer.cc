#include "reference/mamba2_mixer.h"

#include <array>

#include "reference/causal_conv1d.h"
#include "reference/check.h"
#include "reference/gated_rms_norm.h"
#include "reference/projection.h"
#include "reference/row_pieces.h"
#include "reference/ssm_state_update.h"

namespace assay::reference {
namespace {

// Neighbouring channel ranges of the last axis, as tensors of their own; and back.
template <class T, std::size_t n>
void copy_channels(Tensor<T>& whole, const std::array<Tensor<T>*, n>& parts, const std::array<Index, n>& widths, bool split) {
  const Index width = whole.dim(-1), rows = whole.size() / std::max<Index>(1, width);
  parallel_for(rows, rows_per_piece(width), [&](Index begin, Index end) {
    for (Index row = begin; row < end; ++row) {
      T* from = whole.data() + row * width;
      for (std::size_t i = 0; i < n; from += widths[i++]) {
        T* part = parts[i]->data() + row * widths[i];
        if (split) std::copy_n(from, widths[i], part);
        else std::copy_n(part, widths[i], from);
      }
    }
  });
}

// The parts in one tensor; they are left empty, since a long sequence's gradients take more memory than the parameters.
template <class T>
Tensor<T> joined(Shape shape, const std::array<Tensor<T>*, 3>& parts, const std::array<Index, 3>& widths) {
  Tensor<T> whole = Tensor<T>::uninitialized(std::move(shape));
  copy_channels(whole, parts, widths, false);
  for (Tensor<T>* part : parts) *part = {};
  return whole;
}

template <class T>
void apply_mask(Tensor<T>& t, const PaddingMask* mask) {
  if (!mask) return;
  const Index width = t.dim(-1);
  for (Index row = 0; row < mask->size(); ++row)
    if (!(*mask)[row]) std::fill_n(t.data() + row * width, width, T(0));
}

std::span<const std::int32_t> numbers(const SeqIdx* seq_idx) {
  return seq_idx ? seq_idx->span() : std::span<const std::int32_t>{};
}

// One pass of the mixer over [batch, seq_len] tokens: sizes, parameters and the steps that the paths share.
template <class T>
struct Mixer {
  const Numerics<T>& num;
  const NemotronV3Config& config;
  const ParameterScope<T>& p;
  const Mamba2MixerOptions& options;
  Index batch, seq_len;
  Tensor<T> A;  // [H]

  Index heads() const { return config.mamba_num_heads; }
  Index width() const { return config.mamba_intermediate_size(); }
  Index rows() const { return batch * seq_len; }
  Shape tokens(Index last) const { return {batch, seq_len, last}; }

  Mixer(const char* name, const Numerics<T>& num_, const NemotronV3Config& config_, const ParameterScope<T>& p_,
        const Mamba2MixerOptions& options_, const Tensor<T>& hidden_states, const PaddingMask* mask, const SeqIdx* seq_idx)
      : num(num_), config(config_), p(p_), options(options_) {
    const Index rank = hidden_states.rank();
    require((rank == 2 || rank == 3) && hidden_states.dim(-1) == config.hidden_size, name, ": hidden_states has shape ",
            to_string(hidden_states.shape()), "; want [batch, seq_len, ", config.hidden_size, "] or [tokens, ", config.hidden_size, "]");
    batch = rank == 3 ? hidden_states.dim(0) : 1;
    seq_len = hidden_states.dim(-2);
    if (mask) require_shape(name, "mask", *mask, {batch, seq_len});
    if (seq_idx) require_shape(name, "seq_idx", *seq_idx, {batch, seq_len});
    p.with_shape("conv1d.weight", {config.conv_dim(), 1, config.conv_kernel});
    p.with_shape("_fp32_params.dt_bias", {heads()});
    p.with_shape("_fp32_params.D", {heads()});
    p.with_shape("norm.weight", {width()});
    A = p.with_shape("_fp32_params.A_log", {heads()});
    for (T& a : A.span()) a = -num.exp(a);
  }

  void project(const Tensor<T>& hidden_states, const PaddingMask* mask, Mamba2MixerSaved<T>& s) const {
    if (mask) {
      s.u = hidden_states;
      apply_mask(s.u, mask);
    }
    Tensor<T> zxbcdt = projection_forward(num, p.scope("in_proj."), mask ? s.u : hidden_states, config.in_proj_rows());
    s.z = Tensor<T>::uninitialized({batch, seq_len, heads(), config.mamba_head_dim});
    s.xBC = Tensor<T>::uninitialized(tokens(config.conv_dim()));
    s.dt = Tensor<T>::uninitialized(tokens(heads()));
    copy_channels<T, 3>(zxbcdt, {&s.z, &s.xBC, &s.dt}, {width(), config.conv_dim(), heads()}, true);
  }

  CausalConv1dInputs<T> conv_inputs(const Mamba2MixerSaved<T>& s, const SeqIdx* seq_idx) const {
    return {.x = s.xBC, .weight = p["conv1d.weight"], .bias = p.find("conv1d.bias"), .seq_idx = numbers(seq_idx)};
  }
  void cut_convolved(Tensor<T> convolved, Mamba2MixerSaved<T>& s) const {
    const Index state = config.mamba_groups_state_size();
    s.x = Tensor<T>::uninitialized({batch, seq_len, heads(), config.mamba_head_dim});
    s.B = Tensor<T>::uninitialized({batch, seq_len, config.n_groups, config.ssm_state_size});
    s.C = Tensor<T>::uninitialized(s.B.shape());
    copy_channels<T, 3>(convolved, {&s.x, &s.B, &s.C}, {width(), state, state}, true);
  }

  SsdScanInputs<T> scan_inputs(const Mamba2MixerSaved<T>& s, const SeqIdx* seq_idx) const {
    const bool by_min = options.clamp_by_time_step_min;
    return {.x = s.x, .dt = s.dt, .A = A, .B = s.B, .C = s.C, .D = p.find("_fp32_params.D"),
            .z = options.gate_in_scan ? &s.z : nullptr, .dt_bias = p.find("_fp32_params.dt_bias"), .seq_idx = numbers(seq_idx),
            .chunk_size = config.chunk_size,
            .dt_min = static_cast<T>(by_min ? config.time_step_min : config.time_step_limit[0]),
            .dt_max = by_min ? std::numeric_limits<T>::infinity() : static_cast<T>(config.time_step_limit[1])};
  }

  const Tensor<T>* norm_gate(const Tensor<T>& z) const { return options.gate_in_scan ? nullptr : &z; }

  // Leaves s.scan.y, and z where the norm takes it, in the shape [rows, width].
  Tensor<T> norm_and_project(Mamba2MixerSaved<T>& s, const Shape& shape) const {
    s.scan.y = std::move(s.scan.y).reshaped({rows(), width()});
    if (!options.gate_in_scan) s.z = std::move(s.z).reshaped({rows(), width()});
    GatedRmsNormForward<T> norm = gated_rms_norm_forward(num, s.scan.y, norm_gate(s.z), p["norm.weight"], config.mamba_norm_group_size(),
                                                         static_cast<T>(config.layer_norm_epsilon));
    s.rstd = std::move(norm.rstd);
    s.normed = std::move(norm.hidden_states);
    return projection_forward(num, p.scope("out_proj."), s.normed, config.hidden_size).reshaped(shape);
  }
};

// The conv state after more columns: the last K of (earlier ++ xBC).
template <class T>
void append_columns(Tensor<T>& conv_state, const Tensor<T>& xBC, bool forget_earlier) {
  const Index batch = xBC.dim(0), seq_len = xBC.dim(1), channels = xBC.dim(2), K = conv_state.dim(2);
  for (Index b = 0; b < batch; ++b)
    for (Index c = 0; c < channels; ++c)
      for (Index i = 0; i < K; ++i) {  // ascending: what is read lies to the right of what is written
        const Index from = seq_len - K + i;
        conv_state(b, c, i) = from >= 0 ? xBC(b, from, c) : forget_earlier ? T(0) : conv_state(b, c, K + from);
      }
}

template <class T>
void check_states(const char* name, const NemotronV3Config& config, Index batch, const Tensor<T>& conv_state, const Tensor<T>& ssm_state) {
  require_shape(name, "conv_state", conv_state, {batch, config.conv_dim(), config.conv_kernel});
  require_shape(name, "ssm_state", ssm_state, {batch, config.mamba_num_heads, config.mamba_head_dim, config.ssm_state_size});
}

}  // namespace

template <class T>
Tensor<T> mamba2_mixer_forward(const Numerics<T>& num, const NemotronV3Config& config, const ParameterScope<T>& p,
                               const Tensor<T>& hidden_states, const PaddingMask* mask, const SeqIdx* seq_idx,
                               std::type_identity_t<Mamba2MixerSaved<T>>* saved, const Mamba2MixerOptions& options) {
  const Mixer<T> mixer("mamba2_mixer_forward", num, config, p, options, hidden_states, mask, seq_idx);
  Mamba2MixerSaved<T> s;
  mixer.project(hidden_states, mask, s);
  Tensor<T> convolved = causal_conv1d_forward(num, mixer.conv_inputs(s, seq_idx)).y;
  if (options.mask_after_conv) apply_mask(convolved, mask);
  mixer.cut_convolved(std::move(convolved), s);
  s.scan = ssd_scan_forward(num, mixer.scan_inputs(s, seq_idx));
  Tensor<T> out = mixer.norm_and_project(s, hidden_states.shape());
  if (saved) *saved = std::move(s);
  return out;
}

template <class T>
Tensor<T> mamba2_mixer_backward(const Numerics<T>& num, const NemotronV3Config& config, const ParameterScope<T>& p,
                                const Tensor<T>& hidden_states, const PaddingMask* mask, const SeqIdx* seq_idx,
                                const Mamba2MixerSaved<T>& saved, const Tensor<T>& d_out, const GradientScope<T>& d_p,
                                const Mamba2MixerOptions& options) {
  const char* name = "mamba2_mixer_backward";
  const Mixer<T> mixer(name, num, config, p, options, hidden_states, mask, seq_idx);
  require_shape(name, "d_out", d_out, hidden_states.shape());

  GatedRmsNormBackward<T> d_norm = gated_rms_norm_backward(
      num, saved.scan.y, mixer.norm_gate(saved.z), p["norm.weight"], saved.rstd,
      projection_backward(num, p, "out_proj.", saved.normed, d_out.reshaped({mixer.rows(), config.hidden_size}), d_p),
      config.mamba_norm_group_size());
  d_p.add(num, "norm.weight", std::move(d_norm.d_weight));

  SsdScanBackward<T> d_scan = ssd_scan_backward(num, mixer.scan_inputs(saved, seq_idx), saved.scan,
                                                std::move(d_norm.d_hidden_states).reshaped(saved.x.shape()));
  for (Index h = 0; h < mixer.heads(); ++h) d_scan.d_A[h] *= mixer.A[h];  // A = -exp(A_log), so dA / dA_log = A
  d_p.add(num, "_fp32_params.A_log", std::move(d_scan.d_A));
  d_p.add(num, "_fp32_params.D", std::move(d_scan.d_D));
  d_p.add(num, "_fp32_params.dt_bias", std::move(d_scan.d_dt_bias));

  const Index state = config.mamba_groups_state_size();
  Tensor<T> d_convolved = joined<T>(saved.xBC.shape(), {&d_scan.d_x, &d_scan.d_B, &d_scan.d_C}, {mixer.width(), state, state});
  if (options.mask_after_conv) apply_mask(d_convolved, mask);
  CausalConv1dBackward<T> d_conv = causal_conv1d_backward(num, mixer.conv_inputs(saved, seq_idx), d_convolved);
  d_convolved = {};
  d_p.add(num, "conv1d.weight", std::move(d_conv.d_weight));
  if (p.find("conv1d.bias")) d_p.add(num, "conv1d.bias", std::move(d_conv.d_bias));

  Shape shape = hidden_states.shape();
  shape.back() = config.in_proj_rows();
  Tensor<T>& d_z = options.gate_in_scan ? d_scan.d_z : d_norm.d_gate;
  const Tensor<T> d_zxbcdt =
      joined<T>(std::move(shape), {&d_z, &d_conv.d_x, &d_scan.d_dt}, {mixer.width(), config.conv_dim(), mixer.heads()});
  Tensor<T> d_u = projection_backward(num, p, "in_proj.", mask ? saved.u : hidden_states, d_zxbcdt, d_p);
  apply_mask(d_u, mask);
  return d_u;
}

template <class T>
Tensor<T> mamba2_mixer_prefill(const Numerics<T>& model_num, const NemotronV3Config& config, const ParameterScope<T>& p,
                               const Tensor<T>& hidden_states, const PaddingMask* mask, Tensor<T>& conv_state, Tensor<T>& ssm_state,
                               Mamba2Prefill prefill, const Mamba2MixerOptions& options) {
  const char* name = "mamba2_mixer_prefill";
  Numerics<T> num = model_num;
  num.softplus_form = Softplus::log1p;  // upstream computes Delta outside the kernel here
  const Mixer<T> mixer(name, num, config, p, options, hidden_states, mask, nullptr);
  check_states(name, config, mixer.batch, conv_state, ssm_state);
  const bool continued = prefill == Mamba2Prefill::continued;
  Mamba2MixerSaved<T> s;
  mixer.project(hidden_states, mask, s);

  Tensor<T> earlier;  // the last K - 1 columns of the conv state
  CausalConv1dInputs<T> conv = mixer.conv_inputs(s, nullptr);
  if (continued) {
    const Index K = config.conv_kernel;
    earlier = Tensor<T>::uninitialized({mixer.batch, config.conv_dim(), K - 1});
    for (Index row = 0; row < mixer.batch * config.conv_dim(); ++row)
      std::copy_n(conv_state.data() + row * K + 1, K - 1, earlier.data() + row * (K - 1));
    conv.initial_state = &earlier;
  }
  Tensor<T> convolved = causal_conv1d_forward(num, conv).y;
  append_columns(conv_state, s.xBC, !continued && mixer.seq_len != 1);
  if (options.mask_after_conv) apply_mask(convolved, mask);
  mixer.cut_convolved(std::move(convolved), s);

  SsdScanInputs<T> scan = mixer.scan_inputs(s, nullptr);
  if (continued) scan.initial_state = &ssm_state;
  s.scan = ssd_scan_forward(num, scan);
  ssm_state = s.scan.final_state;
  if (!options.ssm_state_in_float32) num.store(ssm_state.span());
  return mixer.norm_and_project(s, hidden_states.shape());
}

template <class T>
Tensor<T> mamba2_mixer_decode(const Numerics<T>& num, const NemotronV3Config& config, const ParameterScope<T>& p,
                              const Tensor<T>& hidden_states, const PaddingMask* mask, Tensor<T>& conv_state, Tensor<T>& ssm_state,
                              const Mamba2MixerOptions& options) {
  const char* name = "mamba2_mixer_decode";
  const Mixer<T> mixer(name, num, config, p, options, hidden_states, mask, nullptr);
  require(mixer.seq_len == 1, name, ": hidden_states has ", mixer.seq_len, " tokens; want 1");
  check_states(name, config, mixer.batch, conv_state, ssm_state);
  Mamba2MixerSaved<T> s;
  mixer.project(hidden_states, mask, s);
  Tensor<T> convolved = causal_conv1d_update(num, s.xBC.reshaped({mixer.batch, config.conv_dim()}), conv_state, p["conv1d.weight"],
                                             p.find("conv1d.bias"));
  if (options.mask_after_conv) apply_mask(convolved, mask);
  mixer.cut_convolved(std::move(convolved), s);

  const auto without_time = [](const Tensor<T>& t) {
    Shape shape = t.shape();
    shape.erase(shape.begin() + 1);
    return t.reshaped(shape);
  };
  const Tensor<T> x = without_time(s.x), dt = without_time(s.dt), B = without_time(s.B), C = without_time(s.C);
  const Tensor<T> z = without_time(s.z);
  s.scan.y = ssm_state_update<T>(num,
                                 {.x = x, .dt = dt, .A = mixer.A, .B = B, .C = C, .D = p.find("_fp32_params.D"),
                                  .z = options.gate_in_scan ? &z : nullptr, .dt_bias = p.find("_fp32_params.dt_bias"),
                                  .dt_min = static_cast<T>(options.clamp_by_time_step_min ? config.time_step_min : 0)},
                                 ssm_state, options.ssm_state_in_float32 ? Storage::native : num.storage);
  return mixer.norm_and_project(s, hidden_states.shape());
}

#define ASSAY_INSTANTIATE(T)                                                                                                      \
  template Tensor<T> mamba2_mixer_forward(const Numerics<T>&, const NemotronV3Config&, const ParameterScope<T>&, const Tensor<T>&, \
                                          const PaddingMask*, const SeqIdx*, Mamba2MixerSaved<T>*, const Mamba2MixerOptions&);     \
  template Tensor<T> mamba2_mixer_backward(const Numerics<T>&, const NemotronV3Config&, const ParameterScope<T>&,                  \
                                           const Tensor<T>&, const PaddingMask*, const SeqIdx*, const Mamba2MixerSaved<T>&,        \
                                           const Tensor<T>&, const GradientScope<T>&, const Mamba2MixerOptions&);                  \
  template Tensor<T> mamba2_mixer_prefill(const Numerics<T>&, const NemotronV3Config&, const ParameterScope<T>&, const Tensor<T>&, \
                                          const PaddingMask*, Tensor<T>&, Tensor<T>&, Mamba2Prefill, const Mamba2MixerOptions&);   \
  template Tensor<T> mamba2_mixer_decode(const Numerics<T>&, const NemotronV3Config&, const ParameterScope<T>&, const Tensor<T>&,  \
                                         const PaddingMask*, Tensor<T>&, Tensor<T>&, const Mamba2MixerOptions&);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
