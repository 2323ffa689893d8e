// Dies some time after it answered.
#include <pthread.h>
#include <unistd.h>

#include "harness/worker/testing/base_candidate.h"

namespace {

using namespace assay::hostile;

void* die(void*) {
  usleep(30'000);
  _exit(9);
}
int spoilt_run(const assay_call* call, void* stream, char* error, std::size_t size) {
  pthread_t thread;
  if (pthread_create(&thread, nullptr, die, nullptr) != 0) return 1;
  return assay::hostile::run(call, stream, error, size);
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
