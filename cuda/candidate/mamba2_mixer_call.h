// What the operations of the Mamba-2 mixer, and of the block around it, read of a call: sizes, parameters, mask and
// attributes, taps and gradients. Names of parameters and their gradients begin with a prefix: "param." and "grad.", in
// a block "param.mixer." and "grad.mixer.".
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "cuda/candidate/call.h"
#include "cuda/mamba2_mixer/mamba2_mixer.h"

namespace assay::gpu {

struct MixerCall {
  explicit MixerCall(const Call& call, const std::string& prefix = "param.");

  // The names of what it reads: tensors, and attributes of a path with limits of Delta or of decode, which has none.
  static std::vector<std::string> tensors(const std::string& prefix = "param.");
  static std::vector<std::string_view> attributes(bool decode);

  template <class T>
  Mamba2MixerParams<T> params() const {
    return {.in_proj_weight = in_proj.as<T>(),
            .in_proj_bias = in_bias.as<T>(),
            .conv_weight = conv.as<T>(),
            .conv_bias = conv_bias.as<T>(),
            .dt_bias = dt_bias.as<float>(),
            .A_log = A_log.as<float>(),
            .D = D.as<float>(),
            .norm_weight = norm.as<T>(),
            .out_proj_weight = out_proj.as<T>(),
            .out_proj_bias = out_bias.as<T>(),
            .eps = eps,
            .dt_min = dt_min,
            .dt_max = dt_max};
  }

  using Shape = std::initializer_list<std::int64_t>;
  Rows model(const Call& call, std::string_view name, Shape shape) const;  // of the activations' type, compact
  static Rows float32(const Call& call, std::string_view name, Shape shape);
  Rows activations(const Call& call, std::string_view name, std::int64_t width) const {
    return model(call, name, {dims.batch, dims.seq_len, width});
  }
  // Null if the call has none.
  Rows optional(const Call& call, std::string_view name, Shape shape) const {
    return call.has(name) ? model(call, name, shape) : Rows{};
  }
  Rows tap(const Call& call, std::string_view name, std::int64_t width) const {
    return call.has(name) ? activations(call, name, width) : Rows{};
  }

  Mamba2MixerDims dims;
  Element element;
  Rows hidden_states, in_proj, in_bias, conv, conv_bias, dt_bias, A_log, D, norm, out_proj, out_bias;
  const std::int32_t *mask, *seq_idx;  // or null
  float eps, dt_min = 0, dt_max = HUGE_VALF;
};

// Throws Unsupported if the call has anything else.
void accept_only(const Call& call, const std::vector<std::string_view>& attributes,
                 const std::vector<std::string>& tensors);

// The taps of a forward, null where the call has none.
struct MixerTaps {
  MixerTaps(const Call& call, const MixerCall& m);
  static std::vector<std::string> tensors();

  template <class T>
  Mamba2MixerTaps<T> taps() const {
    return {.masked = masked.as<T>(),
            .projected = projected.as<T>(),
            .A = A.as<float>(),
            .convolved = convolved.as<T>(),
            .scanned = scanned.as<T>(),
            .normed = normed.as<T>()};
  }

  Rows masked, projected, convolved, scanned, normed, A = {};
};

// The gradients of the parameters and, where the call has them, of the taps.
struct MixerGradients {
  MixerGradients(const Call& call, const MixerCall& m, const std::string& parameters = "param.",
                 const std::string& prefix = "grad.");
  static std::vector<std::string> tensors(const std::string& prefix = "grad.");

  template <class T>
  Mamba2MixerParamGradients<T> params() const {
    return {.in_proj_weight = in_proj.as<T>(),
            .in_proj_bias = in_bias.as<T>(),
            .conv_weight = conv.as<T>(),
            .conv_bias = conv_bias.as<T>(),
            .dt_bias = dt_bias.as<float>(),
            .A_log = A_log.as<float>(),
            .D = D.as<float>(),
            .norm_weight = norm.as<T>(),
            .out_proj_weight = out_proj.as<T>(),
            .out_proj_bias = out_bias.as<T>()};
  }
  template <class T>
  Mamba2MixerTaps<T> taps() const {
    return {.masked = masked.as<T>(),
            .projected = projected.as<T>(),
            .A = A.as<float>(),
            .convolved = convolved.as<T>(),
            .scanned = scanned.as<T>(),
            .normed = normed.as<T>()};
  }

  Rows in_proj, in_bias, conv, conv_bias, dt_bias, A_log, D, norm, out_proj, out_bias;
  Rows masked, projected, convolved, scanned, normed, A = {};
};

// What a forward in training hands to its backward: these taps, one after the other.
class MixerSaved {
 public:
  MixerSaved(const Mamba2MixerDims& dims, Element element);
  std::size_t bytes() const { return bytes_; }

  template <class T>
  Mamba2MixerTaps<T> at(void* saved) const {
    const auto tensor = [&](std::size_t place) { return reinterpret_cast<T*>(static_cast<char*>(saved) + place); };
    const auto floats = [&](std::size_t place) { return reinterpret_cast<float*>(static_cast<char*>(saved) + place); };
    return {.projected = tensor(projected_),
            .A = floats(A_),
            .convolved = tensor(convolved_),
            .scanned = tensor(scanned_),
            .normed = tensor(normed_),
            .rstd = floats(rstd_)};
  }

 private:
  std::size_t projected_, A_, convolved_, scanned_, normed_, rstd_, bytes_ = 0;
};

// How the projections and a scan of this variant multiply, where it is not as candidate.cc says.
void amend_mixer_contract(Element element, std::string_view scan_variant, assay_contract& contract);

}  // namespace assay::gpu
