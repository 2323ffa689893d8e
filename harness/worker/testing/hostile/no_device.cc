// Its device is not here.
#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

int refuse(char* text, std::size_t size) {
  std::snprintf(text, size, "no CUDA-capable device is detected");
  return 1;
}

}  // namespace

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    c.target = refuse;
    return c;
  }();
  return &table;
}
