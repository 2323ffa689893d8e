// How a family picks its kernel.
#pragma once

namespace assay::gpu {

enum class Method {
  automatic,  // the fastest variant that fits the sizes and alignments
  naive,      // the plain version: sequential sums, one thread per result. A second opinion, not a product
};

}  // namespace assay::gpu
