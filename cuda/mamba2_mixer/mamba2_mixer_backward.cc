#include <cuda_bf16.h>

#include "cuda/causal_conv1d/causal_conv1d.h"
#include "cuda/common/check.h"
#include "cuda/common/planted.h"
#include "cuda/gated_rms_norm/gated_rms_norm.h"
#include "cuda/gemm/gemm.h"
#include "cuda/mamba2_mixer/mamba2_mixer.h"
#include "cuda/mamba2_mixer/sizes.h"
#include "cuda/mamba2_mixer/steps.h"
#include "cuda/ssd_scan/ssd_scan_backward.h"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;

LinearDims in_proj_dims(const Mamba2MixerDims& d) {
  return {.rows = d.tokens(),
          .in_features = d.hidden_size,
          .out_features = d.projected(),
          .x_stride = d.hidden_size,
          .y_stride = d.projected()};
}
LinearDims out_proj_dims(const Mamba2MixerDims& d) {
  return {.rows = d.tokens(),
          .in_features = d.inner(),
          .out_features = d.hidden_size,
          .x_stride = d.inner(),
          .y_stride = d.hidden_size};
}
GatedRmsNormDims norm_dims(const Mamba2MixerDims& d) {
  return {.rows = d.tokens(),
          .width = d.inner(),
          .group_size = d.inner() / d.groups,
          .row_stride = d.inner(),
          .gate_stride = d.projected()};
}
CausalConv1dDims conv_dims(const Mamba2MixerDims& d) {
  return {.batch = d.batch,
          .seq_len = d.seq_len,
          .channels = d.conv_channels(),
          .taps = d.taps,
          .row_stride = d.projected()};
}
// The scan's gradients lie as its inputs do: x, B and C in the convolution's, dt in in_proj's. z is the norm's.
SsdScanGradientStrides scan_strides(const Mamba2MixerDims& d) {
  return {.x = d.conv_channels(), .dt = d.projected(), .B = d.conv_channels(), .C = d.conv_channels(), .z = d.inner()};
}

// Where everything lies that is not an argument: one after the other in the workspace.
struct Layout {
  std::size_t masked;                                                           // formed again
  std::size_t d_masked, d_projected, d_convolved, d_scanned, d_gate, d_normed;  // between the steps
  std::size_t d_A;
  std::size_t in_proj, out_proj, norm, conv, scan;  // workspaces of the families
  std::size_t bytes = 0;

  Layout(const Mamba2MixerDims& d, std::size_t element_size, Method method) {
    const auto place = [&](std::size_t& at, std::size_t size) { at = mamba2_mixer::place(bytes, size); };
    const auto tokens = [&](std::int64_t width) { return mamba2_mixer::bytes_of(d.tokens() * width, element_size); };
    place(masked, tokens(d.hidden_size));
    place(d_masked, tokens(d.hidden_size));
    place(d_projected, tokens(d.projected()));
    place(d_convolved, tokens(d.conv_channels()));
    place(d_scanned, tokens(d.inner()));
    place(d_gate, tokens(d.inner()));
    place(d_normed, tokens(d.inner()));
    place(d_A, mamba2_mixer::bytes_of(d.heads, sizeof(float)));
    place(in_proj, linear_backward_workspace(in_proj_dims(d)));
    place(out_proj, linear_backward_workspace(out_proj_dims(d)));
    place(norm, gated_rms_norm_backward_workspace(norm_dims(d)));
    place(conv, causal_conv1d_backward_workspace(conv_dims(d)));
    place(scan, ssd_scan_backward_workspace(mamba2_mixer::scan_dims(d), scan_strides(d), element_size, method));
  }
};

