// Wants to save an exabyte.
#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

std::size_t huge(const assay_call*) { return std::size_t{1} << 60; }

}  // namespace

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    c.saved_bytes = huge;
    return c;
  }();
  return &table;
}
