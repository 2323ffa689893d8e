// The state space scan, forward: the border, and the plain version.
//
// Computes   what ssd_scan.h says, one token after the other
// Source     Mamba-2; reference/ssd_scan_recurrence.h
// Numerics   the state in float, y's sum over the state in double, one rounding of y
// Method     a thread for each (batch row, head, channel); its row of the state lives in final_state
// Versions   naive (here: a second opinion, and for sizes that chunked leaves), chunked (ssd_scan_chunked.cu)
// Cost       naive: 2 * state_size * 4 bytes of state a token and channel, from the cache. Not a product
// Limits     naive: none but those of the dims
#include "cuda/common/check.h"
#include "cuda/ssd_scan/ssd_scan.cuh"

namespace assay::gpu {
namespace ssd_scan {
namespace {

constexpr int kNaiveThreads = 128;

template <class T>
__global__ void __launch_bounds__(kNaiveThreads) ssd_scan_forward_naive_kernel(SsdScanDims dims, SsdScanForward<T> t) {
  const std::int64_t channels = dims.heads * dims.head_dim, N = dims.state_size;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= dims.batch * channels) return;
  const std::int64_t b = i / channels, channel = i % channels, head = channel / dims.head_dim;
  const std::int64_t vector = head / (dims.heads / dims.groups) * N;
  float* const state = t.final_state + i * N;
  for (std::int64_t n = 0; n < N; ++n) {
    state[n] = t.initial_state.data != nullptr ? scalar_at(t.initial_state, i * N + n) : 0.0f;
  }
  std::int32_t document = 0;
  for (std::int64_t token = b * dims.seq_len; token < (b + 1) * dims.seq_len; ++token) {
    const float delta = step_size(dims, t, token, head);
    float decay = expf(delta * t.A[head]);
    if (t.seq_idx != nullptr) {
      if (t.seq_idx[token] != document) decay = 0.0f;
      document = t.seq_idx[token];
    }
    const float x = to_float(t.x[token * dims.x_stride + channel]);
    const T* const B = t.B + token * dims.B_stride + vector;
    const T* const C = t.C + token * dims.C_stride + vector;
    double sum = 0.0;
    for (std::int64_t n = 0; n < N; ++n) {
      const float kept = decay <= 0.0f ? 0.0f : decay * state[n];  // a dropped state may be infinite
      state[n] = kept + delta * x * to_float(B[n]);
      sum += static_cast<double>(state[n]) * to_float(C[n]);
    }
    auto y = static_cast<float>(sum);
    if (t.D.data != nullptr) y += scalar_at(t.D, t.D_per_channel ? channel : head) * x;
    if (t.ungated_y != nullptr) t.ungated_y[token * channels + channel] = from_float<T>(y);
    if (t.z != nullptr) y *= silu(to_float(t.z[token * dims.z_stride + channel]));
    t.y[token * channels + channel] = from_float<T>(y);
  }
}

}  // namespace

template <class T>
void launch_naive(const SsdScanDims& dims, const SsdScanForward<T>& tensors, cudaStream_t stream) {
  const std::int64_t threads = dims.batch * dims.heads * dims.head_dim;
  const auto blocks = static_cast<unsigned>((threads + kNaiveThreads - 1) / kNaiveThreads);
  simt::launch(ssd_scan_forward_naive_kernel<T>, {.grid = dim3(blocks), .block = dim3(kNaiveThreads), .stream = stream},
               dims, tensors);
}

}  // namespace ssd_scan

template <class T>
void ssd_scan_forward(const SsdScanDims& dims, const SsdScanForward<T>& tensors, cudaStream_t stream, Method method) {
  const auto& t = tensors;
  const char* const name = "ssd_scan_forward";
  ssd_scan::check_dims(name, dims);
  require(t.dt_min <= t.dt_max, name, ": dt_min = ", t.dt_min, ", dt_max = ", t.dt_max, "; want dt_min <= dt_max");
  if (dims.batch == 0) return;
  require(t.A && t.final_state, name, ": A or final_state is null; want a pointer");
  require(dims.seq_len == 0 || (t.x && t.dt && t.B && t.C && t.y), name, ": x, dt, B, C or y is null; want a pointer");
  bool aligned = true;
  for (const void* p :
       {static_cast<const void*>(t.x), static_cast<const void*>(t.B), static_cast<const void*>(t.C),
        static_cast<const void*>(t.z), static_cast<const void*>(t.y), static_cast<const void*>(t.ungated_y),
        static_cast<const void*>(t.final_state), t.initial_state.data}) {
    aligned = aligned && reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
  }
  const ssd_scan::Plan plan = ssd_scan::plan_forward(dims, sizeof(T), aligned, method);
  if (t.varlen_states != nullptr) {
    require(dims.batch == 1, name, ": batch = ", dims.batch, "; want 1 with varlen_states");
    require(t.documents >= 0 && t.cu_seqlens, name, ": documents = ", t.documents,
            t.cu_seqlens ? "" : ", cu_seqlens is null", "; want >= 0 and a pointer with varlen_states");
    require(!t.initial_state && (t.seq_idx || dims.seq_len == 0), name,
            ": varlen_states with an initial_state or without seq_idx; want documents that begin with zeros");
  }
  if (plan.naive) {
    ssd_scan::launch_naive(dims, t, stream);
    if (t.varlen_states != nullptr) ssd_scan::launch_varlen_states(plan, dims, t, stream);
    return;
  }
  require(plan.blocks <= INT32_MAX, name, ": ", plan.blocks, " chunks in all groups; want at most 2^31 - 1");
  require(t.workspace && reinterpret_cast<std::uintptr_t>(t.workspace) % 16 == 0, name,
          ": workspace is null or not 16-byte aligned");
  ssd_scan::launch_chunked<T>(plan, dims, t, nullptr, stream);
  if (t.varlen_states != nullptr) ssd_scan::launch_varlen_states(plan, dims, t, stream);
}

template void ssd_scan_forward(const SsdScanDims&, const SsdScanForward<float>&, cudaStream_t, Method);
template void ssd_scan_forward(const SsdScanDims&, const SsdScanForward<__nv_bfloat16>&, cudaStream_t, Method);

}  // namespace assay::gpu
