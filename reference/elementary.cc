#include "reference/elementary.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <vector>

#include "reference/elementary_kernel.h"
#include "reference/elementary_pack.h"

namespace assay::reference {
namespace {

template <class T, class F>
T scalar(T x, const F& f) {
  return f(Pack<T>::all(x)).lane0();
}

float bfloat16_bits(std::uint32_t u) {  // of a float that is no NaN
  return std::bit_cast<float>((u + 0x7fff + ((u >> 16) & 1)) & 0xffff0000u);
}

float to_bfloat16(float x) {
  const auto u = std::bit_cast<std::uint32_t>(x);
  return x != x ? std::bit_cast<float>((u | 0x00400000u) & 0xffff0000u) : bfloat16_bits(u);
}

// Through a float rounded to odd: its last bit remembers that something was cut off, so the second rounding is the only one.
double to_bfloat16(double x) {
  if (x != x) return x;
  const auto nearest = static_cast<float>(x);
  auto u = std::bit_cast<std::uint32_t>(nearest);
  const double back = nearest;
  u -= std::fabs(back) > std::fabs(x);
  u |= back != x;
  return bfloat16_bits(u);
}

template <class T>
ElementaryKernel<T> kernel_avx2() {
  return {"avx2",
          [](const T* x, T* y, std::int64_t n, T scale) {
            pack::map(x, y, n, [s = Pack<T>::all(scale)](Pack<T> v) { return pack::exp(v) * s; });
          },
          [](const T* x, T* y, std::int64_t n, T scale) {
            pack::map(x, y, n, [s = Pack<T>::all(scale)](Pack<T> v) { return pack::silu(v, s); });
          }};
}

}  // namespace

template <class T>
std::span<const ElementaryKernel<T>> elementary_kernels() {
  static const std::vector<ElementaryKernel<T>> kernels = [] {
    std::vector<ElementaryKernel<T>> found;
    if (__builtin_cpu_supports("avx512f")) found.push_back(elementary_kernel_avx512<T>());
    found.push_back(kernel_avx2<T>());
    return found;
  }();
  return kernels;
}
template std::span<const ElementaryKernel<float>> elementary_kernels();
template std::span<const ElementaryKernel<double>> elementary_kernels();

// clang-format off
template <std::floating_point T> T exp(T x) { return scalar(x, [](Pack<T> v) { return pack::exp(v); }); }
template <std::floating_point T> T expm1(T x) { return scalar(x, [](Pack<T> v) { return pack::expm1(v); }); }
template <std::floating_point T> T log(T x) { return scalar(x, [](Pack<T> v) { return pack::log(v); }); }
template <std::floating_point T> T log1p(T x) { return scalar(x, [](Pack<T> v) { return pack::log1p(v); }); }
template <std::floating_point T> T sigmoid(T x, T scale) { return scalar(x, [=](Pack<T> v) { return pack::sigmoid(v, Pack<T>::all(scale)); }); }
template <std::floating_point T> T silu(T x, T scale) { return scalar(x, [=](Pack<T> v) { return pack::silu(v, Pack<T>::all(scale)); }); }
template <std::floating_point T> T silu_derivative(T x, T scale) { return scalar(x, [=](Pack<T> v) { return pack::silu_derivative(v, Pack<T>::all(scale)); }); }
template <std::floating_point T> T softplus(T x, T scale) { return scalar(x, [=](Pack<T> v) { return pack::softplus(v, Pack<T>::all(scale)); }); }
template <std::floating_point T> T softplus_naive(T x, T scale) { return scalar(x, [=](Pack<T> v) { return pack::softplus_naive(v, Pack<T>::all(scale)); }); }
template <std::floating_point T> T softplus_derivative(T x, T scale) { return scalar(x, [=](Pack<T> v) { return pack::softplus_derivative(v, Pack<T>::all(scale)); }); }
template <std::floating_point T> T rsqrt(T x) { return 1 / std::sqrt(x); }

template <std::floating_point T> void exp(Input<T> x, std::span<T> y, std::type_identity_t<T> scale) {
  elementary_kernels<T>().front().exp(x.data(), y.data(), std::ssize(y), scale);
}
template <std::floating_point T> void log(Input<T> x, std::span<T> y, std::type_identity_t<T> scale) {
  pack::map(x.data(), y.data(), y.size(), [s = Pack<T>::all(scale)](Pack<T> v) { return pack::log(v) * s; });
}
template <std::floating_point T> void log1p(Input<T> x, std::span<T> y, std::type_identity_t<T> scale) {
  pack::map(x.data(), y.data(), y.size(), [s = Pack<T>::all(scale)](Pack<T> v) { return pack::log1p(v) * s; });
}
template <std::floating_point T> void sigmoid(Input<T> x, std::span<T> y, std::type_identity_t<T> scale) {
  pack::map(x.data(), y.data(), y.size(), [s = Pack<T>::all(scale)](Pack<T> v) { return pack::sigmoid(v, s); });
}
template <std::floating_point T> void silu(Input<T> x, std::span<T> y, std::type_identity_t<T> scale) {
  elementary_kernels<T>().front().silu(x.data(), y.data(), std::ssize(y), scale);
}
template <std::floating_point T> void silu_derivative(Input<T> x, std::span<T> y, std::type_identity_t<T> scale) {
  pack::map(x.data(), y.data(), y.size(), [s = Pack<T>::all(scale)](Pack<T> v) { return pack::silu_derivative(v, s); });
}
template <std::floating_point T> void softplus(Input<T> x, std::span<T> y, std::type_identity_t<T> scale) {
  pack::map(x.data(), y.data(), y.size(), [s = Pack<T>::all(scale)](Pack<T> v) { return pack::softplus(v, s); });
}
template <std::floating_point T> void softplus_naive(Input<T> x, std::span<T> y, std::type_identity_t<T> scale) {
  pack::map(x.data(), y.data(), y.size(), [s = Pack<T>::all(scale)](Pack<T> v) { return pack::softplus_naive(v, s); });
}
template <std::floating_point T> void softplus_derivative(Input<T> x, std::span<T> y, std::type_identity_t<T> scale) {
  pack::map(x.data(), y.data(), y.size(), [s = Pack<T>::all(scale)](Pack<T> v) { return pack::softplus_derivative(v, s); });
}

template <std::floating_point T> T round_to_bfloat16(T x) { return to_bfloat16(x); }
template <std::floating_point T> void round_to_bfloat16(std::span<T> x) { for (T& v : x) v = to_bfloat16(v); }

#define ASSAY_INSTANTIATE(T) \
  template T exp(T); template T expm1(T); template T log(T); template T log1p(T); template T sigmoid(T, T); \
  template T silu(T, T); template T silu_derivative(T, T); template T softplus(T, T); template T softplus_naive(T, T); \
  template T softplus_derivative(T, T); template T rsqrt(T); template T round_to_bfloat16(T); \
  template void exp(Input<T>, std::span<T>, T); template void log(Input<T>, std::span<T>, T); \
  template void log1p(Input<T>, std::span<T>, T); template void sigmoid(Input<T>, std::span<T>, T); \
  template void silu(Input<T>, std::span<T>, T); template void silu_derivative(Input<T>, std::span<T>, T); \
  template void softplus(Input<T>, std::span<T>, T); template void softplus_naive(Input<T>, std::span<T>, T); \
  template void softplus_derivative(Input<T>, std::span<T>, T); template void round_to_bfloat16(std::span<T>);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE
// clang-format on

}  // namespace assay::reference
