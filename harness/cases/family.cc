#include "harness/cases/family.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace assay::harness {

Family rms_norm_family();
Family gated_rms_norm_family();
Family causal_conv1d_family();
Family ssd_scan_family();
Family ssm_state_update_family();
Family mamba2_decode_step_family();
Family ssd_scan_normed_family();
Family linear_family();
Family mamba2_mixer_family();
Family mamba2_block_family();

assay_contract plain_contract(const Call&) {
  assay_contract contract{};
  contract.struct_size = sizeof contract;
  return contract;
}

const std::vector<Family>& families() {
  static const std::vector<Family> all = {rms_norm_family(),         gated_rms_norm_family(),     causal_conv1d_family(),
                                          ssd_scan_family(),         ssm_state_update_family(),   linear_family(),
                                          mamba2_decode_step_family(), mamba2_mixer_family(),       mamba2_block_family(),
                                          ssd_scan_normed_family()};
  return all;
}

const Family& family(std::string_view name) {
  std::string known;
  for (const Family& f : families()) {
    if (f.name == name) return f;
    known += (known.empty() ? "" : ", ") + f.name;
  }
  throw std::invalid_argument(fmt::format("operation \"{}\" has no cases; known are {}", name, known));
}

void link(Call& call, const std::vector<HostTensor>& outputs) {
  for (HostTensor& t : call.tensors) {
    if (!t.bytes.empty() || t.role == Role::out || t.role == Role::tap) continue;
    const auto from =
        std::find_if(outputs.rbegin(), outputs.rend(), [&](const HostTensor& o) { return o.name == t.name; });
    if (from == outputs.rend()) continue;
    t.shape = from->shape;
    t.bytes = from->bytes;
  }
}

}  // namespace assay::harness
