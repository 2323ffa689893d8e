// The elementary functions that fill the layers' inner loops, once for each instruction set. They are the same IEEE
// operations in every lane of whatever register: all kernels give the same bits, and the machine may choose.
#pragma once

#include <cstdint>
#include <span>

namespace assay::reference {

// y[i] = f(x[i]) for i < n; x and y may be the same. `scale` as in elementary.h.
template <class T>
struct ElementaryKernel {
  using Function = void (*)(const T* x, T* y, std::int64_t n, T scale);
  const char* name;
  Function exp, silu;
};

// Those that this machine can run, the fastest first.
template <class T>
std::span<const ElementaryKernel<T>> elementary_kernels();

// To be called only on machines that have AVX-512.
template <class T>
ElementaryKernel<T> elementary_kernel_avx512();

}  // namespace assay::reference
