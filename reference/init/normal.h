// The normal rule: pairs of normals as a pure function of pairs of uniforms (Box and Muller 1958), in the forms that
// PyTorch computes it in.
//   radius = sqrt(-2 ln u1), angle = 2 pi u2;  mean + std radius cos(angle) and mean + std radius sin(angle)
#pragma once

#include <cstdint>
#include <span>

namespace assay::reference {

// In place, 16 uniforms in [0, 1) to 16 normals: u1 = 1 - block[j], u2 = block[j + 8], j = 0 .. 7. float32, bit for bit
// PyTorch's AVX2 and AVX512 builds: elementary functions are Cephes' single precision ones with fused multiply-adds.
void normal_block(std::span<float, 16> block, float mean, float std);
// float64, by the C library's functions.
void normal_block(std::span<double, 16> block, double mean, double std);
// bfloat16 before PyTorch 2.15: every step rounded to bfloat16.
void normal_block_every_step_bfloat16(std::span<float, 16> block, double mean, double std);

struct NormalPair {
  double first, second;
};
// Standard normals, as PyTorch's CPU draws few or scattered elements: u1, u2 in [0, 1).
NormalPair normal_pair(double u1, double u2);

// Standard normals from curand's words; cosine and sine come in the order sine, cosine. Evaluated in double on the
// float32 arguments: a GPU's fast functions differ by about 1e-6.
NormalPair cuda_normal_pair(std::uint32_t word0, std::uint32_t word1);
// float64, from four words.
NormalPair cuda_normal_pair(std::uint32_t word0, std::uint32_t word1, std::uint32_t word2, std::uint32_t word3);

// The single precision functions of the first form. x > 0 and normal; |x| < 8192.
float cephes_log(float x);
struct SinCos {
  float sin, cos;
};
SinCos cephes_sincos(float x);

}  // namespace assay::reference
