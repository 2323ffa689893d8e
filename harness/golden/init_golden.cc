// Initialisation: every parameter after construction and after initialize_weights, bit for bit; and the flags.
#include <fmt/format.h>

#include <cmath>
#include <set>

#include "harness/golden/model_golden.h"
#include "reference/init/initialize.h"
#include "reference/init/mt19937.h"

namespace assay::harness {
namespace {

// dt_bias passes through exp, log and expm1 of another library.
constexpr double kDtBiasUlps = 2;

DType dtype_of(reference::ModelDtype dtype) {
  return dtype == reference::ModelDtype::bfloat16 ? DType::bfloat16 : DType::float32;
}

void judge_stage(FixtureReader& in, const std::string& stage, const reference::ModelTensors& tensors,
                 GoldenEvaluation& result) {
  for (const HostTensor& recorded : in.fixture().tensors) {
    if (!recorded.name.starts_with(stage)) continue;
    const auto found = tensors.find(recorded.name.substr(stage.size()));
    const std::string pointer = "/tensors/" + recorded.name;
    if (found == tensors.end()) in.fail(pointer, "unknown; the config's model has no such parameter");
    const reference::ModelTensor& t = found->second;
    in.require(recorded.name, Dtypes::any, Shape(t.values.shape().begin(), t.values.shape().end()));
    if (recorded.dtype != dtype_of(t.dtype))
      in.fail(pointer + "/dtype", fmt::format("{}; want {}", name(recorded.dtype), name(dtype_of(t.dtype))));
    GoldenTensor g{.name = recorded.name, .dtype = recorded.dtype, .shape = recorded.shape, .exact = true};
    g.oracle.assign(t.values.span().begin(), t.values.span().end());
    g.matched = g.oracle;
    g.recorded = values_or(recorded, g.oracle);
    if (!g.oracle.empty() && std::isnan(g.oracle[0]))
      in.fail(pointer, "uninitialised memory after construction; want no such tensor");
    g.exact_ulps = recorded.name.ends_with("dt_bias") ? kDtBiasUlps : 0;
    result.tensors.push_back(std::move(g));
  }
}

void check_flags(FixtureReader& in, const std::string& attribute, const reference::ModelTensors& tensors,
                 bool reference::ParameterFlags::*flag) {
  const auto* recorded = in.attribute(attribute);
  if (!recorded) return;
  std::set<std::string> wanted, found;
  for (const auto& [name, tensor] : tensors)
    if (tensor.flags.*flag) wanted.insert(name);
  const std::string pointer = "/attributes/" + attribute;
  if (!recorded->is_array()) in.fail(pointer, recorded->dump() + "; want a list of parameters");
  for (const auto& name : *recorded) {
    if (!name.is_string()) in.fail(pointer, recorded->dump() + "; want a list of parameters");
    found.insert(name.get<std::string>());
  }
  if (found != wanted)
    in.fail(pointer, fmt::format("[{}]; want [{}]", fmt::join(found, ", "), fmt::join(wanted, ", ")));
}

}  // namespace

GoldenEvaluation evaluate_model_init(const Fixture& fixture) {
  FixtureReader in(fixture);
  const reference::NemotronV3Config config = in.config();
  const Index seed = in.integer("seed", 0, INT64_MAX);
  if (const auto* device = in.attribute("generator"); device && *device != "cpu")
    in.fail("/attributes/generator", device->dump() + "; want \"cpu\"");
  return with_file_named(in, [&] {
    GoldenEvaluation result;
    reference::CpuGenerator generator(static_cast<std::uint64_t>(seed));
    reference::ModelTensors tensors = reference::construct(config, generator);
    judge_stage(in, "constructor.", tensors, result);
    reference::initialize_weights(tensors, config, generator);
    judge_stage(in, "init.", tensors, result);
    check_flags(in, "no_weight_decay", tensors, &reference::ParameterFlags::no_weight_decay);
    check_flags(in, "no_reinit", tensors, &reference::ParameterFlags::no_reinit);
    in.finish();
    return result;
  });
}

}  // namespace assay::harness
