// Crashes before it was asked anything.
#include <csignal>

#include "harness/worker/testing/base_candidate.h"

extern "C" const assay_candidate* assay_candidate_v1(void) {
  std::fputs("loading the driver\n", stderr);
  std::raise(SIGSEGV);
  return nullptr;
}
