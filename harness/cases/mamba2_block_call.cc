#include "harness/cases/mamba2_block_call.h"

#include <string>

#include "harness/cases/norm_case.h"

namespace assay::harness {
namespace {

constexpr std::string_view kMixer = "mamba2_mixer.", kBlock = "mamba2_block.";
constexpr std::string_view kParameter = "param.", kOfMixer = "param.mixer.", kGradient = "grad.",
                           kGradientOfMixer = "grad.mixer.";

bool is_backward(const Call& call) { return call.op.ends_with(".train_backward"); }

// A gradient of a parameter, as fixtures name it.
bool is_parameter_gradient(std::string_view name) {
  return name.starts_with(kGradient) && !name.starts_with("grad.input.") && !name.starts_with("grad.output.");
}

std::string replaced(const std::string& name, std::string_view prefix, std::string_view by) {
  return std::string(by) + name.substr(prefix.size());
}

// `from` under another name and role.
HostTensor as(const HostTensor& from, const char* name, Role role) {
  HostTensor t = from;
  t.name = name, t.role = role;
  return t;
}

}  // namespace

Call block_call(const Call& mixer, const HostTensor& norm_weight, DType stream) {
  Call call{replaced(mixer.op, kMixer, kBlock), mixer.attributes, {}};
  for (const HostTensor& from : mixer.tensors) {
    HostTensor& t = call.tensors.emplace_back(from);
    if (t.name.starts_with(kParameter)) t.name = replaced(t.name, kParameter, kOfMixer);
    if (is_parameter_gradient(t.name)) t.name = replaced(t.name, kGradient, kGradientOfMixer);
    if (t.dtype != stream && (t.name == "output.hidden_states" || t.name == "grad.output.hidden_states"))
      t = case_tensor(call.op, t.name, stream, t.shape, t.to_double());
  }
  HostTensor weight = norm_weight;
  weight.name = "param.norm.weight", weight.role = Role::in;
  const HostTensor& u = call.tensor("input.hidden_states");
  const DType model = u.dtype;
  const Shape shape = u.shape;
  const auto add = [&](const char* name, const Shape& of) {
    call.tensors.push_back(case_tensor(call.op, name, model, of));
  };
  if (is_backward(call)) {
    add("grad.norm.weight", weight.shape);
    add("tap.d_input_normed", shape);
  } else {
    add("tap.input_normed", shape);
    add("tap.mixed", shape);
  }
  call.tensors.push_back(std::move(weight));
  return call;
}

Call mixer_call(const Call& block) {
  Call call{replaced(block.op, kBlock, kMixer), block.attributes, {}};
  const DType model = block.tensor("input.hidden_states").dtype;
  for (const HostTensor& t : block.tensors) {
    const bool shown = t.role != Role::tap || !t.bytes.empty();
    if (t.name == "tap.input_normed") {
      if (shown) call.tensors.push_back(as(t, "input.hidden_states", Role::in));
    } else if (t.name == "tap.mixed") {
      if (shown) call.tensors.push_back(as(t, "output.hidden_states", Role::out));
    } else if (t.name == "tap.d_input_normed") {
      if (shown) call.tensors.push_back(as(t, "grad.input.hidden_states", Role::out));
    } else if (t.name == "grad.output.hidden_states") {
      call.tensors.push_back(case_tensor(call.op, t.name, model, t.shape, t.to_double()));
    } else if (t.name.starts_with(kOfMixer)) {
      call.tensors.push_back(as(t, replaced(t.name, kOfMixer, kParameter).c_str(), t.role));
    } else if (t.name.starts_with(kGradientOfMixer)) {
      call.tensors.push_back(as(t, replaced(t.name, kGradientOfMixer, kGradient).c_str(), t.role));
    } else if (t.role == Role::tap || t.name == "input.attention_mask" || t.name == "input.seq_idx") {
      call.tensors.push_back(t);
    }
  }
  return call;
}

std::string name_in_block(const std::string& name) {
  if (name == "output.hidden_states") return "tap.mixed";
  if (name == "grad.input.hidden_states") return "tap.d_input_normed";
  return is_parameter_gradient(name) ? replaced(name, kGradient, kGradientOfMixer) : name;
}

}  // namespace assay::harness
