// Its table ends before the last fields.
#include <cstddef>

#include "harness/worker/testing/base_candidate.h"

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    c.struct_size = offsetof(assay_candidate, synchronize);
    return c;
  }();
  return &table;
}
