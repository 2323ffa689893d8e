// Cross entropy of logits against targets:
//
//   loss_t = lse_t - logits[t, target_t]      lse_t = max_v logits[t, v] + ln sum_v e^(logits[t, v] - max)
//
// Computed in float32 (or double) whatever dtype the logits are rounded to. Tokens with target -100 do not count.
#pragma once

#include "reference/numerics.h"
#include "reference/tensor.h"

namespace assay::reference {

constexpr Index kIgnoredTarget = -100;

template <class T>
struct CrossEntropy {
  T sum = 0;              // over the tokens that count; 0 if none does
  Index count = 0;        // tokens that count
  Tensor<T> log_sum_exp;  // [T]; 0 where the target is ignored
};

// logits [T, V]   targets [T]. Throws std::invalid_argument for a target that is neither -100 nor within [0, V).
template <class T>
CrossEntropy<T> cross_entropy_forward(const Numerics<T>& num, const Tensor<T>& logits, const Tensor<Index>& targets);

// scale * (softmax(logits[t]) - onehot(target_t)), rounded to the model's dtype; 0 where the target is ignored.
// scale = d_loss / count for a mean.
template <class T>
Tensor<T> cross_entropy_backward(const Numerics<T>& num, const Tensor<T>& logits, const Tensor<Index>& targets,
                                 const CrossEntropy<T>& forward, T scale);

// The targets of the in-model loss: token t predicts labels[t + 1], the last of each row nothing. labels [B, S].
Tensor<Index> shifted_labels(const Tensor<Index>& labels);

}  // namespace assay::reference
