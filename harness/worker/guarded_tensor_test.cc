#include "harness/worker/guarded_tensor.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <set>

#include "harness/worker/testing/base_candidate.h"

namespace assay::harness {
namespace {

constexpr DLDataType kFloat32{kDLFloat, 32, 1}, kBfloat16{kDLBfloat, 16, 1}, kFloat16{kDLFloat, 16, 1},
    kFloat64{kDLFloat, 64, 1}, kUint8{kDLUInt, 8, 1};

TEST(Poison, IsASignallingNaNOfEveryFloatingType) {
  for (const int pattern : {0, 1}) {
    const auto f32 = static_cast<std::uint32_t>(poison_of(kFloat32, pattern).bits);
    EXPECT_EQ(f32 & 0x7F800000u, 0x7F800000u);
    EXPECT_EQ(f32 & 0x00400000u, 0u);  // not quiet
    EXPECT_NE(f32 & 0x003FFFFFu, 0u);  // not infinite
    EXPECT_EQ(poison_of(kBfloat16, pattern).bits, f32 >> 16);
    const auto f16 = static_cast<std::uint32_t>(poison_of(kFloat16, pattern).bits);
    EXPECT_EQ(f16 & 0x7E00u, 0x7C00u);
    EXPECT_NE(f16 & 0x01FFu, 0u);
    const std::uint64_t f64 = poison_of(kFloat64, pattern).bits;
    EXPECT_EQ(f64 >> 51 & 0xFFF, 0xFFEu);
    EXPECT_NE(f64 & 0x0007FFFFFFFFFFFFu, 0u);
  }
}

TEST(Poison, IsNeverTheResultOfArithmetic) {
  // volatile: a compiler may take x * 1 for x, and copies keep the pattern.
  volatile float value = std::bit_cast<float>(static_cast<std::uint32_t>(poison_of(kFloat32, 0).bits));
  volatile float zero = 0, one = 1;
  const float sum = value + zero, product = value * one;
  for (const float result : {sum, product}) {
    EXPECT_TRUE(std::isnan(result));
    EXPECT_NE(std::bit_cast<std::uint32_t>(result), poison_of(kFloat32, 0).bits);
  }
}

TEST(Poison, TheTwoPatternsDifferInEveryByte) {
  for (const DLDataType dtype : {kFloat32, kBfloat16, kFloat16, kFloat64, kUint8}) {
    const Poison a = poison_of(dtype, 0), b = poison_of(dtype, 1);
    for (std::size_t byte = 0; byte < a.size; ++byte)
      EXPECT_NE(a.bits >> (8 * byte) & 0xFF, b.bits >> (8 * byte) & 0xFF);
  }
}

TEST(Fences, DifferByOwnerByPlaceAndByPattern) {
  std::set<std::uint32_t> words;
  for (std::uint32_t owner = 0; owner < 8; ++owner) {
    for (const int pattern : {0, 1}) {
      std::array<std::uint32_t, kFenceBytes / 4> fence;
      fill_fence(reinterpret_cast<std::byte*>(fence.data()), owner, pattern);
      words.insert(fence.begin(), fence.end());
      for (const std::uint32_t word : fence) EXPECT_TRUE(std::isnan(std::bit_cast<float>(word)));
    }
  }
  EXPECT_GT(words.size(), 8u * 2 * kFenceBytes / 4 - 4);  // 21 random bits: a coincidence or two is possible
}

// A [2, 3] float32 tensor with rows 5 elements apart, in "device" memory of the base candidate.
class GuardedTensorTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(tensor_.allocate(pool_, error_)) << error_;
    tensor_.fill_image(0, nullptr);
    ASSERT_TRUE(tensor_.upload(candidate_, error_)) << error_;
  }
  void download() { ASSERT_TRUE(tensor_.download(candidate_, 0, true, error_)) << error_; }
  float* data() { return static_cast<float*>(tensor_.data()); }

  const assay_candidate candidate_ = hostile::base();
  MemoryPool pool_{candidate_};
  std::string error_;
  std::array<std::int64_t, 2> shape_ = {2, 3}, strides_ = {5, 1};
  HostCopies host_;
  GuardedTensor tensor_{Layout(shape_, strides_, 4), 0, {poison_of(kFloat32, 0), poison_of(kFloat32, 1)}, host_};
};

TEST_F(GuardedTensorTest, FindsNothingWhereNothingHappened) {
  download();
  for (const auto where : {protocol::Where::before, protocol::Where::after, protocol::Where::gap}) {
    EXPECT_FALSE(tensor_.changed_fence(where));
  }
  EXPECT_FALSE(tensor_.changed_elements());
  EXPECT_EQ(tensor_.unwritten(0, false).count, 6);
}

TEST_F(GuardedTensorTest, FindsOneByteOnEitherSideAndInAGap) {
  auto* const bytes = reinterpret_cast<unsigned char*>(data());
  bytes[-1] ^= 1;
  bytes[8 * 4 + 255] ^= 1;  // storage is 5 + 3 elements
  bytes[3 * 4] ^= 1;
  download();
  EXPECT_EQ(tensor_.changed_fence(protocol::Where::before)->first, -1);
  EXPECT_EQ(tensor_.changed_fence(protocol::Where::after)->first, 255);
  EXPECT_EQ(tensor_.changed_fence(protocol::Where::gap)->first, 12);
  for (const auto where : {protocol::Where::before, protocol::Where::after, protocol::Where::gap}) {
    EXPECT_EQ(tensor_.changed_fence(where)->count, 1);
  }
  EXPECT_FALSE(tensor_.changed_elements());
}

TEST_F(GuardedTensorTest, CountsWrittenAndChangedElementsInRowMajorOrder) {
  data()[5] = 1.0f;  // element [1, 0]: the fourth
  download();
  EXPECT_EQ(tensor_.changed_elements()->first, 3);
  EXPECT_EQ(tensor_.changed_elements()->count, 1);
  EXPECT_EQ(tensor_.unwritten(0, false).first, 0);
  EXPECT_EQ(tensor_.unwritten(0, false).count, 5);
  EXPECT_FALSE(tensor_.changed_fence(protocol::Where::gap));
}

TEST_F(GuardedTensorTest, AValueThatEqualsOnePatternIsNotUnwritten) {
  download();  // the poison itself, as if it had been written
  tensor_.fill_image(1, nullptr);
  ASSERT_TRUE(tensor_.upload(candidate_, error_));
  const auto bits = static_cast<std::uint32_t>(poison_of(kFloat32, 0).bits);
  for (const int i : {0, 1, 2, 5, 6}) std::memcpy(data() + i, &bits, 4);  // all but the last element
  ASSERT_TRUE(tensor_.download(candidate_, 1, true, error_));
  const Difference unwritten = tensor_.unwritten(0, true);
  EXPECT_EQ(unwritten.count, 1);
  EXPECT_EQ(unwritten.first, 5);
}

}  // namespace
}  // namespace assay::harness
