#include "harness/golden/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "harness/core/pattern.h"
#include "harness/golden/golden.h"

namespace assay::harness {
namespace {

void compare_objects(const char* pointer, const nlohmann::ordered_json& a, const nlohmann::ordered_json& b,
                     std::vector<std::string>& lines) {
  for (const auto& [key, value] : a.items()) {
    const auto other = b.find(key);
    if (other == b.end())
      lines.push_back(fmt::format("{}/{}: was {}, is gone", pointer, key, value.dump()));
    else if (*other != value)
      lines.push_back(fmt::format("{}/{}: was {}, is {}", pointer, key, value.dump(), other->dump()));
  }
  for (const auto& [key, value] : b.items())
    if (!a.contains(key)) lines.push_back(fmt::format("{}/{}: {} is new", pointer, key, value.dump()));
}

std::string values_differ(const HostTensor& a, const HostTensor& b) {
  const std::vector<double> x = a.to_double(), y = b.to_double();
  std::size_t count = 0, worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i]) continue;
    if (count++ == 0 || std::fabs(x[i] - y[i]) > std::fabs(x[worst] - y[worst])) worst = i;
  }
  const double size = std::max(rms(x), rms(y)), relative = size > 0 ? rms_difference(x, y) / size : 0;
  return fmt::format("{} of {} values differ, relative L2 {:.3g}; the most at {}: was {:.9g}, is {:.9g}", count,
                     x.size(), relative, axis_position(static_cast<std::int64_t>(worst), a.shape, {}), x[worst],
                     y[worst]);
}

void compare_heads(const Fixture& before, const Fixture& after, std::vector<std::string>& lines) {
  for (const auto& [key, a, b] : {std::tuple{"/name", before.name, after.name},
                                  {"/layer", before.layer, after.layer},
                                  {"/path", before.path, after.path}})
    if (a != b) lines.push_back(fmt::format("{}: was \"{}\", is \"{}\"", key, a, b));
  compare_objects("/config", before.config, after.config, lines);
  compare_objects("/attributes", before.attributes, after.attributes, lines);
}

void compare_tensors(const Fixture& before, const Fixture& after, std::vector<std::string>& lines) {
  for (const HostTensor& t : before.tensors) {
    const HostTensor* other = after.find(t.name);
    const std::string pointer = "/tensors/" + t.name;
    if (!other)
      lines.push_back(pointer + ": is gone");
    else if (other->dtype != t.dtype)
      lines.push_back(fmt::format("{}/dtype: was {}, is {}", pointer, name(t.dtype), name(other->dtype)));
    else if (other->shape != t.shape)
      lines.push_back(fmt::format("{}/shape: was {}, is {}", pointer, to_string(t.shape), to_string(other->shape)));
    else if (other->bytes != t.bytes)
      lines.push_back(pointer + ": " + values_differ(t, *other));
  }
  for (const HostTensor& t : after.tensors)
    if (!before.find(t.name)) lines.push_back("/tensors/" + t.name + ": is new");
}

// Whatever differs in a recipe, by its part.
void compare_recipes(const Recipe& before, const Recipe& after, std::vector<std::string>& lines) {
  if (before.case_line != after.case_line)
    lines.push_back(fmt::format("/recipe/case: was {}, is {}", before.case_line, after.case_line));
  const auto by_name = [&](const char* part, const auto& a, const auto& b, const auto& describe) {
    std::map<std::string, std::string> old, fresh;
    for (const auto& t : a) old[t.name] = describe(t);
    for (const auto& t : b) fresh[t.name] = describe(t);
    for (const auto& [name, text] : old) {
      const std::string pointer = fmt::format("/recipe/{}/{}", part, name);
      if (!fresh.contains(name))
        lines.push_back(pointer + ": is gone");
      else if (fresh[name] != text)
        lines.push_back(fmt::format("{}: was {}, is {}", pointer, text, fresh[name]));
    }
    for (const auto& [name, text] : fresh)
      if (!old.contains(name)) lines.push_back(fmt::format("/recipe/{}/{}: is new", part, name));
  };
  by_name("inputs", before.inputs, after.inputs, [](const RecipeInput& t) {
    return fmt::format("{} {} checksum {:016x}", name(t.dtype), to_string(t.shape), t.checksum);
  });
  by_name("outputs", before.outputs, after.outputs, [](const RecipeOutput& t) {
    return fmt::format("{} {} mean {:.9g}, rms {:.9g}, max {:.9g}, sample {:016x}", name(t.dtype), to_string(t.shape),
                       t.mean, t.rms, t.max_abs, checksum(t.sample));
  });
}

}  // namespace

std::vector<std::string> golden_differences(const GoldenFile& before, const GoldenFile& after) {
  std::vector<std::string> lines;
  if (before.index() != after.index()) return {"one has tensors, the other a recipe"};
  if (const auto* fixture = std::get_if<Fixture>(&before)) {
    compare_heads(*fixture, std::get<Fixture>(after), lines);
    compare_tensors(*fixture, std::get<Fixture>(after), lines);
  } else {
    compare_heads(std::get<Recipe>(before).head, std::get<Recipe>(after).head, lines);
    compare_recipes(std::get<Recipe>(before), std::get<Recipe>(after), lines);
  }
  return lines;
}

}  // namespace assay::harness
