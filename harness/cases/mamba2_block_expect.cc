// Freedom of the whole: as the mixer's (mamba2_mixer_end_to_end.cc). The norm in front and the sum behind move what
// goes into the mixer and what comes out of it.
#include "harness/cases/mamba2_block_expect.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "harness/cases/float_errors.h"
#include "harness/cases/mamba2_block_call.h"
#include "harness/cases/mamba2_mixer_end_to_end.h"
#include "harness/cases/mamba2_mixer_expect.h"
#include "harness/cases/norm_case.h"
#include "reference/block.h"
#include "reference/rms_norm.h"

namespace assay::harness {
namespace {

using reference::Tensor;

bool is_backward(const Call& call) { return call.op == "mamba2_block.train_backward"; }
bool shown(const Call& call, const char* tap) { return call.find(tap) && !call.tensor(tap).bytes.empty(); }

// An expectation of a step under the block's name.
Expectation as_the_blocks(Expectation e, const Call& call, const std::string& name) {
  const Expectation block = expectation_of(call, name, false);
  e.tensor = name, e.shape = block.shape, e.axes = block.axes;
  return e;
}

Shape rows_of(const HostTensor& t) { return {element_count({t.shape.begin(), t.shape.end() - 1}), t.shape.back()}; }
HostTensor renamed(const HostTensor& from, const char* name, Shape shape) {
  HostTensor t = from;
  t.name = name, t.shape = std::move(shape);
  return t;
}

// input_normed = norm(hidden_states)
Expectation norm(const Call& call, const assay_contract& contract) {
  const HostTensor& u = call.tensor("input.hidden_states");
  Call step{"rms_norm.forward", {{"eps", call.number("eps")}}, {}};
  step.tensors.push_back(renamed(u, "input.hidden_states", rows_of(u)));
  step.tensors.push_back(call.tensor("param.norm.weight"));
  step.tensors.back().name = "param.weight";
  step.tensors.push_back(unwritten_tensor(step.op, "output.hidden_states", u.dtype, rows_of(u)));
  Expectation e = std::move(family("rms_norm").expect(step, contract, false).front());
  e.tensor = "tap.input_normed";
  return e;
}

// hidden_states + mixed, rounded to the stream's dtype once.
Expectation sum(const Call& call) {
  Expectation e = expectation_of(call, "output.hidden_states", false);
  const HostTensor &u = call.tensor("input.hidden_states"), &mixed = call.tensor("tap.mixed");
  for (std::int64_t i = 0; i < u.size(); ++i) {
    e.oracle.push_back(u.at(i) + mixed.at(i));
    e.matched.push_back(round_to(e.dtype, static_cast<float>(u.at(i)) + static_cast<float>(mixed.at(i))));
    // The float sum is rounded once more where the stream is narrower.
    e.limit.push_back(with_rounding(true, e.dtype, e.oracle.back(),
                                    e.dtype == DType::float32 ? 0 : kUnit * std::fabs(e.oracle.back())));
  }
  e.freedom.assign(e.oracle.size(), 0);
  return e;
}

// The norm's backward; the gradient that passes the mixer by is added before the rounding.
std::vector<Expectation> norm_backward(const Call& call, const HostTensor& d_mixed, const assay_contract& contract) {
  const HostTensor &u = call.tensor("input.hidden_states"), &weight = call.tensor("param.norm.weight");
  Call step{"rms_norm.backward", {{"eps", call.number("eps")}}, {}};
  step.tensors.push_back(renamed(u, "output.residual", rows_of(u)));
  step.tensors.push_back(renamed(weight, "param.weight", weight.shape));
  step.tensors.push_back(renamed(call.tensor("tap.d_input_normed"), "grad.output.hidden_states", rows_of(u)));
  step.tensors.push_back(renamed(d_mixed, "grad.output.residual", rows_of(u)));
  step.tensors.push_back(unwritten_tensor(step.op, "grad.input.hidden_states", u.dtype, rows_of(u)));
  step.tensors.push_back(unwritten_tensor(step.op, "grad.weight", u.dtype, weight.shape));
  std::vector<Expectation> result;
  for (Expectation& e : family("rms_norm").expect(step, contract, false))
    result.push_back(
        as_the_blocks(std::move(e), call, e.tensor == "grad.weight" ? "grad.norm.weight" : "grad.input.hidden_states"));
  return result;
}

const Expectation* find(const std::vector<Expectation>& all, const std::string& tensor) {
  const auto it = std::find_if(all.begin(), all.end(), [&](const Expectation& e) { return e.tensor == tensor; });
  return it == all.end() ? nullptr : &*it;
}

template <class T>
LayerResults<T> evaluate(const reference::Numerics<T>& num, const Call& call,
                         const reference::NemotronV3Config& config) {
  constexpr std::string_view kParam = "param.";
  reference::Parameters<T> p;
  for (const HostTensor& t : call.tensors)
    if (t.name.starts_with(kParam)) p.set(t.name.substr(kParam.size()), to_reference<T>(t));
  reference::MixerInputs<T> inputs;
  if (const HostTensor* m = call.find("input.attention_mask")) {
    inputs.mamba_mask.emplace(m->shape);
    for (std::int64_t i = 0; i < m->size(); ++i) (*inputs.mamba_mask)[i] = m->at(i) != 0;
  }
  if (const HostTensor* s = call.find("input.seq_idx")) {
    inputs.seq_idx.emplace(s->shape);
    for (std::int64_t i = 0; i < s->size(); ++i) (*inputs.seq_idx)[i] = static_cast<std::int32_t>(s->at(i));
  }
  reference::BlockSaved<T> saved;
  const auto type = reference::BlockType::mamba;
  Tensor<T> out = reference::block_forward<T>(num, config, {}, type, p,
                                              to_reference<T>(call.tensor("input.hidden_states")), inputs, &saved);
  LayerResults<T> results;
  if (!is_backward(call)) {
    results.emplace_back("output.hidden_states", std::move(out));
    return results;
  }
  reference::Parameters<T> d_p;
  results.emplace_back(
      "grad.input.hidden_states",
      reference::block_backward<T>(num, config, {}, type, p, inputs, saved,
                                   to_reference<T>(call.tensor("grad.output.hidden_states")), false, d_p));
  for (auto& [name, gradient] : d_p.entries()) results.emplace_back("grad." + name, std::move(gradient.value));
  return results;
}

HostTensor in_double(const char* name, const Tensor<double>& values, const Shape& shape) {
  HostTensor t = make_tensor(name, Role::in, DType::float64, shape);
  for (std::int64_t i = 0; i < values.size(); ++i) t.set(i, values[i]);
  return t;
}

// The block in double, every step's result moved by a draw. `norms` and `mixers`: the steps.
LayerResults<double> disturbed(const Call& call, Call mixer, const std::vector<Expectation>& norms,
                               const std::vector<Expectation>& mixers, int draw) {
  const auto move = [&](Tensor<double>& value, const char* tensor) {
    move_by_draw(value, draw, tensor, call.find(tensor), find(norms, tensor));
  };
  const reference::Numerics<double> num;
  const HostTensor& shape = call.tensor("input.hidden_states");
  const Tensor<double> u = to_reference_rows<double>(shape),
                       weight = to_reference<double>(call.tensor("param.norm.weight"));
  auto norm = reference::rms_norm_forward<double>(num, u, weight, nullptr, call.number("eps"));
  move(norm.hidden_states, "tap.input_normed");
  std::erase_if(mixer.tensors, [](const HostTensor& t) {
    return t.name == "input.hidden_states" || t.name == "grad.output.hidden_states";
  });
  mixer.tensors.push_back(in_double("input.hidden_states", norm.hidden_states, shape.shape));
  if (!is_backward(call)) {
    LayerResults<double> results = disturbed_mixer(mixer, mixers, draw);
    Tensor<double>& out = results.front().second;
    for (std::int64_t i = 0; i < u.size(); ++i) out[i] += u[i];
    move(out, "output.hidden_states");
    return {{"output.hidden_states", std::move(out)}};
  }
  mixer.tensors.push_back(call.tensor("grad.output.hidden_states"));
  LayerResults<double> results = disturbed_mixer(mixer, mixers, draw);
  for (auto& [name, gradient] : results) name = name_in_block(name);
  const Tensor<double> d_normed = results.front().second.reshaped(u.shape()),
                       d_out = to_reference_rows<double>(call.tensor("grad.output.hidden_states"));
  auto d = reference::rms_norm_backward<double>(num, u, weight, norm.rstd, d_normed, &d_out);
  move(d.d_hidden_states, "grad.input.hidden_states");
  move(d.d_weight, "grad.norm.weight");
  results.emplace_back("grad.input.hidden_states", std::move(d.d_hidden_states));
  results.emplace_back("grad.norm.weight", std::move(d.d_weight));
  return results;
}

std::vector<Expectation> end_to_end(const Call& call, const Call& mixer, const std::vector<Expectation>& norms,
                                    const std::vector<Expectation>& mixers) {
  const HostTensor& u = call.tensor("input.hidden_states");
  Call sizes = mixer;
  if (!sizes.find("input.hidden_states")) sizes.tensors.push_back(u);
  reference::NemotronV3Config config = mixer_config(sizes);
  const char* const stream = is_backward(call) ? "grad.output.hidden_states" : "output.hidden_states";
  config.residual_in_fp32 = call.tensor(stream).dtype == DType::float32;
  return whole_layer(call, evaluate<double>({}, call, config), evaluate<float>(matched_numerics(u.dtype), call, config),
                     [&](int draw) { return disturbed(call, sizes, norms, mixers, draw); });
}

}  // namespace

std::vector<Expectation> block_expectations(const Call& call, const assay_contract& contract, bool) {
  const Call mixer = mixer_call(call);
  const bool mixes = mixer.find("input.hidden_states") != nullptr;
  const assay_contract plain = without_tensor_cores(contract);
  std::vector<Expectation> norms, mixers, result;
  if (shown(call, "tap.input_normed")) {
    norms.push_back(norm(call, plain));
    if (!is_backward(call)) result.push_back(as_the_blocks(norms.back(), call, "tap.input_normed"));
  }
  if (mixes) {
    mixers = mixer_step_expectations(mixer, contract);
    for (const Expectation& e : mixers) result.push_back(as_the_blocks(e, call, name_in_block(e.tensor)));
    if (is_backward(call)) {
      const std::vector<Expectation> free = mixer_forward_freedom(mixer, contract);
      mixers.insert(mixers.end(), free.begin(), free.end());
    }
  }
  if (!is_backward(call) && shown(call, "tap.mixed")) result.push_back(sum(call));
  if (is_backward(call) && shown(call, "tap.d_input_normed") && mixes) {
    const std::vector<Expectation> gradients = norm_backward(call, mixer.tensor("grad.output.hidden_states"), plain);
    norms.insert(norms.end(), gradients.begin(), gradients.end());
    result.insert(result.end(), gradients.begin(), gradients.end());
  }
  std::vector<Expectation> whole = end_to_end(call, mixer, norms, mixers);
  std::move(whole.begin(), whole.end(), std::back_inserter(result));
  return result;
}

}  // namespace assay::harness
