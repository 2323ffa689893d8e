// Supports nothing.
#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

int refuse(const assay_call*, char* reason, std::size_t size) {
  std::snprintf(reason, size, "not today");
  return 0;
}

}  // namespace

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    c.supports = refuse;
    return c;
  }();
  return &table;
}
