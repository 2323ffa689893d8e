#include "harness/golden/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "harness/core/expectation.h"

namespace assay::harness {
namespace {

template <class T>
std::vector<double> values_of(const FixtureReader& in, const Tensors<T>& results, const HostTensor& recorded) {
  const auto found = results.find(recorded.name);
  const std::string pointer = "/tensors/" + recorded.name;
  if (found == results.end())
    in.fail(pointer, fmt::format("{} does not compute it; want a tensor that it returns", in.fixture().layer));
  const reference::Tensor<T>& t = found->second;
  if (Shape(t.shape().begin(), t.shape().end()) != recorded.shape)
    in.fail(pointer + "/shape", fmt::format("{}; want {}", to_string(recorded.shape), to_string(t.shape())));
  return {t.span().begin(), t.span().end()};
}

// A value that the model's own arithmetic can't tell from 0 is the rounding noise of an exact cancellation, such as the
// gradient of k_proj.bias, which no softmax feels: the recording's noise is then held against the largest of ours, by its
// bound alone. (Not against our root mean square: the noise of a weight's gradient is a product, noise of its row times
// input of its column, and has elements far above it.)
void limit_if_noise(GoldenTensor& g) {
  if (g.exact || rms(g.oracle) >= rms_difference(g.matched, g.oracle)) return;
  double largest = 0;
  for (std::size_t i = 0; i < g.oracle.size(); ++i) largest = std::max(largest, std::fabs(g.matched[i] - g.oracle[i]));
  g.limit.assign(g.oracle.size(), kSigmas * largest);
}

}  // namespace

std::vector<GoldenTensor> compare(const FixtureReader& in, const Tensors<double>& oracle, const Tensors<float>& matched,
                                  double tolerance) {
  std::vector<GoldenTensor> result;
  for (const HostTensor& t : in.fixture().tensors) {
    if (!is_expected(t.name)) continue;
    GoldenTensor g{.name = t.name, .dtype = t.dtype, .model = in.model(), .shape = t.shape};
    g.oracle = values_of(in, oracle, t);
    g.matched = values_of(in, matched, t);
    g.tolerance = tolerance;
    g.exact = !is_floating(t.dtype);
    g.recorded = values_or(t, own_values(g));
    limit_if_noise(g);
    result.push_back(std::move(g));
  }
  return result;
}

GoldenEvaluation with_file_named(const FixtureReader& in, const std::function<GoldenEvaluation()>& body) {
  try {
    return body();
  } catch (const std::invalid_argument& error) {
    throw FixtureError(in.fixture().file.string() + ": " + error.what());
  }
}

}  // namespace assay::harness
