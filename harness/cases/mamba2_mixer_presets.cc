#include "harness/cases/mamba2_mixer_presets.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <limits>
#include <stdexcept>

namespace assay::harness {
namespace {

struct Preset {
  const char* name;
  std::int64_t hidden_size, heads, head_dim, groups, state_size, taps, chunk_size;
  bool conv_bias, bias;
  double dt_min, dt_max;
};
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr Preset kPresets[] = {
    {"tiny", 32, 4, 16, 2, 16, 4, 16, true, false, 0, kInfinity},
    {"tiny-all", 40, 6, 8, 3, 16, 4, 8, true, true, 0.02, 0.4},
    {"tiny-plain", 32, 4, 16, 1, 16, 2, 16, false, false, 0, kInfinity},
    {"nano-30b-a3b", 2688, 64, 64, 8, 128, 4, 128, true, false, 0, kInfinity},
    {"nano-4b", 3136, 96, 80, 8, 128, 4, 256, true, false, 0, kInfinity},
    {"nemotron-h-8b", 4096, 128, 64, 8, 128, 4, 128, true, false, 0, kInfinity},
    {"super-120b-a12b", 4096, 128, 64, 8, 128, 4, 128, true, false, 0, kInfinity},
};

}  // namespace

std::vector<std::string> mixer_presets() {
  std::vector<std::string> names;
  for (const Preset& p : kPresets) names.emplace_back(p.name);
  return names;
}

reference::NemotronV3Config mixer_preset(std::string_view name) {
  for (const Preset& p : kPresets) {
    if (p.name != name) continue;
    reference::NemotronV3Config c;
    c.hidden_size = p.hidden_size;
    c.mamba_num_heads = p.heads, c.mamba_head_dim = p.head_dim;
    c.n_groups = p.groups, c.ssm_state_size = p.state_size;
    c.conv_kernel = p.taps, c.chunk_size = p.chunk_size;
    c.use_conv_bias = p.conv_bias, c.use_bias = p.bias;
    c.time_step_limit[0] = p.dt_min, c.time_step_limit[1] = p.dt_max;
    return c;
  }
  throw std::invalid_argument(
      fmt::format("preset \"{}\" is unknown; known are {}", name, fmt::join(mixer_presets(), ", ")));
}

}  // namespace assay::harness
