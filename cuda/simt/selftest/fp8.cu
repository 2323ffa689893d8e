// Conversions to and from the fp8 formats: instructions since sm_89, arithmetic before.
#include "cuda/simt/selftest/half.cuh"

namespace simt::selftest {
namespace {

template <__nv_fp8_interpretation_t kKind>
constexpr FloatFormat kFormatOf = kKind == __NV_E4M3 ? kE4m3 : kE5m2;

std::vector<float> sources(FloatFormat f) {
  std::vector<float> x = any_floats(4096, 1);
  for (std::uint32_t code = 0; code < 256; ++code) {
    const double at = decode(code, f);
    if (!std::isfinite(at)) continue;
    for (const double steps : {0.0, 0.5, 1.0}) {
      const auto near = static_cast<float>(at + steps * ulp(at, f));
      for (const float value : {near, std::nextafter(near, HUGE_VALF), std::nextafter(near, -HUGE_VALF)}) {
        x.push_back(value);
      }
    }
  }
  if (x.size() % 2 != 0) x.push_back(1.0f);
  return x;
}
void check_code(Check& check, unsigned got, double x, FloatFormat f, bool saturate) {
  const std::uint32_t wanted = encode(x, f, Rounding::kToEven, saturate);
  check.expect(same_number(got, wanted, f), [&] {
    return operands("x", x, "saturate", saturate, "got", got, "want", static_cast<unsigned>(wanted));
  });
}

// ---- to fp8

template <__nv_fp8_interpretation_t kKind, __nv_saturation_t kSaturation>
struct FromFloat {
  static SIMT_DEV unsigned apply(float x) { return __nv_cvt_float_to_fp8(x, kSaturation, kKind); }
};
template <__nv_fp8_interpretation_t kKind, __nv_saturation_t kSaturation>
struct FromFloat2 {
  static SIMT_DEV unsigned apply(float x, float y) {
    return __nv_cvt_float2_to_fp8x2(make_float2(x, y), kSaturation, kKind);
  }
};
template <__nv_fp8_interpretation_t kKind, __nv_saturation_t kSaturation>
struct FromHalf {
  static SIMT_DEV unsigned apply(Code code) {
    return __nv_cvt_halfraw_to_fp8(bits_as<__half_raw>(code), kSaturation, kKind);
  }
  using Half = __half;
};
template <__nv_fp8_interpretation_t kKind, __nv_saturation_t kSaturation>
struct FromBfloat {
  static SIMT_DEV unsigned apply(Code code) {
    return __nv_cvt_bfloat16raw_to_fp8(bits_as<__nv_bfloat16_raw>(code), kSaturation, kKind);
  }
  using Half = __nv_bfloat16;
};

template <__nv_fp8_interpretation_t kKind, __nv_saturation_t kSaturation>
void float_of(Check& check) {
  const std::vector<float> x = sources(kFormatOf<kKind>);
  const std::vector<unsigned> got = map<FromFloat<kKind, kSaturation>, unsigned>(x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    check_code(check, got[i], x[i], kFormatOf<kKind>, kSaturation == __NV_SATFINITE);
  }
}
template <__nv_fp8_interpretation_t kKind, __nv_saturation_t kSaturation>
void float2_of(Check& check) {
  const std::vector<float> x = sources(kFormatOf<kKind>), y = shuffled(x, 2);
  const std::vector<unsigned> got = map<FromFloat2<kKind, kSaturation>, unsigned>(x, y);
  for (std::size_t i = 0; i < x.size(); ++i) {
    check_code(check, got[i] & 0xFF, x[i], kFormatOf<kKind>, kSaturation == __NV_SATFINITE);
    check_code(check, got[i] >> 8, y[i], kFormatOf<kKind>, kSaturation == __NV_SATFINITE);
  }
}
template <class Function, __nv_fp8_interpretation_t kKind, __nv_saturation_t kSaturation>
void half_of(Check& check) {
  std::vector<Code> x;
  for (unsigned code = 0; code < 0x10000; ++code) x.push_back(static_cast<Code>(code));
  const std::vector<unsigned> got = map<Function, unsigned>(x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    check_code(check, got[i], value_of<typename Function::Half>(x[i]), kFormatOf<kKind>, kSaturation == __NV_SATFINITE);
  }
}
template <__nv_fp8_interpretation_t kKind>
void from_float(Check& check) {
  float_of<kKind, __NV_SATFINITE>(check);
  float_of<kKind, __NV_NOSAT>(check);
}
template <__nv_fp8_interpretation_t kKind>
void from_float2(Check& check) {
  float2_of<kKind, __NV_SATFINITE>(check);
  float2_of<kKind, __NV_NOSAT>(check);
}
template <template <__nv_fp8_interpretation_t, __nv_saturation_t> class Function, __nv_fp8_interpretation_t kKind>
void from_half(Check& check) {
  half_of<Function<kKind, __NV_SATFINITE>, kKind, __NV_SATFINITE>(check);
  half_of<Function<kKind, __NV_NOSAT>, kKind, __NV_NOSAT>(check);
}

// The types convert from float saturating, and to float.
template <class Fp8>
struct ThroughType {
  static SIMT_DEV float apply(float x) { return static_cast<float>(Fp8(x)); }
};
template <class Fp8, __nv_fp8_interpretation_t kKind>
void through_type(Check& check) {
  constexpr FloatFormat kFormat = kFormatOf<kKind>;
  const std::vector<float> x = sources(kFormat);
  const std::vector<float> got = map<ThroughType<Fp8>, float>(x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double wanted = decode(encode(x[i], kFormat, Rounding::kToEven, true), kFormat);
    check.equal(got[i], static_cast<float>(wanted), [&] { return operands("x", x[i]); });
  }
}

// ---- from fp8: every code, to half, which holds them all

template <__nv_fp8_interpretation_t kKind>
struct ToHalf {
  static SIMT_DEV unsigned apply(unsigned code) {
    return __nv_cvt_fp8_to_halfraw(static_cast<__nv_fp8_storage_t>(code), kKind).x;
  }
};
template <__nv_fp8_interpretation_t kKind>
struct ToHalf2 {
  static SIMT_DEV unsigned apply(unsigned pair) {
    const __half2_raw y = __nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(pair), kKind);
    return y.x | static_cast<unsigned>(y.y) << 16;
  }
};
template <__nv_fp8_interpretation_t kKind>
void check_half(Check& check, unsigned got, unsigned code) {
  const std::uint32_t wanted = encode(decode(code, kFormatOf<kKind>), kHalf);
  check.expect(same_number(got, wanted, kHalf),
               [&] { return operands("code", code, "got", got, "want", static_cast<unsigned>(wanted)); });
}
template <__nv_fp8_interpretation_t kKind>
void to_half(Check& check) {
  std::vector<unsigned> codes;
  for (unsigned code = 0; code < 256; ++code) codes.push_back(code);
  const std::vector<unsigned> got = map<ToHalf<kKind>, unsigned>(codes);
  for (const unsigned code : codes) check_half<kKind>(check, got[code], code);
}
template <__nv_fp8_interpretation_t kKind>
void to_half2(Check& check) {
  std::vector<unsigned> pairs;
  for (unsigned pair = 0; pair < 0x10000; ++pair) pairs.push_back(pair);
  const std::vector<unsigned> got = map<ToHalf2<kKind>, unsigned>(pairs);
  for (const unsigned pair : pairs) {
    check_half<kKind>(check, got[pair] & 0xFFFF, pair & 0xFF);
    check_half<kKind>(check, got[pair] >> 16, pair >> 8);
  }
}

}  // namespace

