#include "cuda/mamba2_block/mamba2_block.h"

#include <cuda_bf16.h>

#include <type_traits>

#include "cuda/common/check.h"
#include "cuda/common/planted.h"
#include "cuda/mamba2_block/stream.h"
#include "cuda/mamba2_mixer/sizes.h"
#include "cuda/rms_norm/rms_norm.h"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;

RmsNormDims norm_dims(const Mamba2MixerDims& d) {
  return {.rows = d.tokens(), .hidden_size = d.hidden_size, .row_stride = d.hidden_size};
}

// Where everything lies that is not an argument: one after the other in the workspace.
struct Layout {
  std::size_t input_normed, mixed;  // of the forward
  std::size_t d_out, d_input_normed, norm;
  std::size_t mixer, bytes = 0;

  static Layout forward(const Mamba2MixerDims& d, std::size_t element_size) {
    Layout l;
    l.place(l.input_normed, l.stream(d, element_size));
    l.place(l.mixed, l.stream(d, element_size));
    l.place(l.mixer, mamba2_mixer_workspace(d, element_size));
    return l;
  }
  static Layout backward(const Mamba2MixerDims& d, std::size_t element_size, Method method) {
    Layout l;
    l.place(l.d_out, l.stream(d, element_size));
    l.place(l.d_input_normed, l.stream(d, element_size));
    l.place(l.norm, rms_norm_backward_workspace(norm_dims(d)));
    l.place(l.mixer, mamba2_mixer_backward_workspace(d, element_size, method));
    return l;
  }

 private:
  void place(std::size_t& at, std::size_t size) { at = mamba2_mixer::place(bytes, size); }
  static std::size_t stream(const Mamba2MixerDims& d, std::size_t element_size) {
    return mamba2_mixer::bytes_of(d.tokens() * d.hidden_size, element_size);
  }
};

template <class T>
T* in_workspace(void* workspace, std::size_t place) {
  return reinterpret_cast<T*>(static_cast<std::byte*>(workspace) + place);
}

}  // namespace

std::size_t mamba2_block_workspace(const Mamba2MixerDims& dims, std::size_t element_size) {
  mamba2_mixer::check_dims("mamba2_block_workspace", dims);
  return Layout::forward(dims, element_size).bytes;
}
std::size_t mamba2_block_backward_workspace(const Mamba2MixerDims& dims, std::size_t element_size, Method method) {
  mamba2_mixer::check_dims("mamba2_block_backward_workspace", dims);
  return Layout::backward(dims, element_size, method).bytes;
}

template <class T, class R>
void mamba2_block_train_forward(const Mamba2MixerDims& d, const Mamba2MixerParams<T>& mixer,
                                const Mamba2BlockForward<T, R>& t, cudaStream_t stream, Method method) {
  const char* const function = "mamba2_block_train_forward";
  mamba2_mixer::check_dims(function, d);
  require(t.norm_weight && t.workspace, function, ": norm_weight or workspace is null; want a pointer");
  require(d.tokens() == 0 || (t.hidden_states && t.out), function, ": hidden_states or out is null; want a pointer");
  const Layout layout = Layout::forward(d, sizeof(T));
  T* const input_normed = t.taps.input_normed ? t.taps.input_normed : in_workspace<T>(t.workspace, layout.input_normed);
  T* const mixed = t.taps.mixed ? t.taps.mixed : in_workspace<T>(t.workspace, layout.mixed);

  rms_norm_forward(norm_dims(d),
                   RmsNormForward<T>{.hidden_states = t.hidden_states,
                                     .residual = nullptr,
                                     .weight = t.norm_weight,
                                     .eps = mixer.eps,
                                     .out_hidden_states = input_normed,
                                     .out_residual = nullptr,
                                     .rstd = t.taps.rstd},
                   stream, method);
  mamba2_mixer_train_forward(d, mixer,
                             Mamba2MixerForward<T>{.hidden_states = input_normed,
                                                   .mask = t.mask,
                                                   .out = mixed,
                                                   .taps = t.taps.mixer,
                                                   .workspace = in_workspace<void>(t.workspace, layout.mixer)},
                             t.seq_idx, stream, method);
  mamba2_block::add_to_stream(t.hidden_states, mixed, d.tokens() * d.hidden_size, t.out, stream);
}

