// mamba2_block.train_forward and .train_backward of the catalogue, by cuda/mamba2_block.
#include <string>
#include <vector>

#include "cuda/candidate/element_types.h"
#include "cuda/candidate/flavour.h"
#include "cuda/candidate/mamba2_mixer_call.h"
#include "cuda/candidate/operation.h"
#include "cuda/mamba2_block/mamba2_block.h"

namespace assay::gpu {
namespace {

constexpr const char *kParameters = "param.mixer.", *kGradients = "grad.mixer.";

// What both directions read, and what the forward saves: the mixer's, input_normed and rstd.
struct Block : MixerCall {
  explicit Block(const Call& call, std::string_view stream_name)
      : MixerCall(call, kParameters),
        norm_weight(model(call, "param.norm.weight", {dims.hidden_size})),
        stream(call.compact(stream_name, {dims.batch, dims.seq_len, dims.hidden_size})),
        mixer_saved(dims, element) {
    require_element_or_float32(stream_name, stream, element);
  }

  std::size_t normed_bytes() const {
    constexpr std::size_t kAlignment = 256;
    const std::size_t bytes = static_cast<std::size_t>(dims.tokens() * dims.hidden_size) * size_of(element);
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  std::size_t saved_bytes() const {
    return mixer_saved.bytes() + normed_bytes() + static_cast<std::size_t>(dims.tokens()) * sizeof(float);
  }
  template <class T>
  Mamba2BlockTaps<T> saved(const Call& call) const {
    char* const data = static_cast<char*>(call.saved(saved_bytes()));
    char* const normed = data + mixer_saved.bytes();
    return {.input_normed = reinterpret_cast<T*>(normed),
            .rstd = reinterpret_cast<float*>(normed + normed_bytes()),
            .mixer = mixer_saved.at<T>(data)};
  }

  Rows norm_weight, stream;
  MixerSaved mixer_saved;
};

struct Forward : Block {
  explicit Forward(const Call& call)
      : Block(call, "output.hidden_states"),
        taps(call, *this),
        input_normed(tap(call, "tap.input_normed", dims.hidden_size)),
        mixed(tap(call, "tap.mixed", dims.hidden_size)) {}

  MixerTaps taps;
  Rows input_normed, mixed;
};

void check_forward(const Call& call) {
  std::vector<std::string> tensors = MixerCall::tensors(kParameters), taps = MixerTaps::tensors();
  tensors.insert(tensors.end(), taps.begin(), taps.end());
  tensors.insert(tensors.end(), {"input.seq_idx", "param.norm.weight", "output.hidden_states", "saved",
                                 "tap.input_normed", "tap.mixed"});
  accept_only(call, MixerCall::attributes(false), tensors);
  (void)Forward(call);
}

void run_forward(const Call& call, cudaStream_t stream) {
  const Forward f(call);
  visit_elements(f.element, f.stream.element, [&]<class T, class R>() {
    const auto run = [&](const Mamba2BlockTaps<T>& taps) {
      mamba2_block_train_forward(f.dims, f.params<T>(),
                                 Mamba2BlockForward<T, R>{.hidden_states = f.hidden_states.as<T>(),
                                                          .norm_weight = f.norm_weight.as<T>(),
                                                          .mask = f.mask,
                                                          .seq_idx = f.seq_idx,
                                                          .out = f.stream.as<R>(),
                                                          .taps = taps,
                                                          .workspace = call.workspace()},
                                 stream, kMethod);
    };
    const Mamba2BlockTaps<T> taps{
        .input_normed = f.input_normed.as<T>(), .mixed = f.mixed.as<T>(), .mixer = f.taps.taps<T>()};
    if (!call.has("saved")) return run(taps);
    Mamba2BlockTaps<T> kept = f.saved<T>(call);
    kept.mixed = taps.mixed, kept.mixer.masked = taps.mixer.masked;
    run(kept);
    kept.mixer.masked = nullptr;
    mamba2_block_copy_taps(f.dims, kept, taps, stream);
  });
}

struct Backward : Block {
  explicit Backward(const Call& call)
      : Block(call, "grad.output.hidden_states"),
        d_hidden_states(activations(call, "grad.input.hidden_states", dims.hidden_size)),
        d_norm_weight(model(call, "grad.norm.weight", {dims.hidden_size})),
        d_input_normed(tap(call, "tap.d_input_normed", dims.hidden_size)),
        gradients(call, *this, kParameters, kGradients) {}

  Rows d_hidden_states, d_norm_weight, d_input_normed;
  MixerGradients gradients;
};

void check_backward(const Call& call) {
  std::vector<std::string> tensors = MixerCall::tensors(kParameters), gradients = MixerGradients::tensors(kGradients);
  tensors.insert(tensors.end(), gradients.begin(), gradients.end());
  tensors.insert(tensors.end(), {"input.seq_idx", "param.norm.weight", "grad.output.hidden_states", "saved",
                                 "grad.input.hidden_states", "grad.norm.weight", "tap.d_input_normed"});
  accept_only(call, MixerCall::attributes(false), tensors);
  (void)Backward(call);
}

void run_backward(const Call& call, cudaStream_t stream) {
  const Backward b(call);
  visit_elements(b.element, b.stream.element, [&]<class T, class R>() {
    mamba2_block_train_backward(
        b.dims, b.params<T>(),
        Mamba2BlockBackward<T, R>{.hidden_states = b.hidden_states.as<T>(),
                                  .norm_weight = b.norm_weight.as<T>(),
                                  .mask = b.mask,
                                  .seq_idx = b.seq_idx,
                                  .saved = b.saved<T>(call),
                                  .d_out = b.stream.as<R>(),
                                  .d_hidden_states = b.d_hidden_states.as<T>(),
                                  .d_norm_weight = b.d_norm_weight.as<T>(),
                                  .d_mixer = b.gradients.params<T>(),
                                  .d_taps = {.input_normed = b.d_input_normed.as<T>(), .mixer = b.gradients.taps<T>()},
                                  .workspace = call.workspace()},
        stream, kMethod);
  });
}

const char* forward_variant(const Call& call) {
  const Forward f(call);
  return mamba2_mixer_scan_variant(f.dims, size_of(f.element), kMethod);
}
const char* backward_variant(const Call& call) {
  const Backward b(call);
  return mamba2_mixer_backward_scan_variant(b.dims, size_of(b.element), kMethod);
}

constexpr Operation kOperations[] = {
    {.name = "mamba2_block.train_forward",
     .check = check_forward,
     .variant = forward_variant,
     .workspace_bytes =
         [](const Call& call) {
           const Forward f(call);
           return mamba2_block_workspace(f.dims, size_of(f.element));
         },
     .saved_bytes = [](const Call& call) { return Forward(call).saved_bytes(); },
     .run = run_forward,
     .amend_contract =
         [](const Call& call, assay_contract& contract) {
           amend_mixer_contract(Forward(call).element, forward_variant(call), contract);
         }},
    {.name = "mamba2_block.train_backward",
     .check = check_backward,
     .variant = backward_variant,
     .workspace_bytes =
         [](const Call& call) {
           const Backward b(call);
           return mamba2_block_backward_workspace(b.dims, size_of(b.element), kMethod);
         },
     .saved_bytes = [](const Call&) { return std::size_t{0}; },
     .run = run_backward,
     .amend_contract =
         [](const Call& call, assay_contract& contract) {
           amend_mixer_contract(Backward(call).element, backward_variant(call), contract);
         }},
};

}  // namespace

std::span<const Operation> mamba2_block_operations() { return kOperations; }

}  // namespace assay::gpu
