// One decode step of the Mamba-2 scan.
//
// Computes   Delta   = max(softplus(dt + dt_bias), dt_min),  a = exp(Delta A)
//            h[p, n] = a h[p, n] + (B[n] Delta) x[p]          stored rounded to the cache's type
//            y[p]    = rnd_T((sum_n h[p, n] C[n] + D x[p]) silu(z[p]))     from the h before that rounding
// Source     mamba_ssm's selective_state_update; no upper clamp of Delta
// Paths      decode
// Layout     state [rows, heads, head_dim, state_size]; a step's x, dt, B, C, z are slices a stride apart
// Numerics   float; softplus by log1p; a row's sum: each lane over its elements in order, then three steps across eight
//            lanes: fixed. One rounding of y, one of the state
// Plan       a block takes 16 .. 128 rows p of one head: eight lanes a row, 16 bytes an access, 64 bytes of state in
//            flight a thread (128 if B and C are float). B Delta and C lie in shared memory as float, once a block,
//            laid out so that the lanes of a quarter warp read 128 neighbouring bytes. 128 threads, 2 KB of shared
//            memory, 4 KB or more of loads in flight a block; nothing else is kept, so occupancy is not the limit
// Versions   naive (a thread per (b, h, p), double sums), rows_in_registers
// Cost       memory-bound. Compulsory: state_size * sizeof(S) * (read, written) for each (b, h, p); B and C for each
//            (b, g); x, y, z for each (b, h, p). Nano 30B (H 64, P 64, N 128), float cache, batch 1: 4.2 MB, 1.3 us at
//            3.2 TB/s. Limiter: memory; 3 operations an element of the state stay far below it
// Limits     rows_in_registers: state_size <= 256, a multiple of 16 bytes; everything else is naive
#include "cuda/common/check.h"
#include "cuda/common/math.cuh"
#include "cuda/common/planted.h"
#include "cuda/common/scalars.cuh"
#include "cuda/common/vec.cuh"
#include "cuda/ssm_state_update/ssm_state_update.cuh"

