// The Mamba-2 mixer as a whole, judged by gate 3 alone: what it gives, against what the reference's own layer gives.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "harness/cases/family.h"
#include "reference/config.h"
#include "reference/tensor.h"

namespace assay::harness {

// The fields that a mixer has of a model whose layer this call is.
reference::NemotronV3Config mixer_config(const Call& layer);

// Of every output of `layer`. `steps`: what its steps should give; their freedoms are carried on to the end.
std::vector<Expectation> mixer_end_to_end(const Call& layer, const std::vector<Expectation>& steps);

// What a layer gives, by tensor name.
template <class T>
using LayerResults = std::vector<std::pair<std::string, reference::Tensor<T>>>;

// What the mixer gives in double when every step's result is moved by one draw of its freedom. A backward's first is
// the gradient of its input.
LayerResults<double> disturbed_mixer(const Call& layer, const std::vector<Expectation>& steps);

// Gate 3 for every tensor of `oracle`; its freedom is how far `disturbed` is from it, NaN being free of error.
std::vector<Expectation> whole_layer(const Call& layer, const LayerResults<double>& oracle,
                                     const LayerResults<float>& matched, const LayerResults<double>& disturbed);

}  // namespace assay::harness
