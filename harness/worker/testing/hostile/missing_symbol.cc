// Exports another symbol than the one that is wanted.
#include "harness/worker/testing/base_candidate.h"

extern "C" ASSAY_CANDIDATE_EXPORT const assay_candidate* candidate_v1(void) {
  static const assay_candidate table = assay::hostile::base();
  return &table;
}
