// Generated fixtures: every draft passes and comes out the same, and no file that is right is changed.
#include "harness/golden/generate.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>

#include "harness/cases/family.h"
#include "harness/golden/diff.h"
#include "harness/golden/golden.h"
#include "harness/io/file.h"
#include "harness/io/model_config.h"
#include "harness/io/temporary_folder.h"

namespace assay::harness {
namespace {

using Kind = GoldenChange::Kind;

std::vector<GoldenDraft> drafts() {
  return golden_drafts(preset("tiny", ASSAY_GOLDEN), preset("tiny-all", ASSAY_GOLDEN));
}
GoldenDraft draft_named(const std::string& name) {
  for (const GoldenDraft& draft : drafts())
    if (draft.name == name) return draft;
  throw std::invalid_argument("no draft " + name);
}

// By the committed files, which are what the drafts record: TheCommittedSetIsWhole.
TEST(Generate, EveryLayerHasADraft) {
  std::set<std::string> missing, names;
  for (const GoldenLayer& layer : golden_layers()) missing.insert(layer.layer);
  for (const GoldenDraft& draft : drafts()) {
    EXPECT_TRUE(names.insert(draft.name).second) << draft.name << " twice";
    const GoldenFile golden = read_golden(std::filesystem::path(ASSAY_GOLDEN) / "reference" / (draft.name + ".json"));
    const auto* fixture = std::get_if<Fixture>(&golden);
    missing.erase(fixture ? fixture->layer : std::get<Recipe>(golden).head.layer);
  }
  EXPECT_TRUE(missing.empty()) << *missing.begin();
}

class GenerateInto : public ::testing::TestWithParam<const char*> {
 protected:
  TemporaryFolder folder;
  GoldenDraft draft = draft_named(GetParam());
  GoldenChange change() { return golden_change(draft, folder.path()); }
};
INSTANTIATE_TEST_SUITE_P(Drafts, GenerateInto,
                         ::testing::Values("mamba2_mixer_prefill_decode_narrow_bf16", "init_tiny_f32",
                                           "model_train_tiny_all_bf16",
                                           "rms_norm_forward_large_f32"),
                         [](const auto& test) { return std::string(test.param); });

TEST_P(GenerateInto, ASecondRunChangesNothing) {
  ASSERT_EQ(change().kind, Kind::missing);
  accept(change());
  EXPECT_EQ(change().kind, Kind::none);
  EXPECT_EQ(check_fixture(folder.path() / (draft.name + ".json")).status, Status::passed);
}

TEST_P(GenerateInto, AFileThatCannotBeReadIsWrong) {
  std::ofstream(folder.path() / (draft.name + ".json")) << "{";
  EXPECT_EQ(change().kind, Kind::wrong);
  accept(change());
  EXPECT_EQ(change().kind, Kind::none);
}

TEST(Generate, RightFilesStayAndWrongOnesAreExplained) {
  const TemporaryFolder folder;
  const GoldenDraft draft = draft_named("mlp_train_narrow_f32");
  const Fixture right = std::get<Fixture>(draft.record());
  const auto after = [&](const auto& alter) {
    Fixture fixture = right;
    alter(fixture);
    write_fixture(fixture, folder.path() / (draft.name + ".json"));
    return golden_change(draft, folder.path());
  };
  const auto output = [](Fixture& f) -> HostTensor& {
    return const_cast<HostTensor&>(f.tensor("output.hidden_states"));
  };
  EXPECT_EQ(after([&](Fixture& f) { output(f).set(0, output(f).at(0) * (1 + 1e-7)); }).kind, Kind::right);
  EXPECT_EQ(after([&](Fixture& f) { f.provenance["reference"] = "another version"; }).kind, Kind::right);

  const auto says = [](const GoldenChange& change, std::string_view word) {
    for (const std::string& reason : change.reasons)
      if (reason.find(word) != std::string::npos) return change.kind == Kind::wrong;
    return false;
  };
  EXPECT_TRUE(says(after([&](Fixture& f) { output(f).set(0, output(f).at(0) + 1); }), "it does not pass"));
  EXPECT_TRUE(says(after([&](Fixture& f) { output(f).set(0, output(f).at(0) + 1); }), "1 of"));
  EXPECT_TRUE(says(after([&](Fixture& f) {
                     std::erase_if(f.tensors, [](const HostTensor& t) { return t.name == "grad.up_proj.weight"; });
                   }),
                   "/tensors/grad.up_proj.weight: is new"));
  EXPECT_TRUE(says(after([&](Fixture& f) { f.config["vocab_size"] = 5; }), "/config/vocab_size"));
}

TEST(Generate, DifferencesAreNamed) {
  const GoldenFile a = draft_named("mlp_train_narrow_f32").record(), b = draft_named("mlp_train_narrow_bf16").record(),
                   recipe = draft_named("rms_norm_forward_large_f32").record();
  EXPECT_TRUE(golden_differences(a, a).empty());
  EXPECT_TRUE(golden_differences(recipe, recipe).empty());
  EXPECT_EQ(golden_differences(a, recipe).size(), 1u);
  bool dtype = false;
  for (const std::string& line : golden_differences(a, b))
    dtype |= line == "/tensors/output.hidden_states/dtype: was float32, is bfloat16";
  EXPECT_TRUE(dtype);
}

// Bit for bit on the compiler that wrote it, within the gates on others.
TEST(Generate, TheCommittedSetIsWhole) {
  const std::filesystem::path folder = std::filesystem::path(ASSAY_GOLDEN) / "reference";
  std::set<std::string> files;
  std::uintmax_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    files.insert(entry.path().stem().string());
    bytes += entry.file_size();
  }
  EXPECT_LE(bytes, 10'000'000u);
  for (const GoldenDraft& draft : drafts()) {
    EXPECT_EQ(files.erase(draft.name), 1u) << draft.name << " is missing";
    const GoldenChange change = golden_change(draft, folder);
    EXPECT_TRUE(change.kind == Kind::none || change.kind == Kind::right)
        << draft.name << ": " << (change.reasons.empty() ? "" : change.reasons.front());
  }
  EXPECT_TRUE(files.empty()) << *files.begin() << " is no draft";
}

TEST(Recipe, OfADraftIsCheckedInAllItsParts) {
  const Recipe right = std::get<Recipe>(draft_named("mamba2_mixer_train_tiny_all_f32").record());
  EXPECT_EQ(check_recipe(right).status, Status::passed) << check_recipe(right).message;
  const auto fails = [&](const auto& alter, const std::string& word) {
    Recipe wrong = right;
    alter(wrong);
    const CaseResult result = check_recipe(wrong);
    EXPECT_EQ(result.status, Status::failed) << word;
    EXPECT_NE(result.message.find(word), std::string::npos) << result.message;
  };
  fails([](Recipe& r) { r.inputs[0].checksum ^= 1; }, "/checksum");
  fails([](Recipe& r) { r.outputs[0].mean += r.outputs[0].rms * 1e-4; }, "/mean");
  fails([](Recipe& r) { r.outputs[0].sample.set(3, r.outputs[0].sample.at(3) + 1); }, right.outputs[0].name);
  fails([](Recipe& r) { r.outputs[0].at.clear(); }, "/sample/at");
  fails([](Recipe& r) { r.head.config["hidden_size"] = 41; }, "/recipe/inputs");
  fails([](Recipe& r) { r.head.attributes["more"] = 1; }, "/attributes");
  fails([](Recipe& r) { r.case_line = "draft/unknown dtype=f32 fill=model seed=1"; }, "/recipe/case: no draft");
}

// Of every operation, the largest of the quick cases that is not large: what the matched reference errs is within the
// limits of upstream's contract. (Layers are recorded by drafts.)
// The gradient of k_proj.bias, which no softmax feels: its statistics are those of float64's rounding, which any other order of
// a sum changes. What is large beside float32's rounding noise times the tolerance is an error all the same.
TEST(Recipe, StatisticsOfRoundingNoiseMayChange) {
  const Recipe recorded = std::get<Recipe>(draft_named("model_train_tiny_all_f32").record());
  const auto with_noise_of = [&](double factor) {
    Recipe r = recorded;
    for (RecipeOutput& output : r.outputs)
      if (output.name.ends_with("k_proj.bias")) {
        EXPECT_LT(output.rms, 1e-16);
        for (double* value : {&output.mean, &output.rms, &output.max_abs}) *value *= factor;
      }
    return check_recipe(r);
  };
  EXPECT_EQ(with_noise_of(3).status, Status::passed) << with_noise_of(3).message;
  EXPECT_NE(with_noise_of(1e6).message.find("k_proj.bias"), std::string::npos);
}

TEST(Recipe, OfEveryOperationPasses) {
  for (const Family& f : families()) {
    if (f.layer) continue;
    std::map<std::string, std::pair<std::int64_t, Case>> largest;
    for (const Case& c : f.cases(Tier::quick)) {
      if (c.dtype != DType::bfloat16 || c.fill != "model") continue;
      std::int64_t size = 0;
      for (const Call& call : f.calls(c))
        for (const HostTensor& t : call.tensors) size += t.size();
      auto& best = largest[c.operation()];
      if (size > best.first && size <= 200'000) best = {size, c};
    }
    EXPECT_FALSE(largest.empty()) << f.name;
    for (const auto& [operation, chosen] : largest) {
      const CaseResult result = check_recipe(record_recipe(operation, chosen.second));
      EXPECT_EQ(result.status, Status::passed) << to_line(chosen.second) << ": " << result.message;
    }
  }
}

TEST(Recipe, WrongOnesFailAndSayWhere) {
  const Recipe right = std::get<Recipe>(draft_named("rms_norm_backward_large_bf16").record());
  EXPECT_EQ(check_recipe(right).status, Status::passed) << check_recipe(right).message;
  const auto fails = [&](const auto& alter, const std::string& word) {
    Recipe wrong = right;
    alter(wrong);
    const CaseResult result = check_recipe(wrong);
    EXPECT_EQ(result.status, Status::failed) << word;
    EXPECT_NE(result.message.find(word), std::string::npos) << result.message;
  };
  fails([](Recipe& r) { r.inputs[0].checksum ^= 1; }, "/recipe/inputs/" + right.inputs[0].name + "/checksum");
  fails([](Recipe& r) { r.inputs.pop_back(); }, "/recipe/inputs: no");
  fails([](Recipe& r) { r.outputs.pop_back(); }, "/recipe/outputs");
  fails([](Recipe& r) { r.outputs[0].rms *= 1.01; }, "/rms");
  fails([](Recipe& r) { r.case_line += " more=1"; }, "/recipe/case");
  fails(
      [](Recipe& r) {
        for (std::int64_t i = 0; i < r.outputs[0].sample.size(); ++i)
          r.outputs[0].sample.set(i, r.outputs[0].sample.at(i) * 1.05);
      },
      right.outputs[0].name);
}

}  // namespace
}  // namespace assay::harness
