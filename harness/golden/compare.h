// A layer's own results beside the recorded ones: by the oracle, and by the policy that rounds as the model does.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "harness/golden/fixture_reader.h"
#include "harness/golden/golden.h"
#include "reference/numerics.h"

namespace assay::harness {

constexpr double kLayerTolerance = 5e-6;  // relative L2 of float32 recordings: what their own rounding comes to
constexpr double kModelTolerance = 1e-5;

// Results by the fixture's names.
template <class T>
using Tensors = std::map<std::string, reference::Tensor<T>, std::less<>>;

inline reference::Numerics<float> matched_policy(DType model) {
  return {.storage = model == DType::bfloat16 ? reference::Storage::bfloat16 : reference::Storage::native};
}

// Whole numbers as a result: every value of the catalogue's integers is exact in either scalar.
template <class T, class U>
reference::Tensor<T> as_scalars(const reference::Tensor<U>& t) {
  reference::Tensor<T> result(t.shape());
  for (Index i = 0; i < t.size(); ++i) result[i] = static_cast<T>(t[i]);
  return result;
}
template <class T>
reference::Tensor<T> scalar(T value) {
  return reference::Tensor<T>(reference::Shape{}, std::vector<T>{value});
}

template <class T>
void add_gradients(Tensors<T>& results, reference::Parameters<T>&& gradients) {
  for (auto& [name, gradient] : gradients.entries()) results["grad." + name] = std::move(gradient.value);
}

// Every recorded tensor that must come out. Throws FixtureError for one that the layer does not return, or of another
// shape. Whole numbers are compared exactly.
std::vector<GoldenTensor> compare(const FixtureReader& in, const Tensors<double>& oracle, const Tensors<float>& matched,
                                  double tolerance);

// Calls body; what the reference has to say about its arguments becomes a FixtureError of the file.
GoldenEvaluation with_file_named(const FixtureReader& in, const std::function<GoldenEvaluation()>& body);

// run(num) -> Tensors<T>, for the oracle and for the model's policy.
template <class Run>
GoldenEvaluation evaluate(const FixtureReader& in, double tolerance, const Run& run) {
  return with_file_named(in, [&]() -> GoldenEvaluation {
    return {compare(in, run(reference::Numerics<double>{}), run(matched_policy(in.model())), tolerance), ""};
  });
}

}  // namespace assay::harness
