// ldmatrix, stmatrix and mma.sync against the layout tables in testdata/, one element at a time, and against a model
// that multiplies matrices element by element.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "cuda/simt/simt.cuh"
#include "cuda/simt/test_support.h"

namespace simt::testing {
namespace {

nlohmann::json table(const std::string& name) {
  std::ifstream file(std::string(SIMT_TESTDATA) + "/" + name);
  return nlohmann::json::parse(file);
}

// ---- ldmatrix, stmatrix

// Memory element e of row r holds 8 r + e; every lane addresses row `lane`.
template <int kCount, bool kTranspose>
__global__ void load_kernel(std::uint32_t* out) {
  SIMT_SHARED(std::uint16_t[32][8], rows);
  const int lane = static_cast<int>(threadIdx.x);
  for (int e = 0; e < 8; ++e) rows[lane][e] = static_cast<std::uint16_t>(8 * lane + e);
  __syncwarp();
  std::uint32_t r[kCount];
  ldmatrix<kCount, kTranspose>(r, rows[lane]);
  for (int i = 0; i < kCount; ++i) out[lane * kCount + i] = r[i];
}
// Half h of register i holds (lane * kCount + i) * 2 + h.
template <int kCount, bool kTranspose>
__global__ void store_kernel(std::uint16_t* out) {
  SIMT_SHARED(std::uint16_t[32][8], rows);
  const int lane = static_cast<int>(threadIdx.x);
  for (int e = 0; e < 8; ++e) rows[lane][e] = 0xFFFF;
  __syncwarp();
  std::uint32_t r[kCount];
  for (int i = 0; i < kCount; ++i) {
    const std::uint32_t low = static_cast<std::uint32_t>(lane * kCount + i) * 2;
    r[i] = low | (low + 1) << 16;
  }
  stmatrix<kCount, kTranspose>(rows[lane], r);
  __syncwarp();
  for (int e = 0; e < 8; ++e) out[lane * 8 + e] = rows[lane][e];
}

template <int kCount, bool kTranspose>
void check_memory_layout(const nlohmann::json& variant) {
  const std::vector<int> row = variant["row"], column = variant["col"];
  ASSERT_EQ(row.size(), 64u * kCount);
  const Buffer<std::uint32_t> registers(32 * kCount);
  launch(load_kernel<kCount, kTranspose>, {.grid = 1, .block = 32}, registers);
  const auto loaded = registers.host();
  const Buffer<std::uint16_t> memory(32 * 8);
  launch(store_kernel<kCount, kTranspose>, {.grid = 1, .block = 32}, memory);
  const auto stored = memory.host();
  std::vector<std::uint16_t> expected(32 * 8, 0xFFFF);
  for (std::size_t i = 0; i < row.size(); ++i) {
    const std::uint32_t half = loaded[i / 2] >> (16 * (i % 2)) & 0xFFFF;
    ASSERT_EQ(half, static_cast<std::uint32_t>(8 * row[i] + column[i])) << "register half " << i;
    expected[static_cast<std::size_t>(8 * row[i] + column[i])] = static_cast<std::uint16_t>(i);
  }
  ASSERT_EQ(stored, expected);
}

TEST(MatrixMemory, LayoutsEqualTheTables) {
  const auto data = table("ldmatrix_stmatrix.json");
  int checked = 0;
  for_each_schedule([&] {
    for (const auto& variant : data["variants"]) {
      SCOPED_TRACE(variant["num"].get<std::string>() + (variant["trans"] ? ".trans" : ""));
      const bool transpose = variant["trans"];
      switch (variant["matrices"].get<int>()) {
        case 1:
          transpose ? check_memory_layout<1, true>(variant) : check_memory_layout<1, false>(variant);
          break;
        case 2:
          transpose ? check_memory_layout<2, true>(variant) : check_memory_layout<2, false>(variant);
          break;
        case 4:
          transpose ? check_memory_layout<4, true>(variant) : check_memory_layout<4, false>(variant);
          break;
        default:
          FAIL();
      }
      ++checked;
    }
  });
  EXPECT_EQ(checked, 4 * 6);
}

__global__ void misuse_kernel(const float* global, int mode) {
  SIMT_SHARED(float[32][4], rows);
  for (int i = 0; i < 4; ++i) rows[threadIdx.x][i] = 0;
  __syncwarp();
  std::uint32_t r[4];
  const char* row = reinterpret_cast<const char*>(rows[threadIdx.x]);
  if (mode == 0) ldmatrix<4>(r, row + 8);
  if (mode == 1) ldmatrix<4>(r, global);
  if (mode == 2 && threadIdx.x < 16) ldmatrix<4>(r, row);
  if (mode == 3 && threadIdx.x == 5) return;
  if (mode == 3) ldmatrix<4>(r, row);
  __syncthreads();
}

TEST(MatrixMemory, ReportsMisuse) {
  const Buffer<float> global(4);
  const char* expected[] = {"ldmatrix: the row address is not 16-byte aligned\n  at matrix_test.cu:",
                            "ldmatrix: the row address is not in shared memory",
                            "ldmatrix at matrix_test.cu:", "ldmatrix: "};
  for_each_schedule([&] {
    for (int mode = 0; mode < 4; ++mode) {
      const std::string error = error_of([&] { launch(misuse_kernel, {.grid = 1, .block = 32}, global, mode); });
      EXPECT_NE(error.find(expected[mode]), std::string::npos) << mode << ": " << error;
    }
  });
}

// ---- mma.sync

template <class T>
struct Accumulator4 {
  T v[4];
};
struct Operands {  // of one lane
  std::uint32_t a[4], b[2];
};

// Block i multiplies a by operands[i]'s b: [blocks][32 lanes].
template <auto kMma, class T>
__global__ void mma_kernel(const Operands* a, const Operands* b, const Accumulator4<T>* c, Accumulator4<T>* d) {
  const int lane = static_cast<int>(threadIdx.x), own = static_cast<int>(blockIdx.x) * 32 + lane;
  std::uint32_t ra[4], rb[2];
  T rc[4], rd[4];
  for (int i = 0; i < 4; ++i) ra[i] = a[lane].a[i], rc[i] = c[lane].v[i];
  for (int i = 0; i < 2; ++i) rb[i] = b[own].b[i];
  kMma(rd, ra, rb, rc, Site::here());
  for (int i = 0; i < 4; ++i) d[own].v[i] = rd[i];
}

// Where the table puts each element, and how the element type writes small integers.
struct Fragment {
  int per_register, per_thread;
  std::vector<int> row, column;  // of value thread * per_thread + i
};
Fragment fragment(const nlohmann::json& operand, const char* row, const char* column) {
  return {operand["values_per_register"], operand["values_per_thread"], operand[row], operand[column]};
}
struct Instruction {
  const char* table_name;
  int k;
  std::uint32_t (*encode)(int value);
};
std::uint32_t encode_bf16(int v) { return __bfloat16_as_ushort(__float2bfloat16(static_cast<float>(v))); }
std::uint32_t encode_f16(int v) { return __half_as_ushort(__float2half(static_cast<float>(v))); }
std::uint32_t encode_tf32(int v) { return __builtin_bit_cast(std::uint32_t, static_cast<float>(v)); }
std::uint32_t encode_e4m3(int v) { return __nv_fp8_e4m3(static_cast<float>(v)).__x; }
std::uint32_t encode_e5m2(int v) { return __nv_fp8_e5m2(static_cast<float>(v)).__x; }
std::uint32_t encode_8(int v) { return static_cast<std::uint8_t>(v); }

void set_element(std::uint32_t* registers, const Fragment& f, int index, std::uint32_t bits) {
  const int i = index % f.per_thread, width = 32 / f.per_register;
  registers[i / f.per_register] |= bits << (width * (i % f.per_register));
}

template <auto kMma, class T>
struct Multiplier {
  Instruction instruction;
  Fragment a, b, c;

