// Answers differently each time, and calls itself deterministic.
#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

int spoilt_run(const assay_call* call, void* stream, char* error, std::size_t size) {
  assay::hostile::run(call, stream, error, size);
  static std::uint32_t calls = 0;
  const DLTensor& y = output(call);
  if (y.shape[0] * y.shape[1] > 0) store(y, 0, load(y, 0) * (1.0f + 0.01f * static_cast<float>(++calls)));
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
