#include "cuda/mamba2_decode_step/mamba2_decode_step.h"

#include "cuda/common/check.h"
#include "cuda/common/row_plan.h"
#include "cuda/mamba2_decode_step/mamba2_decode_step.cuh"

namespace assay::gpu {
namespace mamba2_decode_step_plan {

void check_dims(const char* function, const Mamba2DecodeStepDims& d) {
  constexpr std::int64_t kMax = 1 << 20;
  require_size(function, "batch", d.batch, 0, kMax);
  require_size(function, "heads", d.heads, 1, kMax);
  require_size(function, "head_dim", d.head_dim, 1, kMax);
  require_size(function, "state_size", d.state_size, 1, 4096);
  require_size(function, "taps", d.taps, 1, 64);
  require_size(function, "conv_len", d.conv_len, d.taps - 1, 64);
  require_groups(function, d.groups, d.heads);
  require(d.inner() <= kMax, function, ": heads * head_dim = ", d.inner(), "; want at most 2^20");
  require_stride(function, "row_stride", d.row_stride, d.width());
}

Plan plan(const Mamba2DecodeStepDims& d, std::size_t activation_size, std::size_t state_size, bool aligned,
          Method method) {
  const auto vector = static_cast<std::int64_t>(16 / activation_size),
             state_vector = static_cast<std::int64_t>(16 / state_size);
  const bool fits = aligned && d.taps == kTaps && d.conv_len == kTaps && d.group_size() % vector == 0 &&
                    d.group_size() <= kMaxGroupSize && d.row_stride % vector == 0 && d.state_size % state_vector == 0 &&
                    d.state_size <= kMaxStateSize;
  const std::int64_t blocks = d.batch * d.groups;
  if (method == Method::naive || !fits) {
    return {.naive = true,
            .vectors = 0,
            .norm_threads = 0,
            .shared_bytes = static_cast<unsigned>(2 * d.state_size * sizeof(float)),
            .blocks = blocks};
  }
  int vectors = 1;
  while (vectors * kLanes * state_vector < d.state_size) vectors *= 2;
  const RowPlan norm = plan_row(d.group_size(), static_cast<int>(vector), kThreads, Method::automatic);
  const int channels = static_cast<int>(d.group_size()), heads = static_cast<int>(d.heads / d.groups);
  const Layout keys(static_cast<int>(state_vector) / 4, vectors * kLanes * static_cast<int>(state_vector)),
      gates(static_cast<int>(vector) / 4, channels);
  const int floats = channels + gates.floats() + 2 * keys.floats() + 2 * heads + 3 * 4;  // pieces begin 16-byte aligned
  return {.naive = false,
          .vectors = vectors,
          .norm_threads = norm.variant == RowVariant::warp_per_row ? kWarpSize : norm.threads,
          .shared_bytes = static_cast<unsigned>(floats * static_cast<int>(sizeof(float))),
          .blocks = blocks};
}

}  // namespace mamba2_decode_step_plan

const char* mamba2_decode_step_variant(const Mamba2DecodeStepDims& dims, std::size_t activation_size,
                                       std::size_t state_size, Method method) {
  mamba2_decode_step_plan::check_dims("mamba2_decode_step_variant", dims);
  return mamba2_decode_step_plan::plan(dims, activation_size, state_size, true, method).naive ? "naive"
                                                                                              : "block_per_group";
}

}  // namespace assay::gpu
