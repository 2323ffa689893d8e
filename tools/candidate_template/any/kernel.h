// @OP@: what the launcher needs to know. Host only.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

struct Problem {
  std::int64_t elements;
  const float* input;
  float* output;
};

// Asynchronous on `stream`.
void launch(const Problem& p, cudaStream_t stream);