  explicit Multiplier(const Instruction& wanted) : instruction(wanted) {
    const auto data = table("mma_sync.json");
    for (const auto& entry : data["instructions"]) {
      if (entry["instruction"].get<std::string>().find(wanted.table_name) == std::string::npos) continue;
      a = fragment(entry["A"], "m", "k");
      b = fragment(entry["B"], "n", "k");
      c = fragment(entry["CD"], "m", "n");
    }
  }

  // d[block][m * 8 + n] for one a and c and many b; each given as matrices: a [16, k], b [k, 8], c [16, 8].
  std::vector<std::vector<T>> operator()(const std::vector<std::uint32_t>& a_bits,
                                         const std::vector<std::vector<std::uint32_t>>& b_bits,
                                         const std::vector<T>& c_values) const {
    std::vector<Operands> a_lanes(32), b_lanes(32 * b_bits.size());
    std::vector<Accumulator4<T>> c_lanes(32);
    const auto at = [](const std::vector<int>& v, std::size_t i) { return static_cast<std::size_t>(v[i]); };
    const auto k = static_cast<std::size_t>(instruction.k);
    for (std::size_t i = 0; i < a.row.size(); ++i) {
      set_element(a_lanes[i / a.per_thread].a, a, static_cast<int>(i), a_bits[at(a.row, i) * k + at(a.column, i)]);
    }
    for (std::size_t block = 0; block < b_bits.size(); ++block) {
      for (std::size_t i = 0; i < b.row.size(); ++i) {
        set_element(b_lanes[block * 32 + i / b.per_thread].b, b, static_cast<int>(i),
                    b_bits[block][at(b.column, i) * 8 + at(b.row, i)]);
      }
    }
    for (std::size_t i = 0; i < c.row.size(); ++i)
      c_lanes[i / 4].v[i % 4] = c_values[at(c.row, i) * 8 + at(c.column, i)];
    const Buffer<Operands> device_a(a_lanes), device_b(b_lanes);
    const Buffer<Accumulator4<T>> device_c(c_lanes), device_d(b_lanes.size());
    launch(mma_kernel<kMma, T>, {.grid = static_cast<unsigned>(b_bits.size()), .block = 32}, device_a, device_b,
           device_c, device_d);
    const auto d_lanes = device_d.host();
    std::vector<std::vector<T>> d(b_bits.size(), std::vector<T>(128));
    for (std::size_t block = 0; block < d.size(); ++block) {
      for (std::size_t i = 0; i < 128; ++i) {
        d[block][at(c.row, i) * 8 + at(c.column, i)] = d_lanes[block * 32 + i / 4].v[i % 4];
      }
    }
    return d;
  }
};

template <auto kMma, class T>
void check_one_element_at_a_time(const Instruction& instruction) {
  SCOPED_TRACE(instruction.table_name);
  const Multiplier<kMma, T> multiply(instruction);
  const int k = instruction.k;
  ASSERT_EQ(multiply.a.row.size(), static_cast<std::size_t>(16 * k));
  ASSERT_EQ(multiply.b.row.size(), static_cast<std::size_t>(8 * k));
  const std::uint32_t two = instruction.encode(2), three = instruction.encode(3);
  std::vector<std::vector<std::uint32_t>> each_b;  // one non-zero element
  for (int i = 0; i < 8 * k; ++i) {
    each_b.emplace_back(static_cast<std::size_t>(8 * k), 0u)[static_cast<std::size_t>(i)] = three;
  }
  std::vector<T> c(128);
  for (int i = 0; i < 128; ++i) c[i] = static_cast<T>(i + 1);
  for (int m = 0; m < 16; ++m) {
    for (int ka = 0; ka < k; ++ka) {
      std::vector<std::uint32_t> a(static_cast<std::size_t>(16 * k), 0u);
      a[static_cast<std::size_t>(m * k + ka)] = two;
      const auto d = multiply(a, each_b, c);
      for (int i = 0; i < 8 * k; ++i) {  // b's element (i / 8, i % 8)
        std::vector<T> expected = c;
        if (i / 8 == ka) expected[m * 8 + i % 8] += 6;
        ASSERT_EQ(d[i], expected) << "a (" << m << "," << ka << "), b (" << i / 8 << "," << i % 8 << ")";
      }
    }
  }
}

constexpr Instruction kBf16{"m16n8k16.row.col.f32.bf16", 16, encode_bf16};
constexpr Instruction kF16{"m16n8k16.row.col.f32.f16", 16, encode_f16};
constexpr Instruction kTf32{"m16n8k8.row.col.f32.tf32", 8, encode_tf32};
constexpr Instruction kE4m3{"m16n8k32.row.col.f32.e4m3", 32, encode_e4m3};
constexpr Instruction kE5m2{"m16n8k32.row.col.f32.e4m3", 32, encode_e5m2};  // one layout for all 8-bit types
constexpr Instruction kS8{"m16n8k32.row.col.s32.s8", 32, encode_8};

TEST(Mma, LayoutsEqualTheTables) {
  check_one_element_at_a_time<mma_bf16_16816, float>(kBf16);
  check_one_element_at_a_time<mma_f16_16816, float>(kF16);
  check_one_element_at_a_time<mma_tf32_1688, float>(kTf32);
  check_one_element_at_a_time<mma_e4m3_16832, float>(kE4m3);
  check_one_element_at_a_time<mma_e5m2_16832, float>(kE5m2);
  check_one_element_at_a_time<mma_s8_16832, int>(kS8);
  check_one_element_at_a_time<mma_u8_16832, int>(kS8);
}

// Random integers whose every partial sum is exact: all arithmetics must agree with the definition.
template <auto kMma, class T>
void check_products(const Instruction& instruction, int low, int high) {
  SCOPED_TRACE(instruction.table_name);
  const Multiplier<kMma, T> multiply(instruction);
  const int k = instruction.k;
  std::mt19937 random(7);
  const auto draw = [&] { return low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1)); };
  for (int repeat = 0; repeat < 5; ++repeat) {
    std::vector<int> a(16 * k), b(k * 8);
    std::vector<std::uint32_t> a_bits(a.size()), b_bits(b.size());
    std::vector<T> c(128);
    for (std::size_t i = 0; i < a.size(); ++i) a_bits[i] = instruction.encode(a[i] = draw());
    for (std::size_t i = 0; i < b.size(); ++i) b_bits[i] = instruction.encode(b[i] = draw());
    for (T& value : c) value = static_cast<T>(draw() * 1000);
    std::vector<T> expected = c;
    for (int m = 0; m < 16; ++m) {
      for (int n = 0; n < 8; ++n) {
        for (int i = 0; i < k; ++i) expected[m * 8 + n] += static_cast<T>(a[m * k + i] * b[i * 8 + n]);
      }
    }
    for_each_schedule([&] { EXPECT_EQ(multiply(a_bits, {b_bits}, c)[0], expected); });
  }
}

