#include "harness/golden/recipe_golden.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <map>

#include "harness/cases/fixture_calls.h"
#include "harness/core/explain.h"
#include "harness/golden/drafts.h"
#include "harness/golden/fixture_reader.h"
#include "harness/golden/golden.h"

namespace assay::harness {
namespace {

constexpr double kTermsScale = 0x1p-10;                      // as in judge_golden
constexpr std::int64_t kDraftSamples = 24, kLeastSamples = 16;  // a model has a hundred tensors

// What the reference makes of a case: all its inputs, and the judged outputs with their expectations. A state that is
// updated in place is input.NAME and output.NAME, as in fixtures.
struct Evaluated {
  std::vector<HostTensor> inputs, outputs;
  std::vector<Expectation> expectations;
};

const std::vector<double>& own_values(const Expectation& e) {
  return e.dtype == DType::bfloat16 ? e.matched : e.oracle;
}

Evaluated evaluate_case(const Case& c) {
  const Family& fam = family(c.family);
  fam.check(c);
  Evaluated result;
  std::vector<HostTensor> earlier;
  for (Call& call : fam.calls(c)) {
    link(call, earlier);
    for (HostTensor& t : call.tensors) {
      if ((t.role == Role::in && !t.name.starts_with("output.")) || t.role == Role::inout) {
        HostTensor input = t;
        if (t.role == Role::inout) input.name = "input." + t.name, t.before = t.bytes;
        const auto same = [&](const HostTensor& known) { return known.name == input.name; };
        if (std::none_of(result.inputs.begin(), result.inputs.end(), same)) result.inputs.push_back(std::move(input));
      }
      if (t.role == Role::out) t.bytes.assign(static_cast<std::size_t>(t.size()) * size_of(t.dtype), std::byte{0});
    }
    // Twice: an output that is made of another one is made of the stored one.
    for (int pass = 0; pass < 2; ++pass) {
      result.expectations = fam.expect(call, fam.upstream_contract(call), false);
      for (const Expectation& e : result.expectations) {
        HostTensor& t = call.tensor(e.tensor);
        for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, own_values(e)[static_cast<std::size_t>(i)]);
      }
    }
    result.outputs.clear();
    for (const Expectation& e : result.expectations) {
      HostTensor& t = result.outputs.emplace_back(call.tensor(e.tensor));
      if (t.role == Role::inout) t.name = "output." + t.name;
    }
    earlier.insert(earlier.end(), result.outputs.begin(), result.outputs.end());
  }
  return result;
}

std::string layer_of(const std::string& family_name) {
  for (const GoldenLayer& l : golden_layers())
    if (const Family* fam = family_of_layer(l.layer); fam && fam->name == family_name) return l.layer;
  return family_name;
}

[[noreturn]] void fail(const Recipe& recipe, const std::string& pointer, const std::string& text) {
  throw FixtureError(fmt::format("{}: /recipe/{}: {}", recipe.head.file.string(), pointer, text));
}

Case case_of(const Recipe& recipe) {
  try {
    const Case c = parse_case(recipe.case_line);
    if (c.family != kDraftFamily) family(c.family).check(c);
    return c;
  } catch (const std::invalid_argument& error) {
    fail(recipe, "case", error.what());
  }
}

void check_inputs(const Recipe& recipe, const std::vector<HostTensor>& own) {
  std::map<std::string, const RecipeInput*> recorded;
  for (const RecipeInput& input : recipe.inputs) recorded[input.name] = &input;
  for (const HostTensor& t : own) {
    const auto found = recorded.find(t.name);
    if (found == recorded.end()) fail(recipe, "inputs", fmt::format("no \"{}\"; the case has it", t.name));
    const RecipeInput& input = *found->second;
    if (input.dtype != t.dtype || input.shape != t.shape)
      fail(recipe, "inputs/" + t.name,
           fmt::format("{} {}; want {} {}", name(input.dtype), to_string(input.shape), name(t.dtype),
                       to_string(t.shape)));
    if (input.checksum != checksum(t))
      fail(recipe, "inputs/" + t.name + "/checksum",
           fmt::format("{:016x}; the case line gives {:016x}", input.checksum, checksum(t)));
    recorded.erase(found);
  }
  if (!recorded.empty()) fail(recipe, "inputs/" + recorded.begin()->first, "unknown; the case has no such input");
}

// What a recipe is checked against: its inputs, and its outputs with what they are judged by.
struct Rebuilt {
  std::vector<HostTensor> inputs;
  std::vector<GoldenTensor> outputs;
};
Rebuilt rebuilt(const Recipe& recipe) {
  const Case c = case_of(recipe);
  Rebuilt result;
  if (c.family == kDraftFamily) {
    RebuiltDraft draft = rebuild_draft(recipe);
    for (HostTensor& t : draft.fixture.tensors)
      if (!is_expected(t.name)) result.inputs.push_back(std::move(t));
    result.outputs = std::move(draft.judged);
    return result;
  }
  Evaluated own = evaluate_case(c);
  result.inputs = std::move(own.inputs);
  for (std::size_t i = 0; i < own.outputs.size(); ++i) {
    Expectation& e = own.expectations[i];
    result.outputs.push_back({.name = own.outputs[i].name,
                              .dtype = e.dtype,
                              .model = e.dtype,
                              .shape = e.shape,
                              .recorded = own.outputs[i].to_double(),
                              .oracle = std::move(e.oracle),
                              .matched = std::move(e.matched),
                              .limit = std::move(e.limit)});
  }
  return result;
}

// The recipe's sample in the place of the tensor.
GoldenTensor sampled(const Recipe& recipe, const RecipeOutput& output, const GoldenTensor& own) {
  const std::string at = "outputs/" + output.name;
  if (output.dtype != own.dtype || output.shape != own.shape)
    fail(recipe, at,
         fmt::format("{} {}; want {} {}", name(output.dtype), to_string(output.shape), name(own.dtype),
                     to_string(own.shape)));
  const std::int64_t count = element_count(output.shape), samples = std::ssize(output.at);
  if (samples < std::min(count, kLeastSamples) || output.at != sample_indices(count, samples))
    fail(recipe, at + "/sample/at", fmt::format("not the fixed sample of {} elements or more", kLeastSamples));
  GoldenTensor g = own;
  g.shape = output.sample.shape;
  g.recorded = output.sample.to_double();
  g.oracle.clear(), g.matched.clear(), g.limit.clear();
  for (const std::int64_t index : output.at) {
    const auto i = static_cast<std::size_t>(index);
    g.oracle.push_back(own.oracle[i]);
    g.matched.push_back(own.matched[i]);
    if (!own.limit.empty()) g.limit.push_back(own.limit[i]);
  }
  return g;
}

void check_norms(const Recipe& recipe, const RecipeOutput& output, const GoldenTensor& own) {
  constexpr double kBfloat16Unit = 0x1p-9;
  const bool in_bfloat16 = own.dtype == DType::bfloat16 || own.model == DType::bfloat16;
  const double tolerance = own.exact ? 0 : in_bfloat16 ? kBfloat16Unit : own.tolerance;
  HostTensor t = make_tensor(own.name, Role::in, own.dtype, own.shape);
  for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, own.recorded[static_cast<std::size_t>(i)]);
  const RecipeOutput want = describe_output(t);
  // Rounding noise, below what the model's own arithmetic can tell from 0, is measured by that.
  const double least = std::max(kTermsScale * own.terms_rms, rms_difference(own.matched, own.oracle));
  // Sums of exact values: those of another order of additions.
  const double summation = 0x1p-52 * static_cast<double>(t.size());
  for (const auto& [text, found, wanted, size] : {std::tuple{"mean", output.mean, want.mean, want.rms},
                                                  {"rms", output.rms, want.rms, want.rms},
                                                  {"max_abs", output.max_abs, want.max_abs, want.max_abs}}) {
    const double most = (tolerance + summation) * std::max(size, least) + own.exact_ulps * ulp(own.dtype, want.max_abs);
    if (!(std::fabs(found - wanted) <= most))
      fail(recipe, fmt::format("outputs/{}/{}", output.name, text),
           fmt::format("{:.9g}; want {:.9g} within {:.3g}", found, wanted, most));
  }
}

}  // namespace

