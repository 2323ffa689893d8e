// Returns no table.
#include "harness/worker/testing/base_candidate.h"

extern "C" const assay_candidate* assay_candidate_v1(void) { return nullptr; }
