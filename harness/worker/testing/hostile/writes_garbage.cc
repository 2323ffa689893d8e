// Writes into every file of its process.
#include <unistd.h>

#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

int spoilt_run(const assay_call* call, void* stream, char* error, std::size_t size) {
  assay::hostile::run(call, stream, error, size);
  for (int fd = 1; fd < 16; ++fd) {
    if (write(fd, "garbage garbage garbage", 23) < 0) continue;
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
