// The gradients of a call of the Mamba-2 mixer in training, as the call that follows it.
#pragma once

#include "harness/core/call.h"

namespace assay::harness {

// `forward`: a call of mamba2_mixer.train_forward; it saves from now on. All taps of the gradients are asked for.
Call mixer_backward_call(Call& forward, HostTensor d_output);

}  // namespace assay::harness
