// How kernels that reduce over rows spread one row over threads. A "row" is whatever one sum runs over: a row of hidden
// states, or one group of channels in it. Pure host functions: nothing here needs a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "cuda/common/method.h"

namespace assay::gpu {

enum class RowVariant {
  naive,              // one thread per row
  warp_per_row,       // one warp per row, the row in registers
  block_per_row,      // one block per row, the row in registers
  block_rereads_row,  // one block per row of any length, read once more for each pass over it
};
const char* name(RowVariant variant);

// What one thread keeps of a row in registers, in elements. With 16-byte accesses 16 elements are two vectors of
// bfloat16 or four of float32; single elements cost an address each, so fewer are kept.
constexpr int kept_elements(int vector_width) { return vector_width > 1 ? 16 : 8; }
constexpr int kept_vectors(int vector_width) { return kept_elements(vector_width) / vector_width; }

constexpr int kWarpSize = 32;
constexpr int kWarpTeamThreads = 128;  // four rows per block; more would only make blocks harder to place
constexpr int kRereadThreads = 256;
constexpr std::int64_t kMaxBlocks = 1 << 16;

struct RowPlan {
  RowVariant variant = RowVariant::naive;
  int vector_width = 1;  // elements per access: 16 bytes of the activations, or 1
  int threads = kWarpTeamThreads;

  int rows_per_block() const;
  // Blocks for `rows` rows, at most kMaxBlocks: kernels stride over what is left.
  std::int64_t blocks(std::int64_t rows) const;
};

// `vector_width` is what vector_width() found for the call; `max_block_threads` what block_per_row is compiled for.
RowPlan plan_row(std::int64_t elements, int vector_width, int max_block_threads, Method method);

// 16 / element_size if every size in `elements` (row lengths, strides) divides by that and every pointer is 16-byte
// aligned (null is), else 1.
int vector_width(std::size_t element_size, std::initializer_list<std::int64_t> elements,
                 std::initializer_list<const void*> pointers);

// Weight gradients are summed in two steps of fixed order: rows p, p + count, p + 2 count, ... into partial sum p, then
// the partial sums. `count` depends on the number of rows alone, so the order does, too. At least four rows for each
// partial sum keep their traffic below a quarter of the activations'; 1,024 of them fill any present device.
constexpr std::int64_t kRowsPerPartial = 4;
constexpr std::int64_t kMaxPartials = 1024;
std::int64_t partial_count(std::int64_t rows);

}  // namespace assay::gpu
