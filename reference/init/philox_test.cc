#include "reference/init/philox.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "reference/init/normal.h"
#include "reference/init/uniform.h"
#include "reference/init/unit_interval.h"
#include "reference/testing/fixture.h"

namespace assay::reference {
namespace {

constexpr GpuSize kH100 = {.multiprocessors = 132, .threads_per_multiprocessor = 2048};

const nlohmann::json& vectors() {
  static const nlohmann::json loaded = testing::load_json(ASSAY_PHILOX_VECTORS);
  return loaded;
}

TEST(Philox, KnownAnswers) {
  for (const auto& known : vectors().at("random123_kat"))
    EXPECT_EQ(philox4x32_10(known.at("counter").get<PhiloxCounter>(), known.at("key").get<PhiloxKey>()),
              known.at("words").get<PhiloxWords>());
}

struct Stream {
  std::uint64_t seed, subsequence, offset;
  std::array<PhiloxWords, 2> words;
};

Stream stream_of(const nlohmann::json& vector) {
  Stream s{vector.at("seed"), vector.at("subsequence"), vector.at("offset"), {}};
  for (std::uint64_t block = 0; block < 2; ++block)
    s.words[block] = philox_words(s.seed, s.subsequence, s.offset / 4 + block);
  return s;
}

TEST(Philox, WordsAndUnitsOfCurand) {
  for (const auto& vector : vectors().at("vectors")) {
    const Stream s = stream_of(vector);
    for (int i = 0; i < 8; ++i) {
      EXPECT_EQ(s.words[i / 4][i % 4], vector.at("words")[i].get<std::uint32_t>());
      EXPECT_EQ(cuda_unit_float(s.words[i / 4][i % 4]), vector.at("unit_f32")[i].get<float>());
    }
    for (int i = 0; i < 4; ++i) {
      const PhiloxWords& w = s.words[i / 2];
      EXPECT_EQ(cuda_unit_double(w[2 * (i % 2)], w[2 * (i % 2) + 1]), vector.at("unit_f64")[i].get<double>());
    }
  }
}

TEST(Philox, UniformRule) {
  const UniformRange wide = uniform_range(-0.25, 0.25, ModelDtype::float32);
  const UniformRange narrow = uniform_range(-0.1, 0.1, ModelDtype::bfloat16);
  for (const auto& vector : vectors().at("vectors")) {
    const Stream s = stream_of(vector);
    for (int i = 0; i < 8; ++i) {
      const float unit = cuda_unit_float(s.words[i / 4][i % 4]);
      EXPECT_EQ(uniform_from_unit(unit, wide, ModelDtype::float32),
                vector.at("uniform_f32_-0.25_0.25")[i].get<float>());
      EXPECT_EQ(uniform_from_unit(unit, narrow, ModelDtype::bfloat16),
                vector.at("uniform_bf16_-0.1_0.1")[i].get<float>());
    }
  }
}

// The vectors come from curand's host build: the angle, up to 2 pi, is rounded twice there (2^-22 each), the radius,
// the sine and the product once each (3 * 2^-24 relative).
TEST(Philox, NormalsOfCurand) {
  for (const auto& vector : vectors().at("vectors")) {
    const Stream s = stream_of(vector);
    for (int i = 0; i < 8; i += 2) {
      const NormalPair pair = cuda_normal_pair(s.words[i / 4][i % 4], s.words[i / 4][i % 4 + 1]);
      const double limit = (2 * 0x1p-22 + 3 * 0x1p-24) * std::hypot(pair.first, pair.second);
      EXPECT_NEAR(pair.first, vector.at("normal_f32_host")[i].get<double>(), limit);
      EXPECT_NEAR(pair.second, vector.at("normal_f32_host")[i + 1].get<double>(), limit);
    }
    for (int i = 0; i < 4; i += 2) {
      const PhiloxWords& w = s.words[i / 2];
      const NormalPair pair = cuda_normal_pair(w[0], w[1], w[2], w[3]);
      EXPECT_NEAR(pair.first, vector.at("normal_f64_host")[i].get<double>(), 1e-14);
      EXPECT_NEAR(pair.second, vector.at("normal_f64_host")[i + 1].get<double>(), 1e-14);
    }
  }
}

// Which thread, which call and which of its values makes an element.
TEST(CudaLaunch, IndexRule) {
  const auto& want = vectors().at("launch");
  const GpuSize gpu = {want.at("multiprocessors"), want.at("threads_per_multiprocessor")};
  std::uint64_t offset = want.at("start_offset");
  const auto launches = cuda_launches(want.at("n"), 4, want.at("unroll"), gpu, offset);
  ASSERT_EQ(launches.size(), 1u);
  EXPECT_EQ(offset, want.at("offset_after").get<std::uint64_t>());
  std::vector<float> drawn(want.at("n").get<std::size_t>());
  CudaGenerator generator(99, gpu);
  generator.uniform(drawn, ModelDtype::float32, 0, 1);
  for (const auto& e : want.at("elements")) {
    const PhiloxWords w = philox_words(99, e.at("subsequence"), e.at("offset").get<std::uint64_t>() / 4);
    const float unit = cuda_unit_float(w[e.at("value_of_call").get<int>()]);
    EXPECT_EQ(drawn[e.at("element").get<std::size_t>()], unit == 1 ? 0 : unit);
  }
  EXPECT_EQ(generator.offset(), 4u);
}

TEST(CudaLaunch, GridAndOffset) {
  const auto one = [](std::int64_t n, int unroll, std::int64_t grid, std::uint64_t advance) {
    std::uint64_t offset = 8;
    const auto launches = cuda_launches(n, 4, unroll, kH100, offset);
    ASSERT_EQ(launches.size(), 1u) << n;
    EXPECT_EQ(launches[0].grid, grid) << n;
    EXPECT_EQ(launches[0].offset, 8u) << n;
    EXPECT_EQ(offset - 8, advance) << n;
  };
  one(1, 4, 1, 4);
  one(256, 4, 1, 4);
  one(257, 4, 2, 4);
  constexpr std::int64_t kFull = 132 * 8 * 256;  // threads of the largest grid
  one(4 * kFull, 4, 132 * 8, 4);
  one(4 * kFull + 1, 4, 132 * 8, 8);
  one(4 * kFull + 1, 2, 132 * 8, 12);
  std::uint64_t offset = 4;
  EXPECT_TRUE(cuda_launches(0, 4, 4, kH100, offset).empty());
  EXPECT_EQ(offset, 4u);
}

// More than 2^31 bytes: halves, and the offset of the whole is spent before its parts.
TEST(CudaLaunch, SplitsLargeTensors) {
  const std::int64_t threads = 132 * 8 * 256;
  const auto advance = [&](std::int64_t n) { return 4 * static_cast<std::uint64_t>((n - 1) / (4 * threads) + 1); };
  const std::int64_t n = (1ll << 30) + 1;
  std::uint64_t offset = 0;
  EXPECT_EQ(cuda_launches(1ll << 30, 2, 4, kH100, offset).size(), 1u);
  offset = 0;
  const auto launches = cuda_launches(n, 2, 4, kH100, offset);
  ASSERT_EQ(launches.size(), 2u);
  EXPECT_EQ(launches[0].first, 0);
  EXPECT_EQ(launches[0].count, n / 2);
  EXPECT_EQ(launches[1].first, n / 2);
  EXPECT_EQ(launches[1].count, n - n / 2);
  EXPECT_EQ(launches[0].offset, advance(n));
  EXPECT_EQ(launches[1].offset, advance(n) + advance(n / 2));
  EXPECT_EQ(offset, advance(n) + advance(n / 2) + advance(n - n / 2));
}

TEST(CudaGenerator, FollowsTheOffset) {
  CudaGenerator whole(5, kH100), resumed(5, kH100, 4);
  std::vector<float> first(100), second(100), again(100);
  whole.normal(first, ModelDtype::float32, 0, 1);
  whole.normal(second, ModelDtype::float32, 0, 1);
  resumed.normal(again, ModelDtype::float32, 0, 1);
  EXPECT_EQ(second, again);
  EXPECT_NE(first, second);
  // Below a grid's worth of elements each thread makes one: the first value of its pair, the sine.
  const PhiloxWords w = philox_words(5, 17, 0);
  EXPECT_EQ(first[17], static_cast<float>(cuda_normal_pair(w[0], w[1]).first));
}

TEST(CudaGenerator, Float64TakesTwoWordsAValue) {
  CudaGenerator generator(5, {.multiprocessors = 1, .threads_per_multiprocessor = 256});
  std::vector<double> values(600);  // 256 threads, two values a call: 512 in the first
  generator.uniform(values, 0, 1);
  EXPECT_EQ(values[3], cuda_unit_double(philox_words(5, 3, 0)[0], philox_words(5, 3, 0)[1]));
  EXPECT_EQ(values[256 + 3], cuda_unit_double(philox_words(5, 3, 0)[2], philox_words(5, 3, 0)[3]));
  EXPECT_EQ(values[512 + 3], cuda_unit_double(philox_words(5, 3, 1)[0], philox_words(5, 3, 1)[1]));
  EXPECT_EQ(generator.offset(), 8u);
}

TEST(CudaGenerator, RefusesImpossibleDevicesAndOffsets) {
  EXPECT_THROW(CudaGenerator(0, {0, 2048}), std::invalid_argument);
  EXPECT_THROW(CudaGenerator(0, {132, 128}), std::invalid_argument);
  EXPECT_THROW(CudaGenerator(0, kH100, 2), std::invalid_argument);
}

}  // namespace
}  // namespace assay::reference
