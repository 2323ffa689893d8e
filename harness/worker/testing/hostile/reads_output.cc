// Adds to its output as if it had been zero.
#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

int spoilt_run(const assay_call* call, void* stream, char* error, std::size_t size) {
  const DLTensor& y = output(call);
  const float before = y.shape[0] * y.shape[1] > 0 ? load(y, 0) : 0.0f;
  assay::hostile::run(call, stream, error, size);
  if (y.shape[0] * y.shape[1] > 0) store(y, 0, load(y, 0) + before);
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
