// The glue through its exported table: what it refuses and how it says so, what it answers, that nothing is thrown.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "harness/abi/assay_candidate.h"

namespace {

constexpr DLDataType kFloat32 = {kDLFloat, 32, 1}, kFloat16 = {kDLFloat, 16, 1}, kBfloat16 = {kDLBfloat, 16, 1},
                     kBytes = {kDLUInt, 8, 1};

const assay_candidate& candidate() { return *assay_candidate_v1(); }

// A call under construction. Tensors are compact unless strides are given; data is null until someone sets it.
class CallBuilder {
 public:
  explicit CallBuilder(std::string op) : op_(std::move(op)) {}

  CallBuilder& eps() { return attribute({"eps", ASSAY_ATTRIBUTE_FLOAT, 0, 0, 1e-5, nullptr}); }
  CallBuilder& integer(const char* name, std::int64_t value) {
    return attribute({name, ASSAY_ATTRIBUTE_INT, 0, value, 0.0, nullptr});
  }
  CallBuilder& attribute(const assay_attribute& value) {
    attributes_.push_back(value);
    return *this;
  }
  CallBuilder& tensor(const char* name, DLDataType dtype, std::vector<std::int64_t> shape,
                      std::vector<std::int64_t> strides = {}) {
    if (strides.empty()) {
      strides.assign(shape.size(), 1);
      for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
    }
    assay_tensor& t = tensors_.emplace_back();
    t = {};
    t.name = name;
    t.tensor.dtype = dtype;
    t.tensor.ndim = static_cast<int>(shape.size());
    t.tensor.shape = axes_.emplace_back(std::move(shape)).data();
    t.tensor.strides = axes_.emplace_back(std::move(strides)).data();
    return *this;
  }

  assay_call call() const {
    assay_call call = {};
    call.struct_size = sizeof call;
    call.op = op_.c_str();
    call.attributes = attributes_.data();
    call.attribute_count = attributes_.size();
    call.tensors = tensors_.data();
    call.tensor_count = tensors_.size();
    return call;
  }

