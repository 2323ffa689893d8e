// Which experts a recording used. The reference goes on with that choice once it has been validated: a router near a
// tie may go either way, and everything after it differs for that token.
//
// The margin of a layer is 8 standard deviations of what the model's arithmetic does to its selection scores: the rms
// of matched - oracle. A recorded choice must be the oracle's own within it. Where the file records none, the matched
// policy's choice is tried first; if a tensor then fails, tokens within the margin are given their other expert as long
// as that brings the oracle nearer to what was recorded.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "harness/golden/compare.h"
#include "reference/router.h"

namespace assay::harness {

using ExpertIndices = reference::Tensor<Index>;             // [T, k]
using ExpertChoice = std::map<std::string, ExpertIndices>;  // by layer: a prefix such as "model.layers.3."

template <class T>
struct RoutedResults {
  Tensors<T> tensors;
  std::vector<std::pair<std::string, reference::RouterOutput<T>>> routers;  // by layer, in the order of evaluation
};

// A layer or model with routers: evaluated with the experts given for some of its layers, its own for the others.
struct RoutedLayer {
  reference::RouterOptions options;
  bool has_correction_bias = true;
  std::function<RoutedResults<double>(const ExpertChoice&)> oracle;
  std::function<RoutedResults<float>(const ExpertChoice&)> matched;
};
template <class Run>
RoutedLayer routed_layer(const FixtureReader& in, const reference::RouterOptions& options, bool has_correction_bias,
                         const Run& run) {
  return {options, has_correction_bias,
          [=](const ExpertChoice& given) { return run(reference::Numerics<double>{}, given); },
          [=, model = in.model()](const ExpertChoice& given) { return run(matched_policy(model), given); }};
}

// The recorded indices of the only router, checked to be k different experts of each token. Throws FixtureError.
ExpertIndices recorded_experts(const FixtureReader& in, const std::string& tensor,
                               const reference::RouterOptions& options);

// With the choice of the tensor `indices`, which becomes a result: the recorded choice where it is valid.
GoldenEvaluation evaluate_with_recorded_experts(const FixtureReader& in, double tolerance, const RoutedLayer& layer,
                                                const std::string& indices);

// Where the file records no choice.
GoldenEvaluation evaluate_with_inferred_experts(const FixtureReader& in, double tolerance, const RoutedLayer& layer);

}  // namespace assay::harness
