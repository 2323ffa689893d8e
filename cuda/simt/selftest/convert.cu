// Conversions between float, double, int, half and bfloat16, single and in pairs, by every rounding.
#include "cuda/simt/selftest/half.cuh"

namespace simt::selftest {
namespace {

// Any bits, and about every boundary of the type: codes, midpoints of neighbours, and a float to either side of both.
template <class H>
std::vector<float> sources() {
  constexpr FloatFormat kFormat = HalfType<H>::kFormat;
  std::vector<float> x = any_floats(20000, 1);
  std::vector<Code> codes = edge_codes(kFormat);
  Random random(2);
  for (int i = 0; i < 2000; ++i) codes.push_back(static_cast<Code>(random()));
  for (const Code code : codes) {
    const double at = value_of<H>(code);
    if (!std::isfinite(at)) continue;
    for (const double steps : {0.0, 0.5, 1.0}) {
      const auto near = static_cast<float>(at + steps * ulp(at, kFormat));
      for (const float value : {near, std::nextafter(near, HUGE_VALF), std::nextafter(near, -HUGE_VALF)}) {
        x.push_back(value);
      }
    }
  }
  if (x.size() % 2 != 0) x.push_back(1.0f);
  return x;
}

// ---- to half and bfloat16

#define SIMT_TO_HALF(Name, H, From, function)                                 \
  struct Name {                                                               \
    static SIMT_DEV Code apply(From x) { return bits_as<Code>(function(x)); } \
    using Half = H;                                                           \
  };
SIMT_TO_HALF(HalfDefault, __half, float, __float2half)
SIMT_TO_HALF(HalfNearest, __half, float, __float2half_rn)
SIMT_TO_HALF(HalfZero, __half, float, __float2half_rz)
SIMT_TO_HALF(HalfDown, __half, float, __float2half_rd)
SIMT_TO_HALF(HalfUp, __half, float, __float2half_ru)
SIMT_TO_HALF(HalfDouble, __half, double, __double2half)
SIMT_TO_HALF(HalfInt, __half, int, __int2half_rn)
SIMT_TO_HALF(BfloatDefault, __nv_bfloat16, float, __float2bfloat16)
SIMT_TO_HALF(BfloatNearest, __nv_bfloat16, float, __float2bfloat16_rn)
SIMT_TO_HALF(BfloatZero, __nv_bfloat16, float, __float2bfloat16_rz)
SIMT_TO_HALF(BfloatDown, __nv_bfloat16, float, __float2bfloat16_rd)
SIMT_TO_HALF(BfloatUp, __nv_bfloat16, float, __float2bfloat16_ru)
SIMT_TO_HALF(BfloatDouble, __nv_bfloat16, double, __double2bfloat16)
SIMT_TO_HALF(BfloatInt, __nv_bfloat16, int, __int2bfloat16_rn)
#undef SIMT_TO_HALF

template <class H, class From>
void check_codes(Check& check, const std::vector<Code>& got, const std::vector<From>& x, Rounding rounding) {
  constexpr FloatFormat kFormat = HalfType<H>::kFormat;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::uint32_t wanted = encode(static_cast<double>(x[i]), kFormat, rounding);
    check.expect(same_number(got[i], wanted, kFormat),
                 [&] { return operands("x", x[i], "got", got[i], "want", static_cast<Code>(wanted)); });
  }
}
template <class Function, Rounding kRounding = Rounding::kToEven>
void from_float(Check& check) {
  using H = typename Function::Half;
  const std::vector<float> x = sources<H>();
  check_codes<H>(check, map<Function, Code>(x), x, kRounding);
}
// Midpoints and what a double has beside them: two roundings, through a float, would take them for ties.
template <class Function>
void from_double(Check& check) {
  using H = typename Function::Half;
  std::vector<double> x;
  for (const float value : sources<H>()) {
    const double wide = value;
    for (const double offset : {0.0, -0x1p-40, 0x1p-40}) x.push_back(wide + offset * wide);
  }
  check_codes<H>(check, map<Function, Code>(x), x, Rounding::kToEven);
}
template <class Function>
void from_int(Check& check) {
  std::vector<int> x = any_integers<int>(2000, 3);
  for (int i = -70000; i < 70000; i += 3) x.push_back(i);
  check_codes<typename Function::Half>(check, map<Function, Code>(x), x, Rounding::kToEven);
}

// ---- from half and bfloat16: every code

#define SIMT_FROM_HALF(Name, H, To, function)                                  \
  struct Name {                                                                \
    static SIMT_DEV To apply(Code code) { return function(bits_as<H>(code)); } \
    using Half = H;                                                            \
  };
SIMT_FROM_HALF(HalfToFloat, __half, float, __half2float)
SIMT_FROM_HALF(BfloatToFloat, __nv_bfloat16, float, __bfloat162float)
SIMT_FROM_HALF(HalfToInt, __half, int, __half2int_rz)
SIMT_FROM_HALF(BfloatToInt, __nv_bfloat16, int, __bfloat162int_rz)
#undef SIMT_FROM_HALF

std::vector<Code> all_codes() {
  std::vector<Code> codes;
  for (unsigned code = 0; code < 0x10000; ++code) codes.push_back(static_cast<Code>(code));
  return codes;
}
template <class Function>
void to_float(Check& check) {
  const std::vector<Code> codes = all_codes();
  const std::vector<float> got = map<Function, float>(codes);
  for (const Code code : codes) {
    check.equal(got[code], static_cast<float>(value_of<typename Function::Half>(code)),
                [&] { return operands("code", code); });
  }
}
// Towards zero; beyond the integers the last one, for NaN 0.
template <class Function>
void to_int(Check& check) {
  const std::vector<Code> codes = all_codes();
  const std::vector<int> got = map<Function, int>(codes);
  for (const Code code : codes) {
    const double x = value_of<typename Function::Half>(code);
    const double wanted = std::isnan(x) ? 0 : std::trunc(std::min(std::max(x, -0x1p31), 0x1p31 - 1));
    check.equal(got[code], static_cast<int>(wanted), [&] { return operands("code", code); });
  }
}

// ---- pairs

#define SIMT_TO_PAIR(Name, H, function)                                                      \
  struct Name {                                                                              \
    static SIMT_DEV unsigned apply(float x, float y) { return bits_as<unsigned>(function); } \
    using Half = H;                                                                          \
  };
SIMT_TO_PAIR(FloatsToHalf2, __half, __floats2half2_rn(x, y))
SIMT_TO_PAIR(Float2ToHalf2, __half, __float22half2_rn(make_float2(x, y)))
SIMT_TO_PAIR(FloatsToBfloat2, __nv_bfloat16, __floats2bfloat162_rn(x, y))
SIMT_TO_PAIR(Float2ToBfloat2, __nv_bfloat16, __float22bfloat162_rn(make_float2(x, y)))
#undef SIMT_TO_PAIR
template <class Function>
void to_pair(Check& check) {
  using H = typename Function::Half;
  const std::vector<float> x = sources<H>(), y = shuffled(x, 4);
  std::vector<Code> low, high;
  for (const unsigned pair : map<Function, unsigned>(x, y)) {
    low.push_back(static_cast<Code>(pair));
    high.push_back(static_cast<Code>(pair >> 16));
  }
  check_codes<H>(check, low, x, Rounding::kToEven);
  check_codes<H>(check, high, y, Rounding::kToEven);
}

struct Half2ToFloat2 {
  static SIMT_DEV float2 apply(unsigned pair) { return __half22float2(bits_as<__half2>(pair)); }
  using Half = __half;
};
struct Bfloat2ToFloat2 {
  static SIMT_DEV float2 apply(unsigned pair) { return __bfloat1622float2(bits_as<__nv_bfloat162>(pair)); }
  using Half = __nv_bfloat16;
};
template <class Function>
void from_pair(Check& check) {
  using H = typename Function::Half;
  std::vector<unsigned> pairs;
  for (unsigned code = 0; code < 0x10000; ++code) pairs.push_back(code << 16 | (code * 40503u & 0xFFFF));
  const std::vector<float2> got = map<Function, float2>(pairs);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const auto describe = [&] { return operands("pair", pairs[i]); };
    check.equal(got[i].x, static_cast<float>(value_of<H>(static_cast<Code>(pairs[i]))), describe);
    check.equal(got[i].y, static_cast<float>(value_of<H>(static_cast<Code>(pairs[i] >> 16))), describe);
  }
}

}  // namespace

