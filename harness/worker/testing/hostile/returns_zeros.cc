// All outputs are zero.
#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

int spoilt_run(const assay_call* call, void*, char*, std::size_t) {
  for (std::size_t i = 0; i < call->tensor_count; ++i) {
    const assay_tensor& t = call->tensors[i];
    if (t.role != ASSAY_ROLE_OUT || t.tensor.ndim != 2) continue;
    for (std::int64_t row = 0; row < t.tensor.shape[0]; ++row) {
      for (std::int64_t c = 0; c < t.tensor.shape[1]; ++c) store(t.tensor, at(t.tensor, row, c), 0.0f);
    }
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
