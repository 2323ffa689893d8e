// How large the terms are that the gradients of queries and keys are made of. Both cancel: a query's row of S_bar sums
// to 0, so that the gradient of k_proj.bias is exactly 0, and that of everything is where a query sees one key only.
#pragma once

#include <vector>

#include "reference/attention_layer.h"

namespace assay::harness {

struct AttentionTerms {
  // Root of the sum over tokens of the squares of their absolute terms, by output of the projection.
  std::vector<double> q, k;  // [Hq head_dim], [Hkv head_dim]
};

// d_o: the gradient of saved.attention.o.
AttentionTerms attention_terms(const reference::AttentionMask<double>& mask,
                               const reference::AttentionLayerSaved<double>& saved,
                               const reference::Tensor<double>& d_o);

}  // namespace assay::harness
