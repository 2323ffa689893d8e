// Its output is its input.
#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

int spoilt_run(const assay_call* call, void* stream, char* error, std::size_t size) {
  assay::hostile::run(call, stream, error, size);
  const DLTensor &x = input(call), &y = output(call);
  for (std::int64_t row = 0; row < x.shape[0]; ++row) {
    for (std::int64_t i = 0; i < x.shape[1]; ++i) store(y, at(y, row, i), load(x, at(x, row, i)));
  }
  return 0;
}

}  // namespace

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    c.run = spoilt_run;
    return c;
  }();
  return &table;
}
