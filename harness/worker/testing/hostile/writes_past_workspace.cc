// Writes one byte past the end of its workspace.
#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

std::size_t workspace_bytes(const assay_call*) { return 100; }
int spoilt_run(const assay_call* call, void* stream, char* error, std::size_t size) {
  static_cast<char*>(call->workspace)[call->workspace_bytes] = 1;
  return assay::hostile::run(call, stream, error, size);
}

}  // namespace

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    c.workspace_bytes = workspace_bytes;
    c.run = spoilt_run;
    return c;
  }();
  return &table;
}
