#include "harness/cases/mamba2_mixer_backward_call.h"

#include <string>

#include "harness/cases/mamba2_mixer_steps.h"
#include "harness/cases/norm_case.h"

namespace assay::harness {

Call mixer_backward_call(Call& forward, HostTensor d_output) {
  const std::string op = "mamba2_mixer.train_backward", parameter = "param.";
  const MixerSizes n(forward);
  Call backward{op, forward.attributes, {}};
  for (const HostTensor& t : forward.tensors)
    if (t.role == Role::in) backward.tensors.push_back(t);
  forward.tensors.push_back(saved_tensor());
  d_output.name = "grad.output.hidden_states", d_output.role = Role::in;
  backward.tensors.push_back(std::move(d_output));
  backward.tensors.push_back(saved_tensor());

  const HostTensor& u = forward.tensor("input.hidden_states");
  const auto add = [&](const std::string& name, DType dtype, const Shape& shape) {
    backward.tensors.push_back(case_tensor(op, name, dtype, shape));
  };
  add("grad.input.hidden_states", u.dtype, u.shape);
  for (const HostTensor& t : forward.tensors)
    if (t.name.starts_with(parameter)) add("grad." + t.name.substr(parameter.size()), t.dtype, t.shape);
  const auto add_tap = [&](const char* name, std::int64_t width) { add(name, u.dtype, {n.batch, n.seq_len, width}); };
  if (forward.find("input.attention_mask")) add_tap("tap.d_masked", n.hidden_size);
  add_tap("tap.d_projected", n.projected());
  add("tap.d_A", DType::float32, {n.heads});
  add_tap("tap.d_convolved", n.channels);
  add_tap("tap.d_scanned", n.inner);
  add_tap("tap.d_normed", n.inner);
  return backward;
}

}  // namespace assay::harness
