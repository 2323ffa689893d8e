// mamba2_mixer.train_backward of the catalogue, by cuda/mamba2_mixer.
#include <string>
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
        gradients(call, *this) {}

  template <class T>
  Mamba2MixerBackward<T> backward(const Call& call) const {
    const MixerSaved saved(dims, element);
    return {.hidden_states = hidden_states.as<T>(),
            .mask = mask,
            .seq_idx = seq_idx,
            .saved = saved.at<T>(call.saved(saved.bytes())),
            .d_out = d_out.as<T>(),
            .d_hidden_states = d_hidden_states.as<T>(),
            .d_params = gradients.params<T>(),
            .d_taps = gradients.taps<T>(),
            .workspace = call.workspace()};
  }

  Rows d_out, d_hidden_states;
  MixerGradients gradients;
};

void check(const Call& call) {
  std::vector<std::string> tensors = MixerCall::tensors(), gradients = MixerGradients::tensors();
  tensors.insert(tensors.end(), gradients.begin(), gradients.end());
  tensors.insert(tensors.end(), {"input.seq_idx", "grad.output.hidden_states", "saved", "grad.input.hidden_states"});
  accept_only(call, MixerCall::attributes(false), tensors);
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
