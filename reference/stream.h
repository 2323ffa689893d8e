// Results written past the caches: a store then does not fetch the line that it overwrites. It pays where inputs and outputs
// together fill the caches anyway (not in rms_norm). Where the destination is not aligned, the stores are ordinary ones. Other
// threads see them after finish_streams().
#pragma once

#include <algorithm>
#include <cstdint>

#include "reference/pack.h"

namespace assay::reference {

inline void finish_streams() { _mm_sfence(); }

// The pack at p, and those at multiples of `step` elements from it.
template <class T>
bool can_stream(const T* p, std::int64_t step = Pack<T>::width) {
  return reinterpret_cast<std::uintptr_t>(p) % sizeof(Pack<T>) == 0 && step % Pack<T>::width == 0;
}

// to[i] = value(lanes), i < n; lanes as of for_packs.
template <class T, class Value>
void stream(T* to, std::int64_t n, const Value& value) {
  std::int64_t i = 0;
  if (can_stream(to))
    for (; i + Pack<T>::width <= n; i += Pack<T>::width) value(WholePack<T>{i}).stream(to + i);
  for (; i < n; i += Pack<T>::width) {
    const PartOfPack<T> lanes{i, static_cast<int>(std::min<std::int64_t>(Pack<T>::width, n - i))};
    lanes.store(to, value(lanes));
  }
}

// to [columns, rows] = the transpose of from [rows, columns].
template <class T>
void stream_transposed(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t columns, T* to) {
  constexpr std::int64_t width = Pack<T>::width;
  const std::int64_t whole_rows = can_stream(to, rows) ? rows : 0, whole_columns = columns / width * width;
  for (std::int64_t j = 0; j < whole_columns; j += width)
    for (std::int64_t i = 0; i < whole_rows; i += width) {
      Pack<T> block[width];
      for (std::int64_t e = 0; e < width; ++e) block[e] = Pack<T>::load(from + (i + e) * stride + j);
      transpose(block);
      for (std::int64_t e = 0; e < width; ++e) block[e].stream(to + (j + e) * rows + i);
    }
  for (std::int64_t j = 0; j < columns; ++j)
    for (std::int64_t i = j < whole_columns ? whole_rows : 0; i < rows; ++i) to[j * rows + i] = from[i * stride + j];
}

}  // namespace assay::reference
