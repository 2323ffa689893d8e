// What a step moves, counted.
#include <gtest/gtest.h>

#include "cuda/mamba2_decode_step/testing.h"
#include "cuda/simt/counters.h"

namespace assay::gpu {
namespace {

using bf16 = __nv_bfloat16;

// Of a batch of tokens of Nano 30B.
template <class T, class S>
void expect_little_more_than_compulsory(int batch) {
  SCOPED_TRACE(testing::Message() << batch << " rows, " << sizeof(T) << " and " << sizeof(S) << " bytes");
  const DecodeProblem<T, S> problem{batch, 64, 64, 8, 128};
  const Mamba2DecodeStepDims d = problem.dims();
  simt::set_counting(true);
  (void)problem.run(Method::automatic);
  simt::set_counting(false);
  const auto bytes = [](std::int64_t n, std::size_t size) {
    return static_cast<double>(n) * static_cast<double>(size);
  };
  const double compulsory = bytes(batch * 2 * d.inner() * d.state_size, sizeof(S)) +
                            bytes(batch * (2 * d.conv_channels() * d.conv_len + d.width() + d.inner()), sizeof(T)) +
                            bytes(d.conv_channels() * (d.taps + 1) + d.inner(), sizeof(T)) +
                            bytes(3 * d.heads, sizeof(float));
  expect_little_more_than(compulsory);
}

TEST(Mamba2DecodeStepCounting, MovesAtMostATwentiethMoreThanItMust) {
  for (const int batch : {1, 3}) {
    expect_little_more_than_compulsory<bf16, float>(batch);
    expect_little_more_than_compulsory<bf16, bf16>(batch);
    expect_little_more_than_compulsory<float, float>(batch);
    expect_little_more_than_compulsory<float, bf16>(batch);
  }
}

}  // namespace
}  // namespace assay::gpu
