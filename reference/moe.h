// Mixture of experts: routed experts, a shared expert, an optional latent projection.
//
//   l = fc1(x) if latent else x                     the router and the shared expert see x
//   acc_t = sum over the token's experts e of  (w relu2(l_t Up_e + bu_e)) Down_e + w bd_e
//   out = fc2(acc) if latent else acc, + shared(x)
//
// Parameters: gate.* (router.h), experts.gate_and_up_projs [E, Dl, Fm], experts.down_projs [E, Fm, Dl],
// experts.gate_up_proj_bias [E, Fm] and experts.down_proj_bias [E, Dl] (optional), shared_experts.* (mlp.h),
// fc1_latent_proj.*, fc2_latent_proj.* (present: latent).
// Matched policy: every product rounded once; the weighted activation once, before the down projection; acc in float32,
// experts ascending, rounded once; the sum with the shared expert once.
#pragma once

#include "reference/config.h"
#include "reference/mlp.h"
#include "reference/moe_experts.h"
#include "reference/parameters.h"
#include "reference/router.h"

namespace assay::reference {

struct MoeOptions {
  RouterOptions router;
  bool fake_balanced_gate = false;
  // Hugging Face: the routing weight is applied after the down projection, in float32.
  bool weight_after_down = false;
};
MoeOptions moe_options(const NemotronV3Config& config);

template <class T>
struct MoeSaved {
  RouterOutput<T> router;
  Tensor<T> latent;  // l [T, Dl]; empty: x itself
  ExpertPermutation permutation;
  Tensor<T> h;       // pre-activations of the permuted slots [slots, Fm]
  Tensor<T> routed;  // acc, rounded [T, Dl]
  MlpSaved<T> shared;
};

// hidden_states [.., D]   token_mask, one element per token, null: all real. A masked token goes to no expert and
// counts in no load. given_indices [T, k]: the experts to use instead of the router's own choice.
template <class T>
Tensor<T> moe_forward(const Numerics<T>& num, const MoeOptions& options, const ParameterScope<T>& p,
                      const Tensor<T>& hidden_states, const Tensor<std::uint8_t>* token_mask = nullptr,
                      const Tensor<Index>* given_indices = nullptr, MoeSaved<T>* saved = nullptr);

// Returns the gradient of hidden_states; those of the parameters go to d_p. An expert without tokens has gradient 0.
template <class T>
Tensor<T> moe_backward(const Numerics<T>& num, const MoeOptions& options, const ParameterScope<T>& p,
                       const Tensor<T>& hidden_states, const Tensor<std::uint8_t>* token_mask, const MoeSaved<T>& saved,
                       const Tensor<T>& d_out, const GradientScope<T>& d_p);

}  // namespace assay::reference
