// Nothing is wrong with it.
#include "harness/worker/testing/base_candidate.h"

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    return c;
  }();
  return &table;
}
