// Embedding: y[t] = W[id[t]]. There is no padding index.
#pragma once

#include <cstdint>
#include <span>

#include "reference/numerics.h"
#include "reference/tensor.h"

namespace assay::reference {

// weight [vocabulary, width], ids [tokens] -> [tokens, width]. Throws std::invalid_argument naming the token whose id lies
// outside [0, vocabulary).
template <class T>
Tensor<T> embedding_forward(const Tensor<T>& weight, std::span<const std::int64_t> ids);

// d_weight[v] = sum over t with id[t] = v of d_y[t], in ascending t, rounded once. d_y [tokens, width].
template <class T>
Tensor<T> embedding_backward(const Numerics<T>& num, std::span<const std::int64_t> ids, const Tensor<T>& d_y, Index vocabulary);

}  // namespace assay::reference
