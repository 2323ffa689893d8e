// Warp-wide operations: barrier, shuffles, votes. On a GPU these are CUDA's own.
//
// A lane that is not in the mask, has exited or was never there gives poison (all bits set, uninitialised under MSan)
// to a lane that reads it: CUDA leaves that value undefined.
#pragma once

#include "cuda/simt/platform.cuh"

#if SIMT_HOST
namespace simt {

template <class T>
struct ShuffleLane {
  T value, result;
  int source;
};

// The shadow of initialisation travels with the value. Reads other lanes' stacks, which TSan must not judge.
template <class T>
SIMT_NO_TSAN void run_shuffle(void* const* lanes, unsigned mask) {
  for (int i = 0; i < 32; ++i) {
    if (!(mask >> i & 1)) continue;
    auto* lane = static_cast<ShuffleLane<T>*>(lanes[i]);
    if (mask >> lane->source & 1) {
      lane->result = static_cast<ShuffleLane<T>*>(lanes[lane->source])->value;
    } else {
      poison(&lane->result, sizeof(T));
    }
  }
}

template <class T>
concept Shuffled = OneOf<T, int, unsigned, long, unsigned long, long long, unsigned long long, float, double, __half,
                         __half2, __nv_bfloat16, __nv_bfloat162>;

enum class Shuffle { kIndex, kUp, kDown, kXor };
template <class T, Shuffle kKind>
inline constexpr Collective kShuffle{kKind == Shuffle::kIndex  ? "__shfl_sync"
                                     : kKind == Shuffle::kUp   ? "__shfl_up_sync"
                                     : kKind == Shuffle::kDown ? "__shfl_down_sync"
                                                               : "__shfl_xor_sync",
                                     run_shuffle<T>, false, false};

template <Shuffle kKind, class T>
inline T shuffle(unsigned mask, T value, int source, Site site) {
  ShuffleLane<T> lane{value, value, source};
  collective(kShuffle<T, kKind>, mask, &lane, site);
  return lane.result;
}

// Segment arithmetic of PTX shfl: lanes of one `width` segment exchange, a source outside of it is the lane itself.
inline void check_width(int width, Site site) {
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) {
    fail("shuffle: width = " + std::to_string(width) + "; want a power of two up to 32", site);
  }
}

struct VoteLane {
  int predicate;
  unsigned ballot;
};
SIMT_NO_TSAN inline void run_ballot(void* const* lanes, unsigned mask) {
  unsigned ballot = 0;
  for (int i = 0; i < 32; ++i) {
    if (mask >> i & 1) ballot |= unsigned{static_cast<VoteLane*>(lanes[i])->predicate != 0} << i;
  }
  for (int i = 0; i < 32; ++i) {
    if (mask >> i & 1) static_cast<VoteLane*>(lanes[i])->ballot = ballot;
  }
}
inline constexpr Collective kBallot{"__ballot_sync", run_ballot, false, false};
inline constexpr Collective kAny{"__any_sync", run_ballot, false, false};
inline constexpr Collective kAll{"__all_sync", run_ballot, false, false};
inline constexpr Collective kSyncWarp{"__syncwarp", nullptr, true, false};

inline unsigned vote(const Collective& operation, unsigned mask, int predicate, Site site) {
  VoteLane lane{predicate, 0};
  collective(operation, mask, &lane, site);
  return lane.ballot;
}

}  // namespace simt

inline void __syncwarp(unsigned mask = ~0u SIMT_AND_SITE) { simt::collective(simt::kSyncWarp, mask, nullptr, site); }
template <simt::Shuffled T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32 SIMT_AND_SITE) {
  simt::check_width(width, site);
  const int lane = static_cast<int>(simt::self().lane);
  return simt::shuffle<simt::Shuffle::kIndex>(mask, value, (lane & ~(width - 1)) | (source & (width - 1)), site);
}
template <simt::Shuffled T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32 SIMT_AND_SITE) {
  simt::check_width(width, site);
  const int lane = static_cast<int>(simt::self().lane);
  const bool inside = static_cast<unsigned>(lane & (width - 1)) >= delta;
  return simt::shuffle<simt::Shuffle::kUp>(mask, value, inside ? lane - static_cast<int>(delta) : lane, site);
}
template <simt::Shuffled T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32 SIMT_AND_SITE) {
  simt::check_width(width, site);
  const int lane = static_cast<int>(simt::self().lane);
  const bool inside = static_cast<unsigned>(lane & (width - 1)) + delta < static_cast<unsigned>(width);
  return simt::shuffle<simt::Shuffle::kDown>(mask, value, inside ? lane + static_cast<int>(delta) : lane, site);
}
template <simt::Shuffled T>
inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32 SIMT_AND_SITE) {
  simt::check_width(width, site);
  const int lane = static_cast<int>(simt::self().lane);
  const int source = lane ^ lane_mask;  // a later segment is out of reach, an earlier one is not
  const bool inside = source >= 0 && source < 32 && (source & ~(width - 1)) <= (lane & ~(width - 1));
  return simt::shuffle<simt::Shuffle::kXor>(mask, value, inside ? source : lane, site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate SIMT_AND_SITE) {
  return simt::vote(simt::kBallot, mask, predicate, site);
}
inline int __any_sync(unsigned mask, int predicate SIMT_AND_SITE) {
  return simt::vote(simt::kAny, mask, predicate, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate SIMT_AND_SITE) {
  return simt::vote(simt::kAll, mask, !predicate, site) == 0;
}
#endif  // SIMT_HOST

namespace simt {
SIMT_DEV unsigned lane_id() {
#if SIMT_HOST
  return self().lane;
#else
  unsigned lane;
  asm("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
#endif
}
}  // namespace simt
