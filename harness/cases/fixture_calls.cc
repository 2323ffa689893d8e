#include "harness/cases/fixture_calls.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "harness/core/catalogue.h"

namespace assay::harness {
namespace {

struct Layer {
  const char *name, *family, *path;
};
constexpr Layer kLayers[] = {{"rms_norm", "rms_norm", "train"},
                             {"mamba_rmsnorm_gated", "gated_rms_norm", "train"},
                             {"ssd_scan", "ssd_scan", "train"},
                             {"ssm_state_update", "ssm_state_update", "decode"}};
const Layer* find_layer(std::string_view name) {
  const auto it = std::find_if(std::begin(kLayers), std::end(kLayers), [&](const Layer& l) { return l.name == name; });
  return it == std::end(kLayers) ? nullptr : it;
}

// Attributes that no call needs: the attribute's value must be this axis's size.
const std::map<std::string, std::string, std::less<>> kSizeAttributes = {{"hidden_size", "width"}};

FixtureError error_at(const Fixture& f, const std::string& pointer, const std::string& text) {
  return FixtureError(fmt::format("{}: {}: {}", f.file.string(), pointer, text));
}

// The fixture as one call sees it: a step's own tensors are "step.N.*", and what all steps share has no prefix. A state
// that a call updates in place is "input.NAME" before the first and "output.NAME" after each.
class Source {
 public:
  Source(const Fixture& fixture, std::set<std::string>& used, std::optional<std::int64_t> step = {})
      : fixture_(fixture), used_(used), step_(step) {}

  std::string step() const { return step_ ? fmt::format("step.{}", *step_) : ""; }

  const HostTensor* before(const TensorSpec& spec) const {
    if (spec.role == Role::inout)
      return find(step_ && *step_ > 0 ? fmt::format("step.{}.output.{}", *step_ - 1, spec.name) : "input." + spec.name);
    const HostTensor* own = step_ ? find(prefix() + spec.name) : nullptr;
    return own ? own : find(spec.name);
  }
  const HostTensor* after(const TensorSpec& spec) const {
    return find(prefix() + (spec.role == Role::inout ? "output." : "") + spec.name);
  }
  FixtureError missing(const TensorSpec& spec, const std::string& why) const {
    const std::string name = spec.role == Role::inout ? "input." + spec.name : spec.name;
    return error_at(fixture_, "/tensors", fmt::format("no \"{}\"; {}", name, why));
  }

 private:
  std::string prefix() const { return step_ ? step() + "." : ""; }
  const HostTensor* find(const std::string& name) const {
    const HostTensor* t = fixture_.find(name);
    if (t) used_.insert(name);
    return t;
  }

  const Fixture& fixture_;
  std::set<std::string>& used_;
  std::optional<std::int64_t> step_;
};

// A tensor's shape as the catalogue's axes. Where the first one is "rows", all leading axes of a fixture's tensor are
// counted in it.
class Axes {
 public:
  explicit Axes(const Fixture& fixture) : fixture_(fixture) {}

  void bind(const TensorSpec& spec, const HostTensor& t) {
    const std::string pointer = "/tensors/" + t.name + "/shape";
    const bool other = !spec.or_axes.empty() && t.shape.size() == spec.or_axes.size();
    const std::vector<std::string>& axes = other ? spec.or_axes : spec.axes;
    const bool rows = axes.front() == "rows";
    if (t.shape.size() < axes.size() || (!rows && t.shape.size() > axes.size()))
      throw error_at(fixture_, pointer, fmt::format("{}; want [{}]", to_string(t.shape), fmt::join(axes, ", ")));
    const std::size_t lead = t.shape.size() - axes.size();
    for (std::size_t i = 0; i < axes.size(); ++i) {
      std::int64_t size = t.shape[lead + i];
      if (i == 0)
        for (std::size_t k = 0; k < lead; ++k) size *= t.shape[k];
      const auto [known, fresh] = sizes_.try_emplace(axes[i], size, t.name);
      if (!fresh && known->second.first != size)
        throw error_at(fixture_, pointer,
                       fmt::format("{}: {} = {}, but {} has {} = {}", to_string(t.shape), axes[i], size,
                                   known->second.second, axes[i], known->second.first));
    }
  }

  bool has(const std::string& axis) const { return sizes_.count(axis) > 0; }
  std::int64_t size(const std::string& axis) const { return sizes_.at(axis).first; }

  // Throws unless `divisor`, as `pointer` has it, divides the axis.
  void require_divisor(const std::string& pointer, std::int64_t divisor, const std::string& axis) const {
    if (divisor < 1 || size(axis) % divisor != 0)
      throw error_at(fixture_, pointer,
                     fmt::format("{}; want a whole number that divides {} = {}", divisor, axis, size(axis)));
  }