template <class T>
void check(const char* function, const Mamba2MixerDims& d, const Mamba2MixerParams<T>& p,
           const Mamba2MixerBackward<T>& t) {
  const auto& g = t.d_params;
  require(p.in_proj_weight && p.conv_weight && p.dt_bias && p.A_log && p.D && p.norm_weight && p.out_proj_weight,
          function, ": a parameter is null; only the three biases of projections and convolution may be");
  require(g.in_proj_weight && g.conv_weight && g.dt_bias && g.A_log && g.D && g.norm_weight && g.out_proj_weight,
          function, ": a parameter's gradient is null; only those of the three biases may be");
  require(!p.in_proj_bias == !g.in_proj_bias && !p.conv_bias == !g.conv_bias && !p.out_proj_bias == !g.out_proj_bias,
          function, ": a bias and its gradient; want both or neither");
  require(t.workspace, function,
          ": workspace is null; want mamba2_mixer_backward_workspace(dims, sizeof(T), method) bytes");
  require(t.saved.A, function, ": saved.A is null; want the tap of the forward");
  if (d.tokens() == 0) return;
  require(t.hidden_states && t.d_out && t.d_hidden_states, function,
          ": hidden_states, d_out or d_hidden_states is null; want a pointer");
  require(t.saved.projected && t.saved.convolved && t.saved.scanned && t.saved.normed && t.saved.rstd, function,
          ": saved.projected, convolved, scanned, normed or rstd is null; want the taps of the forward");
}

}  // namespace

std::size_t mamba2_mixer_backward_workspace(const Mamba2MixerDims& dims, std::size_t element_size, Method method) {
  mamba2_mixer::check_dims("mamba2_mixer_backward_workspace", dims);
  return Layout(dims, element_size, method).bytes;
}

const char* mamba2_mixer_backward_scan_variant(const Mamba2MixerDims& dims, std::size_t element_size, Method method) {
  return ssd_scan_backward_variant(mamba2_mixer::scan_dims(dims), scan_strides(dims), element_size, method);
}

