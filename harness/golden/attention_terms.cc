#include "harness/golden/attention_terms.h"

#include <cmath>

namespace assay::harness {

using reference::Index;

// q_bar_i = tau sum_j S_bar_ij k_j and k_bar_j = tau sum_i S_bar_ij q_i with S_bar_ij = P_ij (o_bar_i.v_j -
// o_bar_i.o_i): the terms of S_bar_ij add up to P_ij (|o_bar_i|.|v_j| + |o_bar_i|.|o_i|). Errors of o_bar_i.o_i are
// common to all keys of a query, so keys add up before the root over queries.
AttentionTerms attention_terms(const reference::AttentionMask<double>& mask,
                               const reference::AttentionLayerSaved<double>& saved,
                               const reference::Tensor<double>& d_o) {
  const auto &q = saved.q, &k = saved.k, &v = saved.v, &o = saved.attention.o;
  const Index batch = q.dim(0), tokens = q.dim(1), heads = q.dim(2), width = q.dim(3), kv_heads = k.dim(2);
  const double tau = 1 / std::sqrt(static_cast<double>(width));
  AttentionTerms terms{std::vector<double>(heads * width), std::vector<double>(kv_heads * width)};
  std::vector<double> scores(k.dim(1)), q_terms(width);
  for (Index b = 0; b < batch; ++b)
    for (Index h = 0; h < heads; ++h)
      for (Index i = 0; i < tokens; ++i) {
        const Index kv = h / (heads / kv_heads);
        const auto seen = mask.range(i, k.dim(1));
        double delta = 0, total = 0;
        for (Index d = 0; d < width; ++d) delta += std::abs(d_o(b, i, h, d) * o(b, i, h, d));
        for (Index j = seen.begin; j < seen.end; ++j) {
          double score = 0;
          for (Index d = 0; d < width; ++d) score += q(b, i, h, d) * k(b, j, kv, d);
          scores[j - seen.begin] = tau * score;
        }
        mask.apply(b, h, i, seen, scores.data());
        std::fill(q_terms.begin(), q_terms.end(), 0.0);
        for (Index j = seen.begin; j < seen.end; ++j) {
          const double p = std::exp(scores[j - seen.begin] - saved.attention.log_sum_exp(b, h, i));
          if (!(p > 0)) continue;  // not seen, or a query without keys
          double direct = 0;
          for (Index d = 0; d < width; ++d) direct += std::abs(d_o(b, i, h, d) * v(b, j, kv, d));
          total += p * (direct + delta);
          for (Index d = 0; d < width; ++d) q_terms[d] += tau * p * (direct + delta) * std::abs(k(b, j, kv, d));
        }
        for (Index d = 0; d < width; ++d) {
          terms.q[h * width + d] += std::pow(q_terms[d], 2);
          terms.k[kv * width + d] += std::pow(tau * total * q(b, i, h, d), 2);
        }
      }
  for (auto* squares : {&terms.q, &terms.k})
    for (double& value : *squares) value = std::sqrt(value);
  return terms;
}

}  // namespace assay::harness
