// Counts its runs while counting is on.
#include "harness/worker/testing/base_candidate.h"

namespace {

bool counting = false;
std::uint64_t runs = 0;

int run(const assay_call* call, void* stream, char* error, std::size_t error_size) {
  runs += counting;
  return assay::hostile::run(call, stream, error, error_size);
}
int set_counting(std::int32_t on) {
  counting = on != 0;
  runs = 0;
  return 0;
}
std::size_t counters(assay_counter* result, std::size_t capacity) {
  if (capacity > 0) result[0] = {"runs", runs};
  return 1;
}

}  // namespace

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    c.run = run;
    c.set_counting = set_counting;
    c.counters = counters;
    return c;
  }();
  return &table;
}