std::vector<Test> convert_tests() {
  constexpr Rounding kZero = Rounding::kTowardsZero, kUp = Rounding::kUp, kDown = Rounding::kDown;
  return {{"convert.__float2half", from_float<HalfDefault>, "cvt.rn.f16.f32"},
          {"convert.__float2half_rn", from_float<HalfNearest>, "cvt.rn.f16.f32"},
          {"convert.__float2half_rz", from_float<HalfZero, kZero>, "cvt.rz.f16.f32"},
          {"convert.__float2half_rd", from_float<HalfDown, kDown>, "cvt.rm.f16.f32"},
          {"convert.__float2half_ru", from_float<HalfUp, kUp>, "cvt.rp.f16.f32"},
          {"convert.__double2half", from_double<HalfDouble>, "cvt.rn.f16.f64"},
          {"convert.__int2half_rn", from_int<HalfInt>, "cvt.rn.f16.s32"},
          {"convert.__half2float", to_float<HalfToFloat>, "cvt.f32.f16"},
          {"convert.__half2int_rz", to_int<HalfToInt>, "cvt.rzi.s32.f16"},
          {"convert.__floats2half2_rn", to_pair<FloatsToHalf2>, "cvt.rn.f16x2.f32"},
          {"convert.__float22half2_rn", to_pair<Float2ToHalf2>, "cvt.rn.f16x2.f32"},
          {"convert.__half22float2", from_pair<Half2ToFloat2>, "cvt.f32.f16"},
          {"convert.__float2bfloat16", from_float<BfloatDefault>, "cvt.rn.bf16.f32"},
          {"convert.__float2bfloat16_rn", from_float<BfloatNearest>, "cvt.rn.bf16.f32"},
          {"convert.__float2bfloat16_rz", from_float<BfloatZero, kZero>, "cvt.rz.bf16.f32"},
          {"convert.__float2bfloat16_rd", from_float<BfloatDown, kDown>, "cvt.rm.bf16.f32 (sm_90), cvt.rz.bf16.f32, add"},
          {"convert.__float2bfloat16_ru", from_float<BfloatUp, kUp>, "cvt.rp.bf16.f32 (sm_90), cvt.rz.bf16.f32, add"},
          {"convert.__double2bfloat16", from_double<BfloatDouble>, "cvt.rn.f32.f64, cvt.rn.bf16.f32"},
          {"convert.__int2bfloat16_rn", from_int<BfloatInt>, "cvt.rn.f32.s32, cvt.rn.bf16.f32"},
          {"convert.__bfloat162float", to_float<BfloatToFloat>, "mov.b32"},
          {"convert.__bfloat162int_rz", to_int<BfloatToInt>, "cvt.rzi.s32.f32"},
          {"convert.__floats2bfloat162_rn", to_pair<FloatsToBfloat2>, "cvt.rn.bf16x2.f32"},
          {"convert.__float22bfloat162_rn", to_pair<Float2ToBfloat2>, "cvt.rn.bf16x2.f32"},
          {"convert.__bfloat1622float2", from_pair<Bfloat2ToFloat2>, "mov.b32"}};
}

}  // namespace simt::selftest
