// Fixtures as calls: what was recorded becomes inputs and expectations, and what does not fit is named by its JSON
// pointer.
#include "harness/cases/fixture_calls.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace assay::harness {
namespace {

HostTensor filled(const char* name, DType dtype, Shape shape) {
  HostTensor t = make_tensor(name, Role::in, dtype, std::move(shape));
  for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, 0.5 + static_cast<double>(i % 4));
  return t;
}

Fixture gated() {
  Fixture f;
  f.file = "gated.json";
  f.name = "gated";
  f.layer = "mamba_rmsnorm_gated";
  f.path = "train";
  f.attributes = {{"hidden_size", 8}, {"group_size", 4}, {"eps", 1e-5}};
  for (const char* name : {"input.hidden_states", "input.gate", "output.hidden_states", "grad.output.hidden_states",
                           "grad.input.hidden_states", "grad.input.gate"})
    f.tensors.push_back(filled(name, DType::float32, {2, 3, 8}));
  f.tensors.push_back(filled("param.weight", DType::float32, {8}));
  f.tensors.push_back(filled("grad.weight", DType::float32, {8}));
  return f;
}
HostTensor& tensor(Fixture& f, const char* name) {
  return *std::find_if(f.tensors.begin(), f.tensors.end(), [&](const HostTensor& t) { return t.name == name; });
}
void drop(Fixture& f, const char* name) {
  f.tensors.erase(
      std::find_if(f.tensors.begin(), f.tensors.end(), [&](const HostTensor& t) { return t.name == name; }));
}

TEST(FixtureCalls, ForwardAndBackward) {
  const std::vector<FixtureCall> calls = fixture_calls(gated()).calls;
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_EQ(calls[0].call.op, "gated_rms_norm.forward");
  EXPECT_EQ(calls[1].call.op, "gated_rms_norm.backward");
  EXPECT_EQ(calls[0].call.integer("group_size"), 4);
  EXPECT_EQ(calls[0].call.tensor("output.hidden_states").role, Role::out);
  EXPECT_EQ(calls[0].recorded.size(), 1u);
  EXPECT_EQ(calls[1].recorded.size(), 3u);
  Fixture forward_only = gated();
  for (const char* name : {"grad.output.hidden_states", "grad.input.hidden_states", "grad.input.gate", "grad.weight"})
    drop(forward_only, name);
  EXPECT_EQ(fixture_calls(forward_only).calls.size(), 1u);
}

// Expects that a changed fixture is refused at this pointer, with this text.
auto refusals(Fixture (*make)()) {
  return [make](const char* pointer, const char* text, auto&& change) {
    Fixture f = make();
    change(f);
    std::string message = "no error";
    try {
      fixture_calls(f);
    } catch (const FixtureError& e) {
      message = e.what();
    }
    EXPECT_NE(message.find(f.file.string() + ": " + pointer), std::string::npos) << message;
    EXPECT_NE(message.find(text), std::string::npos) << message;
  };
}

