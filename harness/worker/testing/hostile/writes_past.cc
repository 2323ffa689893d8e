// Writes one element past the end of its output.
#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

int spoilt_run(const assay_call* call, void* stream, char* error, std::size_t size) {
  assay::hostile::run(call, stream, error, size);
  const DLTensor& y = output(call);
  store(y, y.shape[0] * y.shape[1], 1.0f);
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
