// Declares that its workspace must be zeroed, and works only then.
#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

std::size_t workspace_bytes(const assay_call*) { return 64; }
int declare(const assay_call* call, assay_contract* c) {
  assay::hostile::contract(call, c);
  c->workspace_zeroed = 1;
  return 0;
}
int spoilt_run(const assay_call* call, void* stream, char* error, std::size_t size) {
  auto* counter = static_cast<unsigned char*>(call->workspace);
  if (++counter[0] != 1 || ++counter[63] != 1) {
    std::snprintf(error, size, "the workspace was not zero");
    return 1;
  }
  return assay::hostile::run(call, stream, error, size);
}

}  // namespace

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    c.workspace_bytes = workspace_bytes;
    c.contract = declare;
    c.run = spoilt_run;
    return c;
  }();
  return &table;
}
