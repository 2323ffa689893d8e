#include "harness/cases/fixture_calls.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "harness/core/catalogue.h"

namespace assay::harness {
namespace {

const std::map<std::string, std::string, std::less<>> kLayers = {{"rms_norm", "rms_norm"},
                                                                 {"mamba_rmsnorm_gated", "gated_rms_norm"}};
// Attributes that a fixture may carry and no call needs: axis = the attribute's value must be this axis's size.
const std::map<std::string, std::string, std::less<>> kSizeAttributes = {{"hidden_size", "width"}};

FixtureError error_at(const Fixture& f, const std::string& pointer, const std::string& text) {
  return FixtureError(fmt::format("{}: {}: {}", f.file.string(), pointer, text));
}

// A tensor's shape as the catalogue's axes: the leading axes of a fixture's tensor count as the first one.
class Axes {
 public:
  explicit Axes(const Fixture& fixture) : fixture_(fixture) {}
  void bind(const TensorSpec& spec, const HostTensor& t) {
    const std::string pointer = "/tensors/" + t.name;
    if (t.shape.size() < spec.axes.size())
      throw error_at(fixture_, pointer + "/shape",
                     fmt::format("{}; want [{}]", to_string(t.shape), fmt::join(spec.axes, ", ")));
    const std::size_t lead = t.shape.size() - spec.axes.size();
    for (std::size_t i = 0; i < spec.axes.size(); ++i) {
      std::int64_t size = t.shape[lead + i];
      if (i == 0)
        for (std::size_t k = 0; k < lead; ++k) size *= t.shape[k];
      const auto [known, fresh] = sizes_.try_emplace(spec.axes[i], size, t.name);
      if (!fresh && known->second.first != size)
        throw error_at(fixture_, pointer + "/shape",
                       fmt::format("{}: {} = {}, but {} has {} = {}", to_string(t.shape), spec.axes[i], size,
                                   known->second.second, spec.axes[i], known->second.first));
    }
  }
  std::int64_t size(const std::string& axis) const { return sizes_.at(axis).first; }

