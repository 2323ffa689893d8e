// mamba2_mixer.train_forward, .prefill and .decode of the catalogue, by cuda/mamba2_mixer.
#include <string>

#include "cuda/candidate/element_types.h"
#include "cuda/candidate/flavour.h"
#include "cuda/candidate/mamba2_mixer_call.h"
#include "cuda/candidate/operation.h"
#include "cuda/mamba2_mixer/mamba2_mixer.h"

namespace assay::gpu {
namespace {

bool is_decode(const Call& call) { return call.op() == "mamba2_mixer.decode"; }
bool is_prefill(const Call& call) { return call.op() == "mamba2_mixer.prefill"; }
bool is_training(const Call& call) { return call.op() == "mamba2_mixer.train_forward"; }

struct Mixer : MixerCall, MixerTaps {
  explicit Mixer(const Call& call)
      : MixerCall(call), MixerTaps(call, *this), out(activations(call, "output.hidden_states", dims.hidden_size)) {
    if (is_training(call)) return;
    if (is_decode(call) && dims.seq_len != 1)
      throw Unsupported("input.hidden_states: " + std::to_string(dims.seq_len) + " tokens of each batch row; want 1");
    conv_state = model(call, "conv_state", {dims.batch, dims.conv_channels(), dims.taps});
    ssm_state = call.compact("ssm_state", {dims.batch, dims.heads, dims.head_dim, dims.state_size});
  }

  template <class T>
  Mamba2MixerForward<T> forward(const Call& call, const Mamba2MixerTaps<T>& taps) const {
    return {.hidden_states = hidden_states.as<T>(),
            .mask = mask,
            .out = out.as<T>(),
            .taps = taps,
            .workspace = call.workspace()};
  }
  const char* scan_variant() const { return mamba2_mixer_scan_variant(dims, size_of(element), kMethod); }

  Rows out, conv_state = {}, ssm_state = {};
};

void check(const Call& call) {
  std::vector<std::string> tensors = MixerCall::tensors(), taps = MixerTaps::tensors();
  tensors.insert(tensors.end(), taps.begin(), taps.end());
  tensors.push_back("output.hidden_states");
  std::vector<std::string_view> attributes = MixerCall::attributes(is_decode(call));
  if (is_prefill(call)) attributes.push_back("continued");
  if (is_training(call))
    tensors.insert(tensors.end(), {"input.seq_idx", "saved"});
  else
    tensors.insert(tensors.end(), {"conv_state", "ssm_state"});
  accept_only(call, attributes, tensors);
  (void)Mixer(call);
}

// Calls body.template operator()<T, S>() for activations of type T and a cache of type S.
template <class Body>
void visit(const Mixer& m, Body body) {
  visit_element(m.element, [&]<class T>() {
    visit_element(m.ssm_state.element, [&]<class S>() { body.template operator()<T, S>(); });
  });
}

void run_training(const Call& call, cudaStream_t stream) {
  const Mixer m(call);
  const MixerSaved saved(m.dims, m.element);
  visit_element(m.element, [&]<class T>() {
    const Mamba2MixerTaps<T> taps = m.taps<T>();
    if (!call.has("saved")) {
      mamba2_mixer_train_forward(m.dims, m.params<T>(), m.forward<T>(call, taps), m.seq_idx, stream, kMethod);
      return;
    }
    Mamba2MixerTaps<T> kept = saved.at<T>(call.saved(saved.bytes()));
    kept.masked = taps.masked;
    mamba2_mixer_train_forward(m.dims, m.params<T>(), m.forward<T>(call, kept), m.seq_idx, stream, kMethod);
    kept.masked = nullptr;
    mamba2_mixer_copy_taps(m.dims, kept, taps, stream);
  });
}

void run_prefill(const Call& call, cudaStream_t stream) {
  const Mixer m(call);
  visit(m, [&]<class T, class S>() {
    mamba2_mixer_prefill(m.dims, m.params<T>(), m.forward<T>(call, m.taps<T>()),
                         Mamba2MixerCache<T, S>{m.conv_state.as<T>(), m.ssm_state.as<S>()},
                         call.int_attribute("continued") != 0, stream, kMethod);
  });
}

void run_decode(const Call& call, cudaStream_t stream) {
  const Mixer m(call);
  visit(m, [&]<class T, class S>() {
    mamba2_mixer_decode(m.dims, m.params<T>(), m.forward<T>(call, m.taps<T>()),
                        Mamba2MixerCache<T, S>{m.conv_state.as<T>(), m.ssm_state.as<S>()}, stream, kMethod);
  });
}

// What the report calls the variant: the scan's, whose kernels differ most.
const char* variant(const Call& call) { return is_decode(call) ? "composed" : Mixer(call).scan_variant(); }

void amend_contract(const Call& call, assay_contract& contract) {
  amend_mixer_contract(Mixer(call).element, variant(call), contract);
}

std::size_t workspace_bytes(const Call& call) {
  const Mixer m(call);
  return mamba2_mixer_workspace(m.dims, size_of(m.element));
}

std::size_t saved_bytes(const Call& call) {
  const Mixer m(call);
  return is_training(call) ? MixerSaved(m.dims, m.element).bytes() : 0;
}

constexpr Operation operation(const char* name, void (*run)(const Call&, cudaStream_t)) {
  return {.name = name,
          .check = check,
          .variant = variant,
          .workspace_bytes = workspace_bytes,
          .saved_bytes = saved_bytes,
          .run = run,
          .amend_contract = amend_contract};
}
constexpr Operation kOperations[] = {operation("mamba2_mixer.train_forward", run_training),
                                     operation("mamba2_mixer.prefill", run_prefill),
                                     operation("mamba2_mixer.decode", run_decode)};

}  // namespace

std::span<const Operation> mamba2_mixer_operations() { return kOperations; }

}  // namespace assay::gpu
