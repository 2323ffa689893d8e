// Texts of the executor's errors.
#pragma once

#include <string>

#include "cuda/simt/exec/block.h"

namespace simt {

std::string describe(Site site);                // file.cu:57
std::string describe(const BlockShape& block);  // block (0,1,0)
std::string describe(const Fiber& fiber);       // thread (3,0,0) = warp 0 lane 3, block (0,1,0)
std::string hex(unsigned mask);                 // 0x0000ffff

// One line for each group of neighbouring threads that wait for the same thing at the same line.
std::string describe_waiting(const Block& block);

}  // namespace simt
