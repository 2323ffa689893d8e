// Work on rows: how many rows make one piece, and sums over all rows in an order that does not depend on threads.
#pragma once

#include <algorithm>
#include <vector>

#include "reference/parallel.h"
#include "reference/tensor.h"

namespace assay::reference {

// Rows, or other units of work, of one piece: together about 32 K elements, or operations.
inline Index rows_per_piece(Index work_of_a_row) { return std::max<Index>(1, 32768 / std::max<Index>(1, work_of_a_row)); }

// body(unit) for every unit of `work` operations.
template <class Body>
void for_units(Index units, Index work, const Body& body) {
  parallel_for(units, rows_per_piece(work), [&](Index begin, Index end) {
    for (Index unit = begin; unit < end; ++unit) body(unit);
  });
}

// Calls body(row_begin, row_end, partial) for pieces of rows in parallel; partial [width] starts at 0 and takes the piece's
// sum over its rows. Returns the sum of the partials in ascending order. At most 8 partials exist.
template <class T, class Body>
Tensor<T> sum_over_rows(Index rows, Index width, const Body& body) {
  constexpr Index most_pieces = 8;
  const Index grain = std::max(rows_per_piece(width), (rows + most_pieces - 1) / most_pieces), pieces = (rows + grain - 1) / grain;
  std::vector<Tensor<T>> partials(static_cast<std::size_t>(pieces));
  parallel_for(rows, grain, [&](Index begin, Index end) {
    Tensor<T>& partial = partials[static_cast<std::size_t>(begin / grain)];
    partial = Tensor<T>({width});
    body(begin, end, partial.data());
  });
  Tensor<T> total({width});
  for (const Tensor<T>& partial : partials)
    for (Index j = 0; j < width; ++j) total[j] += partial[j];
  return total;
}

}  // namespace assay::reference