TEST(FixtureCalls, WhatDoesNotFitIsNamed) {
  const auto expect = refusals(gated);
  expect("/tensors/input.gate/shape", "rows = 4", [](Fixture& f) {
    tensor(f, "input.gate") = filled("input.gate", DType::float32, {4, 8});
  });
  expect("/tensors/param.weight/shape", "width = 7",
         [](Fixture& f) { tensor(f, "param.weight") = filled("param.weight", DType::float32, {7}); });
  expect("/tensors/grad.weight/shape", "want [width]",
         [](Fixture& f) { tensor(f, "grad.weight") = filled("grad.weight", DType::float32, {}); });
  expect("/tensors/input.gate/dtype", "bfloat16", [](Fixture& f) {
    tensor(f, "input.gate") = filled("input.gate", DType::bfloat16, {2, 3, 8});
  });
  expect("/tensors/input.hidden_states/dtype", "int32", [](Fixture& f) {
    tensor(f, "input.hidden_states") = filled("input.hidden_states", DType::float64, {2, 3, 8}),
              tensor(f, "input.hidden_states").dtype = DType::int32;
  });
  expect("/tensors/output.z", "unknown",
         [](Fixture& f) { f.tensors.push_back(filled("output.z", DType::float32, {1})); });
  expect("/tensors", "param.weight", [](Fixture& f) { drop(f, "param.weight"); });
  expect("/tensors", "grad.weight", [](Fixture& f) { drop(f, "grad.weight"); });
  expect("/tensors", "output.hidden_states", [](Fixture& f) { drop(f, "output.hidden_states"); });
  expect("/tensors/output.hidden_states/data/5", "not finite",
         [](Fixture& f) { tensor(f, "output.hidden_states").set(5, std::numeric_limits<double>::infinity()); });
  expect("/attributes/eps", "missing", [](Fixture& f) { f.attributes.erase("eps"); });
  expect("/attributes/eps", "above 0", [](Fixture& f) { f.attributes["eps"] = -1.0; });
  expect("/attributes/eps", "want float", [](Fixture& f) { f.attributes["eps"] = "small"; });
  expect("/attributes/group_size", "divides width = 8", [](Fixture& f) { f.attributes["group_size"] = 3; });
  expect("/attributes/hidden_size", "width = 8", [](Fixture& f) { f.attributes["hidden_size"] = 9; });
  expect("/attributes/colour", "unknown", [](Fixture& f) { f.attributes["colour"] = 1; });
  expect("/path", "train", [](Fixture& f) { f.path = "decode"; });
  expect("/layer", "no kernel", [](Fixture& f) { f.layer = "attention"; });
}

HostTensor numbers(const char* name, DType dtype, Shape shape, const std::vector<double>& values) {
  HostTensor t = make_tensor(name, Role::in, dtype, std::move(shape));
  for (std::size_t i = 0; i < values.size(); ++i) t.set(static_cast<std::int64_t>(i), values[i]);
  return t;
}

Fixture scan() {
  Fixture f;
  f.file = "scan.json";
  f.name = "scan";
  f.layer = "ssd_scan";
  f.path = "train";
  f.attributes = {{"chunk_size", 16}, {"dt_softplus", true}, {"dt_limit", {0.25, "inf"}}};
  for (const char* name : {"input.x", "output.y", "grad.output.y"})
    f.tensors.push_back(filled(name, DType::bfloat16, {2, 3, 4, 8}));
  f.tensors.push_back(filled("input.dt", DType::bfloat16, {2, 3, 4}));
  f.tensors.push_back(filled("input.A", DType::float32, {4}));
  f.tensors.push_back(filled("input.D", DType::float32, {4, 8}));
  for (const char* name : {"input.B", "input.C"}) f.tensors.push_back(filled(name, DType::bfloat16, {2, 3, 2, 16}));
  f.tensors.push_back(numbers("input.seq_idx", DType::int64, {2, 3}, {0, 1, 1, 0, 0, 0}));
  f.tensors.push_back(filled("output.final_state", DType::float32, {2, 4, 8, 16}));
  return f;
}

TEST(FixtureCalls, TheScanHasTwoLimitsInOneAttributeAndDocumentsOfAnyWidth) {
  const FixtureCalls all = fixture_calls(scan());
  ASSERT_EQ(all.calls.size(), 1u);  // an incoming gradient alone asks for no backward pass
  EXPECT_EQ(all.missing, "");
  const Call& call = all.calls[0].call;
  EXPECT_EQ(call.integer("dt_softplus"), 1);
  EXPECT_EQ(call.number("dt_min"), 0.25);
  EXPECT_EQ(call.number("dt_max"), HUGE_VAL);
  EXPECT_EQ(call.tensor("input.seq_idx").dtype, DType::int32);
  EXPECT_EQ(call.tensor("input.seq_idx").at(1), scan().tensor("input.seq_idx").at(1));
  EXPECT_EQ(all.calls[0].recorded.size(), 2u);
}

