#include "harness/core/explain.h"

#include <fmt/format.h>

#include <cmath>

namespace assay::harness {
namespace {

std::string likely_cause(const TensorResult& t) {
  if (std::isnan(t.got))
    return "NaN where a number is due: memory read before it was written (the executor poisons it), or an overflow";
  // The steps before it say more.
  if (t.tensor.ends_with("(end to end)")) return "";
  // Gates over a whole tensor. With element limits that hold (the ratios of gate 3) a loss of accuracy is left; a
  // relative L2 or the ratio of a recording knows no limits of elements, so its worst element is looked at as any other.
  if (t.gate == "relative" && t.max_ratio > 0)
    return "every element is within its limit, but all of them are worse than the contract's arithmetic explains";
  if (t.gate == "matched" && t.limit == 2 && t.rms_ratio < 0.5)
    return "the recording has fewer roundings than the model's dtype asks for";
  if (t.got == 0 && t.wanted != 0) return "a store or a term is missing";
  if (t.wanted != 0 && std::isfinite(t.got)) {
    const double ratio = t.got / t.wanted;
    if (std::fabs(ratio + 1) < 1e-2) return "the sign is wrong";
    for (const double factor : {2.0, 0.5, 4.0, 0.25})
      if (std::fabs(ratio / factor - 1) < 1e-3) return fmt::format("off by a factor of {}", factor);
    if (std::fabs(ratio - 1) < 0x1p-7) return "a rounding too many, a narrower accumulator, or a function too coarse";
  }
  return "";
}

}  // namespace

std::string explain(const TensorResult& t) {
  std::string text;
  if (t.gate == "relative" && t.failing == 0) {
    text = fmt::format("{}: errors {:.3g} (rms) and {:.3g} (max) times the matched reference's; want at most 2 and 3",
                       t.tensor, t.rms_ratio, t.max_ratio);
    if (t.max_ratio == 0 && t.limit > 0)
      text = fmt::format("{}: relative L2 is {:.3g}; want at most {:.3g}", t.tensor, t.rms_ratio * t.limit, t.limit);
  } else if (t.gate == "matched") {
    text = t.limit == 2 ? fmt::format("{}: rms(recorded - oracle) is {:.3g} times rms(matched - oracle); want 0.5 to 2",
                                      t.tensor, t.rms_ratio)
                        : fmt::format("{}: rms(recorded - oracle) is {:.3g} standard deviations; want at most {:.3g}",
                                      t.tensor, t.rms_ratio, t.limit);
  } else {
    text = fmt::format("{}: {} of {} elements {}", t.tensor, t.failing, t.elements,
                       t.gate == "bits" ? "differ from the exact value, rounded once" : "beyond their limit");
  }
  if (!t.worst_at.empty())
    text += fmt::format("; the worst at {}: got {:.9g}, want {:.9g}, {}", t.worst_at, t.got, t.wanted,
                        t.gate == "matched" || (t.gate == "relative") ? "" : fmt::format("limit {:.3g}", t.limit));
  while (text.ends_with(", ")) text.resize(text.size() - 2);
  if (!t.pattern.empty()) text += "; where: " + t.pattern;
  if (const std::string cause = likely_cause(t); !cause.empty()) text += ". Likely: " + cause;
  return text;
}

}  // namespace assay::harness
