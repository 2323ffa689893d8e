// How a family picks its kernel.
#pragma once

namespace assay::gpu {

enum class Method {
  automatic,  // the fastest variant that fits the sizes and alignments
  naive,      // the plain version: one thread per result, sums in double. A second opinion, not a product
};

}  // namespace assay::gpu
