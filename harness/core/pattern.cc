#include "harness/core/pattern.h"

#include <fmt/format.h>

#include <algorithm>

namespace assay::harness {
namespace {

std::vector<std::int64_t> coordinates(std::int64_t flat, const Shape& shape) {
  std::vector<std::int64_t> result(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    result[axis] = flat % shape[axis];
    flat /= shape[axis];
  }
  return result;
}

// What the failing coordinates along one axis have in common; empty if they are spread over it without order.
std::string describe_axis(const std::vector<bool>& hit, const std::string& axis) {
  const auto n = static_cast<std::int64_t>(hit.size());
  std::vector<std::int64_t> at;
  for (std::int64_t i = 0; i < n; ++i)
    if (hit[i]) at.push_back(i);
  const auto count = static_cast<std::int64_t>(at.size());
  if (n == 1 || count == n) return "";
  if (count == 1) {
    if (at[0] == n - 1) return fmt::format("the last {} ({}) only", axis, at[0]);
    if (at[0] == 0) return fmt::format("the first {} only", axis);
    return fmt::format("{} {} only", axis, at[0]);
  }
  if (at.back() - at.front() + 1 == count) {
    if (at.back() == n - 1) return fmt::format("the last {} of {} {} (from {})", count, n, axis, at.front());
    if (at.front() == 0) return fmt::format("the first {} of {} {}", count, n, axis);
    return fmt::format("{} {} to {}", axis, at.front(), at.back());
  }
  const std::int64_t step = at[1] - at[0];
  const bool regular =
      std::adjacent_find(at.begin(), at.end(), [&](auto a, auto b) { return b - a != step; }) == at.end();
  if (regular && (count >= 3 || count == n / step))
    return fmt::format("every {}th {}, from {}", step, axis, at.front());
  // All of one residue class of a power of two, as a lane or a vector element that is wrong.
  for (std::int64_t period = 2; period <= std::min<std::int64_t>(n / 2, 64); period *= 2) {
    const std::int64_t residue = at[0] % period;
    if (count >= 4 && std::all_of(at.begin(), at.end(), [&](auto i) { return i % period == residue; }))
      return fmt::format("only {} that are {} mod {}", axis, residue, period);
  }
  return fmt::format("{} of {} {}", count, n, axis);
}

}  // namespace

std::string axis_position(std::int64_t flat, const Shape& shape, const std::vector<std::string>& axes) {
  const std::vector<std::int64_t> at = coordinates(flat, shape);
  std::string text;
  for (std::size_t i = 0; i < at.size(); ++i)
    text += fmt::format("{}{}={}", i ? " " : "", i < axes.size() ? axes[i] : fmt::format("axis{}", i), at[i]);
  return text;
}

std::string describe_pattern(std::span<const std::int64_t> failing, const Shape& shape,
                             const std::vector<std::string>& axes) {
  if (static_cast<std::int64_t>(failing.size()) == element_count(shape)) return "all elements";
  std::vector<std::vector<bool>> hit(shape.size());
  for (std::size_t axis = 0; axis < shape.size(); ++axis) hit[axis].resize(shape[axis]);
  for (const std::int64_t flat : failing) {
    const std::vector<std::int64_t> at = coordinates(flat, shape);
    for (std::size_t axis = 0; axis < at.size(); ++axis) hit[axis][at[axis]] = true;
  }
  std::string text;
  std::int64_t box = 1;  // elements of the box that the named coordinates span
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    box *= std::count(hit[axis].begin(), hit[axis].end(), true);
    const std::string part = describe_axis(hit[axis], axis < axes.size() ? axes[axis] : fmt::format("axis{}", axis));
    if (!part.empty()) text += (text.empty() ? "" : ", ") + part;
  }
  if (text.empty()) return "scattered over all axes";
  const double filled = static_cast<double>(failing.size()) / static_cast<double>(box);
  return filled > 0.9 ? text : fmt::format("{}; {:.0f} % of them", text, 100 * filled);
}

}  // namespace assay::harness
