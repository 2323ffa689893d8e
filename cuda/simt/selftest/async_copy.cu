// cp.async: 4, 8 and 16 bytes, zero fill, groups.
#include "cuda/simt/selftest/check.h"
#include "cuda/simt/selftest/device.cuh"
#include "cuda/simt/selftest/operands.h"

namespace simt::selftest {
namespace {

constexpr unsigned kThreads = 64;
using Piece = Vec<unsigned, 4>;

enum class Wait { kGroup, kAll };

// Every thread copies its piece, with source_bytes[i] of it read; neighbours read what has landed.
template <int kBytes, Wait kWait>
__global__ void copy_kernel(unsigned char* out, const unsigned char* in, const int* source_bytes) {
  SIMT_SHARED(Piece[kThreads], pieces);
  const unsigned thread = threadIdx.x, i = blockIdx.x * kThreads + thread;
  auto* raw = reinterpret_cast<unsigned char*>(pieces);
  cp_async<kBytes>(raw + thread * kBytes, in + i * kBytes, source_bytes[i]);
  if constexpr (kWait == Wait::kGroup) {
    cp_async_commit();
    cp_async_wait<0>();
  } else {
    cp_async_wait_all();
  }
  __syncthreads();
  const unsigned other = kThreads - 1 - thread;
  for (unsigned byte = 0; byte < kBytes; ++byte) {
    out[(blockIdx.x * kThreads + other) * kBytes + byte] = raw[other * kBytes + byte];
  }
}
template <int kBytes, Wait kWait>
void copy_of(Check& check) {
  constexpr std::size_t kPieces = 16 * kThreads;
  const std::vector<unsigned char> in = any_integers<unsigned char>(kPieces * kBytes, 1);
  std::vector<int> source_bytes;
  for (std::size_t i = 0; i < kPieces; ++i) {
    const int part = static_cast<int>(i / 3 % (kBytes + 1));
    source_bytes.push_back(i % 3 == 0 ? part : i % 3 == 1 ? kBytes : 0);
  }
  const Array<unsigned char> out(in.size());
  run(copy_kernel<kBytes, kWait>, kPieces / kThreads, kThreads, out, Array<unsigned char>(in),
      Array<int>(source_bytes));
  const std::vector<unsigned char> got = out.host();
  for (std::size_t i = 0; i < got.size(); ++i) {
    const std::size_t piece = i / kBytes, byte = i % kBytes;
    const unsigned char wanted = static_cast<int>(byte) < source_bytes[piece] ? in[i] : 0;
    check.equal(got[i], wanted,
                [&] { return operands("byte", byte, "of", kBytes, "source bytes", source_bytes[piece]); });
  }
}
void wait_all_test(Check& check) {
  copy_of<4, Wait::kAll>(check);
  copy_of<8, Wait::kAll>(check);
  copy_of<16, Wait::kAll>(check);
}

// The predicate of cp_async16.
__global__ void predicate_kernel(unsigned* out, const unsigned* in) {
  SIMT_SHARED(Piece[kThreads], pieces);
  const unsigned thread = threadIdx.x;
  cp_async16(&pieces[thread], in + 4 * thread, thread % 3 != 0);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  store_vec<4>(out + 4 * thread, pieces[thread]);
}
void predicate_test(Check& check) {
  const std::vector<unsigned> in = any_integers<unsigned>(4 * kThreads, 2);
  const Array<unsigned> out(in.size());
  run(predicate_kernel, 1, kThreads, out, Array<unsigned>(in));
  const std::vector<unsigned> got = out.host();
  for (std::size_t i = 0; i < got.size(); ++i) {
    check.equal(got[i], i / 4 % 3 != 0 ? in[i] : 0u, [&] { return operands("word", i); });
  }
}

// A ring of kStages groups, one committed a step, the last steps with empty ones.
template <int kStages>
__global__ void pipeline_kernel(float* out, const float* in, int steps) {
  SIMT_SHARED(float[kStages][kThreads], ring);
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(kThreads);
  SIMT_UNROLL
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < steps) cp_async<4>(&ring[s][thread], in + s * threads + thread);
    cp_async_commit();
  }
  for (int s = 0; s < steps; ++s) {
    cp_async_wait<kStages - 2>();
    __syncthreads();
    out[s * threads + thread] = ring[s % kStages][threads - 1 - thread];
    const int next = s + kStages - 1;
    if (next < steps) cp_async<4>(&ring[next % kStages][thread], in + next * threads + thread);
    cp_async_commit();
  }
  cp_async_wait<0>();
}
template <int kStages>
void pipeline_of(Check& check) {
  for (const int steps : {1, 2, 3, 17}) {
    const std::vector<float> in = floats_between(-1, 1, static_cast<std::size_t>(steps) * kThreads, 3);
    const Array<float> out(in.size());
    run(pipeline_kernel<kStages>, 1, kThreads, out, Array<float>(in), steps);
    const std::vector<float> got = out.host();
    for (std::size_t i = 0; i < got.size(); ++i) {
      const std::size_t step = i / kThreads, thread = i % kThreads;
      check.equal(got[i], in[step * kThreads + kThreads - 1 - thread],
                  [&] { return operands("stages", kStages, "steps", steps, "step", step, "thread", thread); });
    }
  }
}
void pipeline_test(Check& check) {
  pipeline_of<2>(check);
  pipeline_of<3>(check);
  pipeline_of<5>(check);
}

}  // namespace

std::vector<Test> async_copy_tests() {
  return {{"async_copy.cp_async/4", copy_of<4, Wait::kGroup>, "cp.async.ca.shared.global 4"},
          {"async_copy.cp_async/8", copy_of<8, Wait::kGroup>, "cp.async.ca.shared.global 8"},
          {"async_copy.cp_async/16", copy_of<16, Wait::kGroup>, "cp.async.cg.shared.global 16"},
          {"async_copy.cp_async16", predicate_test, "cp.async.cg.shared.global 16"},
          {"async_copy.cp_async_commit", pipeline_test, "cp.async.commit_group"},
          {"async_copy.cp_async_wait", pipeline_test, "cp.async.wait_group"},
          {"async_copy.cp_async_wait_all", wait_all_test, "cp.async.wait_all"}};
}

}  // namespace simt::selftest
