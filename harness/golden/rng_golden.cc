// PyTorch's CPU generator alone: one seeding, then every tensor of the file in its order, bit for bit.
#include <fmt/format.h>

#include <map>

#include "harness/golden/layers.h"
#include "reference/init/mt19937.h"

namespace assay::harness {
namespace {

using reference::ModelDtype;

// What uniform_(low, high) or normal_(mean, std) was called with. A file may name it in attributes/arguments; those
// that were recorded from upstream say it by their names.
std::pair<double, double> arguments_of(FixtureReader& in, const std::string& tensor) {
  static const std::map<std::string, std::pair<double, double>, std::less<>> kRecorded = {
      {"uniform_range", {-0.25, 0.25}}, {"uniform_bf16", {-0.25, 0.25}}, {"normal_bf16_large", {0, 0.02}}};
  const std::string pointer = "/attributes/arguments/" + tensor;
  if (const auto* all = in.attribute("arguments"); all && all->contains(tensor)) {
    const auto& pair = all->at(tensor);
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number() || !pair[1].is_number())
      in.fail(pointer, "no pair of numbers; want [low, high] or [mean, std]");
    return {pair[0].get<double>(), pair[1].get<double>()};
  }
  const auto found = kRecorded.find(tensor);
  return found == kRecorded.end() ? std::pair(0.0, 1.0) : found->second;
}

}  // namespace

GoldenEvaluation evaluate_rng_fixture(const Fixture& fixture) {
  FixtureReader in(fixture);
  require_path(in, {"init"});
  const Index seed = in.integer("seed", 0, INT64_MAX);
  if (const auto* device = in.attribute("generator"); device && *device != "cpu")
    in.fail("/attributes/generator", device->dump() + "; want \"cpu\"");
  if (const auto* order = in.attribute("order"); order && *order != "as listed")
    in.fail("/attributes/order", order->dump() + "; want \"as listed\"");
  reference::CpuGenerator generator(static_cast<std::uint64_t>(seed));
  GoldenEvaluation result;
  for (const HostTensor& t : fixture.tensors) {
    in.require(t.name, Dtypes::any, Shape(t.shape.size(), kAny));
    const bool is_uniform = t.name.starts_with("uniform");
    if (!is_uniform && !t.name.starts_with("normal"))
      in.fail("/tensors/" + t.name, "neither uniform nor normal; want a name that begins with one of them");
    if (t.dtype != DType::float32 && t.dtype != DType::bfloat16 && t.dtype != DType::float64)
      in.fail("/tensors/" + t.name + "/dtype", fmt::format("{}; want float32, bfloat16 or float64", name(t.dtype)));
    const auto [a, b] = arguments_of(in, t.name);
    std::vector<double> drawn(static_cast<std::size_t>(t.size()));
    if (t.dtype == DType::float64) {
      is_uniform ? generator.uniform(drawn, a, b) : generator.normal(drawn, a, b);
    } else {
      std::vector<float> values(drawn.size());
      const ModelDtype dtype = t.dtype == DType::bfloat16 ? ModelDtype::bfloat16 : ModelDtype::float32;
      is_uniform ? generator.uniform(values, dtype, a, b) : generator.normal(values, dtype, a, b);
      drawn.assign(values.begin(), values.end());
    }
    GoldenTensor g{.name = t.name, .dtype = t.dtype, .shape = t.shape, .exact = true};
    g.oracle = g.matched = std::move(drawn);
    g.recorded = values_or(t, g.oracle);
    result.tensors.push_back(std::move(g));
  }
  in.finish();
  return result;
}

}  // namespace assay::harness
