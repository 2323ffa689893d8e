// Block barriers: __syncthreads and its reductions, named barriers with counts. Waiting for memory.
#include "cuda/simt/selftest/check.h"
#include "cuda/simt/selftest/device.cuh"
#include "cuda/simt/selftest/operands.h"

namespace simt::selftest {
namespace {

constexpr int kRounds = 5;
constexpr int kLargestBlock = 1024;

// In each round a thread hands its value to the next thread of its part of the block.
template <class Barrier>
SIMT_DEV int pass_round(int* values, int index, int count, int x, Barrier barrier) {
  for (int round = 0; round < kRounds; ++round) {
    values[index] = x;
    barrier();
    x = values[(index + 1) % count] + 1;
    barrier();
  }
  return x;
}
int passed_round(int first, int index, int count) { return first + (index + kRounds) % count + kRounds; }

__global__ void syncthreads_kernel(int* out) {
  SIMT_SHARED(int[kLargestBlock], values);
  const int thread = static_cast<int>(threadIdx.x), count = static_cast<int>(blockDim.x);
  const int x = pass_round(values, thread, count, thread, [] { __syncthreads(); });
  out[static_cast<int>(blockIdx.x) * count + thread] = x;
}
void syncthreads_test(Check& check) {
  for (const int block : {1, 32, 33, 96, 250, 1024}) {
    const Array<int> out(static_cast<std::size_t>(3 * block));
    run(syncthreads_kernel, 3, static_cast<unsigned>(block), out);
    const std::vector<int> got = out.host();
    for (int i = 0; i < 3 * block; ++i) {
      check.equal(got[static_cast<std::size_t>(i)], passed_round(0, i % block, block),
                  [&] { return operands("block size", block, "thread", i % block); });
    }
  }
}

// ---- reductions: each block its own predicates

struct Count {
  static SIMT_DEV int apply(int predicate) { return __syncthreads_count(predicate); }
  static int wanted(int set, int) { return set; }
};
struct And {
  static SIMT_DEV int apply(int predicate) { return __syncthreads_and(predicate) != 0; }
  static int wanted(int set, int threads) { return set == threads; }
};
struct Or {
  static SIMT_DEV int apply(int predicate) { return __syncthreads_or(predicate) != 0; }
  static int wanted(int set, int) { return set > 0; }
};
template <class Reduction>
__global__ void reduction_kernel(int* out, const int* predicate) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = Reduction::apply(predicate[i]);
}
template <class Reduction>
void reduction_test(Check& check) {
  for (const int block : {1, 32, 70, 256}) {
    constexpr int kBlocks = 24;
    Random random(1);
    std::vector<int> predicate(static_cast<std::size_t>(kBlocks * block)), set(kBlocks);
    for (int b = 0; b < kBlocks; ++b) {
      for (int t = 0; t < block; ++t) {
        const int odd_one = static_cast<int>(random() % 4) * 256;  // any bits make a predicate true
        const int chosen[] = {0, 4, t == b % block, t == b % block ? 0 : -1, odd_one};
        const int p = chosen[b % 5];
        predicate[static_cast<std::size_t>(b * block + t)] = p;
        set[static_cast<std::size_t>(b)] += p != 0;
      }
    }
    const Array<int> out(predicate.size());
    run(reduction_kernel<Reduction>, kBlocks, static_cast<unsigned>(block), out, Array<int>(predicate));
    const std::vector<int> got = out.host();
    for (std::size_t i = 0; i < got.size(); ++i) {
      const int true_ones = set[i / static_cast<std::size_t>(block)];
      check.equal(got[i], Reduction::wanted(true_ones, block),
                  [&] { return operands("thread", i, "block size", block, "true predicates", true_ones); });
    }
  }
}

// ---- named barriers. Parts of a block, each with its own barrier, pass values at their own pace.

__global__ void named_kernel(int* out, const int* first_of_part, int parts) {
  SIMT_SHARED(int[kLargestBlock], values);
  const int thread = static_cast<int>(threadIdx.x);
  for (int part = 0; part < parts; ++part) {
    const int first = first_of_part[part], count = first_of_part[part + 1] - first;
    if (thread < first || thread >= first + count) continue;
    const auto barrier = [=] { named_barrier_sync(1 + part, count); };
    out[thread] = pass_round(values + first, thread - first, count, thread, barrier);
  }
}
void named_test(Check& check) {
  const std::vector<std::vector<int>> divisions = {{0, 32}, {0, 32, 96}, {0, 128, 256, 512}, {0, 96, 128, 320, 1024}};
  for (const std::vector<int>& first : divisions) {
    const int parts = static_cast<int>(first.size()) - 1, block = first.back();
    const Array<int> out(static_cast<std::size_t>(block));
    run(named_kernel, 1, static_cast<unsigned>(block), out, Array<int>(first), parts);
    const std::vector<int> got = out.host();
    for (std::size_t part = 0; part + 1 < first.size(); ++part) {
      const int count = first[part + 1] - first[part];
      for (int i = 0; i < count; ++i) {
        check.equal(got[static_cast<std::size_t>(first[part] + i)], passed_round(first[part], i, count),
                    [&] { return operands("part", part, "of threads", count, "index", i); });
      }
    }
  }
}

// A producer arrives at "full" and waits for "empty"; the consumers the other way round.
constexpr int kHalf = 64, kFull = 3, kEmpty = 15;
__global__ void arrive_kernel(int* out) {
  SIMT_SHARED(int[kHalf], values);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kHalf) {
    for (int round = 0; round < kRounds; ++round) {
      if (round > 0) named_barrier_sync(kEmpty, 2 * kHalf);
      values[thread] = 1000 * round + thread;
      named_barrier_arrive(kFull, 2 * kHalf);
    }
  } else {
    for (int round = 0; round < kRounds; ++round) {
      named_barrier_sync(kFull, 2 * kHalf);
      out[round * kHalf + thread - kHalf] = values[2 * kHalf - 1 - thread];
      if (round + 1 < kRounds) named_barrier_arrive(kEmpty, 2 * kHalf);
    }
  }
}
void arrive_test(Check& check) {
  const Array<int> out(kRounds * kHalf);
  run(arrive_kernel, 1, 2 * kHalf, out);
  const std::vector<int> got = out.host();
  for (int i = 0; i < kRounds * kHalf; ++i) {
    const int round = i / kHalf, consumer = i % kHalf;
    check.equal(got[static_cast<std::size_t>(i)], 1000 * round + kHalf - 1 - consumer,
                [&] { return operands("round", round, "consumer", consumer); });
  }
}

