#include "cuda/mamba2_mixer/mamba2_mixer.h"

#include <cuda_bf16.h>

#include <string_view>
#include <type_traits>

#include "cuda/causal_conv1d/causal_conv1d.h"
#include "cuda/common/check.h"
#include "cuda/common/planted.h"
#include "cuda/gated_rms_norm/gated_rms_norm.h"
#include "cuda/gemm/gemm.h"
#include "cuda/mamba2_decode_step/mamba2_decode_step.h"
#include "cuda/mamba2_mixer/sizes.h"
#include "cuda/mamba2_mixer/steps.h"
#include "cuda/ssd_scan/ssd_scan.h"
#include "cuda/ssm_state_update/ssm_state_update.h"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;
using mamba2_mixer::bytes_of, mamba2_mixer::check_dims, mamba2_mixer::scan_dims;

// Where everything lies that is not an argument: one after the other in the workspace.
struct Layout {
  std::size_t masked, projected, A, convolved, scanned, normed;  // what no tap takes
  std::size_t earlier, state;                                    // columns of the old conv state; the scan's state
  std::size_t products, scan;                                    // workspaces of the families
  std::size_t bytes = 0;

  Layout(const Mamba2MixerDims& d, std::size_t element_size) {
    const auto place = [&](std::size_t& at, std::size_t size) { at = mamba2_mixer::place(bytes, size); };
    const auto tokens = [&](std::int64_t width) { return bytes_of(d.tokens() * width, element_size); };
    place(masked, tokens(d.hidden_size));
    place(projected, tokens(d.projected()));
    place(A, bytes_of(d.heads, sizeof(float)));
    place(convolved, tokens(d.conv_channels()));
    place(scanned, tokens(d.inner()));
    place(normed, tokens(d.inner()));
    place(earlier, bytes_of(d.batch * d.conv_channels() * (d.taps - 1), element_size));
    place(state, bytes_of(d.batch * d.inner() * d.state_size, sizeof(float)));
    place(products, linear_forward_workspace());
    place(scan, ssd_scan_forward_workspace(scan_dims(d), element_size));
  }
};

// One call: its arguments, where each intermediate tensor lies, and the steps that the paths share.
template <class T>
class Mixer {
 public:
  Mixer(const char* function, const Mamba2MixerDims& dims, const Mamba2MixerParams<T>& params,
        const Mamba2MixerForward<T>& tensors, cudaStream_t stream, Method method)
      : d(dims), p(params), t(tensors), stream_(stream), method_(method), layout_(checked(function, dims), sizeof(T)) {
    require(p.in_proj_weight && p.conv_weight && p.dt_bias && p.A_log && p.D && p.norm_weight && p.out_proj_weight,
            function, ": a parameter is null; only the three biases of projections and convolution may be");
    require(d.tokens() == 0 || (t.hidden_states && t.out), function, ": hidden_states or out is null; want a pointer");
    require(t.workspace, function, ": workspace is null; want mamba2_mixer_workspace(dims, sizeof(T)) bytes");
    taps = t.taps;
    const auto settle = [&]<class U>(U*& tap, std::size_t at) {
      if (tap == nullptr) tap = in_workspace<U>(at);
    };
    settle(taps.masked, layout_.masked);
    settle(taps.projected, layout_.projected);
    settle(taps.A, layout_.A);
    settle(taps.convolved, layout_.convolved);
    settle(taps.scanned, layout_.scanned);
    settle(taps.normed, layout_.normed);
  }

  // zxbcdt = (u m) in_proj^T
  void project() const {
    if (t.mask) mamba2_mixer::apply_mask(t.hidden_states, t.mask, d.tokens(), d.hidden_size, taps.masked, stream_);
    const bool is_masked = t.mask && !planted<Break::mixer_mask_forgotten>;
    linear(is_masked ? taps.masked : t.hidden_states, d.hidden_size, p.in_proj_weight, p.in_proj_bias, d.projected(),
           taps.projected);
  }

  void find_rates() const { mamba2_mixer::decay_rates(p.A_log, d.heads, taps.A, stream_); }

  void convolve(const T* initial_state, const std::int32_t* seq_idx) const {
    causal_conv1d_forward(conv_dims(),
                          CausalConv1dForward<T>{.in = {.hidden_states = xBC(),
                                                        .weight = p.conv_weight,
                                                        .bias = p.conv_bias,
                                                        .initial_state = initial_state,
                                                        .seq_idx = seq_idx,
                                                        .silu = true},
                                                 .out = taps.convolved,
                                                 .final_state = nullptr},
                          stream_, method_);
  }

