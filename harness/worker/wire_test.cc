#include "harness/worker/wire.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

namespace assay::harness {
namespace {

using protocol::Encoder;
using protocol::Frame;
using protocol::Malformed;

Call small_call() {
  return {.op = "rms_norm.forward",
          .attributes = {{"eps", 1e-5}},
          .tensors = {make_tensor("input.x", Role::in, DType::float32, {2, 3}),
                      make_tensor("output.y", Role::out, DType::bfloat16, {2, 3}),
                      make_tensor("tap.z", Role::tap, DType::float32, {2})}};
}

std::span<const std::byte> payload(Encoder& out) { return std::span(out.finish()).subspan(protocol::kFrameHeader); }

// A complete `ran` frame with one entry in each list.
Encoder ran_frame(std::int64_t unwritten_first = 1, std::uint32_t absent = 2, std::uint32_t fence_tensor = 1) {
  Encoder out(Frame::ran);
  out.put(protocol::RunStatus::completed);
  out.put(std::string_view(""));
  out.put(std::uint64_t{0});
  for (const std::int32_t field : {2, 1, 1, 0, 0, 1, 1}) out.put(field);
  out.put(std::string_view("warp_per_row"));
  out.put(0.25);
  for (const std::uint32_t value : {1u, fence_tensor, 1u}) out.put(value);
  out.put(std::int64_t{4});
  out.put(std::int64_t{2});
  for (const std::uint32_t value : {1u, 0u}) out.put(value);
  out.put(std::int64_t{3});
  out.put(std::int64_t{2});
  for (const std::uint32_t value : {1u, 1u}) out.put(value);
  out.put(unwritten_first);
  out.put(std::int64_t{1});
  for (const std::uint32_t value : {1u, absent, 1u}) out.put(value);
  out.put(std::string_view("atomics"));
  out.put(std::uint64_t{12});
  return out;
}

TEST(DecodeRan, ReadsAnAnswer) {
  Encoder out = ran_frame();
  const RanFrame frame = decode_ran(payload(out), small_call());
  EXPECT_EQ(frame.status, protocol::RunStatus::completed);
  EXPECT_EQ(frame.contract.multiply, ASSAY_MULTIPLY_3XTF32);
  EXPECT_EQ(frame.contract.accumulate, ASSAY_ACCUMULATE_FP32_TENSOR_CORE);
  EXPECT_TRUE(frame.contract.deterministic);
  EXPECT_EQ(frame.contract.functions, ASSAY_FUNCTIONS_FAST);
  EXPECT_TRUE(frame.contract.workspace_zeroed);
  EXPECT_EQ(frame.variant, "warp_per_row");
  EXPECT_EQ(frame.seconds, 0.25);
  ASSERT_EQ(frame.fences.size(), 1u);
  EXPECT_EQ(to_string(frame.fences[0]), "output.y: 2 bytes changed, the first 4 past its end");
  ASSERT_EQ(frame.changed.size(), 1u);
  EXPECT_EQ(frame.changed[0].tensor, "input.x");
  EXPECT_EQ(frame.changed[0].first, 3);
  ASSERT_EQ(frame.unwritten.size(), 1u);
  EXPECT_EQ(frame.unwritten[0].tensor, "output.y");
  EXPECT_EQ(frame.absent, (std::vector<bool>{false, false, true}));
  EXPECT_EQ(frame.counters, (std::map<std::string, std::int64_t>{{"atomics", 12}}));
}

TEST(DecodeRan, NamesTheWorkspace) {
  Encoder out = ran_frame(1, 2, protocol::kWorkspaceIndex);
  EXPECT_EQ(decode_ran(payload(out), small_call()).fences[0].tensor, "workspace");
}

TEST(DecodeRan, RefusesWhatIsNotInTheCall) {
  for (const std::int64_t first : {std::int64_t{-1}, std::int64_t{6}, std::numeric_limits<std::int64_t>::max()}) {
    Encoder out = ran_frame(first);
    EXPECT_THROW(decode_ran(payload(out), small_call()), Malformed) << first;
  }
  Encoder no_tap = ran_frame(1, 1), no_tensor = ran_frame(1, 3), no_fence = ran_frame(1, 2, 3);
  EXPECT_THROW(decode_ran(payload(no_tap), small_call()), Malformed);
  EXPECT_THROW(decode_ran(payload(no_tensor), small_call()), Malformed);
  EXPECT_THROW(decode_ran(payload(no_fence), small_call()), Malformed);
}

TEST(DecodeRan, RefusesEveryTruncationAndEveryLongerFrame) {
  Encoder out = ran_frame();
  const auto whole = payload(out);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THROW(decode_ran(whole.first(size), small_call()), Malformed) << size;
  }
  Encoder longer = ran_frame();
  longer.put(std::uint32_t{0});
  EXPECT_THROW(decode_ran(payload(longer), small_call()), Malformed);
}

// Any bytes at all are either read or refused; a sanitizer or a crash would tell otherwise.
TEST(DecodeRan, SurvivesNoise) {
  std::mt19937 random(7);
  const Call call = small_call();
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    Encoder out = ran_frame();
    auto bytes = std::vector<std::byte>(payload(out).begin(), payload(out).end());
    for (int flips = 1 + static_cast<int>(random() % 4); flips > 0; --flips)
      bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    try {
      const RanFrame frame = decode_ran(bytes, call);
      for (const Unwritten& u : frame.unwritten) EXPECT_LE(u.first + u.count, 6);
    } catch (const Malformed&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST(DecodeRan, SaysWhichFieldOfTheContractIsWrong) {
  Encoder out = ran_frame();
  out.patch(protocol::kFrameHeader + 4 + 4 + 8, std::int32_t{77});  // after status, text and saved bytes
  EXPECT_EQ(decode_ran(payload(out), small_call()).contract_error, "contract: multiply = 77; want 0 .. 3");
}

TEST(DecodeLoaded, SaysBothVersions) {
  Encoder out(Frame::loaded);
  out.put(protocol::kMagic);
  out.put(std::uint32_t{9});
  EXPECT_EQ(decode_loaded(payload(out)).text,
            "the worker speaks protocol version 9, this program version 2; want both of one build");
  Encoder noise(Frame::loaded);
  noise.put(std::uint32_t{12});
  EXPECT_THROW(decode_loaded(payload(noise)), Malformed);
}

void expect_refused(const Call& call, const char* message) {
  try {
    check(call);
    ADD_FAILURE() << "accepted; want: " << message;
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), message);
  }
}

TEST(Check, NamesOperationTensorAndWhatIsWrong) {
  Call call = small_call();
  EXPECT_NO_THROW(check(call));
  call.tensors[0].bytes.resize(23);
  expect_refused(call, "rms_norm.forward: input.x: 23 bytes; shape [2, 3] needs 24");

  call = small_call();
  call.tensors[1].strides = {2, 1};
  expect_refused(call, "rms_norm.forward: output.y: shape [2, 3], strides [2, 1]: elements overlap; only inputs may");
  call.tensors[1].strides = {1, 2};  // transposed: no overlap
  EXPECT_NO_THROW(check(call));
  call.tensors[1].shape = {2, 0, 3};  // nothing can overlap, whatever the strides are
  call.tensors[1].strides = {0, 1, 1};
  EXPECT_NO_THROW(check(call));
  call.tensors[0].strides = {0, 1};  // an input that is broadcast
  EXPECT_NO_THROW(check(call));
  call.tensors[0].strides = {-3, 1};
  expect_refused(call, "rms_norm.forward: input.x: strides [-3, 1]; want none negative");
  call.tensors[0].strides = {1};
  expect_refused(call, "rms_norm.forward: input.x: 1 strides for shape [2, 3]");

  call = small_call();
  call.tensors.push_back(make_tensor("saved", Role::saved, DType::float32, {4}));
  expect_refused(
      call,
      "rms_norm.forward: saved: saved, float32 [4]; want uint8 of shape [] (to be written) or [bytes] (to be "
      "read), compact");
}

TEST(StorageBytes, CountsGapsAndSaturates) {
  Call call{.op = "f.forward", .attributes = {}, .tensors = {make_tensor("input.x", Role::in, DType::float32, {2, 3})}};
  call.tensors[0].strides = {100, 1};
  EXPECT_EQ(storage_bytes(call), 103u * 4);
  call.tensors[0].strides = {std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::max()};
  EXPECT_EQ(storage_bytes(call), std::numeric_limits<std::uint64_t>::max());
}

TEST(PlanSlots, KeepsTheControlPageAndAligns) {
  Call call = small_call();
  call.tensors.push_back(
      {.name = "saved", .role = Role::saved, .dtype = DType::uint8, .shape = {}, .strides = {}, .bytes = {}});
  const SlotPlan plan = plan_slots(call, 1000);
  EXPECT_EQ(plan.slots[0].offset, protocol::kControlBytes);
  EXPECT_EQ(plan.slots[1].bytes, 12u);
  EXPECT_EQ(plan.slots[3].bytes, 1000u);
  for (std::size_t i = 1; i < plan.slots.size(); ++i) {
    EXPECT_EQ(plan.slots[i].offset % protocol::kSlotAlignment, 0u);
    EXPECT_GE(plan.slots[i].offset, plan.slots[i - 1].offset + plan.slots[i - 1].bytes);
  }
  EXPECT_GE(plan.file_bytes, plan.slots[3].offset + 1000);
}

}  // namespace
}  // namespace assay::harness