GoldenFile read_golden(const std::filesystem::path& file) {
  try {
    return read_fixture(file);
  } catch (const RecipeInsteadError&) {
    return read_recipe(file);
  }
}

Recipe recipe_of(const Fixture& recorded, const Case& line) {
  Recipe recipe;
  recipe.head = recorded;
  recipe.head.tensors.clear();
  recipe.case_line = to_line(line);
  for (const HostTensor& t : recorded.tensors)
    if (is_expected(t.name))
      recipe.outputs.push_back(describe_output(t, kDraftSamples));
    else
      recipe.inputs.push_back(describe_input(t));
  return recipe;
}

Recipe record_recipe(const std::string& name, const Case& c) {
  const Evaluated own = evaluate_case(c);
  Recipe recipe;
  recipe.head.name = name;
  recipe.head.file = name + ".json";
  recipe.head.layer = layer_of(c.family);
  recipe.head.path = c.path;
  recipe.head.provenance = {
      {"reference", "assay"},
      {"arithmetic", c.dtype == DType::bfloat16 ? "float32 with bfloat16 roundings where the model rounds"
                                                : "float64, rounded once"}};
  recipe.case_line = to_line(c);
  for (const HostTensor& t : own.inputs) recipe.inputs.push_back(describe_input(t));
  for (const HostTensor& t : own.outputs) recipe.outputs.push_back(describe_output(t));
  return recipe;
}

