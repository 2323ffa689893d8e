#include "harness/io/recipe.h"

#include <gtest/gtest.h>

#include <cmath>

#include "harness/io/temporary_folder.h"

namespace assay::harness {
namespace {

Recipe sample_recipe(std::int64_t rows) {
  HostTensor x = make_tensor("input.hidden_states", Role::in, DType::bfloat16, {rows, 8});
  HostTensor y = make_tensor("output.hidden_states", Role::in, DType::float32, {rows, 8});
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x.set(i, static_cast<double>(i % 13) - 6);
    y.set(i, std::sin(static_cast<double>(i)));
  }
  Recipe recipe;
  recipe.head.name = "large";
  recipe.head.layer = "rms_norm";
  recipe.head.path = "train";
  recipe.head.provenance = {{"reference", "oracle"}};
  recipe.case_line = "rms_norm/forward rows=" + std::to_string(rows) + " width=8 dtype=bf16 fill=model seed=7";
  recipe.inputs = {describe_input(x)};
  recipe.outputs = {describe_output(y)};
  return recipe;
}
std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  if (at == std::string::npos) throw std::logic_error("the test replaces nothing: " + from);
  return text.replace(at, from.size(), to);
}

TEST(Recipe, TheChecksumIsFnv1a) {  // test vectors of the authors: "", "a", "foobar"
  HostTensor t = make_tensor("input.x", Role::in, DType::uint8, {0});
  EXPECT_EQ(checksum(t), 0xcbf29ce484222325u);
  t = make_tensor("input.x", Role::in, DType::uint8, {1});
  t.set(0, 'a');
  EXPECT_EQ(checksum(t), 0xaf63dc4c8601ec8cu);
  t = make_tensor("input.x", Role::in, DType::uint8, {6});
  for (std::int64_t i = 0; i < 6; ++i) t.set(i, "foobar"[i]);
  EXPECT_EQ(checksum(t), 0x85944171f73967e8u);
}

