// Prints a hash of the outputs and gradients of every layer. Built by two compilers and run with any number of threads, it
// must print the same lines: results are a function of the inputs alone.
//
//   reference_hashes [threads [alignment]]      alignment 0 .. 7: every array begins 16 * alignment bytes off a multiple of 128
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "reference/elementary.h"
#include "reference/gated_rms_norm.h"
#include "reference/gemm.h"
#include "reference/linear.h"
#include "reference/parallel.h"
#include "reference/rms_norm.h"
#include "reference/sums.h"
#include "reference/testing/hash.h"
#include "reference/testing/random.h"

namespace {
std::size_t alignment = 0;
}

void* operator new(std::size_t size) {
  auto* raw = static_cast<char*>(std::malloc(size + 256 + sizeof(void*)));
  if (!raw) throw std::bad_alloc();
  char* p = raw + sizeof(void*);
  p += 128 - reinterpret_cast<std::uintptr_t>(p) % 128 + 16 * alignment;
  reinterpret_cast<void**>(p)[-1] = raw;
  return p;
}
void operator delete(void* p) noexcept {
  if (p) std::free(reinterpret_cast<void**>(p)[-1]);
}
void operator delete(void* p, std::size_t) noexcept { operator delete(p); }

namespace assay::reference::testing {
namespace {

template <class T>
struct Policy {
  const char* name;
  Numerics<T> num;
};

template <class T, class... Results>
void print(const Policy<T>& policy, const char* layer, const Results&... results) {
  Hash hash;
  (hash.add(results), ...);
  std::printf("%-24s %-9s %016llx\n", layer, policy.name, static_cast<unsigned long long>(hash.value()));
}

template <class T>
Tensor<T> draw(const Policy<T>& policy, Random& random, Shape shape, double low = -1, double high = 1) {
  Tensor<T> t = random.tensor<T>(std::move(shape), low, high);
  policy.num.store(t.span());
  return t;
}

template <class T>
void functions(const Policy<T>& policy) {
  Random random(1);
  Tensor<T> x = random.tensor<T>({5000}, -30, 30), y = x, positive = random.tensor<T>({5000}, 0, 9);
  const auto one = [&](const char* name, auto f, const Tensor<T>& in) {
    f(std::span<const T>(in.span()), y.span());
    print(policy, name, y);
  };
  one("exp", [](auto in, auto out) { exp(in, out); }, x);
  one("log", [](auto in, auto out) { log(in, out); }, positive);
  one("log1p", [](auto in, auto out) { log1p(in, out); }, positive);
  one("silu", [](auto in, auto out) { silu(in, out); }, x);
  one("silu_derivative", [](auto in, auto out) { silu_derivative(in, out); }, x);
  one("softplus", [](auto in, auto out) { softplus(in, out); }, x);
  for (Index i = 0; i < x.size(); ++i) y[i] = expm1(x[i]) + rsqrt(positive[i] + 1);
  print(policy, "expm1, rsqrt", y);
  print(policy, "sums", Tensor<T>({3}, std::vector<T>{sum(x.data(), 4999), sum_of_squares(x.data(), 4999), dot(x.data(), y.data(), 4999)}));
}

template <class T>
void products(const Policy<T>& policy) {
  Random random(2);
  const Index m = 201, n = 150, k = 333;
  const Tensor<T> a = draw(policy, random, {m, k}), b = draw(policy, random, {k, n}), a_t = draw(policy, random, {k, m}),
                  b_t = draw(policy, random, {n, k});
  Tensor<T> nn({m, n}), nt = nn, tn = nn;
  gemm(view(a, m), view(b, k), view(nn, m));
  gemm_nt(view(a, m), view(b_t, n), view(nt, m));
  gemm_tn(view(a_t, k), view(b, k), view(tn, m));
  print(policy, "gemm", nn, nt, tn);
  const Tensor<T> bias = draw(policy, random, {n}), d_y = draw(policy, random, {m, n});
  const auto d = linear_backward(policy.num, a, b_t, d_y, true);
  print(policy, "linear", linear_forward(policy.num, a, b_t, &bias), d.x, d.weight, d.bias);
}

template <class T>
void norms(const Policy<T>& policy) {
  Random random(3);
  const Index rows = 57, width = 300;
  const Tensor<T> x = draw(policy, random, {rows, width}), other = draw(policy, random, {rows, width}, -3, 3),
                  weight = draw(policy, random, {width}), d_y = draw(policy, random, {rows, width});
  const auto norm = rms_norm_forward(policy.num, x, weight, &other, T(1e-5));
  const auto d_norm = rms_norm_backward(policy.num, norm.residual, weight, norm.rstd, d_y, &other);
  print(policy, "rms_norm", norm.hidden_states, norm.residual, norm.rstd, d_norm.d_hidden_states, d_norm.d_residual, d_norm.d_weight);
  const auto gated = gated_rms_norm_forward(policy.num, x, &other, weight, 100, T(1e-5));
  const auto d_gated = gated_rms_norm_backward(policy.num, x, &other, weight, gated.rstd, d_y, 100);
  print(policy, "gated_rms_norm", gated.hidden_states, gated.rstd, d_gated.d_hidden_states, d_gated.d_gate, d_gated.d_weight);
}

template <class T>
void all(const Policy<T>& policy) {
  functions(policy);
  products(policy);
  norms(policy);
}

}  // namespace
}  // namespace assay::reference::testing

int main(int argc, char** argv) {
  using namespace assay::reference;
  alignment = argc > 2 ? std::strtoul(argv[2], nullptr, 10) % 8 : 0;
  set_threads(argc > 1 ? std::atoi(argv[1]) : 1);
  testing::all<double>({"double", {}});
  testing::all<float>({"float", {}});
  testing::all<float>({"bfloat16", {.storage = Storage::bfloat16}});
  return 0;
}
