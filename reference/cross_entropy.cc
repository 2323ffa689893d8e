#include "reference/cross_entropy.h"

#include <algorithm>
#include <stdexcept>

#include "reference/parallel.h"
#include "reference/parameters.h"
#include "reference/sums.h"

namespace assay::reference {
namespace {

constexpr Index kRows = 16;  // of one piece of work

template <class T>
void check(const char* function, const Tensor<T>& logits, const Tensor<Index>& targets) {
  if (logits.rank() != 2 || targets.size() != logits.dim(0))
    throw std::invalid_argument(std::string(function) + ": logits " + to_string(logits.shape()) + ", targets " +
                                to_string(targets.shape()) + "; want [T, V] and [T]");
  for (Index target : targets.span())
    if (target != kIgnoredTarget && (target < 0 || target >= logits.dim(1)))
      throw std::invalid_argument(std::string(function) + ": target " + std::to_string(target) +
                                  "; want -100 or 0 .. " + std::to_string(logits.dim(1) - 1));
}

}  // namespace

template <class T>
CrossEntropy<T> cross_entropy_forward(const Numerics<T>& num, const Tensor<T>& logits, const Tensor<Index>& targets) {
  check("cross_entropy_forward", logits, targets);
  const Index tokens = logits.dim(0), vocab = logits.dim(1);
  CrossEntropy<T> result{0, 0, Tensor<T>({tokens})};
  std::vector<T> losses(tokens, T(0));
  parallel_for(tokens, kRows, [&](Index begin, Index end) {
    std::vector<T> e(vocab);
    for (Index t = begin; t < end; ++t) {
      if (targets[t] == kIgnoredTarget) continue;
      const T* row = logits.data() + t * vocab;
      const T largest = *std::max_element(row, row + vocab);
      std::transform(row, row + vocab, e.begin(), [&](T z) { return z - largest; });
      exp(e, std::span<T>(e), num.function_scale());
      result.log_sum_exp[t] = largest + num.log(sum(e.data(), vocab));
      losses[t] = result.log_sum_exp[t] - row[targets[t]];
    }
  });
  result.sum = sum(losses.data(), tokens);
  result.count = tokens - std::count(targets.span().begin(), targets.span().end(), kIgnoredTarget);
  return result;
}

template <class T>
Tensor<T> cross_entropy_backward(const Numerics<T>& num, const Tensor<T>& logits, const Tensor<Index>& targets,
                                 const CrossEntropy<T>& forward, T scale) {
  check("cross_entropy_backward", logits, targets);
  const Index tokens = logits.dim(0), vocab = logits.dim(1);
  Tensor<T> d_logits(logits.shape());
  parallel_for(tokens, kRows, [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      if (targets[t] == kIgnoredTarget) continue;
      const T* row = logits.data() + t * vocab;
      const std::span<T> d(d_logits.data() + t * vocab, vocab);
      std::transform(row, row + vocab, d.begin(), [&](T z) { return z - forward.log_sum_exp[t]; });
      exp(d, d, num.function_scale());
      d[targets[t]] -= 1;
      for (T& value : d) value *= scale;
      num.store(d);
    }
  });
  return d_logits;
}

Tensor<Index> shifted_labels(const Tensor<Index>& labels) {
  if (labels.rank() != 2)
    throw std::invalid_argument("shifted_labels: labels " + to_string(labels.shape()) + "; want [B, S]");
  Tensor<Index> targets(labels.shape(), kIgnoredTarget);
  for (Index b = 0; b < labels.dim(0); ++b)
    for (Index t = 0; t + 1 < labels.dim(1); ++t) targets(b, t) = labels(b, t + 1);
  return targets;
}

#define ASSAY_INSTANTIATE(T)                                                                                  \
  template CrossEntropy<T> cross_entropy_forward(const Numerics<T>&, const Tensor<T>&, const Tensor<Index>&); \
  template Tensor<T> cross_entropy_backward(const Numerics<T>&, const Tensor<T>&, const Tensor<Index>&,       \
                                            const CrossEntropy<T>&, T);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