TEST(Recipe, SamplesAreSpreadAndFixed) {
  EXPECT_TRUE(sample_indices(0).empty());
  EXPECT_EQ(sample_indices(1), std::vector<std::int64_t>{0});
  for (const std::int64_t count : {2, 255, 256, 257, 100'000}) {
    const auto at = sample_indices(count);
    EXPECT_EQ(static_cast<std::int64_t>(at.size()), std::min<std::int64_t>(count, 256));
    EXPECT_EQ(at.front(), 0);
    EXPECT_EQ(at.back(), count - 1);
    for (std::size_t i = 1; i < at.size(); ++i) EXPECT_LT(at[i - 1], at[i]);
    EXPECT_EQ(at, sample_indices(count));
  }
  EXPECT_EQ(sample_indices(1000, 3).size(), 3u);
  EXPECT_EQ(sample_indices(1000, 3).back(), 999);
  EXPECT_EQ(sample_indices(std::int64_t{1} << 62).back(), (std::int64_t{1} << 62) - 1);
}

TEST(Recipe, ComesBackAsItWasWritten) {
  const TemporaryFolder folder;
  const Recipe recipe = sample_recipe(100);
  write_recipe(recipe, folder / "large.json");
  const Recipe back = read_recipe(folder / "large.json");
  EXPECT_EQ(to_json(back), to_json(recipe));
  EXPECT_EQ(back.case_line, recipe.case_line);
  EXPECT_EQ(back.inputs[0].checksum, recipe.inputs[0].checksum);
  EXPECT_EQ(back.outputs[0].rms, recipe.outputs[0].rms);
  EXPECT_EQ(back.outputs[0].at, recipe.outputs[0].at);
  EXPECT_EQ(back.outputs[0].sample.bytes, recipe.outputs[0].sample.bytes);
  EXPECT_NEAR(back.outputs[0].rms, std::sqrt(0.5), 0.01);
  write_recipe(sample_recipe(0), folder / "empty.json");
  EXPECT_TRUE(read_recipe(folder / "empty.json").outputs[0].at.empty());
}

TEST(Recipe, AndFixtureAreNotMistakenForEachOther) {
  const TemporaryFolder folder;
  write_recipe(sample_recipe(4), folder / "r.json");
  EXPECT_THROW(read_fixture(folder / "r.json"), FixtureError);
  Fixture fixture = sample_recipe(4).head;
  fixture.tensors = {make_tensor("input.x", Role::in, DType::float32, {1})};
  write_fixture(fixture, folder / "f.json");
  EXPECT_THROW(read_recipe(folder / "f.json"), FixtureError);
}

TEST(Recipe, WhatIsWrongIsNamed) {
  const TemporaryFolder folder;
  const std::string good = to_json(sample_recipe(4));
  const auto error = [&](const std::string& from, const std::string& to) -> std::string {
    const auto file = folder.put("r.json", replaced(good, from, to));
    try {
      read_recipe(file);
    } catch (const FixtureError& e) {
      return std::string(e.what()).substr(file.string().size() + 2);
    }
    return "no error";
  };
  EXPECT_EQ(error("\"rms\"", "\"rms\""), "no error");
  EXPECT_TRUE(error("rms_norm/forward", "rms_norm").starts_with("/recipe/case: "));
  EXPECT_EQ(error("\"rms\":", "\"rsm\":"),
            "/recipe/outputs/output.hidden_states/rsm: unknown key; want dtype, max_abs, mean, rms, sample, shape");
  EXPECT_EQ(error("fnv1a64:", "sha256:").substr(0, 43), "/recipe/inputs/input.hidden_states/checksum");
  EXPECT_NE(error("[4,8]", "[4,-8]").find("/recipe/inputs/input.hidden_states/shape"), std::string::npos);
  EXPECT_NE(error("\"at\":[0,1,", "\"at\":[1,0,").find("/sample/at/1: no index"), std::string::npos);
  EXPECT_NE(error("\"at\":[0,1,", "\"at\":[0,1,2,").find("different length"), std::string::npos);
  EXPECT_NE(error("30,31]", "30,32]").find("/sample/at/31: no index; want ascending integers below 32"),
            std::string::npos);
  EXPECT_NE(error("\"data\":[0.0,", "\"data\":[\"nan\",").find("/sample/data/0: NaN"), std::string::npos);
  EXPECT_NE(error("\"data\":[0.0,", "\"data\":[null,").find("/sample/data/0: null"), std::string::npos);
  EXPECT_NE(error("\"mean\":", "\"mean\":\"\",\"m\":").find("unknown key"), std::string::npos);
  EXPECT_NE(error("\"output.hidden_states\"", "\"result\"").find("/recipe/outputs/result: unknown kind"),
            std::string::npos);
  EXPECT_NE(error("\"recipe\":", "\"tensors\":{},\"recipe\":").find("/recipe: tensors as well"), std::string::npos);
  EXPECT_NE(error("bfloat16", "bf16").find("/dtype: \"bf16\" is no dtype"), std::string::npos);
}

TEST(Recipe, NothingUnreadableIsWritten) {
  const TemporaryFolder folder;
  Recipe recipe = sample_recipe(4);
  recipe.outputs[0].rms = std::nan("");
  EXPECT_THROW(write_recipe(recipe, folder / "r.json"), FixtureError);
  recipe = sample_recipe(4);
  recipe.case_line = "what?";
  EXPECT_THROW(write_recipe(recipe, folder / "r.json"), FixtureError);
  EXPECT_FALSE(std::filesystem::exists(folder / "r.json"));
  HostTensor t = make_tensor("output.x", Role::in, DType::float32, {1});
  t.set(0, HUGE_VAL);
  EXPECT_THROW(describe_output(t), FixtureError);
}

}  // namespace
}  // namespace assay::harness