namespace assay::gpu {
namespace {

using namespace ssm_state_update_plan;

// What a head's step needs besides its vectors.
struct Step {
  float delta, decay;
};

template <class T, class S>
SIMT_DEV Step step_of(const SsmStateUpdateDims& dims, const SsmStateUpdate<T, S>& t, std::int64_t b,
                      std::int64_t head) {
  float v = scalar_at(t.dt, b * dims.dt_stride + head);
  if (t.dt_bias.data != nullptr && !planted<Break::bias_after_softplus>) v += scalar_at(t.dt_bias, head);
  float delta = fmaxf(t.dt_softplus ? softplus(v) : v, t.dt_min);
  if (planted<Break::bias_after_softplus>) delta += t.dt_bias.data ? scalar_at(t.dt_bias, head) : 0.0f;
  return {delta, expf(delta * t.A[planted<Break::decay_of_another_head> ? 0 : head])};
}

// sum = sum_n h C
template <class T, class S>
SIMT_DEV void store_output(const SsmStateUpdateDims& dims, const SsmStateUpdate<T, S>& t, std::int64_t b,
                           std::int64_t head, std::int64_t p, float sum, float x) {
  const std::int64_t channel = head * dims.head_dim + p;
  if (t.D.data != nullptr) sum += scalar_at(t.D, t.D_per_channel ? channel : planted<Break::skip_of_another_head> ? 0 : head) * x;
  if (t.z != nullptr) sum *= silu(to_float(t.z[b * dims.z_stride + channel]));
  t.y[b * dims.heads * dims.head_dim + channel] = from_float<T>(sum);
}

template <class T, class S>
__global__ void __launch_bounds__(kThreads)
    ssm_state_update_naive_kernel(SsmStateUpdateDims dims, SsmStateUpdate<T, S> t) {
  const std::int64_t channels = dims.heads * dims.head_dim;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= dims.batch * channels) return;
  const std::int64_t b = i / channels, head = i % channels / dims.head_dim, p = i % dims.head_dim;
  const std::int64_t row = t.state_rows != nullptr ? t.state_rows[b] : b;
  if (row < 0) {
    t.y[i] = from_float<T>(0.0f);
    return;
  }
  const Step step = step_of(dims, t, b, head);
  const std::int64_t vector = head / (dims.heads / dims.groups) * dims.state_size;
  const T* const B = t.B + b * dims.B_stride + vector;
  const T* const C = t.C + b * dims.C_stride + vector;
  S* const state = t.state + row * dims.state_stride + (head * dims.head_dim + p) * dims.state_size;
  const float x = to_float(t.x[b * dims.x_stride + head * dims.head_dim + p]);
  double sum = 0.0;
  for (std::int64_t n = 0; n < dims.state_size; ++n) {
    const float h = to_float(state[n]) * step.decay + to_float(B[n]) * step.delta * x;
    sum += static_cast<double>(h) * to_float(C[n]);
    state[n] = from_float<S>(h);
  }
  store_output(dims, t, b, head, p, static_cast<float>(sum), x);
}

// kVectors, kRows: Plan::vectors and Plan::rows.
template <class T, class S, int kVectors, int kRows>
__global__ void __launch_bounds__(kThreads)
    ssm_state_update_kernel(SsmStateUpdateDims dims, SsmStateUpdate<T, S> t, std::int64_t tiles) {
  constexpr int kVec = 16 / sizeof(S), kQuads = kVec / 4, kCapacity = kLanes * kVectors * kVec;
  constexpr int kRowsPerWarp = 32 / kLanes;
  constexpr int kPitch = kCapacity / kQuads + (kQuads == 2 ? 16 : 0);  // the two quads lie in distinct banks
  SIMT_SHARED(float[kQuads][kPitch], shared_B);
  SIMT_SHARED(float[kQuads][kPitch], shared_C);
  const std::int64_t tile = blockIdx.x % tiles, head = blockIdx.x / tiles % dims.heads,
                     b = blockIdx.x / tiles / dims.heads;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes;
  const int P = static_cast<int>(dims.head_dim), N = static_cast<int>(dims.state_size);
  const int first = static_cast<int>(tile) * (kThreads / kLanes * kRows) + thread / 32 * (kRowsPerWarp * kRows) +
                    thread % 32 / kLanes;  // rows first, first + kRowsPerWarp, ...
  const std::int64_t row = t.state_rows != nullptr && !planted<Break::batch_index_ignored> ? t.state_rows[b] : b;
  if (row < 0) {
    SIMT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int p = first + r * kRowsPerWarp;
      if (lane == 0 && p < P) t.y[(b * dims.heads + head) * P + p] = from_float<T>(0.0f);
    }
    return;
  }