TEST(FixtureCalls, WhatDoesNotFitAScanIsNamed) {
  const auto expect = refusals(scan);
  expect("/attributes/dt_limit", "want [low, high]", [](Fixture& f) { f.attributes["dt_limit"] = 3; });
  expect("/attributes/dt_limit", "want [low, high]", [](Fixture& f) { f.attributes["dt_limit"] = {"inf", 1}; });
  expect("/attributes/dt_limit", "low <= high", [](Fixture& f) { f.attributes["dt_limit"] = {2, 1}; });
  expect("/attributes/dt_softplus", "want true or false", [](Fixture& f) { f.attributes["dt_softplus"] = 1; });
  expect("/attributes/chunk_size", "at least 1", [](Fixture& f) { f.attributes["chunk_size"] = 0; });
  expect("/attributes/steps", "unknown", [](Fixture& f) { f.attributes["steps"] = 2; });
  expect("/tensors/input.B/shape", "divides heads = 4", [](Fixture& f) {
    for (const char* name : {"input.B", "input.C"}) tensor(f, name) = filled(name, DType::bfloat16, {2, 3, 3, 16});
  });
  expect("/tensors/input.D/shape", "want [heads]", [](Fixture& f) {
    tensor(f, "input.D") = filled("input.D", DType::float32, {4, 8, 1});
  });
  expect("/tensors/input.D/shape", "head_dim = 7", [](Fixture& f) {
    tensor(f, "input.D") = filled("input.D", DType::float32, {4, 7});
  });
  expect("/tensors/input.x/shape", "want [batch, seq_len, heads, head_dim]", [](Fixture& f) {
    tensor(f, "input.x") = filled("input.x", DType::bfloat16, {1, 2, 3, 4, 8});
  });
  expect("/tensors/input.A/dtype", "want float32",
         [](Fixture& f) { tensor(f, "input.A") = filled("input.A", DType::bfloat16, {4}); });
  expect("/tensors/input.seq_idx/data/2", "want an int32",
         [](Fixture& f) { tensor(f, "input.seq_idx").set(2, 0x1p32); });
  expect("/tensors/output.state", "unknown",
         [](Fixture& f) { f.tensors.push_back(filled("output.state", DType::float32, {1})); });
}

TEST(FixtureCalls, BoundariesOfDocumentsAreChecked) {
  const auto with = [](std::vector<double> boundaries, std::int64_t states) {
    return [=](Fixture& f) {
      f.tensors.push_back(
          numbers("input.cu_seqlens", DType::int32, {static_cast<std::int64_t>(boundaries.size())}, boundaries));
      f.tensors.push_back(filled("output.varlen_states", DType::bfloat16, {states, 4, 8, 16}));
    };
  };
  Fixture f = scan();
  with({0, 1, 1, 3}, 3)(f);
  EXPECT_EQ(fixture_calls(f).calls[0].recorded.size(), 3u);
  for (const char* input : {"x", "dt", "A", "B", "C", "D"})  // and gradients, for which the states are nothing
    f.tensors.push_back(filled((std::string("grad.input.") + input).c_str(),
                               f.tensor(std::string("input.") + input).dtype,
                               f.tensor(std::string("input.") + input).shape));
  EXPECT_EQ(fixture_calls(f).calls.size(), 2u);
  const auto expect = refusals(scan);
  expect("/tensors/input.cu_seqlens/data/0", "want 0 .. 0", with({1, 3}, 1));
  expect("/tensors/input.cu_seqlens/data/2", "want 2 .. 3", with({0, 2, 1}, 2));
  expect("/tensors/input.cu_seqlens/data/1", "want 0 .. 3", with({0, 4}, 1));
  expect("/tensors/input.cu_seqlens/shape", "one number more", with({0, 3}, 2));
  expect("/tensors", "no \"input.cu_seqlens\"", [](Fixture& g) {
    g.tensors.push_back(filled("output.varlen_states", DType::bfloat16, {1, 4, 8, 16}));
  });
}

