#include "cuda/simt/matrix_host.h"

#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <array>
#include <cstring>
#include <utility>

#include "cuda/simt/exec/counting.h"

namespace simt::host_matrix {

// ---- ldmatrix, stmatrix

void check_row(const char* instruction, const void* row, int count, bool write, Site site) {
  if (static_cast<int>(self().lane) >= 8 * count) return;  // this lane's address is not used
  const std::string name = instruction;
  if (shared_offset(row) == kNotShared) fail(name + ": the row address is not in shared memory", site);
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) fail(name + ": the row address is not 16-byte aligned", site);
  if (counting_enabled) log_access(place_of(site), row, 16, write);
  if (write) {
    report_write(const_cast<void*>(row), 16);
  } else {
    report_read(row, 16);
  }
}

namespace {

// The 16-bit element in memory that half `half` of register `matrix` of lane `lane` stands for.
template <bool kTranspose>
std::uint16_t* element(void* const* lanes, int lane, int matrix, int half) {
  const int across = 2 * (lane % 4) + half, along = lane / 4;
  const int row = kTranspose ? across : along, column = kTranspose ? along : across;
  return static_cast<std::uint16_t*>(static_cast<MemoryLane*>(lanes[8 * matrix + row])->row) + column;
}

}  // namespace

template <int kCount, bool kTranspose>
void run_load(void* const* lanes, unsigned) {
  std::uint32_t loaded[32][kCount];  // first all of it: a register may lie in the memory that is read
  for (int lane = 0; lane < 32; ++lane) {
    for (int matrix = 0; matrix < kCount; ++matrix) {
      loaded[lane][matrix] = *element<kTranspose>(lanes, lane, matrix, 0) |
                             static_cast<std::uint32_t>(*element<kTranspose>(lanes, lane, matrix, 1)) << 16;
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int matrix = 0; matrix < kCount; ++matrix) {
      static_cast<MemoryLane*>(lanes[lane])->registers[matrix] = loaded[lane][matrix];
    }
  }
}

template <int kCount, bool kTranspose>
void run_store(void* const* lanes, unsigned) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int matrix = 0; matrix < kCount; ++matrix) {
      const std::uint32_t value = static_cast<MemoryLane*>(lanes[lane])->registers[matrix];
      *element<kTranspose>(lanes, lane, matrix, 0) = static_cast<std::uint16_t>(value);
      *element<kTranspose>(lanes, lane, matrix, 1) = static_cast<std::uint16_t>(value >> 16);
    }
  }
}

template void run_load<1, false>(void* const*, unsigned);
template void run_load<1, true>(void* const*, unsigned);
template void run_load<2, false>(void* const*, unsigned);
template void run_load<2, true>(void* const*, unsigned);
template void run_load<4, false>(void* const*, unsigned);
template void run_load<4, true>(void* const*, unsigned);
template void run_store<1, false>(void* const*, unsigned);
template void run_store<1, true>(void* const*, unsigned);
template void run_store<2, false>(void* const*, unsigned);
template void run_store<2, true>(void* const*, unsigned);
template void run_store<4, false>(void* const*, unsigned);
template void run_store<4, true>(void* const*, unsigned);

// ---- elements. decode() takes the bits of one element, right-aligned.

struct Bf16 {
  static constexpr TensorType kType = TensorType::kBf16;
  static constexpr int kPerRegister = 2;
  static float decode(std::uint32_t bits) { return __builtin_bit_cast(float, bits << 16); }
};
struct F16 {
  static constexpr TensorType kType = TensorType::kF16;
  static constexpr int kPerRegister = 2;
  static float decode(std::uint32_t bits) {
    return __half2float(__half(__half_raw{static_cast<unsigned short>(bits)}));
  }
};
struct Tf32 {  // the low 13 bits of a float are not read
  static constexpr TensorType kType = TensorType::kTf32;
  static constexpr int kPerRegister = 1;
  static float decode(std::uint32_t bits) { return __builtin_bit_cast(float, bits & ~0x1FFFu); }
};
template <__nv_fp8_interpretation_t kFormat>
float decode_fp8(std::uint32_t bits) {
  const __half_raw half = __nv_cvt_fp8_to_halfraw(static_cast<__nv_fp8_storage_t>(bits), kFormat);
  return __half2float(__half(half));
}
struct E4m3 {
  static constexpr TensorType kType = TensorType::kE4m3;
  static constexpr int kPerRegister = 4;
  static float decode(std::uint32_t bits) { return decode_fp8<__NV_E4M3>(bits); }
};
struct E5m2 {
  static constexpr TensorType kType = TensorType::kE5m2;
  static constexpr int kPerRegister = 4;
  static float decode(std::uint32_t bits) { return decode_fp8<__NV_E5M2>(bits); }
};
struct S8 {
  static constexpr TensorType kType = TensorType::kS8;
  static constexpr int kPerRegister = 4;
  static int decode(std::uint32_t bits) { return static_cast<std::int8_t>(bits); }
};
struct U8 {
  static constexpr TensorType kType = TensorType::kU8;
  static constexpr int kPerRegister = 4;
  static int decode(std::uint32_t bits) { return static_cast<std::uint8_t>(bits); }
};

// ---- mma.sync

