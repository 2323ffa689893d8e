// For tests only: a layer against a recorded fixture (the gates of golden fixtures), and against finite differences.
//
// A layer under test is a function run(num, parameters, fixture) -> results by the fixture's names ("output.*",
// "grad.*").
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "reference/parallel.h"
#include "reference/parameters.h"
#include "reference/testing/fixture.h"
#include "reference/testing/random.h"

namespace assay::reference::testing {

// Tensors by name; "terms.NAME" beside NAME holds the sum of the absolute values of the terms NAME is the sum of.
template <class T>
using Results = std::map<std::string, Tensor<T>>;

// The fixture's "param.*" and "buffer.*" without these prefixes.
template <class T>
Parameters<T> parameters_of(const Fixture& fixture) {
  Parameters<T> parameters;
  for (const FixtureTensor& tensor : fixture.tensors)
    for (const std::string prefix : {"param.", "buffer."})
      if (tensor.name.starts_with(prefix))
        parameters.set(tensor.name.substr(prefix.size()), tensor.as<T>(), {.is_buffer = prefix == "buffer."});
  return parameters;
}

template <class T>
void add_gradients(Results<T>& results, const Parameters<T>& gradients, const std::string& prefix = "grad.") {
  for (const auto& [name, gradient] : gradients.entries()) results[prefix + name] = gradient.value;
}

template <class A, class B>
double rms_difference(const A& a, const B& b) {
  double sum = 0;
  for (Index i = 0; i < static_cast<Index>(a.size()); ++i)
    sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
  return a.size() == 0 ? 0 : std::sqrt(sum / static_cast<double>(a.size()));
}
template <class A>
double rms(const A& a) {
  double sum = 0;
  for (Index i = 0; i < static_cast<Index>(a.size()); ++i) sum += std::pow(static_cast<double>(a[i]), 2);
  return a.size() == 0 ? 0 : std::sqrt(sum / static_cast<double>(a.size()));
}

struct FixtureGates {
  double relative_l2;                          // of float32 fixtures: 5e-6 for a layer, 1e-5 for a whole model
  std::vector<std::string> not_compared = {};  // recorded, but not a function of the inputs alone
};

// Every recorded "output.*" and "grad.*" but the incoming gradients is compared with the oracle (float32) or judged by
// the matched policy (bfloat16); one that `run` does not return is a failure.
template <class Run>
void check_fixture(const std::string& name, const FixtureGates& gates, const Run& run) {
  SCOPED_TRACE(name);
  const Fixture fixture = load_fixture(name);
  const bool is_bfloat16 = name.ends_with("_bf16");
  const Results<double> oracle = run(Numerics<double>{}, parameters_of<double>(fixture), fixture);
  const Numerics<float> policy{.storage = is_bfloat16 ? Storage::bfloat16 : Storage::native};
  const Results<float> own = run(policy, parameters_of<float>(fixture), fixture);
  int compared = 0;
  for (const FixtureTensor& recorded : fixture.tensors) {
    const bool is_result = recorded.name.find("output") != std::string::npos || recorded.name.starts_with("grad.") ||
                           recorded.name == "generate.logits";
    if (!is_result || recorded.name.starts_with("grad.output.") || recorded.data.empty()) continue;
    if (std::find(gates.not_compared.begin(), gates.not_compared.end(), recorded.name) != gates.not_compared.end())
      continue;
    SCOPED_TRACE(recorded.name);
    ASSERT_TRUE(oracle.contains(recorded.name)) << "not computed";
    const Tensor<double>& wanted = oracle.at(recorded.name);
    const Tensor<float>& mine = own.at(recorded.name);
    ASSERT_EQ(wanted.size(), static_cast<Index>(recorded.data.size()));
    ++compared;
    if (recorded.dtype == "int64") {
      EXPECT_EQ(rms_difference(recorded.data, wanted), 0);
      continue;
    }
    const auto terms = oracle.find("terms." + recorded.name);
    const double size = std::max(rms(wanted), terms == oracle.end() ? 0 : rms(terms->second) * 0x1p-10);
    const double theirs = rms_difference(recorded.data, wanted), ours = rms_difference(mine, wanted);
    if (std::getenv("ASSAY_SHOW_GATES"))
      std::printf("%-36s %-50s %6zu elements, recording %.2e, own policy %.2e of the oracle, ratio %.3f\n",
                  name.c_str(), recorded.name.c_str(), recorded.data.size(), theirs / size, ours / size, theirs / ours);
    // Noise-dominated: the sum cancels to less than the rounding errors of its terms, of which each has a handful.
    const double noise = terms == oracle.end() ? 0 : 8 * (is_bfloat16 ? 0x1p-9 : 0x1p-24) * rms(terms->second);
    if (rms(wanted) < 8 * noise) {
      EXPECT_LE(theirs, noise);
      EXPECT_LE(ours, noise);
    } else if (!is_bfloat16 && recorded.dtype != "bfloat16") {  // a float32 model may keep a bfloat16 cache
      EXPECT_LE(theirs / size, gates.relative_l2) << "recording against the oracle";
      EXPECT_LE(ours / size, gates.relative_l2) << "float32 policy against the oracle";
    } else if (recorded.data.size() >= 256) {
      EXPECT_GE(theirs, 0.5 * ours) << "the recording is closer to the oracle than half the matched policy's error";
      EXPECT_LE(theirs, 2.0 * ours) << "the recording is further from the oracle than twice the matched policy's error";
    } else {
      // Too few elements for a ratio of two errors: both within a few bfloat16 roundings of the oracle.
      EXPECT_LE(theirs, 4 * ours + 0x1p-8 * size);
    }
  }
  EXPECT_GT(compared, 0);
}

// ---- finite differences, in double

// Thousands of evaluations too small for a second thread.
struct OnOneThread {
  OnOneThread() { set_threads(1); }
  ~OnOneThread() { set_threads(0); }
};

// d loss / d tensor[i] by five points; `loss` reads the tensor.
inline double finite_difference(Tensor<double>& tensor, Index i, const std::function<double()>& loss) {
  const double kept = tensor[i], step = 1e-4 * std::max(1.0, std::abs(kept));
  const auto at = [&](double steps) {
    tensor[i] = kept + steps * step;
    const double value = loss();
    tensor[i] = kept;
    return value;
  };
  return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step);
}