CaseResult check_recipe(const Recipe& recipe) {
  CaseResult result;
  result.line = recipe.head.file.string();
  result.variant = "reference";
  result.repro = "assay golden check " + result.line;
  result.operation = recipe.head.layer + "/" + recipe.head.path;
  const auto begin = std::chrono::steady_clock::now();
  try {
    result.dtype = short_name(case_of(recipe).dtype);
    const Rebuilt own = rebuilt(recipe);
    check_inputs(recipe, own.inputs);
    if (recipe.outputs.size() != own.outputs.size())
      fail(recipe, "outputs", fmt::format("{} of them; want {}", recipe.outputs.size(), own.outputs.size()));
    for (const RecipeOutput& output : recipe.outputs) {
      const auto wanted = std::find_if(own.outputs.begin(), own.outputs.end(),
                                       [&](const GoldenTensor& g) { return g.name == output.name; });
      if (wanted == own.outputs.end())
        fail(recipe, "outputs/" + output.name, "unknown; the case has no such output");
      result.tensors.push_back(judge_golden(sampled(recipe, output, *wanted)));
      if (result.tensors.back().status == Status::failed) {
        result.status = Status::failed;
        result.message += (result.message.empty() ? "" : "\n") + explain(result.tensors.back());
      }
      check_norms(recipe, output, *wanted);
    }
  } catch (const std::exception& e) {
    result.status = Status::failed;
    result.message += (result.message.empty() ? "" : "\n") + std::string(e.what());
  }
  result.reference_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

std::vector<Case> recipe_cases() {
  const auto elements = [](const Case& c) {
    std::int64_t product = 1;
    for (const auto& [axis, size] : c.sizes) product *= std::max<std::int64_t>(1, size);
    return product;
  };
  std::map<std::string, Case> largest;  // by family, direction and dtype
  for (const Family& fam : families()) {
    if (fam.layer) continue;  // its steps need a candidate; layers have drafts (drafts.h)
    for (Case c : fam.cases(Tier::full)) {
      if (c.fill != "model") continue;
      c.seed = 1;
      const std::string key = fmt::format("{}/{}/{}", c.family, c.path, name(c.dtype));
      const auto [known, fresh] = largest.try_emplace(key, c);
      if (!fresh && elements(c) > elements(known->second)) known->second = c;
    }
  }
  std::vector<Case> result;
  for (auto& [key, c] : largest) result.push_back(std::move(c));
  return result;
}

}  // namespace assay::harness
