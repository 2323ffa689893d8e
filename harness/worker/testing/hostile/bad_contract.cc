// Declares a multiplication that does not exist.
#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

int declare(const assay_call*, assay_contract* c) {
  c->multiply = 77;
  return 0;
}

}  // namespace

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    c.contract = declare;
    return c;
  }();
  return &table;
}
