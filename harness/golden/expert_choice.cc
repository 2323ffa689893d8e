#include "harness/golden/expert_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "harness/core/expectation.h"

namespace assay::harness {
namespace {

using reference::RouterOutput;

double score_margin(const RouterOutput<double>& oracle, const RouterOutput<float>& matched) {
  const reference::Tensor<double>& a = oracle.selection_scores;
  const reference::Tensor<float>& b = matched.selection_scores;
  double squares = 0;
  for (Index i = 0; i < a.size(); ++i) squares += std::pow(a[i] - static_cast<double>(b[i]), 2);
  return a.size() == 0 ? 0 : kSigmas * std::sqrt(squares / static_cast<double>(a.size()));
}

reference::Tensor<double> shortfall(const RoutedLayer& layer, const RouterOutput<double>& oracle,
                                    const ExpertIndices& indices) {
  return reference::router_choice_shortfall<double>(layer.options, oracle.selection_scores, layer.has_correction_bias,
                                                    indices);
}

bool all_pass(const std::vector<GoldenTensor>& tensors) {
  return std::all_of(tensors.begin(), tensors.end(),
                     [](const GoldenTensor& t) { return judge_golden(t).status == Status::passed; });
}

// Over all tensors but those of noise: the squares of their relative errors.
double distance(const std::vector<GoldenTensor>& tensors) {
  double sum = 0;
  for (const GoldenTensor& t : tensors)
    if (const double size = std::max(rms(t.oracle), rms(t.recorded)); !t.exact && t.limit.empty() && size > 0)
      sum += std::pow(rms_difference(t.recorded, t.oracle) / size, 2);
  return sum;
}

// One token's choice with one expert for another.
struct Swap {
  Index token, slot, expert;
};

// Every swap that leaves a choice within the margin of the oracle's.
std::vector<Swap> swaps_within_margin(const RoutedLayer& layer, const RouterOutput<double>& oracle, double margin) {
  const Index tokens = oracle.indices.dim(0), k = oracle.indices.dim(1), experts = layer.options.n_routed_experts;
  std::vector<Swap> result;
  ExpertIndices tried = oracle.indices;
  for (Index slot = 0; slot < k; ++slot)
    for (Index step = 1; step < experts; ++step) {  // every other expert, for all tokens at once
      for (Index t = 0; t < tokens; ++t) {
        const Index other = (oracle.indices(t, slot) + step) % experts, *chosen = &oracle.indices(t, 0);
        if (std::find(chosen, chosen + k, other) == chosen + k) tried(t, slot) = other;
      }
      const reference::Tensor<double> missing = shortfall(layer, oracle, tried);
      for (Index t = 0; t < tokens; ++t)
        if (const Index other = std::exchange(tried(t, slot), oracle.indices(t, slot));
            other != oracle.indices(t, slot) && missing[t] <= margin)
          result.push_back({t, slot, other});
    }
  return result;
}

// The experts of all layers, from one evaluation.
template <class T>
ExpertChoice choice_of(const RoutedResults<T>& results) {
  ExpertChoice choice;
  for (const auto& [name, router] : results.routers) choice.emplace(name, router.indices);
  return choice;
}

class Inference {
 public:
  Inference(const FixtureReader& in, double tolerance, const RoutedLayer& layer)
      : in_(in), tolerance_(tolerance), layer_(layer) {}

  GoldenEvaluation run() {
    try_choice({});
    // Each pass may move what the next one finds; every accepted swap brings the oracle nearer, so passes come to an
    // end.
    for (bool moved = true; moved && !all_pass(best_.tensors);) {
      moved = false;
      for (std::size_t i = 0; i < best_.oracle.routers.size(); ++i) moved |= improve(i);
    }
    return {std::move(best_.tensors), note()};
  }

 private:
  struct Attempt {
    RoutedResults<double> oracle;
    RoutedResults<float> matched;
    std::vector<GoldenTensor> tensors;
    double distance = HUGE_VAL;
  };

  // The matched policy goes on from the given layers by itself, the oracle with its choice.
  bool try_choice(const ExpertChoice& given) {
    Attempt a;
    a.matched = layer_.matched(given);
    a.oracle = layer_.oracle(choice_of(a.matched));
    a.tensors = compare(in_, a.oracle.tensors, a.matched.tensors, tolerance_);
    a.distance = distance(a.tensors);
    if (!(a.distance < best_.distance)) return false;
    best_ = std::move(a);
    return true;
  }

