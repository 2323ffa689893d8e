// Leaves out the second half of the rows.
#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

int spoilt_run(const assay_call* call, void* stream, char* error, std::size_t size) {
  const DLTensor& x = input(call);
  std::int64_t shape[2] = {x.shape[0] / 2, x.shape[1]};
  assay_tensor tensors[16];
  assay_call half = *call;
  half.tensors = tensors;
  for (std::size_t i = 0; i < call->tensor_count; ++i) {
    tensors[i] = call->tensors[i];
    if (&call->tensors[i].tensor == &x) tensors[i].tensor.shape = shape;
  }
  return assay::hostile::run(&half, stream, error, size);
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
