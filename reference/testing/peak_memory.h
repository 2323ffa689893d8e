// How much of the heap a pass takes. Linked into a program, it counts every malloc, free and their relatives.
#pragma once

#include <cstddef>

namespace assay::reference::testing {

std::size_t allocated_bytes();       // now, by usable size
std::size_t most_allocated_bytes();  // since the last reset
void reset_most_allocated_bytes();   // to what is allocated now

}  // namespace assay::reference::testing