 private:
  const Fixture& fixture_;
  std::map<std::string, std::pair<std::int64_t, std::string>> sizes_;
};

void check_values(const Fixture& f, const TensorSpec& spec, const HostTensor& t, DType model) {
  const std::string pointer = "/tensors/" + t.name;
  const auto is = [&](std::initializer_list<DType> dtypes) {
    return std::find(dtypes.begin(), dtypes.end(), t.dtype) != dtypes.end();
  };
  const auto require = [&](bool fits, const std::string& wanted) {
    if (!fits) throw error_at(f, pointer + "/dtype", fmt::format("{}; {}", name(t.dtype), wanted));
  };
  switch (spec.dtype) {
    case DTypeRule::model:
      require(t.dtype == model, fmt::format("the model's dtype is {}", name(model)));
      break;
    case DTypeRule::residual:
      require(is({model, DType::float32}), fmt::format("the model's dtype is {}", name(model)));
      break;
    case DTypeRule::either:
      require(is({DType::float32, DType::bfloat16}), "want float32 or bfloat16");
      break;
    case DTypeRule::float32:
      require(is({DType::float32}), "want float32");
      break;
    default:
      require(!is_floating(t.dtype), "want whole numbers");
  }
  if (!is_floating(t.dtype) || spec.infinities) return;
  for (std::int64_t i = 0; i < t.size(); ++i)
    if (!std::isfinite(t.at(i)))
      throw error_at(f, fmt::format("{}/data/{}", pointer, i), "not finite; want a finite number");
}

// Whole numbers of any width as the call's int32.
HostTensor as_int32(const Fixture& f, const HostTensor& t) {
  HostTensor result = make_tensor(t.name, t.role, DType::int32, t.shape);
  for (std::int64_t i = 0; i < t.size(); ++i) {
    if (!(std::fabs(t.at(i)) < 0x1p31))
      throw error_at(f, fmt::format("/tensors/{}/data/{}", t.name, i), fmt::format("{}; want an int32", t.at(i)));
    result.set(i, t.at(i));
  }
  return result;
}

// dt_min and dt_max of a call are one attribute of a fixture, [low, high], high perhaps "inf"; absent: no limits.
double dt_limit(const Fixture& f, bool high) {
  const auto limit = f.attributes.find("dt_limit");
  if (limit == f.attributes.end()) return high ? HUGE_VAL : 0;
  const auto fail = [&] {
    return error_at(f, "/attributes/dt_limit", limit->dump() + "; want [low, high], the high one perhaps \"inf\"");
  };
  if (!limit->is_array() || limit->size() != 2) throw fail();
  const auto& bound = (*limit)[high ? 1 : 0];
  if (high && bound == "inf") return HUGE_VAL;
  if (!bound.is_number()) throw fail();
  return bound.get<double>();
}

Attributes call_attributes(const Fixture& f, const OperationSpec& op) {
  Attributes result;
  for (const AttributeSpec& spec : op.attributes) {
    const std::string pointer = "/attributes/" + spec.name;
    if (spec.name == "dt_min" || spec.name == "dt_max") {
      result.emplace_back(spec.name, dt_limit(f, spec.name == "dt_max"));
      continue;
    }
    const auto it = f.attributes.find(spec.name);
    if (it == f.attributes.end()) throw error_at(f, pointer, "missing; " + spec.meaning);
    if (spec.kind == "flag" && it->is_boolean())
      result.emplace_back(spec.name, std::int64_t{it->get<bool>()});
    else if (spec.kind == "int" && it->is_number_integer())
      result.emplace_back(spec.name, it->get<std::int64_t>());
    else if (spec.kind == "float" && it->is_number())
      result.emplace_back(spec.name, it->get<double>());
    else if (spec.kind == "string" && it->is_string())
      result.emplace_back(spec.name, it->get<std::string>());
    else
      throw error_at(
          f, pointer,
          fmt::format("{}; want {} ({})", it->dump(), spec.kind == "flag" ? "true or false" : spec.kind, spec.meaning));
  }
  return result;
}

class Reader {
 public:
  explicit Reader(const Fixture& fixture, const OperationSpec& forward)
      : f_(fixture), axes_(fixture), forward_(forward) {}

