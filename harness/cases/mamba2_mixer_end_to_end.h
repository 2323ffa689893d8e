// The Mamba-2 mixer as a whole, judged by gate 3 alone: what it gives, against what the reference's own layer gives.
#pragma once

#include <functional>
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

// Draw 0 is of a step's freedom, which the matched reference has not; all others are of everything that a step errs,
// its rounding included, with which the matched reference is one draw more.
constexpr int kErrorDraws = 4;

// Moves the result of `step`, which may be null, by one draw; `stored`: the tensor that holds it, or null. What the
// step errs before its rounding is one error in `shared` neighbouring elements.
void move_by_draw(reference::Tensor<double>& value, int draw, const std::string& tensor, const HostTensor* stored,
                  const Expectation* step, std::int64_t shared = 1);

// What the mixer gives in double when every step's result is moved by a draw. A backward's first is the gradient of its
// input.
LayerResults<double> disturbed_mixer(const Call& layer, const std::vector<Expectation>& steps, int draw);

// Gate 3 for every tensor of `oracle`. `disturbed(draw)`: the layer moved by a draw, NaN being free of error.
std::vector<Expectation> whole_layer(const Call& layer, const LayerResults<double>& oracle,
                                     const LayerResults<float>& matched,
                                     const std::function<LayerResults<double>(int)>& disturbed);

}  // namespace assay::harness