TEST(Mma, ExactProductsAreExactUnderEveryArithmetic) {
  check_products<mma_bf16_16816, float>(kBf16, -99, 99);
  check_products<mma_f16_16816, float>(kF16, -99, 99);
  check_products<mma_tf32_1688, float>(kTf32, -99, 99);
  check_products<mma_e4m3_16832, float>(kE4m3, -8, 8);
  check_products<mma_e5m2_16832, float>(kE5m2, -4, 4);
  check_products<mma_s8_16832, int>(kS8, -128, 127);
  check_products<mma_u8_16832, int>(kS8, 0, 255);
}

TEST(Mma, HostileArithmeticTruncatesTwiceAnInstruction) {
  const Multiplier<mma_bf16_16816, float> multiply(kBf16);
  std::vector<std::uint32_t> a(16 * 16, 0), b(16 * 8, 0);
  const auto bf16 = [](float v) { return std::uint32_t{__bfloat16_as_ushort(__float2bfloat16(v))}; };
  a[0] = bf16(0x1p-12f), b[0] = bf16(0x1.8p-12f);      // 1.5 * 2^-24: three quarters of an ulp of 1
  a[8] = bf16(0x1p-12f), b[8 * 8] = bf16(0x1.8p-12f);  // the same in the upper half
  const std::vector<float> c(128, 1.0f);
  set_schedule(0, 1);
  EXPECT_EQ(multiply(a, {b}, c)[0][0], 1.0f + 0x1p-22f);  // to nearest, up, twice
  set_schedule(2, 1);
  EXPECT_EQ(multiply(a, {b}, c)[0][0], 1.0f);  // cut off, twice
  // Floats below 1 are 2^-24 apart: -1 + 1.5 * 2^-24 is cut towards zero to -1 + 2 * 2^-24, twice.
  EXPECT_EQ(multiply(a, {b}, std::vector<float>(128, -1.0f))[0][0], -1.0f + 0x1p-22f);
  set_schedule(0, 1);
}

