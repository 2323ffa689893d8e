// Recurses without end.
#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

// The work after the call keeps the compiler from making a loop of it.
int recurse(int depth) {
  volatile char frame[4096] = {};
  frame[depth % 4096] = 1;
  return depth < 1'000'000'000 ? recurse(depth + 1) + frame[0] : 0;
}

int spoilt_run(const assay_call*, void*, char*, std::size_t) { return recurse(1) == 0; }

}  // namespace

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    c.run = spoilt_run;
    return c;
  }();
  return &table;
}