  void scan(Scalars initial_state, const std::int32_t* seq_idx, float* final_state) const {
    ssd_scan_forward(scan_dims(d),
                     SsdScanForward<T>{.x = taps.convolved,
                                       .dt = dt(),
                                       .A = taps.A,
                                       .B = B(),
                                       .C = C(),
                                       .D = p.D,
                                       .dt_bias = p.dt_bias,
                                       .initial_state = initial_state,
                                       .seq_idx = seq_idx,
                                       .dt_min = p.dt_min,
                                       .dt_max = p.dt_max,
                                       .y = taps.scanned,
                                       .final_state = final_state,
                                       .workspace = in_workspace<void>(layout_.scan)},
                     stream_, method_);
  }

  void append_columns(T* conv_state, bool forget, T* earlier) const {
    mamba2_mixer::append_columns<T>({.batch = d.batch,
                                     .seq_len = d.seq_len,
                                     .channels = d.conv_channels(),
                                     .taps = d.taps,
                                     .xBC = xBC(),
                                     .row_stride = d.projected(),
                                     .forget = forget,
                                     .state = conv_state,
                                     .earlier = earlier},
                                    stream_);
  }

  void update_conv(T* conv_state) const {
    causal_conv1d_update(conv_dims(),
                         CausalConv1dUpdate<T>{.hidden_states = xBC(),
                                               .state = conv_state,
                                               .state_len = d.taps,
                                               .weight = p.conv_weight,
                                               .bias = p.conv_bias,
                                               .silu = true,
                                               .out = taps.convolved},
                         stream_, method_);
  }

  template <class S>
  void update_state(S* ssm_state) const {
    ssm_state_update({.batch = d.batch,
                      .heads = d.heads,
                      .head_dim = d.head_dim,
                      .groups = d.groups,
                      .state_size = d.state_size,
                      .x_stride = d.conv_channels(),
                      .dt_stride = d.projected(),
                      .B_stride = d.conv_channels(),
                      .C_stride = d.conv_channels(),
                      .z_stride = d.inner(),
                      .state_stride = d.inner() * d.state_size},
                     SsmStateUpdate<T, S>{.x = taps.convolved,
                                          .dt = dt(),
                                          .A = taps.A,
                                          .B = B(),
                                          .C = C(),
                                          .D = p.D,
                                          .dt_bias = p.dt_bias,
                                          .state = ssm_state,
                                          .y = taps.scanned},
                     stream_, method_);
  }

  // The convolution's, the scan's and the norm's step in one launch, where it has a fast kernel and nobody looks
  // between.
  template <class S>
  bool fuses(const Mamba2MixerCache<T, S>&) const {
    return t.taps.convolved == nullptr && t.taps.scanned == nullptr && method_ == Method::automatic &&
           std::string_view(mamba2_decode_step_variant(decode_dims(), sizeof(T), sizeof(S))) != "naive";
  }
  template <class S>
  void decode_step(const Mamba2MixerCache<T, S>& cache) const {
    mamba2_decode_step(decode_dims(),
                       Mamba2DecodeStep<T, S>{.projected = taps.projected,
                                              .conv_weight = p.conv_weight,
                                              .conv_bias = p.conv_bias,
                                              .dt_bias = p.dt_bias,
                                              .A = taps.A,
                                              .D = p.D,
                                              .norm_weight = p.norm_weight,
                                              .eps = p.eps,
                                              .conv_state = cache.conv_state,
                                              .state = cache.ssm_state,
                                              .out = taps.normed},
                       stream_);
  }

  void norm() const {
    gated_rms_norm_forward({.rows = d.tokens(),
                            .width = d.inner(),
                            .group_size = d.inner() / d.groups,
                            .row_stride = d.inner(),
                            .gate_stride = d.projected()},
                           GatedRmsNormForward<T>{.hidden_states = taps.scanned,
                                                  .gate = gate(),
                                                  .weight = p.norm_weight,
                                                  .eps = p.eps,
                                                  .out = taps.normed,
                                                  .rstd = taps.rstd},
                           stream_, method_);
  }
  void project_back() const {
    linear(taps.normed, d.inner(), p.out_proj_weight, p.out_proj_bias, d.hidden_size, t.out);
  }

  template <class U>
  U* in_workspace(std::size_t at) const {
    return reinterpret_cast<U*>(static_cast<std::byte*>(t.workspace) + at);
  }
  T* earlier() const { return in_workspace<T>(layout_.earlier); }
  float* state() const { return in_workspace<float>(layout_.state); }

  const Mamba2MixerDims& d;
  const Mamba2MixerParams<T>& p;
  const Mamba2MixerForward<T>& t;
  Mamba2MixerTaps<T> taps;  // all of them have a place

