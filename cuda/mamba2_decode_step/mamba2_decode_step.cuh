// Private to the family: the launch plan.
#pragma once

#include "cuda/mamba2_decode_step/mamba2_decode_step.h"

namespace assay::gpu::mamba2_decode_step_plan {

constexpr int kThreads = 256;
constexpr int kLanes = 8;  // a row of the state is shared by eight lanes: 128 neighbouring bytes an access
constexpr int kTaps = 4;
constexpr int kMaxStateSize = 256;
constexpr int kMaxGroupSize = 4096;  // what kThreads threads norm as gated_rms_norm does, 16 channels each

struct Plan {
  bool naive;
  int vectors;       // 16-byte accesses a lane makes for a row of the state: 1, 2, 4 or 8
  int norm_threads;  // share the sum of squares
  unsigned shared_bytes;
  std::int64_t blocks;
};

// Rows of the state that a lane has in registers at a time: 64 bytes, and as many of the rows after them in flight.
constexpr int rows_per_lane(int vectors) { return vectors >= 4 ? 1 : 4 / vectors; }

// `count` floats that are read in pieces of `quads` (1 or 2) neighbouring fours, a piece a lane: the fours of a piece
// lie `pitch` apart, so that eight lanes meet no bank twice.
struct Layout {
  int quads, pitch;

  __host__ __device__ constexpr Layout(int quads_, int count)
      : quads(quads_), pitch(quads_ == 1 ? count : (count / 2 + 31) / 32 * 32 + 16) {}
  __host__ __device__ constexpr int floats() const { return quads * pitch; }
};
template <class T>
inline constexpr int kQuads = 4 / static_cast<int>(sizeof(T));  // of the elements in 16 bytes

Plan plan(const Mamba2DecodeStepDims& dims, std::size_t activation_size, std::size_t state_size, bool aligned,
          Method method);
void check_dims(const char* function, const Mamba2DecodeStepDims& dims);

}  // namespace assay::gpu::mamba2_decode_step_plan
