// A call of a Mamba-2 block and the call of its mixer, each made of the other.
#pragma once

#include "harness/core/call.h"

namespace assay::harness {

// mamba2_mixer.train_forward or .train_backward as the block's: it takes the mixer's inputs as its own, has the taps
// before and after the mixer, and its stream goes out, and gradients come in, in the dtype of `stream`.
Call block_call(const Call& mixer, const HostTensor& norm_weight, DType stream);

// The mixer's share of a block's call that has run: it reads what the tap input_normed shows and gives what mixed and
// d_input_normed show; the gradient that comes in is rounded to the model's dtype.
Call mixer_call(const Call& block);
std::string name_in_block(const std::string& mixer_tensor);  // of a tensor that the mixer gives

}  // namespace assay::harness