 private:
  static const Mamba2MixerDims& checked(const char* function, const Mamba2MixerDims& dims) {
    check_dims(function, dims);
    return dims;
  }

  // The slices of in_proj's and of the convolution's output.
  const T* xBC() const { return taps.projected + d.inner(); }
  const T* dt() const { return taps.projected + d.inner() + d.conv_channels(); }
  const T* gate() const { return taps.projected + (planted<Break::mixer_gate_of_another_slice> ? d.inner() : 0); }
  const T* B() const { return taps.convolved + d.inner() + (planted<Break::mixer_keys_swapped> ? keys() : 0); }
  const T* C() const { return taps.convolved + d.inner() + (planted<Break::mixer_keys_swapped> ? 0 : keys()); }
  std::int64_t keys() const { return d.groups * d.state_size; }

  Mamba2DecodeStepDims decode_dims() const {
    return {.batch = d.batch,
            .heads = d.heads,
            .head_dim = d.head_dim,
            .groups = d.groups,
            .state_size = d.state_size,
            .taps = d.taps,
            .conv_len = d.taps,
            .row_stride = d.projected()};
  }

  CausalConv1dDims conv_dims() const {
    return {.batch = d.batch,
            .seq_len = d.seq_len,
            .channels = d.conv_channels(),
            .taps = d.taps,
            .row_stride = d.projected()};
  }

  void linear(const T* x, std::int64_t in, const T* weight, const T* bias, std::int64_t out, T* y) const {
    linear_forward(
        {.rows = d.tokens(), .in_features = in, .out_features = out, .x_stride = in, .y_stride = out},
        LinearForward<T>{
            .x = x, .weight = weight, .bias = bias, .y = y, .workspace = in_workspace<void>(layout_.products)},
        stream_);
  }

  cudaStream_t stream_;
  Method method_;
  Layout layout_;
};

template <class T, class S>
void check_cache(const char* function, const Mamba2MixerDims& dims, const Mamba2MixerCache<T, S>& cache) {
  require(dims.batch == 0 || (cache.conv_state && cache.ssm_state), function,
          ": conv_state or ssm_state is null; want a pointer");
}

}  // namespace

std::size_t mamba2_mixer_workspace(const Mamba2MixerDims& dims, std::size_t element_size) {
  check_dims("mamba2_mixer_workspace", dims);
  return Layout(dims, element_size).bytes;
}

template <class T>
void mamba2_mixer_train_forward(const Mamba2MixerDims& dims, const Mamba2MixerParams<T>& params,
                                const Mamba2MixerForward<T>& tensors, const std::int32_t* seq_idx, cudaStream_t stream,
                                Method method) {
  const Mixer<T> mixer("mamba2_mixer_train_forward", dims, params, tensors, stream, method);
  mixer.find_rates();  // of no tokens, too: the gradient of A_log reads them
  if (dims.tokens() == 0) return;
  mixer.project();
  mixer.convolve(nullptr, seq_idx);
  mixer.scan({}, seq_idx, mixer.state());
  mixer.norm();
  mixer.project_back();
}

template <class T, class S>
void mamba2_mixer_prefill(const Mamba2MixerDims& dims, const Mamba2MixerParams<T>& params,
                          const Mamba2MixerForward<T>& tensors, const Mamba2MixerCache<T, S>& cache, bool continued,
                          cudaStream_t stream, Method method) {
  const char* const function = "mamba2_mixer_prefill";
  const Mixer<T> mixer(function, dims, params, tensors, stream, method);
  check_cache(function, dims, cache);
  if (dims.batch == 0) return;
  mixer.project();
  mixer.find_rates();
  T* const earlier = continued && dims.taps > 1 ? mixer.earlier() : nullptr;
  mixer.append_columns(cache.conv_state, !continued && dims.seq_len != 1, earlier);
  mixer.convolve(earlier, nullptr);
  const Scalars before = continued ? Scalars(cache.ssm_state) : Scalars();
  if constexpr (std::is_same_v<S, float>) {
    mixer.scan(before, nullptr, cache.ssm_state);
  } else {
    mixer.scan(before, nullptr, mixer.state());
    mamba2_mixer::round_state(mixer.state(), dims.batch * dims.inner() * dims.state_size, cache.ssm_state, stream);
  }
  mixer.norm();
  mixer.project_back();
}