  FixtureCall call(const OperationSpec& op, const Source& source) {
    FixtureCall fc;
    fc.call.op = op.name;
    fc.call.attributes = call_attributes(f_, op);
    fc.step = source.step();
    fc.follows = &op != &forward_;
    // With a residual added the sum is an output, and the backward pass starts from it.
    const bool starts_from_sum = fc.follows && f_.find("input.residual");
    for (const TensorSpec& spec : op.tensors) {
      if (spec.role == Role::saved) {
        fc.call.tensors.push_back(
            {.name = spec.name, .role = Role::saved, .dtype = DType::uint8, .shape = {}, .strides = {}, .bytes = {}});
        continue;
      }
      const HostTensor* in = spec.role == Role::out ? nullptr : source.before(spec);
      const HostTensor* out = spec.role == Role::in ? nullptr : source.after(spec);
      for (const HostTensor* t : {in, out})
        if (t) axes_.bind(spec, *t), check_values(f_, spec, *t, model(source));
      if (starts_from_sum && spec.name == "input.hidden_states") continue;
      if (!in && !out && (spec.optional || spec.role == Role::tap)) continue;
      if (!in && spec.role != Role::out) throw source.missing(spec, op.name + " reads it");
      if (!out && spec.role != Role::in) throw source.missing(spec, op.name + " writes it");
      add(fc, spec, in, out);
    }
    return fc;
  }

  const Axes& axes() const { return axes_; }
  DType model(const Source& source) const {
    const TensorSpec& first = forward_.tensors.front();
    const HostTensor* t = source.before(first);
    if (!t) throw source.missing(first, forward_.name + " reads it");
    if (t->dtype != DType::float32 && t->dtype != DType::bfloat16)
      throw error_at(f_, "/tensors/" + t->name + "/dtype", fmt::format("{}; want float32 or bfloat16", name(t->dtype)));
    return t->dtype;
  }

 private:
  void add(FixtureCall& fc, const TensorSpec& spec, const HostTensor* in, const HostTensor* out) const {
    const auto named = [&](HostTensor t) {
      t.name = spec.name;
      t.role = spec.role;
      return t;
    };
    if (out) fc.recorded.push_back(named(*out));
    HostTensor tensor = in && spec.dtype == DTypeRule::int32 ? as_int32(f_, *in) : in ? *in : *out;
    if (spec.role == Role::out) std::fill(tensor.bytes.begin(), tensor.bytes.end(), std::byte{0});
    if (spec.role == Role::in && spec.name.starts_with("output.")) tensor.bytes.clear();  // the candidate's own
    fc.call.tensors.push_back(named(std::move(tensor)));
  }