// ---- waiting for another warp, which can run only if the waiting one lets it

struct SpinYield {
  static SIMT_DEV void apply() { spin_yield(); }
};
struct Nanosleep {
  static SIMT_DEV void apply() { __nanosleep(20); }
};
template <class Yield>
__global__ void spin_kernel(int* out, unsigned* flag) {
  const unsigned lane = threadIdx.x % 32;
  if (threadIdx.x >= 32) {
    atomicExch(&flag[lane], lane + 1);
  } else {
    while (atomicAdd(&flag[lane], 0u) == 0) Yield::apply();
    out[lane] = static_cast<int>(atomicAdd(&flag[lane], 0u));
  }
}
template <class Yield>
void spin_test(Check& check) {
  const Array<int> out(32);
  run(spin_kernel<Yield>, 1, 64, out, Array<unsigned>(std::vector<unsigned>(32, 0)));
  const std::vector<int> got = out.host();
  for (int lane = 0; lane < 32; ++lane) {
    check.equal(got[static_cast<std::size_t>(lane)], lane + 1, [&] { return operands("lane", lane); });
  }
}

}  // namespace

std::vector<Test> barrier_tests() {
  return {{"barrier.__syncthreads", syncthreads_test, "bar.sync 0"},
          {"barrier.__syncthreads_count", reduction_test<Count>, "bar.red.popc.u32"},
          {"barrier.__syncthreads_and", reduction_test<And>, "bar.red.and.pred"},
          {"barrier.__syncthreads_or", reduction_test<Or>, "bar.red.or.pred"},
          {"barrier.named_barrier_sync", named_test, "bar.sync id, threads"},
          {"barrier.named_barrier_arrive", arrive_test, "bar.arrive id, threads"},
          {"barrier.spin_yield", spin_test<SpinYield>, "nanosleep.u32"},
          {"barrier.__nanosleep", spin_test<Nanosleep>, "nanosleep.u32"}};
}

}  // namespace simt::selftest