template <class T, class S>
void mamba2_mixer_decode(const Mamba2MixerDims& dims, const Mamba2MixerParams<T>& params,
                         const Mamba2MixerForward<T>& tensors, const Mamba2MixerCache<T, S>& cache, cudaStream_t stream,
                         Method method) {
  const char* const function = "mamba2_mixer_decode";
  require(dims.seq_len == 1, function, ": seq_len = ", dims.seq_len, "; want 1");
  const Mixer<T> mixer(function, dims, params, tensors, stream, method);
  check_cache(function, dims, cache);
  if (dims.batch == 0) return;
  mixer.project();
  mixer.find_rates();
  if (mixer.fuses(cache)) {
    mixer.decode_step(cache);
  } else {
    mixer.update_conv(cache.conv_state);
    mixer.update_state(cache.ssm_state);
    mixer.norm();
  }
  mixer.project_back();
}

template <class T>
void mamba2_mixer_copy_taps(const Mamba2MixerDims& d, const Mamba2MixerTaps<T>& from, const Mamba2MixerTaps<T>& to,
                            cudaStream_t stream) {
  check_dims("mamba2_mixer_copy_taps", d);
  const auto copy = [&]<class U>(const U* source, U* copied, std::int64_t rows, std::int64_t width) {
    if (source && copied) mamba2_mixer::place_slice(source, rows, width, copied, width, stream);
  };
  copy(from.masked, to.masked, d.tokens(), d.hidden_size);
  copy(from.projected, to.projected, d.tokens(), d.projected());
  copy(from.A, to.A, 1, d.heads);
  copy(from.convolved, to.convolved, d.tokens(), d.conv_channels());
  copy(from.scanned, to.scanned, d.tokens(), d.inner());
  copy(from.normed, to.normed, d.tokens(), d.inner());
  copy(from.rstd, to.rstd, d.groups, d.tokens());
}

const char* mamba2_mixer_scan_variant(const Mamba2MixerDims& dims, std::size_t element_size, Method method) {
  return ssd_scan_variant(scan_dims(dims), element_size, method);
}

template void mamba2_mixer_train_forward(const Mamba2MixerDims&, const Mamba2MixerParams<float>&,
                                         const Mamba2MixerForward<float>&, const std::int32_t*, cudaStream_t, Method);
template void mamba2_mixer_train_forward(const Mamba2MixerDims&, const Mamba2MixerParams<bf16>&,
                                         const Mamba2MixerForward<bf16>&, const std::int32_t*, cudaStream_t, Method);
template void mamba2_mixer_copy_taps(const Mamba2MixerDims&, const Mamba2MixerTaps<float>&,
                                     const Mamba2MixerTaps<float>&, cudaStream_t);
template void mamba2_mixer_copy_taps(const Mamba2MixerDims&, const Mamba2MixerTaps<bf16>&, const Mamba2MixerTaps<bf16>&,
                                     cudaStream_t);
template void mamba2_mixer_prefill(const Mamba2MixerDims&, const Mamba2MixerParams<float>&,
                                   const Mamba2MixerForward<float>&, const Mamba2MixerCache<float, float>&, bool,
                                   cudaStream_t, Method);
template void mamba2_mixer_prefill(const Mamba2MixerDims&, const Mamba2MixerParams<float>&,
                                   const Mamba2MixerForward<float>&, const Mamba2MixerCache<float, bf16>&, bool,
                                   cudaStream_t, Method);
template void mamba2_mixer_prefill(const Mamba2MixerDims&, const Mamba2MixerParams<bf16>&,
                                   const Mamba2MixerForward<bf16>&, const Mamba2MixerCache<bf16, float>&, bool,
                                   cudaStream_t, Method);
template void mamba2_mixer_prefill(const Mamba2MixerDims&, const Mamba2MixerParams<bf16>&,
                                   const Mamba2MixerForward<bf16>&, const Mamba2MixerCache<bf16, bf16>&, bool,
                                   cudaStream_t, Method);
template void mamba2_mixer_decode(const Mamba2MixerDims&, const Mamba2MixerParams<float>&,
                                  const Mamba2MixerForward<float>&, const Mamba2MixerCache<float, float>&, cudaStream_t,
                                  Method);
template void mamba2_mixer_decode(const Mamba2MixerDims&, const Mamba2MixerParams<float>&,
                                  const Mamba2MixerForward<float>&, const Mamba2MixerCache<float, bf16>&, cudaStream_t,
                                  Method);
template void mamba2_mixer_decode(const Mamba2MixerDims&, const Mamba2MixerParams<bf16>&,
                                  const Mamba2MixerForward<bf16>&, const Mamba2MixerCache<bf16, float>&, cudaStream_t,
                                  Method);
template void mamba2_mixer_decode(const Mamba2MixerDims&, const Mamba2MixerParams<bf16>&,
                                  const Mamba2MixerForward<bf16>&, const Mamba2MixerCache<bf16, bf16>&, cudaStream_t,
                                  Method);

}  // namespace assay::gpu
