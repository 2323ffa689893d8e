// Block barriers: __syncthreads and its reductions, named barriers with counts.
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

}  // namespace

std::vector<Test> barrier_tests() {
  return {{"barrier.syncthreads", syncthreads_test},
          {"barrier.syncthreads_count", reduction_test<Count>},
          {"barrier.syncthreads_and", reduction_test<And>},
          {"barrier.syncthreads_or", reduction_test<Or>},
          {"barrier.named_sync", named_test},
          {"barrier.named_arrive", arrive_test}};
}

}  // namespace simt::selftest
