// What the integer fill promises, checked by doing the arithmetic; and that the documents are worth packing.
#include "harness/cases/conv_fill.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "harness/core/dtype.h"

namespace assay::harness {
namespace {

ConvProblem problem(std::int64_t batch, std::int64_t seq_len, std::int64_t channels, std::int64_t taps,
                    std::uint64_t seed, const char* fill = "integer") {
  return {.batch = batch,
          .seq_len = seq_len,
          .channels = channels,
          .taps = taps,
          .state_len = taps - 1,
          .fill = fill,
          .seed = seed};
}

TEST(ConvIntegerFill, EveryValueBeforeARoundingIsExact) {
  for (const ConvProblem& p : {problem(2, 37, 6, 4, 1), problem(1, 4096, 2, 4, 2), problem(3, 5, 40, 3, 3),
                               problem(2, 9, 8, 1, 4), problem(1, 300, 5, 7, 5)}) {
    const ConvInputs in = conv_inputs(p);
    for (const auto* values : {&in.hidden_states, &in.weight, &in.bias, &in.state, &in.d_output, &in.d_state})
      for (const double v : *values) ASSERT_EQ(round_to_bfloat16(v), v);
    std::int64_t far = 0, tokens = 0;
    for (std::int64_t c = 0; c < p.channels; ++c) {
      double d_weight = 0;  // the largest that any tap's sum may become
      for (std::int64_t row = 0; row < p.batch; ++row)
        for (std::int64_t t = 0; t < p.seq_len; ++t, ++tokens) {
          const auto x = [&](std::int64_t from) { return in.hidden_states[(row * p.seq_len + from) * p.channels + c]; };
          double sum = in.bias[c], reach = std::fabs(sum);
          for (std::int64_t j = 0; j < p.taps; ++j) {
            const std::int64_t from = t - (p.taps - 1) + j;
            const double term = from < 0 ? 0 : in.weight[c * p.taps + j] * x(from);
            sum += term, reach += std::fabs(term);
            ASSERT_EQ(std::fmod(term, 128), 0);
          }
          ASSERT_LE(reach / 128, 0x1p24);
          far += std::fabs(sum) / 128 >= 0x1p8;  // bfloat16 would round the sum
          const double d_y = in.d_output[(row * p.seq_len + t) * p.channels + c];
          ASSERT_EQ(std::fmod(d_y, 2), 0);
          d_weight += std::fabs(d_y * x(t)) / 16;
        }
      ASSERT_LE(d_weight, 0x1p24);
    }
    EXPECT_GE(2 * far, tokens);
  }
  EXPECT_TRUE(has_integer_fill(problem(2, 2048, 9, 4, 1)));
  EXPECT_FALSE(has_integer_fill(problem(2, 2049, 9, 4, 1)));
}

TEST(ConvFill, DocumentsAreShortAndLongAndSomeArePadding) {
  const ConvInputs in = conv_inputs(problem(2, 200, 1, 4, 3, "model"));
  ASSERT_EQ(in.seq_idx.size(), 400u);
  std::set<double> ids(in.seq_idx.begin(), in.seq_idx.end());
  EXPECT_TRUE(ids.contains(-1));
  EXPECT_GE(ids.size(), 4u);
  std::set<std::int64_t> lengths;
  std::int64_t length = 1;
  for (std::size_t i = 1; i < in.seq_idx.size(); ++i) {
    if (in.seq_idx[i] == in.seq_idx[i - 1]) {
      ++length;
      continue;
    }
    lengths.insert(length);
    length = 1;
  }
  EXPECT_LE(*lengths.begin(), 2);
  EXPECT_GE(*lengths.rbegin(), 20);
}

TEST(ConvFill, TheEdgesAreThere) {
  const ConvInputs in = conv_inputs(problem(1, 100, 16, 4, 3, "edge"));
  std::int64_t zeros = 0, denormals = 0, large = 0;
  for (const double v : in.hidden_states) {
    zeros += v == 0;
    denormals += v != 0 && std::fabs(v) < 0x1p-126;
    large += std::fabs(v) > 0x1p16;
  }
  EXPECT_GT(zeros, 100);
  EXPECT_GT(denormals, 100);
  EXPECT_GT(large, 100);
}

}  // namespace
}  // namespace assay::harness
