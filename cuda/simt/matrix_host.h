// ldmatrix, stmatrix and mma.sync on the CPU: what each lane hands to the collective, and the operations.
#pragma once

#include <cstdint>

#include "cuda/simt/exec/thread.h"

namespace simt::host_matrix {

struct MemoryLane {
  std::uint32_t* registers;
  void* row;
};
template <int kCount, bool kTranspose>
void run_load(void* const* lanes, unsigned mask);
template <int kCount, bool kTranspose>
void run_store(void* const* lanes, unsigned mask);
template <int kCount, bool kTranspose>
inline constexpr Collective kLoad{"ldmatrix", run_load<kCount, kTranspose>, false, true};
template <int kCount, bool kTranspose>
inline constexpr Collective kStore{"stmatrix", run_store<kCount, kTranspose>, false, true};

// The row that this lane addresses, if its matrix takes part.
void check_row(const char* instruction, const void* row, int count, bool write, Site site);

template <int kCount, bool kTranspose>
void load(std::uint32_t (&r)[kCount], const void* row, Site site) {
  check_row("ldmatrix", row, kCount, false, site);
  MemoryLane lane{r, const_cast<void*>(row)};
  collective(kLoad<kCount, kTranspose>, ~0u, &lane, site);
}
template <int kCount, bool kTranspose>
void store(void* row, const std::uint32_t (&r)[kCount], Site site) {
  check_row("stmatrix", row, kCount, true, site);
  MemoryLane lane{const_cast<std::uint32_t*>(r), row};
  collective(kStore<kCount, kTranspose>, ~0u, &lane, site);
}

// Element types: kPerRegister of them fill 32 bits; Value computes, Sum accumulates.
struct Bf16;
struct F16;
struct Tf32;
struct E4m3;
struct E5m2;
struct S8;
struct U8;

template <class Accumulator>
struct MmaLane {
  Accumulator* d;
  const std::uint32_t *a, *b;
  const Accumulator* c;
};
template <class Element, class Accumulator>
void run_multiply(void* const* lanes, unsigned mask);
template <class Element, class Accumulator>
inline constexpr Collective kMultiply{"mma.sync", run_multiply<Element, Accumulator>, false, true};

template <class Element, class Accumulator>
void multiply(Accumulator (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], const Accumulator (&c)[4],
              Site site) {
  MmaLane<Accumulator> lane{d, a, b, c};
  collective(kMultiply<Element, Accumulator>, ~0u, &lane, site);
}

struct Mma3xTf32Lane {
  float* d;
  const std::uint32_t *a_upper, *a_lower, *b_upper, *b_lower;
};
void run_3xtf32(void* const* lanes, unsigned mask);
inline constexpr Collective kMultiply3xTf32{"mma.sync, three of tf32", run_3xtf32, false, true};

inline void multiply_3xtf32(float (&d)[4], const std::uint32_t (&a_upper)[4], const std::uint32_t (&a_lower)[4],
                            const std::uint32_t (&b_upper)[2], const std::uint32_t (&b_lower)[2], Site site) {
  Mma3xTf32Lane lane{d, a_upper, a_lower, b_upper, b_lower};
  collective(kMultiply3xTf32, ~0u, &lane, site);
}

}  // namespace simt::host_matrix
