#include "harness/golden/layers.h"

#include <fmt/format.h>

#include <algorithm>

namespace assay::harness {

const std::vector<GoldenLayer>& golden_layers() {
  static const std::vector<GoldenLayer> layers = {
      {"rms_norm", evaluate_kernel_fixture},
      {"mamba_rmsnorm_gated", evaluate_kernel_fixture},
      {"mlp", evaluate_mlp_fixture},
      {"attention", evaluate_attention_fixture},
      {"router", evaluate_router_fixture},
      {"moe", evaluate_moe_fixture},
      {"ssd_scan", evaluate_ssd_scan_fixture},
      {"ssm_state_update", evaluate_ssm_state_update_fixture},
      {"mamba2_mixer", evaluate_mamba2_mixer_fixture},
      {"block", evaluate_block_fixture},
      {"model", evaluate_model_fixture},
      {"rng", evaluate_rng_fixture},
  };
  return layers;
}

const GoldenLayer& golden_layer(const Fixture& fixture) {
  std::string known;
  for (const GoldenLayer& l : golden_layers()) {
    if (l.layer == fixture.layer) return l;
    known += (known.empty() ? "" : ", ") + l.layer;
  }
  throw FixtureError(
      fmt::format("{}: /layer: \"{}\" has no reference; want one of {}", fixture.file.string(), fixture.layer, known));
}

Origin origin_of(const Fixture& fixture) {
  const auto upstream = fixture.provenance.find("upstream");
  if (upstream == fixture.provenance.end() || !upstream->is_string()) return Origin::reference;
  return upstream->get<std::string>().starts_with("Hugging Face") ? Origin::hugging_face : Origin::automodel;
}

void require_path(const FixtureReader& in, std::initializer_list<std::string_view> paths) {
  const std::string& path = in.fixture().path;
  if (std::find(paths.begin(), paths.end(), path) != paths.end()) return;
  in.fail("/path",
          fmt::format("\"{}\"; a fixture of {} has path {}", path, in.fixture().layer, fmt::join(paths, " or ")));
}

}  // namespace assay::harness
