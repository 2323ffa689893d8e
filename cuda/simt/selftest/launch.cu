// launch() and what a block gets from it: its place, its arguments, static and dynamic shared memory.
#include "cuda/simt/selftest/check.h"
#include "cuda/simt/selftest/device.cuh"
#include "cuda/simt/selftest/operands.h"

namespace simt::selftest {
namespace {

// ---- places and arguments

struct Argument {
  double wide;
  char byte;
  float values[3];
};
constexpr int kPlaceWords = 14;
__global__ void place_kernel(unsigned* out, Argument a, short number, float converted) {
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned words[kPlaceWords] = {threadIdx.x,
                                       threadIdx.y,
                                       threadIdx.z,
                                       blockIdx.x,
                                       blockIdx.y,
                                       blockIdx.z,
                                       blockDim.x,
                                       blockDim.y,
                                       blockDim.z,
                                       gridDim.x,
                                       gridDim.y,
                                       gridDim.z,
                                       static_cast<unsigned>(a.wide + a.byte + a.values[0] + a.values[2]),
                                       static_cast<unsigned>(number + static_cast<int>(converted) + warpSize)};
  for (int i = 0; i < kPlaceWords; ++i)
    out[(block * blockDim.x * blockDim.y * blockDim.z + thread) * kPlaceWords + i] = words[i];
}
void place_test(Check& check) {
  const Argument argument{1000, 7, {0.5f, -1, 20.5f}};
  for (const auto& [grid, block] : {std::pair{dim3(1), dim3(1)}, {dim3(5), dim3(33)}, {dim3(2, 3, 4), dim3(3, 5, 7)}}) {
    const unsigned threads = block.x * block.y * block.z, blocks = grid.x * grid.y * grid.z;
    const Array<unsigned> out(std::size_t{blocks} * threads * kPlaceWords);
    launch(place_kernel, {.grid = grid, .block = block}, out, argument, -3, 40);  // both converted
    finish();
    const std::vector<unsigned> got = out.host();
    for (unsigned b = 0; b < blocks; ++b) {
      for (unsigned t = 0; t < threads; ++t) {
        const unsigned wanted[kPlaceWords] = {t % block.x,
                                              t / block.x % block.y,
                                              t / (block.x * block.y),
                                              b % grid.x,
                                              b / grid.x % grid.y,
                                              b / (grid.x * grid.y),
                                              block.x,
                                              block.y,
                                              block.z,
                                              grid.x,
                                              grid.y,
                                              grid.z,
                                              1028,
                                              69};
        for (int i = 0; i < kPlaceWords; ++i) {
          check.equal(got[(std::size_t{b} * threads + t) * kPlaceWords + static_cast<std::size_t>(i)], wanted[i],
                      [&] { return operands("block", b, "thread", t, "word", i); });
        }
      }
    }
  }
}

// Launches of one stream run in order.
__global__ void double_kernel(int* x) { x[threadIdx.x] = 2 * x[threadIdx.x] + 1; }
void stream_test(Check& check) {
  constexpr int kLaunches = 20;
  const Stream stream;
  const Array<int> x(std::vector<int>(64, 0));
  for (int i = 0; i < kLaunches; ++i) launch(double_kernel, {.grid = 1, .block = 64, .stream = stream}, x);
  finish();
  for (const int value : x.host()) check.equal(value, (1 << kLaunches) - 1, [] { return std::string("x"); });
}

// Blocks of a group wait for each other.
__global__ void group_kernel(int* out, unsigned* arrived) {
  if (threadIdx.x == 0) {
    atomicAdd(arrived, 1u);
    while (atomicAdd(arrived, 0u) < gridDim.x) spin_yield();
  }
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = static_cast<int>(atomicAdd(arrived, 0u));
}
void group_test(Check& check) {
  constexpr unsigned kBlocks = 4, kThreads = 64;
  const Array<int> out(kBlocks * kThreads);
  launch(group_kernel, {.grid = kBlocks, .block = kThreads, .group = kBlocks}, out,
         Array<unsigned>(std::vector<unsigned>{0}));
  finish();
  for (const int value : out.host()) check.equal(value, int{kBlocks}, [] { return std::string("blocks seen"); });
}

// An impossible launch throws, and the next one is none the worse.
template <class Body>
bool throws(Body body) {
  try {
    body();
  } catch (const std::exception&) {
    return true;
  }
  return false;
}
void refusal_test(Check& check) {
  const Array<int> x(std::vector<int>(64, 3));
  const Launch too_many{.grid = 1, .block = 1025}, none{.grid = 0, .block = 32},
      too_large{.grid = 1, .block = 32, .smem = 1u << 30};
  check.expect(throws([&] { launch(double_kernel, too_many, x); }),
               [] { return std::string("a block of 1,025 threads was launched"); });
  check.expect(throws([&] { launch(double_kernel, none, x); }),
               [] { return std::string("a grid of 0 blocks was launched"); });
  check.expect(throws([&] { launch(double_kernel, too_large, x); }),
               [] { return std::string("a block with 1 GiB of shared memory was launched"); });
  launch(double_kernel, {.grid = 1, .block = 64}, x);
  finish();
  for (const int value : x.host()) check.equal(value, 7, [] { return std::string("x after refused launches"); });
}

// ---- shared memory

constexpr int kRows = 4, kColumns = 33;
// Two objects, one of them an array of arrays: each thread writes its element of both, reads another's.
__global__ void static_kernel(int* out) {
  SIMT_SHARED(int[kRows][kColumns], table);
  SIMT_SHARED(double, sum);
  const int thread = static_cast<int>(threadIdx.x), row = thread / kColumns, column = thread % kColumns;
  table[row][column] = 100 * row + column;
  if (thread == 0) sum = 0.5;
  __syncthreads();
  const int other = kRows * kColumns - 1 - thread;
  out[thread] = table[other / kColumns][other % kColumns] + static_cast<int>(2 * sum);
}
void static_test(Check& check) {
  constexpr int kThreads = kRows * kColumns;
  const Array<int> out(kThreads);
  launch(static_kernel, {.grid = 1, .block = kThreads}, out);
  finish();
  const std::vector<int> got = out.host();
  for (int i = 0; i < kThreads; ++i) {
    const int other = kThreads - 1 - i;
    check.equal(got[static_cast<std::size_t>(i)], 100 * (other / kColumns) + other % kColumns + 1,
                [&] { return operands("thread", i); });
  }
}

// Four pieces of `count` elements; every byte of each is written, then read by another thread. out: per block what was
// wrong (0), and what the Carver and the addresses say.
constexpr unsigned kThreads = 64;
template <class T>
SIMT_DEV void fill(T* piece, unsigned count, unsigned salt) {
  for (unsigned i = threadIdx.x; i < count; i += kThreads) piece[i] = static_cast<T>((i + salt) % 100);
}
template <class T>
SIMT_DEV unsigned wrong(const T* piece, unsigned count, unsigned salt) {
  unsigned errors = 0;
  for (unsigned i = kThreads - 1 - threadIdx.x; i < count; i += kThreads) {
    errors += piece[i] != static_cast<T>((i + salt) % 100);
  }
  return errors;
}
template <class T>
SIMT_DEV unsigned misplaced(const T* piece, unsigned count, unsigned align) {
  const unsigned first = smem_addr(piece), last = smem_addr(piece + (count - 1));
  return (first % align != 0) + (last - first != (count - 1) * sizeof(T)) +
         (reinterpret_cast<unsigned long long>(piece) % 16 != 0);
}
__global__ void carve_kernel(unsigned* out, unsigned count) {
  SIMT_DYN_SMEM(raw);
  Carver carver(raw);
  auto* bytes = carver.take<unsigned char>(count, 1);
  auto* halves = carver.take<short>(count, 128);
  auto* doubles = carver.take<double>(count);
  auto* words = carver.take<int>(count, 1024);
  fill(bytes, count, blockIdx.x);
  fill(halves, count, 1);
  fill(doubles, count, 2);
  fill(words, count, 3);
  __syncthreads();
  const unsigned errors =
      wrong(bytes, count, blockIdx.x) + wrong(halves, count, 1) + wrong(doubles, count, 2) + wrong(words, count, 3);
  const unsigned out_of_place =
      misplaced(halves, count, 128) + misplaced(doubles, count, 16) + misplaced(words, count, 1024);
  atomicAdd(&out[3 * blockIdx.x], errors);
  atomicAdd(&out[3 * blockIdx.x + 1], out_of_place);
  if (threadIdx.x == 0) out[3 * blockIdx.x + 2] = carver.bytes();
}
unsigned carved_bytes(unsigned count) {
  const auto aligned = [](unsigned offset, unsigned align) { return (offset + align - 1) / align * align; };
  const unsigned after_halves = aligned(count, 128) + 2 * count, after_doubles = aligned(after_halves, 16) + 8 * count;
  return aligned(after_doubles, 1024) + 4 * count;
}
void carve_test(Check& check) {
  for (const unsigned count : {1u, 63u, 500u, 3000u, 5000u}) {  // the last one beyond 48 KiB
    constexpr unsigned kBlocks = 3;
    const Array<unsigned> out(std::vector<unsigned>(3 * kBlocks, 0));
    launch(carve_kernel, {.grid = kBlocks, .block = kThreads, .smem = carved_bytes(count)}, out, count);
    finish();
    const std::vector<unsigned> got = out.host();
    for (std::size_t block = 0; block < kBlocks; ++block) {
      const auto describe = [&](const char* what) { return operands("count", count, "block", block) + ": " + what; };
      check.equal(got[3 * block], 0u, [&] { return describe("elements that changed"); });
      check.equal(got[3 * block + 1], 0u, [&] { return describe("pieces out of place"); });
      check.equal(got[3 * block + 2], carved_bytes(count), [&] { return describe("bytes"); });
    }
  }
}

}  // namespace

std::vector<Test> launch_tests() {
  return {{"launch.launch", place_test, "mov.u32 %tid, %ctaid, %ntid, %nctaid; ld.param"},
          {"launch.launch/stream", stream_test, "none: streams"},
          {"launch.launch/group", group_test, "none: cudaLaunchCooperativeKernel"},
          {"launch.launch/refused", refusal_test, "none: launch limits"},
          {"launch.SIMT_SHARED", static_test, ".shared"},
          {"launch.SIMT_DYN_SMEM", carve_test, ".extern .shared"},
          {"launch.Carver", carve_test, ".extern .shared"},
          {"launch.smem_addr", carve_test, "cvta.to.shared.u64"}};
}

}  // namespace simt::selftest
