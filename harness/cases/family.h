// A family: everything that is particular to the cases of one operation. The harness owns the sequence of a run.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/core/call.h"
#include "harness/core/case.h"
#include "harness/core/expectation.h"

namespace assay::harness {

enum class Tier { quick, full, soak };

// Products of the stored operands, float32 sums, accurate functions.
assay_contract plain_contract(const Call& call);

struct Family {
  std::string name;  // "rms_norm"

  // The cases of a tier, seeds fixed. (soak: the harness multiplies them by seeds it draws and prints.)
  std::function<std::vector<Case>(Tier)> cases;

  // Throws std::invalid_argument naming the word of the case line that the family cannot take.
  std::function<void(const Case&)> check;

  // The calls of a case, in order; the last one is judged. A tensor of an `in`, `inout` or `saved` role without bytes
  // takes those of the output of the same name of an earlier step (see link()).
  std::function<std::vector<Call>(const Case&)> calls;

  // What the outputs of `call` should be. `call` holds the inputs as the candidate had them, and the candidate's own
  // values in its outputs: an output that depends on another one is judged on the candidate's own. `exact`: the inputs
  // are of fill `integer`.
  std::function<std::vector<Expectation>(const Call& call, const assay_contract& contract, bool exact)> expect;

  // The outputs whose values `expect` reads, beside the inputs. (A layer's reads all: its steps are judged one by one.)
  std::vector<std::string> judged_on = {};

  // How upstream's kernels compute this call, and fixtures were recorded.
  std::function<assay_contract(const Call& call)> upstream_contract = plain_contract;

  // A layer: outputs are expected twice, as the last step's on the candidate's own inputs to it, and end to end.
  bool layer = false;
};

const std::vector<Family>& families();
const Family& family(std::string_view name);  // throws std::invalid_argument naming the known ones

// Fills the tensors of `call` that are read and have no bytes from the last of the `outputs` of earlier steps that has
// the name.
void link(Call& call, const std::vector<HostTensor>& outputs);

}  // namespace assay::harness
