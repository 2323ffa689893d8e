// The state space scan, forward: the states at the ends of documents (varlen_states of ssd_scan.h).
//
// Computes   the recurrence from a document's first token to its last
// Source     Mamba-2; reference/ssd_scan.cc, ssd_scan_varlen_states
// Numerics   float, one token after the other, one rounding
// Method     after the scan. A block takes one document, one head, kTileChannels channels and kThreads columns of the
//            state, which it keeps in registers, a column a thread; steps and x of kThreads tokens at a time lie in
//            shared memory. After the chunked scan it begins with the chunk of the document's last token, from the
//            state that entered this chunk, which the workspace still has; after the plain one with the first token
// Cost       chunked: at most one chunk of tokens for each document. Not a product: documents are few
#include "cuda/common/check.h"
#include "cuda/ssd_scan/ssd_scan.cuh"

namespace assay::gpu::ssd_scan {
namespace {

constexpr int kThreads = 128, kTileChannels = 8;

// `states`: those between the chunks, as the chunked scan left them; null after the plain one.
template <class T>
__global__ void __launch_bounds__(kThreads)
    ssd_scan_varlen_states_kernel(SsdScanDims dims, SsdScanForward<T> t, StateLayout layout, const float* states) {
  SIMT_SHARED(float[kThreads], decays);
  SIMT_SHARED(float[kThreads][kTileChannels], inputs);  // Delta x
  const int thread = static_cast<int>(threadIdx.x), head_dim = static_cast<int>(dims.head_dim);
  const std::int64_t N = dims.state_size, across = (N + kThreads - 1) / kThreads,
                     down = (head_dim + kTileChannels - 1) / kTileChannels;
  std::int64_t block = blockIdx.x;
  const std::int64_t n = block % across * kThreads + thread;
  block /= across;
  const int channel0 = static_cast<int>(block % down) * kTileChannels;
  block /= down;
  const std::int64_t head = block % dims.heads, document = block / dims.heads;
  const int channels = head_dim - channel0 < kTileChannels ? head_dim - channel0 : kTileChannels;

  std::int64_t begin = t.cu_seqlens[document];
  const std::int64_t end = t.cu_seqlens[document + 1] - planted<Break::scan_document_ends_early>;
  float h[kTileChannels] = {};
  if (states != nullptr && end > begin) {
    const std::int64_t chunk = (end - 1) / layout.chunk;
    if (begin < chunk * layout.chunk || (planted<Break::scan_document_not_restarted> && chunk > 0)) {
      begin = chunk * layout.chunk;
      SIMT_UNROLL
      for (int c = 0; c < kTileChannels; ++c) {
        if (c < channels && n < N) h[c] = __ldcg(states + layout.offset(head * head_dim + channel0 + c, chunk - 1, n));
      }
    }
  }
  const T* const B = t.B + head / (dims.heads / dims.groups) * N;
  for (std::int64_t first = begin; first < end; first += kThreads) {
    const int count = end - first < kThreads ? static_cast<int>(end - first) : kThreads;
    __syncthreads();  // the tokens before have been read
    if (thread < count) {
      const std::int64_t token = first + thread;
      const float delta = step_size(dims, t, token, head);
      decays[thread] = expf(delta * t.A[head]);
      for (int c = 0; c < channels; ++c) {
        inputs[thread][c] = delta * to_float(t.x[token * dims.x_stride + head * head_dim + channel0 + c]);
      }
    }
    __syncthreads();
    if (n >= N) continue;
    for (int i = 0; i < count; ++i) {
      const float b = to_float(B[(first + i) * dims.B_stride + n]);
      SIMT_UNROLL
      for (int c = 0; c < kTileChannels; ++c) {
        if (c < channels) h[c] = decays[i] * h[c] + inputs[i][c] * b;
      }
    }
  }
  if (n >= N) return;
  T* const out = t.varlen_states + ((document * dims.heads + head) * head_dim + channel0) * N + n;
  SIMT_UNROLL
  for (int c = 0; c < kTileChannels; ++c) {
    if (c < channels) out[c * N] = from_float<T>(h[c]);
  }
}

}  // namespace

template <class T>
void launch_varlen_states(const Plan& plan, const SsdScanDims& dims, const SsdScanForward<T>& tensors,
                          cudaStream_t stream) {
  const std::int64_t across = (dims.state_size + kThreads - 1) / kThreads,
                     down = (dims.head_dim + kTileChannels - 1) / kTileChannels,
                     blocks = tensors.documents * dims.heads * down * across;
  if (blocks == 0) return;
  require(blocks <= INT32_MAX, "ssd_scan_forward: ", blocks, " blocks of varlen_states; want at most 2^31 - 1");
  const auto* const states = plan.naive ? nullptr : static_cast<const float*>(tensors.workspace);
  simt::launch(
      ssd_scan_varlen_states_kernel<T>,
      {.grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(kThreads), .stream = stream}, dims, tensors,
      StateLayout{plan.chunk, plan.channels, plan.slices, kRowBytes / static_cast<int>(sizeof(T)), plan.chunks - 1},
      states);
}

template void launch_varlen_states(const Plan&, const SsdScanDims&, const SsdScanForward<float>&, cudaStream_t);
template void launch_varlen_states(const Plan&, const SsdScanDims&, const SsdScanForward<__nv_bfloat16>&, cudaStream_t);

}  // namespace assay::gpu::ssd_scan