  const Fixture& f_;
  Axes axes_;
  const OperationSpec& forward_;
};

const OperationSpec* find_operation(const std::string& name) {
  const auto& all = catalogue();
  const auto it = std::find_if(all.begin(), all.end(), [&](const OperationSpec& op) { return op.name == name; });
  return it == all.end() ? nullptr : &*it;
}

std::int64_t step_count(const Fixture& f) {
  const auto steps = f.attributes.find("steps");
  if (steps == f.attributes.end() || !steps->is_number_integer() || steps->get<std::int64_t>() < 1 ||
      steps->get<std::int64_t>() > static_cast<std::int64_t>(f.tensors.size()))
    throw error_at(f, "/attributes/steps",
                   fmt::format("{}; want how many steps there are tensors of",
                               steps == f.attributes.end() ? "missing" : steps->dump()));
  return steps->get<std::int64_t>();
}

void check_attributes(const Fixture& f, const OperationSpec& forward, const Axes& axes, bool has_steps) {
  for (const auto& [key, value] : f.attributes.items()) {
    const auto known = [&](const AttributeSpec& a) {
      return a.name == key || (key == "dt_limit" && a.name == "dt_min");
    };
    if (const auto size = kSizeAttributes.find(key); size != kSizeAttributes.end() && axes.has(size->second)) {
      if (value != axes.size(size->second))
        throw error_at(
            f, "/attributes/" + key,
            fmt::format("{}; the tensors have {} = {}", value.dump(), size->second, axes.size(size->second)));
    } else if (!(has_steps && key == "steps") &&
               std::none_of(forward.attributes.begin(), forward.attributes.end(), known)) {
      throw error_at(f, "/attributes/" + key, fmt::format("unknown; {} has no such attribute", forward.family()));
    }
  }
}

// Boundaries of documents in a row, and as many states as documents.
void check_documents(const Fixture& f, const HostTensor& cu_seqlens, const Axes& axes) {
  const std::string pointer = "/tensors/" + cu_seqlens.name;
  for (std::int64_t i = 0; i < cu_seqlens.size(); ++i) {
    const double least = i == 0 ? 0 : cu_seqlens.at(i - 1);
    const double most = i == 0 ? 0 : static_cast<double>(axes.size("seq_len"));
    if (cu_seqlens.at(i) < least || cu_seqlens.at(i) > most)
      throw error_at(f, fmt::format("{}/data/{}", pointer, i),
                     fmt::format("{}; want {} .. {}", cu_seqlens.at(i), least, most));
  }
  if (cu_seqlens.size() == 0 || (axes.has("documents") && axes.size("documents") != cu_seqlens.size() - 1))
    throw error_at(
        f, pointer + "/shape",
        fmt::format("{}; want one number more than output.varlen_states has states", to_string(cu_seqlens.shape)));
}

// What no candidate need check and no limit could bear.
void check_call(const Fixture& f, const Call& call, const Axes& axes) {
  if (axes.has("heads") && axes.has("groups"))
    axes.require_divisor("/tensors/input.B/shape", axes.size("groups"), "heads");
  for (const auto& [name, value] : call.attributes) {
    const std::string pointer = "/attributes/" + name;
    if (name == "group_size") axes.require_divisor(pointer, std::get<std::int64_t>(value), "width");
    if (name == "eps" && !(std::get<double>(value) > 0 && std::isfinite(std::get<double>(value))))
      throw error_at(f, pointer, fmt::format("{}; want a number above 0", std::get<double>(value)));
    if (name == "chunk_size" && std::get<std::int64_t>(value) < 1)
      throw error_at(f, pointer, fmt::format("{}; want at least 1", std::get<std::int64_t>(value)));
    if (name == "dt_max" && !(0 <= call.number("dt_min") && call.number("dt_min") <= call.number("dt_max")))
      throw error_at(f, "/attributes/dt_limit", "want 0 <= low <= high");
  }
  if (const HostTensor* cu_seqlens = call.find("input.cu_seqlens"))
    check_documents(f, *cu_seqlens, axes);
  else if (call.find("output.varlen_states"))
    throw error_at(f, "/tensors", "no \"input.cu_seqlens\" beside output.varlen_states");
  if (!axes.has("cache_rows")) return;
  const HostTensor* rows = call.find("input.state_batch_indices");
  if (!rows) {
    if (axes.size("cache_rows") != axes.size("batch"))
      throw error_at(f, "/tensors/input.state/shape",
                     fmt::format("{} rows for a batch of {}; want as many, or input.state_batch_indices",
                                 axes.size("cache_rows"), axes.size("batch")));
    return;
  }
  std::set<double> taken;
  for (std::int64_t i = 0; i < rows->size(); ++i) {
    const double row = rows->at(i);
    if (row >= 0 && (row >= static_cast<double>(axes.size("cache_rows")) || !taken.insert(row).second))
      throw error_at(f, fmt::format("/tensors/input.state_batch_indices/data/{}", i),
                     fmt::format("{}; want a row of the state that no other has, or below 0 for padding", row));
  }
}

bool is_gradient(const std::string& tensor) {
  return tensor.starts_with("grad.") && !tensor.starts_with("grad.output.");
}

}  // namespace

const Family* family_of_layer(std::string_view layer) {
  const Layer* known = find_layer(layer);
  return known ? &family(known->family) : nullptr;
}

FixtureCalls fixture_calls(const Fixture& f) {
  const Layer* layer = find_layer(f.layer);
  if (!layer) throw error_at(f, "/layer", fmt::format("\"{}\" has no kernel in the catalogue", f.layer));
  if (f.path != layer->path)
    throw error_at(f, "/path", fmt::format("\"{}\"; a fixture of {} has path \"{}\"", f.path, f.layer, layer->path));
  const std::string family = layer->family, backward_name = family + ".backward";
  const OperationSpec& forward = operation(family + ".forward");
  const OperationSpec* backward = find_operation(backward_name);
  const bool has_steps = f.path == "decode";

  FixtureCalls result;
  std::set<std::string> used;
  Reader reader(f, forward);
  for (std::int64_t step = 0; step < (has_steps ? step_count(f) : 1); ++step)
    result.calls.push_back(reader.call(forward, has_steps ? Source(f, used, step) : Source(f, used)));
  if (std::any_of(f.tensors.begin(), f.tensors.end(), [](const HostTensor& t) { return is_gradient(t.name); })) {
    if (backward)
      result.calls.push_back(reader.call(*backward, Source(f, used)));
    else
      result.missing = backward_name;
  }
  for (const HostTensor& t : f.tensors) {
    const bool known = used.count(t.name) > 0;
    // An incoming gradient may stand alone, and without an operation for gradients they are the reference's.
    const bool left_out = t.name.starts_with("grad.") && (!backward || !is_gradient(t.name));
    if (!known && !left_out)
      throw error_at(f, "/tensors/" + t.name, fmt::format("unknown; {} has no such tensor", family));
  }
  check_attributes(f, forward, reader.axes(), has_steps);
  for (const FixtureCall& fc : result.calls) check_call(f, fc.call, reader.axes());
  return result;
}

}  // namespace assay::harness
