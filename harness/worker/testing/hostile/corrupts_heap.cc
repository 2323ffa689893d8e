// Overwrites the heap's own data, then uses the heap.
#include <cstddef>

#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

int spoilt_run(const assay_call*, void*, char*, std::size_t) {
  for (int round = 0; round < 64; ++round) {
    volatile char* block = static_cast<char*>(std::malloc(64));
    for (std::ptrdiff_t i = -16; i < 256; ++i) block[i] = 0x41;
    std::free(const_cast<char*>(block));
  }
  return 0;
}

}  // namespace

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    c.run = spoilt_run;
    return c;
  }();
  return &table;
}
