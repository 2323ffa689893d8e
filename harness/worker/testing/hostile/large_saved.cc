// Saves a megabyte, more than a worker first has room for, and fills it.
#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

std::size_t megabyte(const assay_call*) { return std::size_t{1} << 20; }
int spoilt_run(const assay_call* call, void* stream, char* error, std::size_t size) {
  if (const DLTensor* saved = find(call, "saved"))
    std::memset(saved->data, 0x5C, static_cast<std::size_t>(saved->shape[0]));
  return assay::hostile::run(call, stream, error, size);
}

}  // namespace

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    c.saved_bytes = megabyte;
    c.run = spoilt_run;
    return c;
  }();
  return &table;
}
