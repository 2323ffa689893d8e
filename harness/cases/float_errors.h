// How float32 arithmetic errs: the pieces that limits (gate 2) and freedoms (gate 3) are made of.
//
// Notation: u = 2^-24 (kUnit). "Relative e" means |computed - exact| <= e |exact|. Rounding errors of a sum enter by
// variance with k standard deviations, never above their worst case:
//   a float32 sum of n terms t, in any order:   k u sqrt(n/3) (|s| + sqrt(sum t^2))     worst case  n u sum |t|
//   (partial sums stay below |s| + sqrt(sum t^2) for terms of random sign; each addition errs by a uniform u |partial
//   sum|, variance u^2/3), and in a truncating tensor core 2 u n (|s| + sqrt(sum t^2)). the roundings of the terms
//   themselves, m each:   k u sqrt(m/3) sqrt(sum t^2)         worst case  m u sum |t|
// Functions by their documented error: expf, rsqrtf or 1/sqrtf, and a division (__fdividef) 2 ulp, logf and log1pf 1
// ulp; where the contract says fast, __expf 2 + 1.173 |x| ulp (CUDA: its floor, at the kernel's own x), and __logf
// 2^-21.41 in [0.5, 2], else 3 ulp.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "harness/abi/assay_candidate.h"
#include "harness/core/dtype.h"
#include "harness/core/expectation.h"

namespace assay::harness {

// Of one output, element by element.
struct Tolerance {
  std::vector<double> limit, freedom;
};
Tolerance make_tolerance(std::size_t size);  // zeros

// A limit takes 8 standard deviations and every rounding. The freedom of gate 3 takes one deviation of what is drawn
// per element, four of what one draw decides for a whole group, and no rounding: those the matched reference has too.
struct Budget {
  double per_element, per_group, rounding;
};
constexpr Budget kLimit{kSigmas, kSigmas, 1}, kFreedom{1, 4, 0};

// e^-z overflows float32 below z = -88.72, where |z| e^z is 22 * 2^-126: a kernel's silu may be 0 there, or a denormal.
constexpr double kSiluFloor = 32 * kTiny;

// `error` before the output's rounding, and with half an ulp of the largest value it may have.
double with_rounding(bool final_rounding, DType dtype, double value, double error);

struct Sum {
  double total = 0, squares = 0, magnitudes = 0;
  void add(double t) { total += t, squares += t * t, magnitudes += std::fabs(t); }
};

// What `terms` additions in any order cost, by k standard deviations; what `roundings` of each term cost.
double order_error(const Sum& s, double terms, double k, const assay_contract& contract);
double term_error(const Sum& s, double roundings, double k);

// How often a sum of `products` updates its accumulator: once for each of them, and in tensor cores once for 8 products
// of 16 bits or 4 of tf32, as sm_80 does; three times as often for 3xtf32.
double accumulator_updates(double products, const assay_contract& contract);

// Relative error, at most, of an operand of a matrix product that the contract does not take as it is; 0 for ieee.
// 3xtf32: two parts leave 2^-22 of an operand, and the product of the lower parts, 2^-22 of the whole, is dropped: half
// of that for each operand.
double operand_error(const assay_contract& contract);

// Absolute error, at most, where such an operand is below what is normal: half the smallest denormal of bfloat16,
// 2^-133, or of tf32, 2^-136. 3xtf32's lower part is a tf32, too, and holds nothing smaller.
double operand_floor(const assay_contract& contract);

// Relative error of a function documented with `count` ulp. CUDA counts them from the correctly rounded result ("the
// difference in ULPs between the value returned by the function and a correctly rounded result", Programming Guide,
// Mathematical Functions), which itself is off by half an ulp; an ulp of y is at most 2 u |y|.
constexpr double ulps(double count) { return (2 * count + 1) * kUnit; }

// Relative error of e^t.
double exp_error(double t, const assay_contract& contract);

// Absolute error of the logarithm in ln(1 + E) = `value`, E >= 0.
double log_error(double value, const assay_contract& contract);

// silu and its derivative at one gate, with their relative (silu) and absolute (derivative) errors.
struct Gate {
  double silu = 1, silu_error = 0, derivative = 0, derivative_error = 0;
};
Gate gate_at(double z, const Budget& b, const assay_contract& contract);

}  // namespace assay::harness