// Compares at the first, the last and random elements, `count` in all, relative to the gradient's largest entry.
inline void check_gradient(const std::string& name, Tensor<double>& tensor, const Tensor<double>& gradient,
                           const std::function<double()>& loss, double tolerance = 1e-6, int count = 10) {
  SCOPED_TRACE(name);
  ASSERT_EQ(to_string(tensor.shape()), to_string(gradient.shape()));
  ASSERT_GT(tensor.size(), 0);
  const OnOneThread one_thread;
  double largest = 0;
  for (double value : gradient.span()) largest = std::max(largest, std::abs(value));
  Random random(static_cast<std::uint64_t>(tensor.size()));
  for (int n = 0; n < count; ++n) {
    const Index i = n == 0 ? 0 : n == 1 ? tensor.size() - 1 : random.integer(0, tensor.size() - 1);
    EXPECT_NEAR(finite_difference(tensor, i, loss), gradient[i], tolerance * std::max(largest, 1e-3))
        << "element " << i;
  }
}

// Every parameter that is no buffer must have a gradient, and every gradient a parameter.
inline void check_gradients(Parameters<double>& parameters, const Parameters<double>& gradients,
                            const std::function<double()>& loss, double tolerance = 1e-6, int count = 10) {
  for (auto& [name, parameter] : parameters.entries()) {
    if (parameter.flags.is_buffer) continue;
    ASSERT_NE(gradients.find(name), nullptr) << name << " has no gradient";
    check_gradient(name, parameter.value, *gradients.find(name), loss, tolerance, count);
  }
  for (const auto& [name, gradient] : gradients.entries()) EXPECT_NE(parameters.find(name), nullptr) << name;
}

template <class T>
double inner_product(const Tensor<T>& a, const Tensor<T>& b) {
  double sum = 0;
  for (Index i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// The derivative of the loss along one random direction through every parameter and the input at once.
inline void check_adjoint(Parameters<double>& parameters, const Parameters<double>& gradients, Tensor<double>& input,
                          const Tensor<double>& d_input, const std::function<double()>& loss, double tolerance = 1e-6) {
  Random random(17);
  struct Moved {
    Tensor<double>* tensor;
    Tensor<double> kept, direction;
  };
  std::vector<Moved> moved;
  double wanted = 0, size = 0;
  const auto add = [&](Tensor<double>& tensor, const Tensor<double>& gradient) {
    moved.push_back({&tensor, tensor, random.tensor<double>(tensor.shape())});
    for (Index i = 0; i < gradient.size(); ++i) {
      wanted += gradient[i] * moved.back().direction[i];
      size += std::pow(gradient[i] * moved.back().direction[i], 2);
    }
  };
  add(input, d_input);
  for (const auto& [name, gradient] : gradients.entries()) add(parameters[name], gradient.value);
  const double step = 1e-5;
  const auto at = [&](double steps) {
    for (Moved& m : moved)
      for (Index i = 0; i < m.kept.size(); ++i) (*m.tensor)[i] = m.kept[i] + steps * step * m.direction[i];
    return loss();
  };
  const double found = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step);
  for (Moved& m : moved) *m.tensor = m.kept;
  EXPECT_NEAR(found, wanted, tolerance * std::sqrt(size));
}

template <class T>
double max_difference(const Tensor<T>& a, const Tensor<T>& b) {
  if (a.shape() != b.shape()) return INFINITY;
  double largest = 0;
  for (Index i = 0; i < a.size(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  return largest;
}

}  // namespace assay::reference::testing
