#include "harness/cases/mamba2_mixer_expect.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <stdexcept>

#include "harness/cases/float_errors.h"
#include "harness/cases/mamba2_mixer_end_to_end.h"
#include "harness/cases/mamba2_mixer_steps.h"
#include "harness/cases/norm_case.h"

namespace assay::harness {
namespace {

using Values = std::vector<double>;

// A copy: no element may differ.
Expectation copied(const Call& call, const char* name, Values values) {
  Expectation e = expectation_of(call, name, false);
  e.limit.assign(values.size(), 0), e.freedom.assign(values.size(), 0);
  e.matched = values, e.oracle = std::move(values);
  return e;
}

bool is_backward(const Call& call) { return call.op == "mamba2_mixer.train_backward"; }
bool shown(const Call& call, const char* tap) { return call.find(tap) && !call.tensor(tap).bytes.empty(); }

// `from` where the mask is, else 0.
Expectation masked(const Call& call, const char* from, const char* to) {
  Values u = call.tensor(from).to_double();
  const HostTensor& mask = call.tensor("input.attention_mask");
  const std::int64_t width = call.tensor(from).shape.back();
  for (std::size_t i = 0; i < u.size(); ++i)
    if (mask.at(static_cast<std::int64_t>(i) / width) == 0) u[i] = 0;
  return copied(call, to, std::move(u));
}

// A = -exp(A_log): a function's error, and a rounding.
Expectation decay_rates(const Call& call, const assay_contract& contract) {
  Expectation e = expectation_of(call, "tap.A", false);
  for (const double a : call.tensor("param._fp32_params.A_log").to_double()) {
    e.oracle.push_back(-std::exp(a));
    e.matched.push_back(static_cast<float>(e.oracle.back()));
    const double error = exp_error(a, contract) * std::exp(a);
    e.limit.push_back(with_rounding(true, DType::float32, e.oracle.back(), error));
    e.freedom.push_back(error);
  }
  return e;
}

// After a prefill: the last columns of xBC, as in_proj gave them.
Expectation prefilled_conv_state(const Call& call) {
  const MixerSizes n(call);
  const HostTensor &projected = call.tensor("tap.projected"), &state = call.tensor("conv_state");
  const bool forgets = call.integer("continued") == 0 && n.seq_len != 1;
  Values columns(static_cast<std::size_t>(state.size()));
  for (std::int64_t i = 0; i < state.size(); ++i) {
    const std::int64_t j = i % n.taps, c = i / n.taps % n.channels, b = i / n.taps / n.channels,
                       t = n.seq_len - n.taps + j;
    const std::int64_t older = i + n.seq_len;  // the same cell's column j + seq_len
    columns[static_cast<std::size_t>(i)] =
        t >= 0    ? projected.at((b * n.seq_len + t) * n.projected() + n.inner + c)
        : forgets ? 0
                  : load(state.dtype, state.before.data() + static_cast<std::size_t>(older) * size_of(state.dtype));
  }
  return copied(call, "conv_state", std::move(columns));
}

// One step's expectation under the layer's name.
Expectation as_the_layers(Expectation e, const Call& call, const std::string& name) {
  const Expectation layer = expectation_of(call, name, false);
  e.tensor = name, e.shape = layer.shape, e.axes = layer.axes;
  if (e.dtype != layer.dtype) throw std::logic_error(name + ": a step's dtype is not the layer's");
  return e;
}

// d_A_log = d_A A, rounded once.
Expectation rate_gradient(const Call& call) {
  const HostTensor &d_A = call.tensor("tap.d_A"), &A = call.tensor("tap.A");
  Expectation e = expectation_of(call, "grad._fp32_params.A_log", false);
  for (std::int64_t h = 0; h < d_A.size(); ++h) {
    const double product = d_A.at(h) * A.at(h);
    e.oracle.push_back(product);
    e.matched.push_back(static_cast<float>(product));
    e.limit.push_back(with_rounding(true, DType::float32, product, 0));
    e.freedom.push_back(0);
  }
  return e;
}

// What the contract says of products holds for projections and scan; convolution, norm and the decode step have none on
// tensor cores.
assay_contract contract_of(const MixerStep& step, const assay_contract& contract) {
  const bool products = step.call.op.starts_with("linear.") || step.call.op.starts_with("ssd_scan.");
  return products ? contract : without_tensor_cores(contract);
}

// A state that the scan hands to a narrower cache is rounded once more.
void round_to_cache(Expectation& e) {
  if (e.dtype == DType::float32) return;
  for (std::size_t i = 0; i < e.oracle.size(); ++i) {
    e.limit[i] = with_rounding(true, e.dtype, e.oracle[i], e.limit[i]);
    e.matched[i] = round_to(e.dtype, e.matched[i]);
  }
}

// A step's share of a tensor of the layer; limits of what no step has given yet are below 0.
void place(const Expectation& part, const Call& call, const MixerOutput& output, std::vector<Expectation>& result) {
  auto whole =
      std::find_if(result.begin(), result.end(), [&](const Expectation& e) { return e.tensor == output.of_layer; });
  if (whole == result.end()) {
    result.push_back(as_the_layers(part, call, output.of_layer));
    whole = std::prev(result.end());
    const auto size = static_cast<std::size_t>(element_count(whole->shape));
    whole->oracle.assign(size, 0), whole->matched.assign(size, 0), whole->freedom.assign(size, 0);
    whole->limit.assign(size, -1);
  }
  const std::int64_t row = whole->shape.back(), tokens = whole->size() / row, width = part.size() / tokens;
  for (std::int64_t i = 0; i < part.size(); ++i) {
    const auto from = static_cast<std::size_t>(i),
               to = static_cast<std::size_t>(i / width * row + output.first + i % width);
    whole->oracle[to] = part.oracle[from], whole->matched[to] = part.matched[from];
    whole->limit[to] = part.limit[from], whole->freedom[to] = part.freedom[from];
  }
}

// What the steps of a layer should give, each on the candidate's own inputs to it.
std::vector<Expectation> steps_of(const Call& call, const assay_contract& contract) {
  std::vector<Expectation> result;
  for (const MixerStep& step : mixer_steps(call)) {
    const Family& operation = family(step.call.op.substr(0, step.call.op.find('.')));
    for (Expectation& e : operation.expect(step.call, contract_of(step, contract), false))
      for (const MixerOutput& output : step.outputs) {
        if (e.tensor != output.of_step) continue;
        if (output.of_step == "output.final_state") round_to_cache(e);
        if (e.size() == call.tensor(output.of_layer).size())
          result.push_back(as_the_layers(std::move(e), call, output.of_layer));
        else
          place(e, call, output, result);
        break;
      }
  }
  std::erase_if(result, [](const Expectation& e) {
    return std::any_of(e.limit.begin(), e.limit.end(), [](double l) { return l < 0; });
  });
  return result;
}

void append(std::vector<Expectation>& to, std::vector<Expectation> more) {
  std::move(more.begin(), more.end(), std::back_inserter(to));
}

std::vector<Expectation> expect_forward(const Call& call, const assay_contract& contract) {
  std::vector<Expectation> result;
  if (shown(call, "tap.masked")) result.push_back(masked(call, "input.hidden_states", "tap.masked"));
  if (shown(call, "tap.A")) result.push_back(decay_rates(call, contract));
  if (shown(call, "tap.projected") && call.op == "mamba2_mixer.prefill") result.push_back(prefilled_conv_state(call));
  append(result, steps_of(call, contract));
  return result;
}

std::vector<Expectation> expect_backward(const Call& call, const assay_contract& contract) {
  std::vector<Expectation> result = steps_of(call, contract);
  if (shown(call, "tap.d_A") && shown(call, "tap.A")) result.push_back(rate_gradient(call));
  if (shown(call, "tap.d_masked")) result.push_back(masked(call, "tap.d_masked", "grad.input.hidden_states"));
  return result;
}

}  // namespace

assay_contract without_tensor_cores(assay_contract contract) {
  contract.multiply = ASSAY_MULTIPLY_IEEE;
  contract.accumulate = ASSAY_ACCUMULATE_FP32;
  return contract;
}

std::vector<Expectation> mixer_step_expectations(const Call& call, const assay_contract& contract) {
  return is_backward(call) ? expect_backward(call, contract) : expect_forward(call, contract);
}

std::vector<Expectation> mixer_forward_freedom(const Call& backward, const assay_contract& contract) {
  Call forward = backward;
  forward.op = "mamba2_mixer.train_forward";
  return expect_forward(forward, contract);
}

std::vector<Expectation> mixer_expectations(const Call& call, const assay_contract& contract, bool) {
  std::vector<Expectation> result = mixer_step_expectations(call, contract), free = result;
  if (is_backward(call)) append(free, mixer_forward_freedom(call, contract));
  append(result, mixer_end_to_end(call, free));
  return result;
}

}  // namespace assay::harness