TEST(Mma, Tf32IgnoresTheLowBitsOfItsOperands) {
  const Multiplier<mma_tf32_1688, float> multiply(kTf32);
  std::vector<std::uint32_t> a(16 * 8, 0), b(8 * 8, 0);
  a[0] = __builtin_bit_cast(std::uint32_t, 1.0f) | 0x1FFF;
  b[0] = __builtin_bit_cast(std::uint32_t, 1.0f);
  EXPECT_EQ(multiply(a, {b}, std::vector<float>(128, 0.0f))[0][0], 1.0f);
}

__global__ void three_products_kernel(const float* values, float* together, float* apart) {
  const int lane = static_cast<int>(threadIdx.x);
  std::uint32_t a_upper[4], a_lower[4], b_upper[2], b_lower[2];
  const auto split = [&](int i, std::uint32_t& upper, std::uint32_t& lower) {
    const float value = values[i * 32 + lane];
    upper = to_tf32(value);
    lower = to_tf32(value - __uint_as_float(upper));
  };
  for (int q = 0; q < 4; ++q) split(q, a_upper[q], a_lower[q]);
  for (int q = 0; q < 2; ++q) split(4 + q, b_upper[q], b_lower[q]);
  float d[4], e[4];
  for (int q = 0; q < 4; ++q) d[q] = e[q] = values[(6 + q) * 32 + lane];
  mma_3xtf32_1688(d, a_upper, a_lower, b_upper, b_lower);
  mma_tf32_1688(e, a_lower, b_upper, e);
  mma_tf32_1688(e, a_upper, b_lower, e);
  mma_tf32_1688(e, a_upper, b_upper, e);
  for (int q = 0; q < 4; ++q) together[q * 32 + lane] = d[q], apart[q * 32 + lane] = e[q];
}

TEST(Mma, ThreeTf32ProductsTogetherAreThoseApart) {
  std::vector<float> values(10 * 32);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i + 1));
  const Buffer<float> in(values), together(128), apart(128);
  for (const std::size_t schedule : {0, 2}) {  // nominal, hostile
    set_schedule(schedule, 1);
    launch(three_products_kernel, {.grid = 1, .block = 32}, in, together, apart);
    EXPECT_EQ(together.host(), apart.host()) << schedule;
  }
  set_schedule(0, 1);
}

}  // namespace
}  // namespace simt::testing
