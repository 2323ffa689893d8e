// What the families' tests share: memory, data, and how far two results may differ.
#pragma once

#include <cuda_bf16.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/simt/counters.h"
#include "cuda/simt/executor.h"

namespace assay::gpu {

// The executor's memory: poisoned, with red zones on both sides.
template <class T>
class TestBuffer {
 public:
  explicit TestBuffer(std::size_t size) : size_(size), data_(static_cast<T*>(simt::device_alloc(size * sizeof(T)))) {}
  explicit TestBuffer(const std::vector<T>& values) : TestBuffer(values.size()) {
    if (size_ > 0) simt::device_upload(data_, values.data(), size_ * sizeof(T));
  }
  ~TestBuffer() { simt::device_free(data_); }
  TestBuffer(const TestBuffer&) = delete;
  TestBuffer& operator=(const TestBuffer&) = delete;

  T* data() const { return data_; }
  std::vector<T> download() const {
    std::vector<T> values(size_);
    if (size_ > 0) simt::device_download(values.data(), data_, size_ * sizeof(T));
    return values;
  }

 private:
  std::size_t size_;
  T* data_;
};

// Values in (-1, 1), the same for the same seed everywhere.
template <class T>
std::vector<T> test_values(std::size_t size, std::uint64_t seed) {
  std::vector<T> values(size);
  std::uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (T& value : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    value = T(static_cast<float>(static_cast<std::int32_t>(state >> 32)) * 0x1p-31f);
  }
  return values;
}

// The largest |got - want| / max(|want|, 1); infinite for a NaN.
template <class T>
double distance(const std::vector<T>& got, const std::vector<T>& want) {
  EXPECT_EQ(got.size(), want.size());
  double worst = 0;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    const double a = static_cast<float>(got[i]), b = static_cast<float>(want[i]);
    const double error = std::abs(a - b) / std::max(std::abs(b), 1.0);
    worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
  }
  return worst;
}

// How far results of two variants may lie apart by that measure, for data of test_values. bfloat16: neighbours, 2^-7.
// float: sums err by 2^-24 of their magnitudes for each addition in a row: 16 elements a thread, or a 256th of the
// longest test row (33), 5 steps of a warp and 16 warps; with a dozen roundings around them less than 70; magnitudes
// stay below 4.
template <class T>
constexpr double tolerance() {
  return std::is_same_v<T, float> ? 4 * 70 * 0x1p-24 : 0x1p-7;
}

// Runs under every schedule; compare(results, first) sees those of one arithmetic, whose bits have to be the same.
template <class Run, class Compare>
void expect_repeats_under_schedules(const Run& run, const Compare& compare) {
  for (const simt::Arithmetic arithmetic : {simt::Arithmetic::kNominal, simt::Arithmetic::kHostile}) {
    std::optional<decltype(run())> first;
    for (const simt::Schedule& schedule : simt::schedules()) {
      if (schedule.arithmetic != arithmetic) continue;
      simt::set_schedule(schedule, 11);
      const auto results = run();
      if (!first) first = results;
      compare(results, *first);
    }
  }
  simt::set_schedule(0, 1);
}

// What the last counted launch moved: `compulsory` bytes and at most a twentieth more, by whole sectors, without bank
// conflicts.
inline void expect_little_more_than(double compulsory) {
  const simt::Counters& c = simt::last_counters();
  ASSERT_TRUE(c.sees_plain_accesses);
  const auto moved = static_cast<double>(c.global_read.bytes + c.global_write.bytes);
  EXPECT_GE(moved, compulsory);
  EXPECT_LE(moved, 1.05 * compulsory);
  EXPECT_EQ(c.bank_conflicts(), 0u);
  EXPECT_EQ(c.global_read.units, c.global_read.ideal_units);  // sectors
  EXPECT_EQ(c.global_write.units, c.global_write.ideal_units);
}

template <class Body>
void expect_refusal(Body call, const std::string& text) {
  try {
    call();
    ADD_FAILURE() << "no exception; want one that says " << text;
  } catch (const std::invalid_argument& e) {
    EXPECT_NE(std::string(e.what()).find(text), std::string::npos) << e.what();
  }
}

}  // namespace assay::gpu
