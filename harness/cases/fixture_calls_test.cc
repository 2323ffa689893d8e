// Fixtures as calls: what was recorded becomes inputs and expectations, and what does not fit is named by its JSON
// pointer.
#include "harness/cases/fixture_calls.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

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
  const std::vector<FixtureCall> calls = fixture_calls(gated());
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
  EXPECT_EQ(fixture_calls(forward_only).size(), 1u);
}

TEST(FixtureCalls, WhatDoesNotFitIsNamed) {
  const auto message = [](auto&& change) -> std::string {
    Fixture f = gated();
    change(f);
    try {
      fixture_calls(f);
    } catch (const FixtureError& e) {
      return e.what();
    }
    return "no error";
  };
  const auto expect = [&](const char* pointer, const char* text, auto&& change) {
    const std::string m = message(change);
    EXPECT_NE(m.find(std::string("gated.json: ") + pointer), std::string::npos) << m;
    EXPECT_NE(m.find(text), std::string::npos) << m;
  };
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

TEST(FixtureCalls, LinkFillsWhatAnEarlierStepWrote) {
  std::vector<FixtureCall> calls = fixture_calls(gated());
  HostTensor saved = make_tensor("saved", Role::saved, DType::uint8, {24});
  saved.set(3, 7);
  link(calls[1].call, {saved});
  EXPECT_EQ(calls[1].call.tensor("saved").shape, (Shape{24}));
  EXPECT_EQ(calls[1].call.tensor("saved").at(3), 7);
}

}  // namespace
}  // namespace assay::harness