  // The whole state first: its way is the longest.
  S* const state = t.state + row * dims.state_stride + head * P * N;
  simt::Vec<S, kVec> h[kRows][kVectors];
  float x[kRows];
  SIMT_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const int p = first + r * kRowsPerWarp;
    SIMT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int n = (v * kLanes + lane) * kVec;
      if (p < P && n < N) h[r][v] = simt::load_vec<kVec>(state + static_cast<std::int64_t>(p) * N + n);
    }
    x[r] = p < P ? to_float(t.x[b * dims.x_stride + head * P + p]) : 0.0f;
  }
  const Step step = step_of(dims, t, b, head);
  const std::int64_t group =
      planted<Break::state_update_group> ? head % dims.groups : head / (dims.heads / dims.groups);
  const std::int64_t vector = group * N;
  for (int n = thread; n < N; n += kThreads) {
    const int quad = n / 4 % kQuads, at = n / kVec * 4 + n % 4;
    shared_B[quad][at] = to_float(t.B[b * dims.B_stride + vector + n]) * step.delta;
    shared_C[quad][at] = to_float(t.C[b * dims.C_stride + vector + n]);
  }
  __syncthreads();

  const int left = P - first;
  float sum[kRows] = {};
  SIMT_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const int n = (v * kLanes + lane) * kVec;
    if (n >= N) continue;
    SIMT_UNROLL
    for (int quad = 0; quad < kQuads; ++quad) {
      const auto B = simt::load_vec<4>(&shared_B[quad][n / kVec * 4]);
      const auto C = simt::load_vec<4>(&shared_C[quad][n / kVec * 4]);
      SIMT_UNROLL
      for (int r = 0; r < kRows; ++r) {
        if (r * kRowsPerWarp >= left) continue;
        SIMT_UNROLL
        for (int j = 0; j < 4; ++j) {
          S& element = h[r][v][quad * 4 + j];
          const float updated = to_float(element) * step.decay + B[j] * x[r];
          element = from_float<S>(updated);
          sum[r] = fmaf(planted<Break::output_from_stored_state> ? to_float(element) : updated, C[j], sum[r]);
        }
      }
    }
  }
  SIMT_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const int p = first + r * kRowsPerWarp;
    SIMT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int n = (v * kLanes + lane) * kVec;
      if (p < P && n < N) simt::store_vec(state + static_cast<std::int64_t>(p) * N + n, h[r][v]);
    }
    SIMT_UNROLL
    for (int distance = kLanes / 2; distance > 0; distance /= 2) {
      sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], distance);
    }
    if (lane == 0 && p < P) store_output(dims, t, b, head, p, sum[r], x[r]);
  }
}

template <class T, class S>
void launch_planned(const Plan& plan, const SsmStateUpdateDims& dims, const SsmStateUpdate<T, S>& t,
                    cudaStream_t stream) {
  const simt::Launch launch{
      .grid = dim3(static_cast<unsigned>(plan.blocks)), .block = dim3(kThreads), .stream = stream};
  with_vectors<S>(plan.vectors, [&]<int kVectors>() {
    constexpr int kRows = rows_per_lane(kVectors, sizeof(T));
    simt::launch(ssm_state_update_kernel<T, S, kVectors, kRows>, launch, dims, t, plan.tiles);
  });
}

}  // namespace

template <class T, class S>
void ssm_state_update(const SsmStateUpdateDims& dims, const SsmStateUpdate<T, S>& tensors, cudaStream_t stream,
                      Method method) {
  const auto& t = tensors;
  check_dims("ssm_state_update", dims);
  require(!(t.dt_min != t.dt_min), "ssm_state_update: dt_min is not a number");
  if (dims.batch == 0) return;
  require(t.x && t.dt && t.A && t.B && t.C && t.state && t.y,
          "ssm_state_update: x, dt, A, B, C, state or y is null; want a pointer");
  const bool aligned = reinterpret_cast<std::uintptr_t>(t.state) % 16 == 0;
  const Plan plan = ssm_state_update_plan::plan(dims, sizeof(T), sizeof(S), aligned, method);
  require(plan.blocks <= INT32_MAX, "ssm_state_update: ", plan.blocks, " blocks; want at most 2^31 - 1");
  if (plan.naive) {
    simt::launch(ssm_state_update_naive_kernel<T, S>,
                 {.grid = dim3(static_cast<unsigned>(plan.blocks)), .block = dim3(kThreads), .stream = stream}, dims,
                 t);
    return;
  }
  launch_planned(plan, dims, t, stream);
}

using bf16 = __nv_bfloat16;
template void ssm_state_update(const SsmStateUpdateDims&, const SsmStateUpdate<float, float>&, cudaStream_t, Method);
template void ssm_state_update(const SsmStateUpdateDims&, const SsmStateUpdate<float, bf16>&, cudaStream_t, Method);
template void ssm_state_update(const SsmStateUpdateDims&, const SsmStateUpdate<bf16, float>&, cudaStream_t, Method);
template void ssm_state_update(const SsmStateUpdateDims&, const SsmStateUpdate<bf16, bf16>&, cudaStream_t, Method);

}  // namespace assay::gpu