template <class T, class R>
void mamba2_block_train_backward(const Mamba2MixerDims& d, const Mamba2MixerParams<T>& mixer,
                                 const Mamba2BlockBackward<T, R>& t, cudaStream_t stream, Method method) {
  const char* const function = "mamba2_block_train_backward";
  mamba2_mixer::check_dims(function, d);
  require(t.norm_weight && t.d_norm_weight && t.workspace, function,
          ": norm_weight, d_norm_weight or workspace is null; want a pointer");
  require(d.tokens() == 0 || (t.hidden_states && t.d_out && t.d_hidden_states && t.saved.input_normed && t.saved.rstd),
          function,
          ": hidden_states, d_out, d_hidden_states, saved.input_normed or saved.rstd is null; want a pointer");
  const Layout layout = Layout::backward(d, sizeof(T), method);
  const T* d_out;
  if constexpr (std::is_same_v<T, R>) {
    d_out = t.d_out;
  } else {
    T* const rounded = in_workspace<T>(t.workspace, layout.d_out);
    mamba2_block::round_gradient(t.d_out, d.tokens() * d.hidden_size, rounded, stream);
    d_out = rounded;
  }
  T* const d_input_normed =
      t.d_taps.input_normed ? t.d_taps.input_normed : in_workspace<T>(t.workspace, layout.d_input_normed);

  mamba2_mixer_train_backward(d, mixer,
                              Mamba2MixerBackward<T>{.hidden_states = t.saved.input_normed,
                                                     .mask = t.mask,
                                                     .seq_idx = t.seq_idx,
                                                     .saved = t.saved.mixer,
                                                     .d_out = d_out,
                                                     .d_hidden_states = d_input_normed,
                                                     .d_params = t.d_mixer,
                                                     .d_taps = t.d_taps.mixer,
                                                     .workspace = in_workspace<void>(t.workspace, layout.mixer)},
                              stream, method);
  rms_norm_backward(norm_dims(d),
                    RmsNormBackward<T>{.normed = t.hidden_states,
                                       .weight = t.norm_weight,
                                       .rstd = t.saved.rstd,
                                       .d_out = d_input_normed,
                                       .d_out_residual = planted<Break::block_residual_gradient_lost> ? nullptr : d_out,
                                       .d_hidden_states = t.d_hidden_states,
                                       .d_residual = nullptr,
                                       .d_weight = t.d_norm_weight,
                                       .workspace = in_workspace<float>(t.workspace, layout.norm)},
                    stream, method);
}

template <class T>
void mamba2_block_copy_taps(const Mamba2MixerDims& d, const Mamba2BlockTaps<T>& from, const Mamba2BlockTaps<T>& to,
                            cudaStream_t stream) {
  // The tap of the mixer that lies as input_normed does.
  mamba2_mixer_copy_taps<T>(d, {.masked = from.input_normed}, {.masked = to.input_normed}, stream);
  mamba2_mixer_copy_taps(d, from.mixer, to.mixer, stream);
}

#define ASSAY_INSTANTIATE(T, R)                                                                    \
  template void mamba2_block_train_forward(const Mamba2MixerDims&, const Mamba2MixerParams<T>&,    \
                                           const Mamba2BlockForward<T, R>&, cudaStream_t, Method); \
  template void mamba2_block_train_backward(const Mamba2MixerDims&, const Mamba2MixerParams<T>&,   \
                                            const Mamba2BlockBackward<T, R>&, cudaStream_t, Method);
ASSAY_INSTANTIATE(float, float)
ASSAY_INSTANTIATE(bf16, bf16)
ASSAY_INSTANTIATE(bf16, float)
#undef ASSAY_INSTANTIATE
template void mamba2_block_copy_taps(const Mamba2MixerDims&, const Mamba2BlockTaps<float>&,
                                     const Mamba2BlockTaps<float>&, cudaStream_t);
template void mamba2_block_copy_taps(const Mamba2MixerDims&, const Mamba2BlockTaps<bf16>&, const Mamba2BlockTaps<bf16>&,
                                     cudaStream_t);

}  // namespace assay::gpu
