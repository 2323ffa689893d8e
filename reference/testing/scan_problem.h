// Random scans for tests, with every option on or off.
#pragma once

#include <vector>

#include "reference/ssd_scan.h"
#include "reference/testing/random.h"

namespace assay::reference::testing {

// Document numbers of a packed batch: changes with probability 1/every; the first document of a row is 0 or 1.
inline std::vector<std::int32_t> random_documents(Random& random, Index batch, Index seq_len, Index every) {
  std::vector<std::int32_t> numbers;
  for (Index b = 0; b < batch; ++b) {
    auto n = static_cast<std::int32_t>(random.integer(0, 1));
    for (Index t = 0; t < seq_len; ++t) numbers.push_back(n += t > 0 && random.integer(1, every) == 1);
  }
  return numbers;
}

template <class T>
struct ScanProblem {
  Index batch, seq_len, heads, head_dim, groups, state_size;
  Tensor<T> x, dt, A, B, C, D, z, dt_bias, initial_state, d_y, d_final_state;
  std::vector<std::int32_t> seq_idx;
  bool with_D = true, with_z = true, with_dt_bias = true, with_initial_state = true, with_seq_idx = true, dt_softplus = true;
  Index chunk_size = 8;
  T dt_min = 0, dt_max = std::numeric_limits<T>::infinity();

  ScanProblem(Random& random, Index batch_, Index seq_len_, Index heads_, Index head_dim_, Index groups_, Index state_size_,
              bool D_by_channel = false)
      : batch(batch_), seq_len(seq_len_), heads(heads_), head_dim(head_dim_), groups(groups_), state_size(state_size_) {
    x = random.tensor<T>({batch, seq_len, heads, head_dim});
    dt = random.tensor<T>({batch, seq_len, heads}, -2, 1);
    A = random.tensor<T>({heads}, -2, -0.1);
    B = random.tensor<T>({batch, seq_len, groups, state_size});
    C = random.tensor<T>({batch, seq_len, groups, state_size});
    D = random.tensor<T>(D_by_channel ? Shape{heads, head_dim} : Shape{heads});
    z = random.tensor<T>(x.shape(), -2, 2);
    dt_bias = random.tensor<T>({heads});
    initial_state = random.tensor<T>({batch, heads, head_dim, state_size});
    d_y = random.tensor<T>(x.shape());
    d_final_state = random.tensor<T>(initial_state.shape());
    seq_idx = random_documents(random, batch, seq_len, 9);
  }

  SsdScanInputs<T> inputs() const {
    return {.x = x, .dt = dt, .A = A, .B = B, .C = C, .D = with_D ? &D : nullptr, .z = with_z ? &z : nullptr,
            .dt_bias = with_dt_bias ? &dt_bias : nullptr, .initial_state = with_initial_state ? &initial_state : nullptr,
            .seq_idx = with_seq_idx ? std::span<const std::int32_t>(seq_idx) : std::span<const std::int32_t>(),
            .chunk_size = chunk_size, .dt_softplus = dt_softplus, .dt_min = dt_min, .dt_max = dt_max};
  }
};

// Random sizes and options; at least sometimes several chunks, groups and documents.
inline ScanProblem<double> random_scan(std::uint64_t seed) {
  Random random(seed);
  const Index groups = random.integer(1, 3);
  const Index batch = random.integer(1, 3), seq_len = random.integer(1, 50), heads = groups * random.integer(1, 3);
  ScanProblem<double> problem(random, batch, seq_len, heads, random.integer(1, 7), groups, random.integer(1, 9), random.integer(0, 1) == 1);
  problem.chunk_size = random.integer(1, 17);
  problem.with_D = random.integer(0, 3) > 0;
  problem.with_z = random.integer(0, 1) == 1;
  problem.with_dt_bias = random.integer(0, 3) > 0;
  problem.with_initial_state = random.integer(0, 1) == 1;
  problem.with_seq_idx = random.integer(0, 1) == 1;
  problem.dt_softplus = random.integer(0, 3) > 0;
  if (!problem.dt_softplus)
    for (double& v : problem.dt.span()) v = random.uniform(1, 2);  // stays positive under the bias
  if (random.integer(0, 2) == 0) problem.dt_min = 0.3, problem.dt_max = 0.8;
  return problem;
}

}  // namespace assay::reference::testing
