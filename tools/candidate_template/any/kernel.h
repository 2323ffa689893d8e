// @OP@: what the launcher needs to know. Host only.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

struct Problem {
  std::int64_t rows, width;
  std::int64_t row_stride;  // of input; output is compact
  const float* input;       // [rows, width]
  float* output;            // [rows, width]
};

// Asynchronous on `stream`.
void launch(const Problem& p, cudaStream_t stream);
