// Prints 8 MiB to each of stdout and stderr, and works.
#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

int spoilt_run(const assay_call* call, void* stream, char* error, std::size_t size) {
  for (int line = 0; line < 1 << 17; ++line) {
    std::printf("line %6d of much too much: ................................\n", line);
    std::fprintf(stderr, "line %6d of much too much: ................................\n", line);
  }
  assay::hostile::run(call, stream, error, size);
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
