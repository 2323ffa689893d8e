// Has no run.
#include "harness/worker/testing/base_candidate.h"

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    c.run = nullptr;
    return c;
  }();
  return &table;
}
