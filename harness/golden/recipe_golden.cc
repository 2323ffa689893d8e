#include "harness/golden/recipe_golden.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <map>

#include "harness/cases/fixture_calls.h"
#include "harness/core/explain.h"
#include "harness/golden/golden.h"

namespace assay::harness {
namespace {

// What the reference makes of a case: all its inputs, and the judged outputs with their expectations.
struct Evaluated {
  std::vector<HostTensor> inputs, outputs;
  std::vector<Expectation> expectations;
};

const std::vector<double>& own_values(const Expectation& e) {
  return e.dtype == DType::bfloat16 ? e.matched : e.oracle;
}

Evaluated evaluate_case(const Case& c) {
  assay_contract contract{};  // products of the stored operands, float32 sums, accurate functions
  contract.struct_size = sizeof contract;
  const Family& fam = family(c.family);
  fam.check(c);
  Evaluated result;
  std::vector<HostTensor> earlier;
  for (Call& call : fam.calls(c)) {
    link(call, earlier);
    for (HostTensor& t : call.tensors) {
      if (t.role == Role::in && !t.name.starts_with("output.")) {
        const auto same = [&](const HostTensor& known) { return known.name == t.name; };
        if (std::none_of(result.inputs.begin(), result.inputs.end(), same)) result.inputs.push_back(t);
      }
      if (t.role == Role::out) t.bytes.assign(static_cast<std::size_t>(t.size()) * size_of(t.dtype), std::byte{0});
    }
    // Twice: an output that is made of another one is made of the stored one.
    for (int pass = 0; pass < 2; ++pass) {
      result.expectations = fam.expect(call, contract, false);
      for (const Expectation& e : result.expectations) {
        HostTensor& t = call.tensor(e.tensor);
        for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, own_values(e)[static_cast<std::size_t>(i)]);
      }
    }
    result.outputs.clear();
    for (const Expectation& e : result.expectations) result.outputs.push_back(call.tensor(e.tensor));
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
    family(c.family).check(c);
    return c;
  } catch (const std::invalid_argument& error) {
    fail(recipe, "case", error.what());
  }
}

void check_inputs(const Recipe& recipe, const Evaluated& own) {
  std::map<std::string, const RecipeInput*> recorded;
  for (const RecipeInput& input : recipe.inputs) recorded[input.name] = &input;
  for (const HostTensor& t : own.inputs) {
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

GoldenTensor sampled(const Recipe& recipe, const RecipeOutput& output, const Expectation& e) {
  if (output.dtype != e.dtype || output.shape != e.shape)
    fail(recipe, "outputs/" + output.name,
         fmt::format("{} {}; want {} {}", name(output.dtype), to_string(output.shape), name(e.dtype),
                     to_string(e.shape)));
  GoldenTensor g{.name = output.name,
                 .dtype = e.dtype,
                 .model = e.dtype,
                 .shape = output.sample.shape,
                 .recorded = output.sample.to_double()};
  for (const std::int64_t at : output.at) {
    const auto i = static_cast<std::size_t>(at);
    g.oracle.push_back(e.oracle[i]);
    g.matched.push_back(e.matched[i]);
    if (!e.limit.empty()) g.limit.push_back(e.limit[i]);
  }
  return g;
}

void check_norms(const Recipe& recipe, const RecipeOutput& output, const RecipeOutput& own, double tolerance) {
  for (const auto& [text, found, wanted, scale] : {std::tuple{"mean", output.mean, own.mean, own.rms},
                                                   {"rms", output.rms, own.rms, own.rms},
                                                   {"max_abs", output.max_abs, own.max_abs, own.max_abs}})
    if (!(std::fabs(found - wanted) <= tolerance * scale))
      fail(recipe, fmt::format("outputs/{}/{}", output.name, text),
           fmt::format("{:.9g}; want {:.9g} within {:.3g}", found, wanted, tolerance * scale));
}

}  // namespace

GoldenFile read_golden(const std::filesystem::path& file) {
  try {
    return read_fixture(file);
  } catch (const RecipeInsteadError&) {
    return read_recipe(file);
  }
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
  constexpr double kBfloat16Unit = 0x1p-9, kTolerance = 5e-6;
  CaseResult result;
  result.line = recipe.head.file.string();
  result.variant = "reference";
  result.repro = "assay golden check " + result.line;
  result.operation = recipe.head.layer + "/" + recipe.head.path;
  const auto begin = std::chrono::steady_clock::now();
  try {
    const Case c = case_of(recipe);
    result.dtype = short_name(c.dtype);
    const Evaluated own = evaluate_case(c);
    check_inputs(recipe, own);
    if (recipe.outputs.size() != own.outputs.size())
      fail(recipe, "outputs", fmt::format("{} of them; want {}", recipe.outputs.size(), own.outputs.size()));
    for (const RecipeOutput& output : recipe.outputs) {
      std::size_t i = 0;
      while (i < own.outputs.size() && own.outputs[i].name != output.name) ++i;
      if (i == own.outputs.size()) fail(recipe, "outputs/" + output.name, "unknown; the case has no such output");
      result.tensors.push_back(judge_golden(sampled(recipe, output, own.expectations[i])));
      if (result.tensors.back().status == Status::failed) {
        result.status = Status::failed;
        result.message += (result.message.empty() ? "" : "\n") + explain(result.tensors.back());
      }
      check_norms(recipe, output, describe_output(own.outputs[i]),
                  output.dtype == DType::bfloat16 ? kBfloat16Unit : kTolerance);
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
  for (const Family& fam : families())
    for (Case c : fam.cases(Tier::full)) {
      if (c.fill != "model") continue;
      c.seed = 1;
      const std::string key = fmt::format("{}/{}/{}", c.family, c.path, name(c.dtype));
      const auto [known, fresh] = largest.try_emplace(key, c);
      if (!fresh && elements(c) > elements(known->second)) known->second = c;
    }
  std::vector<Case> result;
  for (auto& [key, c] : largest) result.push_back(std::move(c));
  return result;
}

}  // namespace assay::harness