 private:
  const Fixture& fixture_;
  std::map<std::string, std::pair<std::int64_t, std::string>> sizes_;
};

void check_values(const Fixture& f, const TensorSpec& spec, const HostTensor& t, DType model) {
  const std::string pointer = "/tensors/" + t.name;
  const bool fits = spec.dtype == DTypeRule::model      ? t.dtype == model
                    : spec.dtype == DTypeRule::residual ? t.dtype == model || t.dtype == DType::float32
                                                        : true;
  if (!fits)
    throw error_at(f, pointer + "/dtype", fmt::format("{}; the model's dtype is {}", name(t.dtype), name(model)));
  if (!is_floating(t.dtype) || spec.infinities) return;
  for (std::int64_t i = 0; i < t.size(); ++i)
    if (!std::isfinite(t.at(i)))
      throw error_at(f, fmt::format("{}/data/{}", pointer, i), "not finite; want a finite number");
}

Attributes call_attributes(const Fixture& f, const OperationSpec& op) {
  Attributes result;
  for (const AttributeSpec& spec : op.attributes) {
    const std::string pointer = "/attributes/" + spec.name;
    const auto it = f.attributes.find(spec.name);
    if (it == f.attributes.end()) throw error_at(f, pointer, "missing; " + spec.meaning);
    if (spec.kind == "int" && it->is_number_integer())
      result.emplace_back(spec.name, it->get<std::int64_t>());
    else if (spec.kind == "float" && it->is_number())
      result.emplace_back(spec.name, it->get<double>());
    else if (spec.kind == "string" && it->is_string())
      result.emplace_back(spec.name, it->get<std::string>());
    else
      throw error_at(f, pointer, fmt::format("{}; want {} ({})", it->dump(), spec.kind, spec.meaning));
  }
  return result;
}

bool is_saved(const TensorSpec& t) { return t.role == Role::saved; }

}  // namespace

const Family* family_of_layer(std::string_view layer) {
  const auto it = kLayers.find(layer);
  return it == kLayers.end() ? nullptr : &family(it->second);
}

std::vector<FixtureCall> fixture_calls(const Fixture& f) {
  const Family* fam = family_of_layer(f.layer);
  if (!fam) throw error_at(f, "/layer", fmt::format("\"{}\" has no kernel in the catalogue", f.layer));
  if (f.path != "train")
    throw error_at(f, "/path", fmt::format("\"{}\"; a fixture of {} has path \"train\"", f.path, f.layer));
  const OperationSpec& forward = operation(fam->name + ".forward");
  const OperationSpec& backward = operation(fam->name + ".backward");
  for (const HostTensor& t : f.tensors)
    if (!forward.find(t.name) && !backward.find(t.name))
      throw error_at(f, "/tensors/" + t.name, fmt::format("unknown; {} has no such tensor", fam->name));
  const DType model = f.tensor("input.hidden_states").dtype;
  if (model != DType::float32 && model != DType::bfloat16)
    throw error_at(f, "/tensors/input.hidden_states/dtype", fmt::format("{}; want float32 or bfloat16", name(model)));

  Axes axes(f);
  for (const OperationSpec* op : {&forward, &backward})
    for (const TensorSpec& spec : op->tensors)
      if (const HostTensor* t = f.find(spec.name)) axes.bind(spec, *t), check_values(f, spec, *t, model);
  for (const auto& [key, value] : f.attributes.items()) {
    const auto known = [&](const AttributeSpec& a) { return a.name == key; };
    if (const auto size = kSizeAttributes.find(key); size != kSizeAttributes.end()) {
      if (value != axes.size(size->second))
        throw error_at(
            f, "/attributes/" + key,
            fmt::format("{}; the tensors have {} = {}", value.dump(), size->second, axes.size(size->second)));
    } else if (std::none_of(forward.attributes.begin(), forward.attributes.end(), known)) {
      throw error_at(f, "/attributes/" + key, fmt::format("unknown; {} has no such attribute", fam->name));
    }
  }

  // With a residual added the sum is an output, and the backward pass starts from it.
  const bool residual = f.find("input.residual") != nullptr;
  const bool has_gradients =
      std::any_of(f.tensors.begin(), f.tensors.end(), [](const HostTensor& t) { return t.name.starts_with("grad."); });
  std::vector<FixtureCall> result;
  for (const OperationSpec* op : {&forward, &backward}) {
    if (op == &backward && !has_gradients) break;
    FixtureCall fc;
    fc.call.op = op->name;
    fc.call.attributes = call_attributes(f, *op);
    for (const TensorSpec& spec : op->tensors) {
      if (is_saved(spec)) {
        fc.call.tensors.push_back(
            {.name = spec.name, .role = Role::saved, .dtype = DType::uint8, .shape = {}, .strides = {}, .bytes = {}});
        continue;
      }
      const HostTensor* t = f.find(spec.name);
      if (op == &backward && spec.name == "input.hidden_states" && residual) continue;
      if (!t) {
        if (spec.optional || spec.role == Role::tap) continue;
        if (spec.role == Role::in) (void)f.tensor(spec.name);  // throws
        throw error_at(f, "/tensors", fmt::format("no \"{}\"; {} writes it", spec.name, op->name));
      }
      HostTensor tensor = *t;
      tensor.role = spec.role;
      if (spec.role != Role::in) {
        fc.recorded.push_back(tensor);
        std::fill(tensor.bytes.begin(), tensor.bytes.end(), std::byte{0});
      } else if (spec.name.starts_with("output.")) {
        tensor.bytes.clear();  // the candidate's own: linked from the forward call
      }
      fc.call.tensors.push_back(std::move(tensor));
    }
    result.push_back(std::move(fc));
  }
  if (const auto* group = f.attributes.contains("group_size") ? &f.attributes["group_size"] : nullptr) {
    const std::int64_t width = axes.size("width");
    if (!group->is_number_integer() || group->get<std::int64_t>() < 1 || width % group->get<std::int64_t>() != 0)
      throw error_at(f, "/attributes/group_size",
                     fmt::format("{}; want a whole number that divides width = {}", group->dump(), width));
  }
  if (const double eps = f.attributes.at("eps").get<double>(); !(eps > 0) || !std::isfinite(eps))
    throw error_at(f, "/attributes/eps", fmt::format("{}; want a number above 0", eps));
  return result;
}

}  // namespace assay::harness
