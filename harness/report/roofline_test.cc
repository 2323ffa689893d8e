#include "harness/report/roofline.h"

#include <gtest/gtest.h>

namespace assay::harness {
namespace {

Roofline of(const Counts& counts) { return roofline(h100_sxm(), counts); }

// By hand: 3.35 GB take a millisecond; so does each of the others by its own peak.
TEST(Roofline, EveryResourceAlone) {
  struct Row {
    Counts counts;
    std::string_view limiter;
  };
  for (const Row& row :
       std::vector<Row>{{{{"global_read.bytes", 3'000'000'000}, {"global_write.bytes", 350'000'000}}, "memory"},
                        {{{"tensor_operations.bf16", 989'400'000'000}}, "tensor cores"},
                        {{{"tensor_operations.tf32", 494'700'000'000}}, "tensor cores"},
                        {{{"float_operations", 66'900'000'000}}, "arithmetic"},
                        {{{"special_functions", 16LL * 132 * 1'980'000}}, "special functions"},
                        {{{"shared_read.wavefronts", 132LL * 1'000'000}, {"shared_write.wavefronts", 132LL * 980'000}},
                         "shared memory"},
                        {{{"longest_block_bytes", 64LL * 1'980'000}}, "one block"},
                        {{{"longest_thread_steps", 1'980'000}}, "one thread"}}) {
    EXPECT_DOUBLE_EQ(of(row.counts).seconds, 1e-3) << row.limiter;
    EXPECT_EQ(of(row.counts).limiter, row.limiter);
  }
}

TEST(Roofline, TheSlowestResourceDecides) {
  const Roofline r = of(
      {{"global_read.bytes", 3'350'000'000}, {"tensor_operations.bf16", 2 * 989'400'000'000}, {"float_operations", 1}});
  EXPECT_DOUBLE_EQ(r.seconds, 2e-3);
  EXPECT_EQ(r.limiter, "tensor cores");
}

TEST(Roofline, TypesOfProductsShareOneUnit) {
  EXPECT_DOUBLE_EQ(
      of({{"tensor_operations.bf16", 989'400'000'000}, {"tensor_operations.s8", 1'978'900'000'000}}).seconds, 2e-3);
}

TEST(Roofline, SaysItsArithmetic) {
  const std::string text = arithmetic_text(
      h100_sxm(), {{"global_read.bytes", 3'350'000}, {"longest_block_bytes", 300}, {"balanced_block_bytes", 200}});
  EXPECT_NE(text.find("1.00 us, the most of"), std::string::npos) << text;
  EXPECT_NE(text.find("3350000 bytes      / 3.35e+12 a second = 1.00 us"), std::string::npos) << text;
  EXPECT_NE(text.find("with equal shares 200: 1.50 times"), std::string::npos) << text;
}

TEST(Roofline, NothingTakesNoTime) {
  EXPECT_EQ(of({}).seconds, 0);
  EXPECT_EQ(of({}).limiter, "");
}

}  // namespace
}  // namespace assay::harness