  bool improve(std::size_t router) {
    const std::string name = best_.oracle.routers[router].first;
    const RouterOutput<double> oracle = best_.oracle.routers[router].second;
    const double margin = score_margin(oracle, best_.matched.routers[router].second);
    bool moved = false;
    std::set<Index> done;
    for (const Swap& swap : swaps_within_margin(layer_, oracle, margin)) {
      if (done.contains(swap.token) || ++attempts_ > kMostAttempts) continue;
      ExpertChoice given;
      for (std::size_t i = 0; i <= router; ++i)
        given.emplace(best_.oracle.routers[i].first, best_.oracle.routers[i].second.indices);
      given.at(name)(swap.token, swap.slot) = swap.expert;
      if (!try_choice(given)) continue;
      moved = true;
      done.insert(swap.token);
      taken_[name].insert(swap.token);
    }
    return moved;
  }

  std::string note() const {
    std::string text;
    for (const auto& [name, tokens] : taken_)
      text += fmt::format("{}tokens {} of {}", text.empty() ? "" : "; ", fmt::join(tokens, ", "),
                          name.empty() ? "the router" : name + "mixer");
    if (text.empty()) return "";
    return "the file records no experts; near a tie those of the recording were taken from its numbers: " + text;
  }

  // Near ties are few; a recording that is wrong elsewhere must not cost hours.
  static constexpr int kMostAttempts = 300;
  const FixtureReader& in_;
  double tolerance_;
  const RoutedLayer& layer_;
  Attempt best_;
  std::map<std::string, std::set<Index>> taken_;
  int attempts_ = 0;
};

}  // namespace

ExpertIndices recorded_experts(const FixtureReader& in, const std::string& tensor,
                               const reference::RouterOptions& options) {
  in.check_range(tensor, options.n_routed_experts);
  ExpertIndices indices = to_tensor<Index>(in.fixture().tensor(tensor));
  const Index k = options.num_experts_per_tok;
  for (Index i = 0; i < indices.size(); ++i)
    for (Index j = i - i % k; j < i; ++j)
      if (indices[i] == indices[j])
        in.fail(fmt::format("/tensors/{}/data/{}", tensor, i),
                fmt::format("expert {} for the second time; want {} different ones", indices[i], k));
  return indices;
}

GoldenEvaluation evaluate_with_recorded_experts(const FixtureReader& in, double tolerance, const RoutedLayer& layer,
                                                const std::string& indices) {
  return with_file_named(in, [&]() -> GoldenEvaluation {
    const ExpertIndices recorded = has_values(in.fixture().tensor(indices))
                                       ? recorded_experts(in, indices, layer.options)
                                       : layer.matched({}).routers.front().second.indices;
    const ExpertChoice given = {{"", recorded}};
    RoutedResults<double> oracle = layer.oracle(given);
    RoutedResults<float> matched = layer.matched(given);
    const RouterOutput<double>& router = oracle.routers.front().second;
    const double margin = score_margin(router, matched.routers.front().second);
    const reference::Tensor<double> missing = shortfall(layer, router, recorded);
    // Where the recorded choice is none that the model could have made, the oracle's own is what should have come out.
    ExpertIndices valid = recorded;
    const bool all_valid =
        std::all_of(missing.span().begin(), missing.span().end(), [&](double s) { return s <= margin; });
    if (!all_valid) {
      const ExpertIndices own = layer.oracle({}).routers.front().second.indices;
      for (Index t = 0; t < missing.size(); ++t)
        if (!(missing[t] <= margin)) std::copy_n(&own(t, 0), own.dim(1), &valid(t, 0));
    }
    oracle.tensors[indices] = as_scalars<double>(valid);
    matched.tensors[indices] = as_scalars<float>(valid);
    return {compare(in, oracle.tensors, matched.tensors, tolerance), ""};
  });
}

GoldenEvaluation evaluate_with_inferred_experts(const FixtureReader& in, double tolerance, const RoutedLayer& layer) {
  return with_file_named(in, [&] { return Inference(in, tolerance, layer).run(); });
}

}  // namespace assay::harness