std::vector<Test> fp8_tests() {
  return {
      {"fp8.__nv_cvt_float_to_fp8/e4m3", from_float<__NV_E4M3>, "cvt.rn.satfinite.e4m3x2.f32 (sm_89)"},
      {"fp8.__nv_cvt_float_to_fp8/e5m2", from_float<__NV_E5M2>, "cvt.rn.satfinite.e5m2x2.f32 (sm_89)"},
      {"fp8.__nv_cvt_float2_to_fp8x2/e4m3", from_float2<__NV_E4M3>, "cvt.rn.satfinite.e4m3x2.f32 (sm_89)"},
      {"fp8.__nv_cvt_float2_to_fp8x2/e5m2", from_float2<__NV_E5M2>, "cvt.rn.satfinite.e5m2x2.f32 (sm_89)"},
      {"fp8.__nv_cvt_halfraw_to_fp8/e4m3", from_half<FromHalf, __NV_E4M3>, "cvt.rn.satfinite.e4m3x2.f16x2 (sm_89)"},
      {"fp8.__nv_cvt_halfraw_to_fp8/e5m2", from_half<FromHalf, __NV_E5M2>, "cvt.rn.satfinite.e5m2x2.f16x2 (sm_89)"},
      {"fp8.__nv_cvt_bfloat16raw_to_fp8/e4m3", from_half<FromBfloat, __NV_E4M3>, "cvt.rn.satfinite.e4m3x2.f32 (sm_89)"},
      {"fp8.__nv_cvt_bfloat16raw_to_fp8/e5m2", from_half<FromBfloat, __NV_E5M2>, "cvt.rn.satfinite.e5m2x2.f32 (sm_89)"},
      {"fp8.__nv_cvt_fp8_to_halfraw/e4m3", to_half<__NV_E4M3>, "cvt.rn.f16x2.e4m3x2 (sm_89)"},
      {"fp8.__nv_cvt_fp8_to_halfraw/e5m2", to_half<__NV_E5M2>, "cvt.rn.f16x2.e5m2x2 (sm_89)"},
      {"fp8.__nv_cvt_fp8x2_to_halfraw2/e4m3", to_half2<__NV_E4M3>, "cvt.rn.f16x2.e4m3x2 (sm_89)"},
      {"fp8.__nv_cvt_fp8x2_to_halfraw2/e5m2", to_half2<__NV_E5M2>, "cvt.rn.f16x2.e5m2x2 (sm_89)"},
      {"fp8.__nv_fp8_e4m3", through_type<__nv_fp8_e4m3, __NV_E4M3>, "cvt.rn.satfinite.e4m3x2.f32 (sm_89)"},
      {"fp8.__nv_fp8_e5m2", through_type<__nv_fp8_e5m2, __NV_E5M2>, "cvt.rn.satfinite.e5m2x2.f32 (sm_89)"}};
}

}  // namespace simt::selftest