namespace {

constexpr int kM = 16, kN = 8;

// One row of B, C or D. Written as a vector: g++ vectorises the loops over k, with shuffles, when left to itself.
template <class T>
struct RowOf {
  typedef T Vector __attribute__((vector_size(kN * sizeof(T))));
};
template <class T>
using Row = typename RowOf<T>::Vector;

// Element i of register `bits`.
template <class Element>
auto unpack(std::uint32_t bits, int i) {
  constexpr int kBits = 32 / Element::kPerRegister;
  if constexpr (kBits == 32) {
    return Element::decode(bits);
  } else {
    return Element::decode(bits >> (kBits * i) & ((1u << kBits) - 1));
  }
}

// Towards zero. Clearing the 29 bits that a float lacks makes the conversion exact.
Row<float> truncate(const Row<double>& x) {
  Row<std::uint64_t> bits;
  std::memcpy(&bits, &x, sizeof x);
  bits &= ~((std::uint64_t{1} << 29) - 1);
  Row<double> shorter;
  std::memcpy(&shorter, &bits, sizeof bits);
  return __builtin_convertvector(shorter, Row<float>);
}

// One row of the product: c + sum over k of a[k] b[k].
template <int kK>
Row<float> add_products(Row<float> c, const float (&a)[kK], const Row<float> (&b)[kK]) {
  if (!hostile_arithmetic) {
    for (int k = 0; k < kK; ++k) c += a[k] * b[k];
    return c;
  }
  for (int first = kK / 2; first >= 0; first -= kK / 2) {
    Row<double> sum = __builtin_convertvector(c, Row<double>);
    for (int k = first; k < first + kK / 2; ++k) {
      sum += static_cast<double>(a[k]) * __builtin_convertvector(b[k], Row<double>);
    }
    c = truncate(sum);
  }
  return c;
}
template <int kK>
Row<int> add_products(Row<int> c, const int (&a)[kK], const Row<int> (&b)[kK]) {
  auto sum = reinterpret_cast<Row<unsigned>&>(c);  // wraps
  for (int k = 0; k < kK; ++k) sum += reinterpret_cast<const Row<unsigned>&>(b[k]) * static_cast<unsigned>(a[k]);
  return reinterpret_cast<Row<int>&>(sum);
}

}  // namespace

template <class Element, class Accumulator>
void run_multiply(void* const* lanes, unsigned) {
  constexpr int kE = Element::kPerRegister, kK = 8 * kE;
  if (ThreadLog* log = current_log(); log != nullptr) {
    log->tensor_operations[static_cast<std::size_t>(Element::kType)] += 2 * kM * kN * kK;
  }
  Accumulator a[kM][kK];
  Row<Accumulator> b[kK], c[kM];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& operands = *static_cast<const MmaLane<Accumulator>*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int q = 0; q < 4; ++q) {
      for (int i = 0; i < kE; ++i)
        a[g + 8 * (q % 2)][t * kE + i + 4 * kE * (q / 2)] = unpack<Element>(operands.a[q], i);
    }
    for (int q = 0; q < 2; ++q) {
      for (int i = 0; i < kE; ++i) b[t * kE + i + 4 * kE * q][g] = unpack<Element>(operands.b[q], i);
    }
    for (int q = 0; q < 4; ++q) c[g + 8 * (q / 2)][2 * t + q % 2] = operands.c[q];
  }
  for (int m = 0; m < kM; ++m) c[m] = add_products<kK>(c[m], a[m], b);
  for (int lane = 0; lane < 32; ++lane) {
    const auto& operands = *static_cast<const MmaLane<Accumulator>*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int q = 0; q < 4; ++q) operands.d[q] = c[g + 8 * (q / 2)][2 * t + q % 2];
  }
}

template void run_multiply<Bf16, float>(void* const*, unsigned);
template void run_multiply<F16, float>(void* const*, unsigned);
template void run_multiply<Tf32, float>(void* const*, unsigned);
template void run_multiply<E4m3, float>(void* const*, unsigned);
template void run_multiply<E5m2, float>(void* const*, unsigned);
template void run_multiply<S8, int>(void* const*, unsigned);
template void run_multiply<U8, int>(void* const*, unsigned);

void run_3xtf32(void* const* lanes, unsigned mask) {
  using Operands = std::uint32_t const* Mma3xTf32Lane::*;
  constexpr std::pair<Operands, Operands> kProducts[] = {{&Mma3xTf32Lane::a_lower, &Mma3xTf32Lane::b_upper},
                                                         {&Mma3xTf32Lane::a_upper, &Mma3xTf32Lane::b_lower},
                                                         {&Mma3xTf32Lane::a_upper, &Mma3xTf32Lane::b_upper}};
  for (const auto& [a, b] : kProducts) {
    std::array<MmaLane<float>, 32> product;
    std::array<void*, 32> pointers;
    for (std::size_t lane = 0; lane < 32; ++lane) {
      const auto& of = *static_cast<const Mma3xTf32Lane*>(lanes[lane]);
      product[lane] = {of.d, of.*a, of.*b, of.d};
      pointers[lane] = &product[lane];
    }
    run_multiply<Tf32, float>(pointers.data(), mask);
  }
}

}  // namespace simt::host_matrix