 private:
  std::string op_;
  std::vector<assay_attribute> attributes_;
  std::vector<assay_tensor> tensors_;
  std::deque<std::vector<std::int64_t>> axes_;
};

// The reason of a refusal, or "supported".
std::string verdict(const CallBuilder& builder) {
  std::array<char, 256> reason{};
  const assay_call call = builder.call();
  return candidate().supports(&call, reason.data(), reason.size()) ? "supported" : reason.data();
}

CallBuilder rms_norm(DLDataType dtype, const std::vector<std::int64_t>& shape, std::vector<std::int64_t> strides = {}) {
  CallBuilder builder("rms_norm.forward");
  builder.eps()
      .tensor("input.hidden_states", dtype, shape, std::move(strides))
      .tensor("param.weight", dtype, {shape.back()})
      .tensor("output.hidden_states", dtype, shape);
  return builder;
}

TEST(Supports, TensorsOfAnyRank) {
  EXPECT_EQ(verdict(rms_norm(kFloat32, {8})), "supported");
  EXPECT_EQ(verdict(rms_norm(kBfloat16, {3, 8})), "supported");
  EXPECT_EQ(verdict(rms_norm(kBfloat16, {2, 5, 1, 8})), "supported");
  EXPECT_EQ(verdict(rms_norm(kBfloat16, {2, 0, 8})), "supported");
}

TEST(Supports, ViewsWithOneRowStride) {
  EXPECT_EQ(verdict(rms_norm(kFloat32, {2, 3, 8}, {48, 16, 1})), "supported");
  EXPECT_EQ(verdict(rms_norm(kFloat32, {2, 1, 8}, {16, 999, 1})), "supported");
  EXPECT_EQ(verdict(rms_norm(kFloat32, {2, 3, 8}, {100, 16, 1})),
            "input.hidden_states: shape [2, 3, 8], strides [100, 16, 1]; want leading axes with one common row stride");
  EXPECT_EQ(verdict(rms_norm(kFloat32, {3, 8}, {16, 2})),
            "input.hidden_states: shape [3, 8], strides [16, 2]; want a contiguous last axis");
  EXPECT_EQ(verdict(rms_norm(kFloat32, {3, 8}, {0, 1})),
            "input.hidden_states: shape [3, 8], strides [0, 1]; want rows that do not overlap");
}

TEST(Supports, RefusesOtherTypesByName) {
  EXPECT_EQ(verdict(rms_norm(kFloat16, {3, 8})), "input.hidden_states: float16; want float32 or bfloat16");
  EXPECT_EQ(verdict(rms_norm({kDLInt, 64, 1}, {3, 8})), "input.hidden_states: int64; want float32 or bfloat16");
  EXPECT_EQ(verdict(rms_norm({ASSAY_DL_FLOAT8_E4M3FN, 8, 1}, {3, 8})),
            "input.hidden_states: DLPack type 10 of 8 bits; want float32 or bfloat16");
  CallBuilder mixed("rms_norm.forward");
  mixed.eps()
      .tensor("input.hidden_states", kFloat32, {3, 8})
      .tensor("param.weight", kBfloat16, {8})
      .tensor("output.hidden_states", kFloat32, {3, 8});
  EXPECT_EQ(verdict(mixed), "param.weight: bfloat16; want float32 here");
}

TEST(Supports, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(verdict(CallBuilder("rms_norm.sideways")), "operation rms_norm.sideways: not implemented");
  EXPECT_EQ(verdict(rms_norm(kFloat32, {3, 8}).tensor("input.bias", kFloat32, {8})),
            "rms_norm.forward: tensor input.bias is not known here");
  EXPECT_EQ(verdict(rms_norm(kFloat32, {3, 8}).integer("zero_centered", 1)),
            "rms_norm.forward: attribute zero_centered is not known here");
  EXPECT_EQ(verdict(CallBuilder("rms_norm.forward").eps()), "rms_norm.forward: tensor input.hidden_states is missing");
}

TEST(Supports, RefusesHalfAResidual) {
  EXPECT_EQ(verdict(rms_norm(kBfloat16, {3, 8}).tensor("input.residual", kFloat32, {3, 8})),
            "rms_norm.forward: tensor output.residual is missing");
  EXPECT_EQ(verdict(rms_norm(kBfloat16, {3, 8})
                        .tensor("input.residual", kFloat32, {3, 8})
                        .tensor("output.residual", kBfloat16, {3, 8})),
            "output.residual: bfloat16; want float32 here");
  EXPECT_EQ(verdict(rms_norm(kBfloat16, {3, 8})
                        .tensor("input.residual", kFloat32, {3, 8})
                        .tensor("output.residual", kFloat32, {3, 8})),
            "supported");
}

CallBuilder gated(std::int64_t group_size) {
  CallBuilder builder("gated_rms_norm.forward");
  builder.eps()
      .integer("group_size", group_size)
      .tensor("input.hidden_states", kBfloat16, {3, 12}, {40, 1})
      .tensor("input.gate", kBfloat16, {3, 12}, {40, 1})
      .tensor("param.weight", kFloat32, {12})
      .tensor("output.hidden_states", kBfloat16, {3, 12});
  return builder;
}

TEST(Supports, GroupsThatDivideTheWidth) {
  EXPECT_EQ(verdict(gated(4)), "supported");
  EXPECT_NE(verdict(gated(5)).find("group_size = 5; want a divisor of width = 12"), std::string::npos);
}

constexpr DLDataType kInt32 = {kDLInt, 32, 1}, kInt64 = {kDLInt, 64, 1};

// Without outputs.
CallBuilder causal_conv1d(const char* op, const char* activation, std::vector<std::int64_t> shape) {
  CallBuilder builder(op);
  builder.attribute({"activation", ASSAY_ATTRIBUTE_STRING, 0, 0, 0.0, activation})
      .tensor("param.weight", kFloat32, {shape.back(), 4})
      .tensor("input.hidden_states", kFloat32, shape)
      .tensor("output.hidden_states", kFloat32, shape);
  return builder;
}

TEST(Refusals, CausalConv1d) {
  const auto forward = [](const char* activation = "silu") {
    return causal_conv1d("causal_conv1d.forward", activation, {2, 5, 8});
  };
  EXPECT_EQ(verdict(forward()), "supported");
  EXPECT_EQ(verdict(forward("gelu")), "attribute activation is \"gelu\"; want silu or none");
  EXPECT_EQ(verdict(forward().tensor("input.seq_idx", kInt32, {2, 5})), "supported");
  EXPECT_EQ(verdict(forward().tensor("input.seq_idx", kInt64, {2, 5})), "input.seq_idx: int64; want int32");
  EXPECT_EQ(verdict(forward().tensor("input.seq_idx", kInt32, {2, 5}, {6, 1})),
            "input.seq_idx: shape [2, 5], strides [6, 1]; want compact [2, 5]");
  EXPECT_EQ(verdict(forward().tensor("input.initial_state", kFloat32, {2, 8, 4})),
            "input.initial_state: shape [2, 8, 4], strides [32, 4, 1]; want compact [2, 8, 3]");
  EXPECT_EQ(verdict(forward()
                        .tensor("input.seq_idx", kInt32, {2, 5})
                        .tensor("output.final_state", kFloat32, {2, 8, 3})),
            "input.seq_idx and output.final_state: want one of them at most");
  EXPECT_EQ(verdict(causal_conv1d("causal_conv1d.forward", "silu", {5, 8})),
            "input.hidden_states: shape [5, 8], strides [8, 1]; want 3 axes");
  const auto update = [](std::int64_t columns) {
    CallBuilder builder = causal_conv1d("causal_conv1d.update", "none", {2, 8});
    return verdict(builder.tensor("conv_state", kFloat32, {2, 8, columns}));
  };
  EXPECT_EQ(update(3), "supported");
  EXPECT_EQ(update(2), "conv_state: 2 columns; want at least taps - 1 = 3");
}

// Without a final state.
CallBuilder ssd_scan(DLDataType dtype, std::int64_t head_dim = 16, std::vector<std::int64_t> x_strides = {}) {
  CallBuilder builder("ssd_scan.forward");
  builder.integer("chunk_size", 128)
      .integer("dt_softplus", 1)
      .attribute({"dt_min", ASSAY_ATTRIBUTE_FLOAT, 0, 0, 0.0, nullptr})
      .attribute({"dt_max", ASSAY_ATTRIBUTE_FLOAT, 0, 0, HUGE_VAL, nullptr})
      .tensor("input.x", dtype, {2, 5, 4, head_dim}, std::move(x_strides))
      .tensor("input.dt", kFloat32, {2, 5, 4})
      .tensor("input.A", kFloat32, {4})
      .tensor("input.B", dtype, {2, 5, 2, 32}, {1280, 256, 32, 1})
      .tensor("input.C", dtype, {2, 5, 2, 32})
      .tensor("output.y", dtype, {2, 5, 4, head_dim});
  return builder;
}

TEST(Refusals, SsdScan) {
  EXPECT_EQ(verdict(ssd_scan(kBfloat16)), "supported");
  EXPECT_EQ(verdict(ssd_scan(kFloat32, 3)), "supported");
  EXPECT_EQ(verdict(ssd_scan(kBfloat16, 16, {500, 100, 16, 1})), "supported");
  EXPECT_EQ(verdict(ssd_scan(kBfloat16, 16, {640, 100, 16, 1})),
            "input.x: shape [2, 5, 4, 16], strides [640, 100, 16, 1]; want [2, 5, 4, 16], compact but for one stride of "
            "the first two axes");
  EXPECT_EQ(verdict(ssd_scan(kBfloat16).tensor("input.z", kFloat32, {2, 5, 4, 16})),
            "input.z: float32; want bfloat16 here");
  EXPECT_EQ(verdict(ssd_scan(kBfloat16).tensor("output.final_state", kBfloat16, {2, 4, 16, 32})),
            "output.final_state: bfloat16; want float32 here");
  EXPECT_EQ(verdict(ssd_scan(kBfloat16).tensor("input.D", kFloat32, {4, 15})),
            "input.D: shape [4, 15], strides [15, 1]; want compact [4, 16]");
  const auto documents = [](bool with_states) {
    CallBuilder builder = ssd_scan(kBfloat16);
    builder.tensor("input.seq_idx", kInt32, {2, 5}).tensor("input.cu_seqlens", kInt32, {3});
    if (with_states) builder.tensor("output.varlen_states", kBfloat16, {2, 4, 16, 32});
    return verdict(builder);
  };
  EXPECT_EQ(documents(false), "supported");
  EXPECT_EQ(documents(true),
            "output.varlen_states: want one batch row, input.cu_seqlens, input.seq_idx that changes where documents "
            "begin, and no input.initial_state");
}

TEST(Answers, SsdScanMultipliesOnTensorCoresWhereItGoesInChunks) {
  const auto contract = [](const CallBuilder& builder) {
    const assay_call call = builder.call();
    assay_contract result = {};
    result.struct_size = sizeof result;
    EXPECT_EQ(candidate().contract(&call, &result), 0);
    return std::pair{result.multiply, result.accumulate};
  };
  EXPECT_EQ(contract(ssd_scan(kBfloat16)), std::pair(+ASSAY_MULTIPLY_BF16, +ASSAY_ACCUMULATE_FP32_TENSOR_CORE));
  EXPECT_EQ(contract(ssd_scan(kFloat32)), std::pair(+ASSAY_MULTIPLY_3XTF32, +ASSAY_ACCUMULATE_FP32_TENSOR_CORE));
  EXPECT_EQ(contract(ssd_scan(kFloat32, 3)), std::pair(+ASSAY_MULTIPLY_IEEE, +ASSAY_ACCUMULATE_FP32));
}

TEST(Answers, SsdScanHasRoomForAFinalStateThatNobodyWants) {
  const auto bytes = [](const CallBuilder& builder) {
    const assay_call call = builder.call();
    return candidate().workspace_bytes(&call);
  };
  const std::size_t states = 2 * 4 * 16 * 32 * sizeof(float);
  EXPECT_EQ(bytes(ssd_scan(kFloat32)),
            bytes(ssd_scan(kFloat32).tensor("output.final_state", kFloat32, {2, 4, 16, 32})) + states);
}

TEST(Answers, SizesBeforeAnyMemoryIsThere) {
  CallBuilder forward = gated(4);
  forward.tensor("saved", kBytes, {0});
  const assay_call call = forward.call();
  EXPECT_EQ(candidate().saved_bytes(&call), 3u * 3 * sizeof(float));  // groups * rows
  EXPECT_EQ(candidate().workspace_bytes(&call), 0u);
  EXPECT_STREQ(candidate().variant(&call), "warp_per_row");

  CallBuilder backward("rms_norm.backward");
  backward.eps()
      .tensor("input.hidden_states", kFloat32, {9, 8})
      .tensor("param.weight", kFloat32, {8})
      .tensor("grad.output.hidden_states", kFloat32, {9, 8})
      .tensor("saved", kBytes, {36})
      .tensor("grad.input.hidden_states", kFloat32, {9, 8})
      .tensor("grad.weight", kFloat32, {8});
  EXPECT_EQ(verdict(backward), "supported");
  const assay_call second = backward.call();
  EXPECT_EQ(candidate().workspace_bytes(&second), 3u * 8 * sizeof(float));  // a partial sum for four rows
}

TEST(Answers, ContractFillsWhatTheCallerHasRoomFor) {
  const CallBuilder builder = rms_norm(kFloat32, {3, 8});
  const assay_call call = builder.call();
  assay_contract contract;
  std::memset(&contract, 0x55, sizeof contract);
  contract.struct_size = offsetof(assay_contract, deterministic);
  EXPECT_EQ(candidate().contract(&call, &contract), 0);
  EXPECT_EQ(contract.multiply, ASSAY_MULTIPLY_IEEE);
  EXPECT_EQ(contract.accumulate, ASSAY_ACCUMULATE_FP32);
  EXPECT_EQ(contract.deterministic, 0x55555555);
}

TEST(Answers, TextIsCutToTheRoomThereIs) {
  const CallBuilder builder("rms_norm.sideways");
  const assay_call call = builder.call();
  std::array<char, 8> reason{};
  EXPECT_EQ(candidate().supports(&call, reason.data(), reason.size()), 0);
  EXPECT_STREQ(reason.data(), "operati");
  EXPECT_EQ(candidate().supports(&call, nullptr, 0), 0);
}

TEST(Run, RefusesWithATextWhatSupportsRefuses) {
  std::array<char, 256> error{};
  const CallBuilder builder = rms_norm(kFloat16, {3, 8});
  const assay_call call = builder.call();
  EXPECT_NE(candidate().run(&call, nullptr, error.data(), error.size()), 0);
  EXPECT_STREQ(error.data(), "input.hidden_states: float16; want float32 or bfloat16");
}

TEST(Run, NamesMissingMemory) {
  std::array<char, 256> error{};
  const CallBuilder builder = rms_norm(kFloat32, {3, 8});
  const assay_call call = builder.call();
  EXPECT_NE(candidate().run(&call, nullptr, error.data(), error.size()), 0);
  EXPECT_NE(std::string(error.data()).find("is null; want a pointer"), std::string::npos) << error.data();

  CallBuilder short_saved = rms_norm(kFloat32, {3, 8});
  short_saved.tensor("saved", kBytes, {8});
  const assay_call second = short_saved.call();
  EXPECT_NE(candidate().run(&second, nullptr, error.data(), error.size()), 0);
  EXPECT_STREQ(error.data(), "saved: shape [8], strides [1]; want [12]");
}

TEST(Schedules, AreTheExecutorsFour) {
  ASSERT_EQ(candidate().schedule_count, 4);
  int hostile = 0;
  for (int i = 0; i < 4; ++i) hostile += std::string(candidate().schedules[i].arithmetic) == "hostile";
  EXPECT_EQ(hostile, 2);
  EXPECT_EQ(candidate().select_schedule(3, 1), 0);
  EXPECT_NE(candidate().select_schedule(4, 1), 0);
  EXPECT_EQ(candidate().select_schedule(0, 1), 0);
}

TEST(Memory, GoesThereAndBack) {
  void* data = nullptr;
  std::array<char, 64> error{};
  ASSERT_EQ(candidate().allocate(16, &data, error.data(), error.size()), 0);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 256, 0u);
  const char text[16] = "fifteen letters";
  char back[16] = {};
  EXPECT_EQ(candidate().upload(data, text, 16, error.data(), error.size()), 0);
  EXPECT_EQ(candidate().download(back, data, 16, error.data(), error.size()), 0);
  EXPECT_STREQ(back, text);
  EXPECT_NE(candidate().upload(data, text, 17, error.data(), error.size()), 0);  // past the end: a text, not a crash
  candidate().free(data);
}

}  // namespace
