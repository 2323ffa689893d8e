#include "reference/mtp.h"

#include <algorithm>

#include "reference/check.h"
#include "reference/embedding.h"
#include "reference/linear.h"
#include "reference/model_norm.h"

namespace assay::reference {
namespace {

// Rolled left by `depth` along the tokens of each row; zeros come in at the end. [B, S, ..]
template <class U>
Tensor<U> rolled(const Tensor<U>& t, Index depth) {
  const Index seq_len = t.dim(1), row = t.dim(0) == 0 ? 0 : t.size() / t.dim(0),
              each = seq_len == 0 ? 0 : row / seq_len;
  Tensor<U> result(t.shape());
  if (depth < seq_len)
    for (Index b = 0; b < t.dim(0); ++b)
      std::copy_n(t.data() + b * row + depth * each, (seq_len - depth) * each, result.data() + b * row);
  return result;
}

// The transpose of rolled: what fell out at the front has no gradient.
template <class T>
Tensor<T> rolled_back(const Tensor<T>& t, Index depth) {
  const Index seq_len = t.dim(1), row = t.dim(0) == 0 ? 0 : t.size() / t.dim(0),
              each = seq_len == 0 ? 0 : row / seq_len;
  Tensor<T> result(t.shape());
  if (depth < seq_len)
    for (Index b = 0; b < t.dim(0); ++b)
      std::copy_n(t.data() + b * row, (seq_len - depth) * each, result.data() + b * row + depth * each);
  return result;
}

template <class T>
Tensor<T> concatenated(const Tensor<T>& a, const Tensor<T>& b) {
  const Index width = a.dim(-1);
  Shape shape = a.shape();
  shape.back() = 2 * width;
  Tensor<T> result(shape);
  for (Index t = 0; t * width < a.size(); ++t) {
    std::copy_n(a.data() + t * width, width, result.data() + 2 * t * width);
    std::copy_n(b.data() + t * width, width, result.data() + (2 * t + 1) * width);
  }
  return result;
}

template <class T>
Tensor<T> half(const Tensor<T>& fused, Index which) {
  const Index width = fused.dim(-1) / 2;
  Shape shape = fused.shape();
  shape.back() = width;
  Tensor<T> result(shape);
  for (Index t = 0; t * width < result.size(); ++t)
    std::copy_n(fused.data() + (2 * t + which) * width, width, result.data() + t * width);
  return result;
}

template <class T>
void add_to(const Numerics<T>& num, Tensor<T>& sum, const Tensor<T>& term) {
  if (sum.rank() == 0) {
    sum = term;
    return;
  }
  for (Index i = 0; i < sum.size(); ++i) sum[i] = num.store(sum[i] + term[i]);
}

// Where the sublayer at `position` of depth d (from 0) keeps its parameters.
std::string sublayer_prefix(const NemotronV3Config& config, Index depth, Index position) {
  const Index stored = config.mtp_use_repeated_layer ? 0 : depth,
              length = static_cast<Index>(config.mtp_layers_block_type.size());
  return "mtp.layers." + std::to_string(stored * length + position) + ".";
}

template <class T>
Tensor<T> rolled_embeddings(const NemotronV3Config& config, const Parameters<T>& p, const ModelInput<T>& input,
                            Index depth) {
  if (input.embeddings) return rolled(*input.embeddings, depth);
  const Tensor<Index> ids = rolled(input.input_ids, depth);
  return embedding_forward(p["model.embed_tokens.weight"], ids.span())
      .reshaped({ids.dim(0), ids.dim(1), config.hidden_size});
}

}  // namespace

template <class T>
MtpOutput<T> mtp_forward(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks,
                         const Parameters<T>& p, const ModelInput<T>& input, const MixerInputs<T>& inputs,
                         const Tensor<T>& hidden_states) {
  MtpOutput<T> out;
  if (!config.has_mtp()) return out;
  const Index length = static_cast<Index>(config.mtp_layers_block_type.size());
  for (Index d = 0; d < config.num_nextn_predict_layers; ++d) {
    const ParameterScope<T> first(p, sublayer_prefix(config, d, 0)), last(p, sublayer_prefix(config, d, length - 1));
    MtpDepthSaved<T> s;
    s.embeddings = rolled_embeddings(config, p, input, d + 1);
    s.hidden_states = d == 0 ? hidden_states : out.hidden_states.back();
    s.fused =
        concatenated(model_norm_forward(num, config, quirks, first["enorm.weight"], s.embeddings, &s.enorm_rstd),
                     model_norm_forward(num, config, quirks, first["hnorm.weight"], s.hidden_states, &s.hnorm_rstd));
    Tensor<T> x = linear_forward(num, s.fused, first["eh_proj.weight"]);
    s.blocks.resize(length);
    for (Index i = 0; i < length; ++i) {
      MixerInputs<T> own = inputs;
      const auto given = input.mtp_expert_indices.find(d * length + i);
      own.expert_indices = given == input.mtp_expert_indices.end() ? nullptr : &given->second;
      x = block_forward(num, config, quirks, config.mtp_layers_block_type[i],
                        ParameterScope<T>(p, sublayer_prefix(config, d, i)), x, own, &s.blocks[i]);
    }
    out.hidden_states.push_back(model_norm_forward(num, config, quirks, last["final_layernorm.weight"], x, &s.rstd));
    s.stream = std::move(x);
    out.saved.push_back(std::move(s));
  }
  return out;
}

template <class T>
Tensor<T> mtp_backward(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks,
                       const Parameters<T>& p, const ModelInput<T>& input, const MixerInputs<T>& inputs,
                       const MtpOutput<T>& out, const std::vector<Tensor<T>>& d_hidden_states, Parameters<T>& d_p,
                       Tensor<T>* d_embeddings) {
  require(d_hidden_states.size() == out.saved.size(), "mtp_backward: ", d_hidden_states.size(), " gradients; want ",
          out.saved.size());
  const Index length = static_cast<Index>(config.mtp_layers_block_type.size());
  Tensor<T> d_h;  // of h^d: from the depth after it
  for (Index d = static_cast<Index>(out.saved.size()); d-- > 0;) {
    const MtpDepthSaved<T>& s = out.saved[d];
    const std::string first = sublayer_prefix(config, d, 0), last = sublayer_prefix(config, d, length - 1);
    add_to(num, d_h, d_hidden_states[d]);
    Tensor<T> d_x = model_norm_backward(num, ParameterScope<T>(p, last), "final_layernorm.weight", s.stream, s.rstd,
                                        d_h, config.residual_in_fp32, GradientScope<T>(d_p, last));
    for (Index i = length; i-- > 0;) {
      const std::string prefix = sublayer_prefix(config, d, i);
      d_x = block_backward(num, config, quirks, config.mtp_layers_block_type[i], ParameterScope<T>(p, prefix), inputs,
                           s.blocks[i], d_x, config.residual_in_fp32 && i > 0, GradientScope<T>(d_p, prefix));
    }
    const ParameterScope<T> scope(p, first);
    const GradientScope<T> d_scope(d_p, first);
    LinearGradients<T> d_fusion = linear_backward(num, s.fused, scope["eh_proj.weight"], d_x);
    d_scope.add(num, "eh_proj.weight", std::move(d_fusion.weight));
    const Tensor<T> d_e = model_norm_backward(num, scope, "enorm.weight", s.embeddings, s.enorm_rstd,
                                              half(d_fusion.x, 0), false, d_scope);
    d_h = model_norm_backward(num, scope, "hnorm.weight", s.hidden_states, s.hnorm_rstd, half(d_fusion.x, 1), false,
                              d_scope);
    if (input.embeddings) {
      if (d_embeddings) add_to(num, *d_embeddings, rolled_back(d_e, d + 1));
    } else {
      const Tensor<Index> ids = rolled(input.input_ids, d + 1);
      GradientScope<T>(d_p).add(
          num, "model.embed_tokens.weight",
          embedding_backward(num, ids.span(), d_e.reshaped({ids.size(), config.hidden_size}), config.vocab_size));
    }
  }
  return d_h;
}

Tensor<Index> mtp_targets(const Tensor<Index>& labels, Index depth, const Tensor<std::int32_t>* seq_idx) {
  require(labels.rank() == 2 && depth >= 0, "mtp_targets: labels ", to_string(labels.shape()), ", depth ", depth,
          "; want [B, S] and >= 0");
  if (seq_idx) require_shape("mtp_targets", "seq_idx", *seq_idx, labels.shape());
  Tensor<Index> targets(labels.shape(), kIgnoredTarget);
  for (Index b = 0; b < labels.dim(0); ++b)
    for (Index t = 0; t + depth < labels.dim(1); ++t)
      if (!seq_idx || (*seq_idx)(b, t + depth) == (*seq_idx)(b, t)) targets(b, t) = labels(b, t + depth);
  return targets;
}

template <class T>
TrainingStep<T> training_step(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks,
                              const Parameters<T>& p, const ModelInput<T>& input, const Tensor<Index>& labels,
                              Index num_label_tokens, Parameters<T>& d_p) {
  BackboneSaved<T> saved;
  const Tensor<T> h = backbone_forward(num, config, quirks, p, input, &saved);
  MtpOutput<T> mtp = mtp_forward(num, config, quirks, p, input, saved.inputs, h);
  const std::size_t depths = mtp.hidden_states.size();
  const T weight = depths == 0 ? T(0) : static_cast<T>(config.mtp_loss_scaling_factor) / static_cast<T>(depths);

  TrainingStep<T> step;
  step.logits = lm_head_forward(num, p, h);
  const Loss<T> main = recipe_loss(num, step.logits, labels, num_label_tokens);
  std::vector<Tensor<T>> d_mtp;
  for (std::size_t d = 0; d < depths; ++d) {
    const Tensor<T> logits = lm_head_forward(num, p, mtp.hidden_states[d]);
    const Tensor<std::int32_t>* documents = saved.inputs.seq_idx ? &*saved.inputs.seq_idx : nullptr;
    Loss<T> loss = recipe_loss(num.unrounded(), logits, mtp_targets(labels, static_cast<Index>(d) + 1, documents),
                               num_label_tokens);
    step.loss.depths.push_back(loss.value);
    for (T& value : loss.d_logits.span()) value = num.store(weight * value);
    d_mtp.push_back(lm_head_backward(num, p, mtp.hidden_states[d], loss.d_logits, d_p));
  }
  step.loss.main = main.value;
  for (T depth : step.loss.depths) step.loss.mtp += weight * depth;
  step.loss.total = step.loss.main + step.loss.mtp;

  Tensor<T> d_h = lm_head_backward(num, p, h, main.d_logits, d_p);
  if (depths > 0)
    add_to(num, d_h, mtp_backward(num, config, quirks, p, input, saved.inputs, mtp, d_mtp, d_p, &step.d_embeddings));
  const Tensor<T> d_from_backbone = backbone_backward(num, config, quirks, p, input, saved, d_h, d_p);
  if (input.embeddings) add_to(num, step.d_embeddings, d_from_backbone);
  step.mtp_hidden_states = std::move(mtp.hidden_states);
  return step;
}

#define ASSAY_INSTANTIATE(T)                                                                                          \
  template MtpOutput<T> mtp_forward(const Numerics<T>&, const NemotronV3Config&, const Quirks&, const Parameters<T>&, \
                                    const ModelInput<T>&, const MixerInputs<T>&, const Tensor<T>&);                   \
  template Tensor<T> mtp_backward(const Numerics<T>&, const NemotronV3Config&, const Quirks&, const Parameters<T>&,   \
                                  const ModelInput<T>&, const MixerInputs<T>&, const MtpOutput<T>&,                   \
                                  const std::vector<Tensor<T>>&, Parameters<T>&, Tensor<T>*);                         \
  template TrainingStep<T> training_step(const Numerics<T>&, const NemotronV3Config&, const Quirks&,                  \
                                         const Parameters<T>&, const ModelInput<T>&, const Tensor<Index>&, Index,     \
                                         Parameters<T>&);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
