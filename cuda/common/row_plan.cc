#include "cuda/common/row_plan.h"

#include <algorithm>

namespace assay::gpu {
namespace {

constexpr std::int64_t divide_up(std::int64_t n, std::int64_t d) { return n / d + (n % d != 0); }

}  // namespace

const char* name(RowVariant variant) {
  switch (variant) {
    case RowVariant::naive:
      return "naive";
    case RowVariant::warp_per_row:
      return "warp_per_row";
    case RowVariant::block_per_row:
      return "block_per_row";
    case RowVariant::block_rereads_row:
      return "block_rereads_row";
  }
  return "?";
}

int RowPlan::rows_per_block() const {
  switch (variant) {
    case RowVariant::naive:
      return threads;
    case RowVariant::warp_per_row:
      return threads / kWarpSize;
    default:
      return 1;
  }
}

std::int64_t RowPlan::blocks(std::int64_t rows) const {
  return std::min(divide_up(rows, rows_per_block()), kMaxBlocks);
}

RowPlan plan_row(std::int64_t elements, int vector_width, int max_block_threads, Method method) {
  if (method == Method::naive) return {RowVariant::naive, 1, kWarpTeamThreads};
  const std::int64_t kept = kept_elements(vector_width);
  if (elements <= kept * kWarpSize) return {RowVariant::warp_per_row, vector_width, kWarpTeamThreads};
  if (elements <= kept * max_block_threads) {
    const std::int64_t warps = divide_up(elements, kept * kWarpSize);
    return {RowVariant::block_per_row, vector_width, static_cast<int>(warps) * kWarpSize};
  }
  return {RowVariant::block_rereads_row, vector_width, kRereadThreads};
}

int vector_width(std::size_t element_size, std::initializer_list<std::int64_t> elements,
                 std::initializer_list<const void*> pointers) {
  const auto width = static_cast<std::int64_t>(16 / element_size);
  const bool fits = std::all_of(elements.begin(), elements.end(), [&](std::int64_t n) { return n % width == 0; }) &&
                    std::all_of(pointers.begin(), pointers.end(),
                                [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; });
  return fits ? static_cast<int>(width) : 1;
}

std::int64_t partial_count(std::int64_t rows) { return std::min(divide_up(rows, kRowsPerPartial), kMaxPartials); }

}  // namespace assay::gpu
