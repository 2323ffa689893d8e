// mamba2_mixer.train_backward of the catalogue, by cuda/mamba2_mixer.
#include <string>
#include <utility>
#include <vector>

#include "cuda/candidate/element_types.h"
#include "cuda/candidate/flavour.h"
#include "cuda/candidate/mamba2_mixer_call.h"
#include "cuda/candidate/operation.h"
#include "cuda/mamba2_mixer/mamba2_mixer.h"

namespace assay::gpu {
namespace {

struct Backward : MixerCall {
  explicit Backward(const Call& call)
      : MixerCall(call),
        d_out(activations(call, "grad.output.hidden_states", dims.hidden_size)),
        d_hidden_states(activations(call, "grad.input.hidden_states", dims.hidden_size)),
        d_in_proj(model(call, "grad.in_proj.weight", {dims.projected(), dims.hidden_size})),
        d_in_bias(optional(call, "grad.in_proj.bias", {dims.projected()})),
        d_conv(model(call, "grad.conv1d.weight", {dims.conv_channels(), 1, dims.taps})),
        d_conv_bias(optional(call, "grad.conv1d.bias", {dims.conv_channels()})),
        d_dt_bias(float32(call, "grad._fp32_params.dt_bias", {dims.heads})),
        d_A_log(float32(call, "grad._fp32_params.A_log", {dims.heads})),
        d_D(float32(call, "grad._fp32_params.D", {dims.heads})),
        d_norm(model(call, "grad.norm.weight", {dims.inner()})),
        d_out_proj(model(call, "grad.out_proj.weight", {dims.hidden_size, dims.inner()})),
        d_out_bias(optional(call, "grad.out_proj.bias", {dims.hidden_size})),
        d_masked(tap(call, "tap.d_masked", dims.hidden_size)),
        d_projected(tap(call, "tap.d_projected", dims.projected())),
        d_convolved(tap(call, "tap.d_convolved", dims.conv_channels())),
        d_scanned(tap(call, "tap.d_scanned", dims.inner())),
        d_normed(tap(call, "tap.d_normed", dims.inner())) {
    if (call.has("tap.d_A")) d_A = float32(call, "tap.d_A", {dims.heads});
    for (const auto& [bias, gradient] : {std::pair{"param.in_proj.bias", "grad.in_proj.bias"},
                                         {"param.conv1d.bias", "grad.conv1d.bias"},
                                         {"param.out_proj.bias", "grad.out_proj.bias"}})
      if (call.has(bias) != call.has(gradient))
        throw Unsupported(std::string(bias) + " and " + gradient + ": want both or neither");
  }

  template <class T>
  Mamba2MixerBackward<T> backward(const Call& call) const {
    const MixerSaved saved(dims, element);
    return {.hidden_states = hidden_states.as<T>(),
            .mask = mask,
            .seq_idx = seq_idx,
            .saved = saved.at<T>(call.saved(saved.bytes())),
            .d_out = d_out.as<T>(),
            .d_hidden_states = d_hidden_states.as<T>(),
            .d_params = {.in_proj_weight = d_in_proj.as<T>(),
                         .in_proj_bias = d_in_bias.as<T>(),
                         .conv_weight = d_conv.as<T>(),
                         .conv_bias = d_conv_bias.as<T>(),
                         .dt_bias = d_dt_bias.as<float>(),
                         .A_log = d_A_log.as<float>(),
                         .D = d_D.as<float>(),
                         .norm_weight = d_norm.as<T>(),
                         .out_proj_weight = d_out_proj.as<T>(),
                         .out_proj_bias = d_out_bias.as<T>()},
            .d_taps = {.masked = d_masked.as<T>(),
                       .projected = d_projected.as<T>(),
                       .A = d_A.as<float>(),
                       .convolved = d_convolved.as<T>(),
                       .scanned = d_scanned.as<T>(),
                       .normed = d_normed.as<T>()},
            .workspace = call.workspace()};
  }

  Rows d_out, d_hidden_states, d_in_proj, d_in_bias, d_conv, d_conv_bias, d_dt_bias, d_A_log, d_D, d_norm, d_out_proj,
      d_out_bias, d_masked, d_projected, d_convolved, d_scanned, d_normed, d_A = {};
};

void check(const Call& call) {
  std::vector<std::string_view> tensors = MixerCall::tensors();
  tensors.insert(tensors.end(), {"input.seq_idx",
                                 "grad.output.hidden_states",
                                 "saved",
                                 "grad.input.hidden_states",
                                 "grad.in_proj.weight",
                                 "grad.in_proj.bias",
                                 "grad.conv1d.weight",
                                 "grad.conv1d.bias",
                                 "grad._fp32_params.dt_bias",
                                 "grad._fp32_params.A_log",
                                 "grad._fp32_params.D",
                                 "grad.norm.weight",
                                 "grad.out_proj.weight",
                                 "grad.out_proj.bias",
                                 "tap.d_masked",
                                 "tap.d_projected",
                                 "tap.d_A",
                                 "tap.d_convolved",
                                 "tap.d_scanned",
                                 "tap.d_normed"});
  call.accept_only(MixerCall::attributes(false), tensors);
  if (!call.has("saved")) throw Unsupported("saved: missing; want what mamba2_mixer.train_forward saved");
  (void)Backward(call);
}

void run(const Call& call, cudaStream_t stream) {
  const Backward b(call);
  visit_element(b.element, [&]<class T>() {
    mamba2_mixer_train_backward(b.dims, b.params<T>(), b.backward<T>(call), stream, kMethod);
  });
}

const char* variant(const Call& call) {
  const Backward b(call);
  return mamba2_mixer_backward_scan_variant(b.dims, size_of(b.element), kMethod);
}

std::size_t workspace_bytes(const Call& call) {
  const Backward b(call);
  return mamba2_mixer_backward_workspace(b.dims, size_of(b.element), kMethod);
}

constexpr Operation kOperations[] = {{.name = "mamba2_mixer.train_backward",
                                      .check = check,
                                      .variant = variant,
                                      .workspace_bytes = workspace_bytes,
                                      .saved_bytes = [](const Call&) { return std::size_t{0}; },
                                      .run = run,
                                      .amend_contract =
                                          [](const Call& call, assay_contract& contract) {
                                            amend_mixer_contract(Backward(call).element, variant(call), contract);
                                          }}};

}  // namespace

std::span<const Operation> mamba2_mixer_backward_operations() { return kOperations; }

}  // namespace assay::gpu
