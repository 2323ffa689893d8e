#include "harness/golden/draft.h"

#include <fmt/format.h>

#include <cmath>
#include <stdexcept>

#include "harness/cases/fixture_calls.h"
#include "harness/core/random.h"
#include "harness/io/model_config.h"

namespace assay::harness {
namespace {

constexpr std::uint64_t kSeed = 1;

// Of a parameter by its name: where trained or initialised layers have it.
struct Range {
  double std, mean;
};
Range range_of(const FixtureReader::NamedShape& p) {
  const auto ends = [&](std::string_view end) { return p.name.ends_with(end); };
  if (ends("norm.weight")) return {0.2, 1};
  if (ends("dt_bias")) return {0.7, -1.2};
  if (ends("A_log")) return {0.5, 0};
  if (ends("_fp32_params.D")) return {0.7, 0};
  if (ends("e_score_correction_bias")) return {0.1, 0};
  if (ends("bias")) return {0.1, 0};
  if (ends("embed_tokens.weight")) return {0.5, 0};
  if (ends("conv1d.weight")) return {0.4, 0};
  // [out, in]; the experts' stacks are [E, in, out].
  const Index fan_in = p.shape.size() == 3 ? p.shape[1] : p.shape.back();
  return {1 / std::sqrt(static_cast<double>(fan_in)), 0};
}

}  // namespace

Draft::Draft(const std::string& name, std::string layer, std::string path, reference::NemotronV3Config config,
             DType model)
    : stream_(name), config_(std::move(config)), model_(model) {
  config_.torch_dtype = model == DType::bfloat16 ? reference::ModelDtype::bfloat16 : reference::ModelDtype::float32;
  fixture_.name = fmt::format("{}_{}", name, short_name(model));
  fixture_.file = fixture_.name + ".json";
  fixture_.layer = std::move(layer);
  fixture_.path = std::move(path);
  fixture_.provenance = {
      {"reference", "assay"},
      {"arithmetic",
       model == DType::bfloat16 ? "float32 with bfloat16 roundings where the model rounds" : "float64, rounded once"}};
  fixture_.config = to_json(config_);
  fixture_.attributes = nlohmann::ordered_json::object();
}

HostTensor& Draft::add(const std::string& name, DType dtype, Shape shape) {
  HostTensor t;
  t.name = name;
  t.dtype = dtype;
  t.shape = std::move(shape);
  return fixture_.tensors.emplace_back(std::move(t));
}

Draft& Draft::attribute(const std::string& name, nlohmann::ordered_json value) {
  fixture_.attributes[name] = std::move(value);
  return *this;
}

Draft& Draft::values(const std::string& name, DType dtype, Shape shape, const std::vector<double>& values) {
  HostTensor& t = add(name, dtype, std::move(shape));
  t.bytes.resize(values.size() * size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) t.set(static_cast<Index>(i), values[i]);
  return *this;
}

Draft& Draft::normal_as(const std::string& name, DType dtype, Shape shape, double std, double mean) {
  const Random random(kSeed, stream_ + "/" + name);
  std::vector<double> drawn(static_cast<std::size_t>(element_count(shape)));
  // Through float32: the bfloat16 file holds the float32 one's numbers, rounded.
  for (std::size_t i = 0; i < drawn.size(); ++i) drawn[i] = static_cast<float>(mean + std * random.normal(i));
  return values(name, dtype, std::move(shape), drawn);
}
Draft& Draft::normal(const std::string& name, Shape shape, double std, double mean) {
  return normal_as(name, model_, std::move(shape), std, mean);
}
Draft& Draft::normal_float32(const std::string& name, Shape shape, double std, double mean) {
  return normal_as(name, DType::float32, std::move(shape), std, mean);
}

Draft& Draft::ids(const std::string& name, Shape shape, Index end) {
  const Random random(kSeed, stream_ + "/" + name);
  std::vector<double> drawn(static_cast<std::size_t>(element_count(shape)));
  for (std::size_t i = 0; i < drawn.size(); ++i) drawn[i] = static_cast<double>(random.integer(i, 0, end - 1));
  return values(name, DType::int64, std::move(shape), drawn);
}

Draft& Draft::parameters(const std::vector<FixtureReader::NamedShape>& shapes) {
  for (const auto& p : shapes) {
    const Range range = range_of(p);
    normal_as((p.is_buffer ? "buffer." : "param.") + p.name, p.in_float32 ? DType::float32 : model_, p.shape, range.std,
              range.mean);
  }
  return *this;
}

Draft& Draft::expect(const std::string& name, Shape shape) { return expect(name, model_, std::move(shape)); }
Draft& Draft::expect(const std::string& name, DType dtype, Shape shape) {
  add(name, dtype, std::move(shape));
  return *this;
}

Draft& Draft::expect_gradients_of_parameters() {
  const std::vector<HostTensor> tensors = fixture_.tensors;
  for (const HostTensor& t : tensors)
    if (t.name.starts_with("param.")) add("grad." + t.name.substr(6), t.dtype, t.shape);
  return *this;
}

std::vector<GoldenTensor> record(Fixture& fixture) {
  // A kernel's outputs stand in memory that is there before it runs.
  if (family_of_layer(fixture.layer))
    for (HostTensor& t : fixture.tensors)
      if (!has_values(t)) t.bytes.resize(static_cast<std::size_t>(t.size()) * size_of(t.dtype));
  std::vector<GoldenTensor> judged;
  // What later steps start from is there from the second time on: states of a bfloat16 cache.
  for (int pass = 0; pass < 2; ++pass) {
    judged = golden_layer(fixture).evaluate(fixture).tensors;
    for (GoldenTensor& g : judged)
      for (HostTensor& t : fixture.tensors) {
        if (t.name != g.name) continue;
        const std::vector<double>& own = own_values(g);
        t.bytes.resize(own.size() * size_of(t.dtype));
        for (std::size_t i = 0; i < own.size(); ++i) t.set(static_cast<Index>(i), own[i]);
        g.recorded = t.to_double();
      }
  }
  for (const HostTensor& t : fixture.tensors)
    if (!has_values(t)) throw std::logic_error(fmt::format("{}: {} was not recorded", fixture.name, t.name));
  return judged;
}

}  // namespace assay::harness
