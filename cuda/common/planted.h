// Planted breaks: one wrong line each, compiled in by -DASSAY_BREAK=<name>, to prove that the verdicts see them.
//
//   if constexpr (planted<Break::eps_outside_root>) ...
//
// Without the definition every planted<> is false and the line is not there. cuda/candidate/planted.cmake says which
// source each break lives in and where a verdict must see it.
#pragma once

#ifndef ASSAY_BREAK
#define ASSAY_BREAK none
#endif

namespace assay::gpu {

enum class Break {
  none,
};

template <Break kBreak>
inline constexpr bool planted = kBreak != Break::none&& kBreak == Break::ASSAY_BREAK;

}  // namespace assay::gpu