Fixture steps() {
  Fixture f;
  f.file = "steps.json";
  f.name = "steps";
  f.layer = "ssm_state_update";
  f.path = "decode";
  f.attributes = {{"steps", 2}, {"dt_softplus", false}};
  f.tensors.push_back(filled("input.state", DType::bfloat16, {3, 4, 8, 16}));
  f.tensors.push_back(filled("input.A", DType::float32, {4}));
  for (const std::string at : {"step.0.", "step.1."}) {
    f.tensors.push_back(filled((at + "input.x").c_str(), DType::float32, {3, 4, 8}));
    f.tensors.push_back(filled((at + "input.dt").c_str(), DType::float32, {3, 4}));
    f.tensors.push_back(filled((at + "input.B").c_str(), DType::float32, {3, 2, 16}));
    f.tensors.push_back(filled((at + "input.C").c_str(), DType::float32, {3, 2, 16}));
    f.tensors.push_back(filled((at + "output.y").c_str(), DType::float32, {3, 4, 8}));
    f.tensors.push_back(filled((at + "output.state").c_str(), DType::bfloat16, {3, 4, 8, 16}));
  }
  tensor(f, "step.0.output.state").set(5, 42);
  tensor(f, "step.1.output.state").set(5, 17);
  return f;
}

TEST(FixtureCalls, EveryStepStartsFromTheStateRecordedBefore) {
  const FixtureCalls all = fixture_calls(steps());
  ASSERT_EQ(all.calls.size(), 2u);
  for (std::size_t k = 0; k < 2; ++k) {
    const FixtureCall& fc = all.calls[k];
    EXPECT_FALSE(fc.follows);
    EXPECT_EQ(fc.step, k == 0 ? "step.0" : "step.1");
    EXPECT_EQ(fc.call.integer("dt_softplus"), 0);
    EXPECT_EQ(fc.call.tensor("state").role, Role::inout);
    EXPECT_EQ(fc.call.tensor("state").at(5), k == 0 ? steps().tensor("input.state").at(5) : 42);
    ASSERT_EQ(fc.recorded.size(), 2u);
    EXPECT_EQ(fc.recorded[0].name, "state");
    EXPECT_EQ(fc.recorded[0].at(5), k == 0 ? 42 : 17);
  }
}

TEST(FixtureCalls, WhatDoesNotFitAStepIsNamed) {
  const auto expect = refusals(steps);
  expect("/attributes/steps", "missing", [](Fixture& f) { f.attributes.erase("steps"); });
  expect("/attributes/steps", "0; want", [](Fixture& f) { f.attributes["steps"] = 0; });
  expect("/tensors", "no \"input.x\"", [](Fixture& f) { f.attributes["steps"] = 3; });
  expect("/tensors/step.1.input.x", "unknown", [](Fixture& f) { f.attributes["steps"] = 1; });
  expect("/tensors/step.1.input.B/shape", "groups = 4", [](Fixture& f) {
    tensor(f, "step.1.input.B") = filled("step.1.input.B", DType::float32, {3, 4, 16});
  });
  expect("/tensors/input.state_batch_indices/data/1", "that no other has", [](Fixture& f) {
    f.tensors.push_back(make_tensor("input.state_batch_indices", Role::in, DType::int32, {3}));
  });
}

TEST(FixtureCalls, LinkFillsWhatAnEarlierStepWrote) {
  std::vector<FixtureCall> calls = fixture_calls(gated()).calls;
  HostTensor saved = make_tensor("saved", Role::saved, DType::uint8, {24});
  saved.set(3, 7);
  link(calls[1].call, {saved});
  EXPECT_EQ(calls[1].call.tensor("saved").shape, (Shape{24}));
  EXPECT_EQ(calls[1].call.tensor("saved").at(3), 7);
}

}  // namespace
}  // namespace assay::harness
