// What a case's outputs should be. References and limits take longer than most candidates, so executions for which they
// are the same share them.
#pragma once

#include <vector>

#include "harness/cases/family.h"

namespace assay::harness {

class Expected {
 public:
  Expected(const Family& family, bool exact) : family_(family), exact_(exact) {}

  // family.expect(call, contract, exact), computed anew only where what it reads has changed since the last time. Valid
  // until the next call. `call`: always executions of one call, which differ in values alone.
  const std::vector<Expectation>& of(const Call& call, const assay_contract& contract);

 private:
  bool reads(const HostTensor& t) const;
  bool follow_from(const Call& call, const assay_contract& contract) const;

  const Family& family_;
  bool exact_;
  bool any_ = false;
  std::vector<HostTensor> read_;
  assay_contract contract_{};
  std::vector<Expectation> expectations_;
};

}  // namespace assay::harness
