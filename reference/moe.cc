#include "reference/moe.h"

#include "reference/projection.h"
#include "reference/row_pieces.h"

namespace assay::reference {
namespace {

template <class T>
Tensor<T> sum_of(const Numerics<T>& num, Tensor<T> a, const Tensor<T>& b) {
  parallel_for(a.size(), rows_per_piece(1), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) a[i] += b[i];
    num.store(a.span().subspan(begin, end - begin));
  });
  return a;
}

}  // namespace

MoeOptions moe_options(const NemotronV3Config& config) {
  MoeOptions options;
  options.router.n_routed_experts = config.n_routed_experts;
  options.router.num_experts_per_tok = config.num_experts_per_tok;
  options.router.n_group = config.n_group;
  options.router.topk_group = config.topk_group;
  options.router.norm_topk_prob = config.norm_topk_prob;
  options.router.routed_scaling_factor = config.routed_scaling_factor;
  return options;
}

template <class T>
Tensor<T> moe_forward(const Numerics<T>& num, const MoeOptions& options, const ParameterScope<T>& p,
                      const Tensor<T>& hidden_states, const Tensor<std::uint8_t>* token_mask,
                      const Tensor<Index>* given_indices, MoeSaved<T>* saved) {
  const Index width = hidden_states.dim(-1), tokens = width == 0 ? 0 : hidden_states.size() / width;
  const Tensor<T> x = hidden_states.reshaped({tokens, width});
  const bool is_latent = p.find("fc1_latent_proj.weight") != nullptr;
  const Index experts = options.router.n_routed_experts;

  MoeSaved<T> s;
  s.router = options.fake_balanced_gate
                 ? fake_balanced_gate(num, options.router, tokens)
                 : router_forward(num, options.router, p.scope("gate."), x, token_mask, given_indices);
  if (is_latent) s.latent = projection_forward(num, p.scope("fc1_latent_proj."), x, p["fc1_latent_proj.weight"].dim(0));
  s.permutation = permute_by_expert(s.router.indices, token_mask, experts, 0, experts);
  s.routed = experts_forward(num, options.weight_after_down, p.scope("experts."), s.permutation,
                             is_latent ? s.latent : x, s.router.weights, s.h);
  num.store(s.routed.span());
  Tensor<T> out = mlp_forward(num, p.scope("shared_experts."), x, saved ? &s.shared : nullptr);
  out = sum_of(num, std::move(out),
               is_latent ? projection_forward(num, p.scope("fc2_latent_proj."), s.routed, width) : s.routed);
  if (saved) *saved = std::move(s);
  return std::move(out).reshaped(hidden_states.shape());
}

template <class T>
Tensor<T> moe_backward(const Numerics<T>& num, const MoeOptions& options, const ParameterScope<T>& p,
                       const Tensor<T>& hidden_states, const Tensor<std::uint8_t>* token_mask, const MoeSaved<T>& saved,
                       const Tensor<T>& d_out, const GradientScope<T>& d_p) {
  const Index width = hidden_states.dim(-1), tokens = width == 0 ? 0 : hidden_states.size() / width;
  const Tensor<T> x = hidden_states.reshaped({tokens, width}), d_y = d_out.reshaped({tokens, width});
  const bool is_latent = p.find("fc1_latent_proj.weight") != nullptr;

  const Tensor<T> d_routed = is_latent ? projection_backward(num, p, "fc2_latent_proj.", saved.routed, d_y, d_p) : d_y;
  ExpertGradients<T> d =
      experts_backward(num, options.weight_after_down, p.scope("experts."), saved.permutation,
                       is_latent ? saved.latent : x, saved.router.weights, saved.h, d_routed, d_p.scope("experts."));
  Tensor<T> d_x = is_latent ? projection_backward(num, p, "fc1_latent_proj.", x, d.latent, d_p) : std::move(d.latent);
  if (!options.fake_balanced_gate)
    d_x = sum_of(num, std::move(d_x),
                 router_backward(num, options.router, p.scope("gate."), x, token_mask, saved.router, d.weights,
                                 d_p.scope("gate.")));
  d_x = sum_of(num, std::move(d_x),
               mlp_backward(num, p.scope("shared_experts."), x, saved.shared, d_y, d_p.scope("shared_experts.")));
  return std::move(d_x).reshaped(hidden_states.shape());
}

#define ASSAY_INSTANTIATE(T)                                                                                         \
  template Tensor<T> moe_forward(const Numerics<T>&, const MoeOptions&, const ParameterScope<T>&, const Tensor<T>&,  \
                                 const Tensor<std::uint8_t>*, const Tensor<Index>*, MoeSaved<T>*);                   \
  template Tensor<T> moe_backward(const Numerics<T>&, const MoeOptions&, const ParameterScope<T>&, const Tensor<T>&, \
                                  const Tensor<std::uint8_t>*, const MoeSaved<T>&, const Tensor<T>&,                 \
                                  const GradientScope<T>&);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
