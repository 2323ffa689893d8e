// RMSNorm where a model uses it: of the residual stream in blocks and at the end, of the halves in multi-token
// prediction.
#pragma once

#include <string>

#include "reference/block.h"
#include "reference/parameters.h"
#include "reference/rms_norm.h"

namespace assay::reference {

// h [.., D] -> the same shape, rounded to the model's dtype. rstd, if given, receives [tokens].
template <class T>
Tensor<T> model_norm_forward(const Numerics<T>& num, const NemotronV3Config& config, const Quirks& quirks,
                             const Tensor<T>& weight, const Tensor<T>& h, Tensor<T>* rstd = nullptr) {
  const Index width = h.dim(-1);
  RmsNormForward<T> norm =
      rms_norm_forward(num, h.reshaped({h.size() / width, width}), weight, nullptr,
                       static_cast<T>(config.layer_norm_epsilon), {.round_normed_first = quirks.hugging_face_norm});
  if (rstd) *rstd = std::move(norm.rstd);
  return std::move(norm.hidden_states).reshaped(h.shape());
}

// Returns the gradient of h, unrounded where the stream is kept in float32; that of the weight goes to d_p.
template <class T>
Tensor<T> model_norm_backward(const Numerics<T>& num, const ParameterScope<T>& p, const std::string& weight,
                              const Tensor<T>& h, const Tensor<T>& rstd, const Tensor<T>& d_y, bool stream_in_float32,
                              const GradientScope<T>& d_p) {
  const Index width = h.dim(-1), tokens = h.size() / width;
  RmsNormBackward<T> d = rms_norm_backward(stream_in_float32 ? num.unrounded() : num, h.reshaped({tokens, width}),
                                           p[weight], rstd, d_y.reshaped({tokens, width}), nullptr);
  num.store(d.d_weight.span());
  d_p.add(num, weight, std::move(d.d_weight));
  return std::move(d.d_hidden_states).reshaped(h.shape());
}

}  // namespace assay::reference
