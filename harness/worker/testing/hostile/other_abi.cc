// Was built for another version of the interface.
#include "harness/worker/testing/base_candidate.h"

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    c.abi_version = ASSAY_CANDIDATE_ABI_VERSION + 6;
    return c;
  }();
  return &table;
}
