#include "harness/cases/mamba2_block_fixture.h"

#include <fmt/format.h>

#include <algorithm>

#include "harness/cases/mamba2_block_call.h"
#include "harness/cases/mamba2_mixer_fixture.h"

namespace assay::harness {
namespace {

// The fixture as one of the mixer's: the block's parameters, and gradients of parameters, are not its own.
Fixture of_mixer(const Fixture& block) {
  constexpr std::string_view kMixer = "mixer.";
  Fixture mixer = block;
  mixer.layer = "mamba2_mixer";
  std::erase_if(mixer.tensors, [](const HostTensor& t) { return t.name == "param.norm.weight"; });
  for (HostTensor& t : mixer.tensors)
    if (t.name.starts_with("param.mixer.")) t.name.erase(t.name.find('.') + 1, kMixer.size());
  return mixer;
}

}  // namespace

bool is_mamba2_block(const Fixture& f) {
  const auto type = f.attributes.find("block_type");
  return f.layer == "block" && type != f.attributes.end() && *type == "mamba";
}

FixtureCalls block_fixture_calls(const Fixture& f) {
  const HostTensor *weight = f.find("param.norm.weight"), *out = f.find("output.hidden_states");
  if (f.path != "train" || !weight || !out)
    throw FixtureError(
        fmt::format("{}: want path \"train\", param.norm.weight and output.hidden_states", f.file.string()));
  FixtureCalls result = mixer_fixture_calls(of_mixer(f));
  for (FixtureCall& fc : result.calls) {
    fc.call = block_call(fc.call, *weight, out->dtype);
    fc.recorded.clear();
    for (const HostTensor& t : fc.call.tensors)
      if (const HostTensor* recorded = t.role == Role::out ? f.find(t.name) : nullptr) fc.recorded.push_back(*recorded);
  }
  return result;
}

}  // namespace assay::harness