template <class T>
void mamba2_mixer_train_backward(const Mamba2MixerDims& d, const Mamba2MixerParams<T>& p,
                                 const Mamba2MixerBackward<T>& t, cudaStream_t stream, Method method) {
  const char* const function = "mamba2_mixer_train_backward";
  mamba2_mixer::check_dims(function, d);
  check(function, d, p, t);
  const Layout layout(d, sizeof(T), method);
  const auto at = [&](std::size_t place) { return static_cast<std::byte*>(t.workspace) + place; };
  const auto tensor = [&](T* tap, std::size_t place) { return tap ? tap : reinterpret_cast<T*>(at(place)); };
  const auto floats = [&](std::size_t place) { return reinterpret_cast<float*>(at(place)); };
  T* const d_projected = tensor(t.d_taps.projected, layout.d_projected);
  T* const d_convolved = tensor(t.d_taps.convolved, layout.d_convolved);
  T* const d_scanned = tensor(t.d_taps.scanned, layout.d_scanned);
  T* const d_normed = tensor(t.d_taps.normed, layout.d_normed);
  T* const d_gate = tensor(nullptr, layout.d_gate);
  float* const d_A = t.d_taps.A ? t.d_taps.A : floats(layout.d_A);
  const std::int64_t B = d.inner(), C = B + d.groups * d.state_size;       // in the convolution's channels
  const std::int64_t xBC = d.inner(), dt = d.inner() + d.conv_channels();  // in in_proj's

  linear_backward(out_proj_dims(d),
                  LinearBackward<T>{.x = t.saved.normed,
                                    .weight = p.out_proj_weight,
                                    .d_y = t.d_out,
                                    .d_x = d_normed,
                                    .d_weight = t.d_params.out_proj_weight,
                                    .d_bias = t.d_params.out_proj_bias,
                                    .workspace = at(layout.out_proj)},
                  stream);

  const T* const scanned = planted<Break::mixer_norm_of_normed> ? t.saved.normed : t.saved.scanned;
  gated_rms_norm_backward(norm_dims(d),
                          GatedRmsNormBackward<T>{.hidden_states = scanned,
                                                  .gate = t.saved.projected,
                                                  .weight = p.norm_weight,
                                                  .rstd = t.saved.rstd,
                                                  .d_out = d_normed,
                                                  .d_hidden_states = d_scanned,
                                                  .d_gate = d_gate,
                                                  .d_weight = t.d_params.norm_weight,
                                                  .workspace = floats(layout.norm)},
                          stream, method);
  mamba2_mixer::place_slice(planted<Break::mixer_gate_gradient_of_scan> ? d_scanned : d_gate, d.tokens(), d.inner(),
                            d_projected, d.projected(), stream);

  ssd_scan_backward(mamba2_mixer::scan_dims(d),
                    SsdScanBackward<T>{.x = t.saved.convolved,
                                       .dt = t.saved.projected + dt,
                                       .A = t.saved.A,
                                       .B = t.saved.convolved + B,
                                       .C = t.saved.convolved + C,
                                       .D = planted<Break::mixer_skip_by_dt_bias> ? p.dt_bias : p.D,
                                       .dt_bias = p.dt_bias,
                                       .seq_idx = t.seq_idx,
                                       .dt_min = p.dt_min,
                                       .dt_max = p.dt_max,
                                       .d_y = d_scanned,
                                       .strides = scan_strides(d),
                                       .d_x = d_convolved,
                                       .d_dt = d_projected + dt,
                                       .d_B = d_convolved + (planted<Break::mixer_key_gradients_swapped> ? C : B),
                                       .d_C = d_convolved + (planted<Break::mixer_key_gradients_swapped> ? B : C),
                                       .d_A = d_A,
                                       .d_D = t.d_params.D,
                                       .d_dt_bias = t.d_params.dt_bias,
                                       .workspace = at(layout.scan)},
                    stream, method);
  mamba2_mixer::decay_rates_backward(t.saved.A, d_A, d.heads, t.d_params.A_log, stream);

  const std::int32_t* const conv_documents = planted<Break::mixer_gradient_crosses_documents> ? nullptr : t.seq_idx;
  causal_conv1d_backward(conv_dims(d),
                         CausalConv1dBackward<T>{.in = {.hidden_states = t.saved.projected + xBC,
                                                        .weight = p.conv_weight,
                                                        .bias = p.conv_bias,
                                                        .initial_state = nullptr,
                                                        .seq_idx = conv_documents,
                                                        .silu = true},
                                                 .d_out = d_convolved,
                                                 .d_final_state = nullptr,
                                                 .d_hidden_states = d_projected + xBC,
                                                 .d_row_stride = d.projected(),
                                                 .d_weight = t.d_params.conv_weight,
                                                 .d_bias = t.d_params.conv_bias,
                                                 .d_initial_state = nullptr,
                                                 .workspace = floats(layout.conv)},
                         stream, method);

  T* const masked = tensor(nullptr, layout.masked);
  if (t.mask) mamba2_mixer::apply_mask(t.hidden_states, t.mask, d.tokens(), d.hidden_size, masked, stream);
  const T* const u = t.mask && !planted<Break::mixer_weight_sees_padding> ? masked : t.hidden_states;
  T* const d_masked = t.mask ? tensor(t.d_taps.masked, layout.d_masked) : t.d_hidden_states;
  linear_backward(in_proj_dims(d),
                  LinearBackward<T>{.x = u,
                                    .weight = p.in_proj_weight,
                                    .d_y = d_projected,
                                    .d_x = d_masked,
                                    .d_weight = t.d_params.in_proj_weight,
                                    .d_bias = t.d_params.in_proj_bias,
                                    .workspace = at(layout.in_proj)},
                  stream);
  if (t.mask && planted<Break::mixer_gradient_unmasked>)
    mamba2_mixer::place_slice(d_masked, d.tokens(), d.hidden_size, t.d_hidden_states, d.hidden_size, stream);
  else if (t.mask)
    mamba2_mixer::apply_mask(d_masked, t.mask, d.tokens(), d.hidden_size, t.d_hidden_states, stream);
}

template void mamba2_mixer_train_backward(const Mamba2MixerDims&, const Mamba2MixerParams<float>&,
                                          const Mamba2MixerBackward<float>&, cudaStream_t, Method);
template void mamba2_mixer_train_backward(const Mamba2MixerDims&, const Mamba2MixerParams<bf16>&,
                                          const Mamba2MixerBackward<bf16>&, cudaStream_t, Method);

}  // namespace assay::gpu
