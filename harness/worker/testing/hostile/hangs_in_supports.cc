// Never answers whether it supports a call.
#include <unistd.h>

#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

int think(const assay_call*, char*, std::size_t) {
  for (;;) pause();
}

}  // namespace

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    c.supports = think;
    return c;
  }();
  return &table;
}
