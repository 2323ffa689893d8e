// Shared memory: static objects, the dynamic piece, and its division.
#pragma once

#include "cuda/simt/platform.cuh"

namespace simt {
template <class T>
using identity_t = std::type_identity_t<T>;
}

// SIMT_SHARED(float[4][33], tile);  one object a block. On the CPU it starts as NaN, between red zones.
// SIMT_DYN_SMEM(raw);               the dynamic bytes of the launch, 1024-byte aligned: unsigned char* raw
#if SIMT_HOST
#define SIMT_SHARED(T, name)                                                                           \
  auto& name = *static_cast<::simt::identity_t<T>*>([] {                                               \
    static const char tag = 0;                                                                         \
    return ::simt::static_shared(&tag, sizeof(::simt::identity_t<T>), alignof(::simt::identity_t<T>)); \
  }())
#define SIMT_DYN_SMEM(name) unsigned char* name = static_cast<unsigned char*>(::simt::dynamic_shared())
#else
#define SIMT_SHARED(T, name) __shared__ ::simt::identity_t<T> name
#define SIMT_DYN_SMEM(name) extern __shared__ __align__(1024) unsigned char name[]
#endif

namespace simt {

// The shared-window address that PTX instructions take. On the CPU an offset that only the executor understands.
SIMT_DEV std::uint32_t smem_addr(const void* p) {
#if SIMT_HOST
  return static_cast<std::uint32_t>(shared_offset(p));
#else
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
#endif
}

// Divides dynamic shared memory. All threads of a block take the same pieces in the same order; on the CPU each piece
// gets its own red zones.
//   Carver carver(raw);  float* a = carver.take<float>(n);  __nv_bfloat16* b = carver.take<__nv_bfloat16>(m, 128);
class Carver {
 public:
  SIMT_DEV explicit Carver(unsigned char* base) : base_(base) {}
  template <class T>
  SIMT_DEV T* take(unsigned count, unsigned align = 16 SIMT_AND_SITE) {
    offset_ = (offset_ + align - 1) / align * align;
    T* piece = reinterpret_cast<T*>(base_ + offset_);
    offset_ += count * static_cast<unsigned>(sizeof(T));
#if SIMT_HOST
    piece = static_cast<T*>(carve_shared(sequence_++, offset_, count * sizeof(T), align, site));
#endif
    return piece;
  }
  SIMT_DEV unsigned bytes() const { return offset_; }

 private:
  unsigned char* base_;
  unsigned offset_ = 0;
#if SIMT_HOST
  unsigned sequence_ = 0;
#endif
};

}  // namespace simt
