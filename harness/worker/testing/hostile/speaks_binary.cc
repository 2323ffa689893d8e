// Its name, its error and what it prints are no text.
#include "harness/worker/testing/base_candidate.h"

namespace {

int spoilt_run(const assay_call*, void*, char* error, std::size_t size) {
  std::fputs("\x1B[2J\xFF\xFE", stderr);
  std::snprintf(error, size, "\x01\xC3 failed");
  return 1;
}

}  // namespace

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    c.name = "\xF0 1";
    c.run = spoilt_run;
    return c;
  }();
  return &table;
}
