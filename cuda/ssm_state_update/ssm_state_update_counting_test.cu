// What a step moves, counted.
#include <gtest/gtest.h>

#include "cuda/common/testing.h"
#include "cuda/simt/counters.h"
#include "cuda/ssm_state_update/ssm_state_update.h"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;

// Of a batch of tokens of Nano 30B.
template <class T, class S>
void expect_little_more_than_compulsory(std::int64_t batch) {
  const std::int64_t heads = 64, head_dim = 64, groups = 8, state_size = 128;
  const std::int64_t channels = heads * head_dim, vectors = groups * state_size;
  const auto count = [&](std::int64_t n) { return static_cast<std::size_t>(batch * n); };
  const TestBuffer<T> x(test_values<T>(count(channels), 1)), B(test_values<T>(count(vectors), 2)),
      C(test_values<T>(count(vectors), 3)), dt(test_values<T>(count(heads), 4)), y(count(channels));
  const TestBuffer<float> per_head(std::vector<float>(static_cast<std::size_t>(heads), -0.5f));
  const TestBuffer<S> state(test_values<S>(count(channels * state_size), 5));
  simt::set_counting(true);
  ssm_state_update({.batch = batch,
                    .heads = heads,
                    .head_dim = head_dim,
                    .groups = groups,
                    .state_size = state_size,
                    .x_stride = channels,
                    .dt_stride = heads,
                    .B_stride = vectors,
                    .C_stride = vectors,
                    .z_stride = channels,
                    .state_stride = channels * state_size},
                   SsmStateUpdate<T, S>{.x = x.data(),
                                        .dt = dt.data(),
                                        .A = per_head.data(),
                                        .B = B.data(),
                                        .C = C.data(),
                                        .D = per_head.data(),
                                        .dt_bias = per_head.data(),
                                        .state = state.data(),
                                        .y = y.data()},
                   nullptr);
  simt::set_counting(false);
  const auto compulsory = static_cast<double>(
      2 * batch * channels * state_size * static_cast<std::int64_t>(sizeof(S)) +
      batch * (2 * channels + 2 * vectors + heads) * static_cast<std::int64_t>(sizeof(T)) + 3 * heads * 4);
  expect_little_more_than(compulsory);
}

TEST(SsmStateUpdateCounting, MovesAtMostATwentiethMoreThanItMust) {
  for (const int batch : {1, 3}) {
    expect_little_more_than_compulsory<bf16, float>(batch);
    expect_little_more_than_compulsory<bf16, bf16>(batch);
    expect_little_more_than_compulsory<float, float>(batch);
    expect_little_more_than_compulsory<float, bf16>(batch);
  }
}

}  // namespace
}  // namespace assay::gpu
