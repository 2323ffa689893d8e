#include "harness/core/call.h"

#include <gtest/gtest.h>

#include <limits>

namespace assay::harness {
namespace {

TEST(Shape, CountsElements) {
  EXPECT_EQ(element_count({}), 1);
  EXPECT_EQ(element_count({2, 5, 32}), 320);
  EXPECT_EQ(element_count({7, 0, 3}), 0);
  EXPECT_THROW(element_count({2, -1}), std::invalid_argument);
  EXPECT_THROW(element_count({std::numeric_limits<std::int64_t>::max(), 2}), std::invalid_argument);
}

TEST(Shape, PrintsAsInTheCatalogue) {
  EXPECT_EQ(to_string(Shape{2, 5, 32}), "[2, 5, 32]");
  EXPECT_EQ(to_string(Shape{}), "[]");
}

TEST(HostTensor, IsZeroAndCompactWhenMade) {
  HostTensor t = make_tensor("input.x", Role::in, DType::bfloat16, {2, 3});
  EXPECT_EQ(t.bytes.size(), 12u);
  t.set(4, 1.5);
  EXPECT_EQ(t.to_double(), (std::vector<double>{0, 0, 0, 0, 1.5, 0}));
}

TEST(Call, FindsTensorsAndAttributesOrNamesWhatIsMissing) {
  Call call{.op = "rms_norm.forward",
            .attributes = {{"eps", 1e-5}, {"groups", std::int64_t{4}}, {"mode", std::string("a")}},
            .tensors = {make_tensor("input.x", Role::in, DType::float32, {2})}};
  EXPECT_EQ(&call.tensor("input.x"), call.find("input.x"));
  EXPECT_EQ(call.find("input.y"), nullptr);
  EXPECT_EQ(call.number("eps"), 1e-5);
  EXPECT_EQ(call.number("groups"), 4.0);
  EXPECT_EQ(call.integer("groups"), 4);
  EXPECT_THROW(call.integer("eps"), std::out_of_range);
  EXPECT_THROW(call.number("mode"), std::out_of_range);
  try {
    call.tensor("input.y");
    FAIL();
  } catch (const std::out_of_range& e) {
    EXPECT_STREQ(e.what(), "rms_norm.forward: no tensor input.y in this call");
  }
  try {
    call.integer("chunk_size");
    FAIL();
  } catch (const std::out_of_range& e) {
    EXPECT_STREQ(e.what(), "rms_norm.forward: no attribute chunk_size in this call");
  }
}

}  // namespace
}  // namespace assay::harness
