// Allocates and touches memory without end, then hangs: it is never refused any.
#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

int spoilt_run(const assay_call*, void*, char*, std::size_t) {
  for (std::size_t block = 0; block < 100'000; ++block) {
    constexpr std::size_t kBytes = std::size_t{16} << 20;
    void* volatile memory = std::malloc(kBytes);  // volatile: or a compiler sees that nobody reads it
    if (memory) std::memset(memory, 1, kBytes);
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
