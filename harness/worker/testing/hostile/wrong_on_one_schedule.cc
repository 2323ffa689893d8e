// Has two schedules of one arithmetic, and a result that is wrong on the second.
#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

std::int32_t selected = 0;
int select_schedule(std::int32_t index, std::uint64_t) {
  selected = index;
  return 0;
}
constexpr assay_schedule kSchedules[] = {{"ascending", "nominal"}, {"descending", "nominal"}};
int spoilt_run(const assay_call* call, void* stream, char* error, std::size_t size) {
  assay::hostile::run(call, stream, error, size);
  const DLTensor& y = output(call);
  if (selected == 1 && y.shape[0] * y.shape[1] > 0) store(y, 0, load(y, 0) + 1);
  return 0;
}

}  // namespace

extern "C" const assay_candidate* assay_candidate_v1(void) {
  static const assay_candidate table = [] {
    assay_candidate c = assay::hostile::base();
    c.run = spoilt_run;
    c.schedule_count = 2;
    c.schedules = kSchedules;
    c.select_schedule = select_schedule;
    return c;
  }();
  return &table;
}
