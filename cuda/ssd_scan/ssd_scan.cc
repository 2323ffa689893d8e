#include "cuda/ssd_scan/ssd_scan.h"

#include "cuda/common/check.h"
#include "cuda/ssd_scan/plan.h"

namespace assay::gpu {
namespace ssd_scan {

void check_dims(const char* function, const SsdScanDims& d) {
  constexpr std::int64_t kMax = 1 << 20;
  require_size(function, "batch", d.batch, 0, kMax);
  require_size(function, "seq_len", d.seq_len, 0, 1 << 30);
  require_size(function, "heads", d.heads, 1, kMax);
  require_size(function, "head_dim", d.head_dim, 1, kMax);
  require_size(function, "state_size", d.state_size, 1, kMax);
  require(d.heads * d.head_dim <= kMax, function, ": heads * head_dim = ", d.heads * d.head_dim, "; want at most 2^20");
  require_groups(function, d.groups, d.heads);
  require_scan_strides(function, d);
}

namespace {

// `chunk` tokens of all that a block takes, `channels` of a head at a time.
Plan plan_chunks(const SsdScanDims& d, std::size_t element_size, int chunk, int channels, bool normed) {
  const auto slices = [&](std::int64_t columns) {
    const auto per_slice = static_cast<std::int64_t>(kRowBytes / element_size);
    return static_cast<int>((columns + per_slice - 1) / per_slice);
  };
  Plan plan{.naive = false, .chunk = chunk, .channels = channels};
  plan.chunks = (d.seq_len + chunk - 1) / chunk;
  plan.slices = slices(d.state_size);
  plan.tile_slices = normed ? slices(d.heads / d.groups * d.head_dim) : 1;
  const int steps = chunk * (3 * 4 + 1) + 8;  // delta, cum, U, documents, the ticket
  plan.shared_bytes = static_cast<unsigned>(
      kRowBytes * (chunk * (2 * plan.slices + plan.tile_slices) + channels * plan.slices + (steps + 127) / 128));
  plan.blocks = d.batch * d.groups * plan.chunks;
  const std::int64_t tiles = d.batch * d.heads * (d.head_dim / channels);
  plan.states = tiles * (plan.chunks - 1);
  plan.flags = plan.states * (chunk / 16);
  return plan;
}

}  // namespace

Plan plan_forward(const SsdScanDims& d, std::size_t element_size, bool aligned, Method method) {
  const auto vector = static_cast<std::int64_t>(16 / element_size);
  const bool strides =
      d.x_stride % vector == 0 && d.B_stride % vector == 0 && d.C_stride % vector == 0 && d.z_stride % vector == 0;
  if (method == Method::naive || !aligned || !strides || d.seq_len == 0 || d.head_dim % 16 != 0 ||
      d.state_size % 16 != 0 || d.state_size > kMaxStateSize) {
    return {.naive = true};
  }
  // B and C of a chunk, a tile of x and the entering state lie in 99 KB: the wider the rows, the fewer of them.
  const bool narrow = d.state_size <= 128;
  int channels = element_size == 2 ? 32 : 16;
  while (d.head_dim % channels != 0) channels /= 2;
  const int chunk = element_size == 2 ? (narrow && channels == 32 ? 128 : 64) : 32;
  return plan_chunks(d, element_size, chunk, channels, false);
}

Plan plan_normed(const SsdScanDims& d, std::size_t element_size, bool aligned, Method method,
                 std::size_t shared_memory) {
  const Plan scan = plan_forward(d, element_size, aligned, method);
  if (scan.naive || d.heads / d.groups * d.head_dim > kMaxNormedChannels) return {.naive = true};
  for (int chunk = scan.chunk; chunk >= (element_size == 2 ? 64 : 32); chunk /= 2) {
    const Plan plan = plan_chunks(d, element_size, chunk, scan.channels, true);
    if (plan.shared_bytes <= shared_memory) return plan;
  }
  return {.naive = true};
}

}  // namespace ssd_scan

std::size_t ssd_scan_forward_workspace(const SsdScanDims& dims, std::size_t element_size) {
  ssd_scan::check_dims("ssd_scan_forward_workspace", dims);
  return ssd_scan::plan_forward(dims, element_size, true, Method::automatic).workspace_bytes(element_size);
}

const char* ssd_scan_variant(const SsdScanDims& dims, std::size_t element_size, Method method) {
  ssd_scan::check_dims("ssd_scan_variant", dims);
  return ssd_scan::plan_forward(dims, element_size, true, method).naive ? "naive" : "chunked";
}

}  // namespace assay::gpu
