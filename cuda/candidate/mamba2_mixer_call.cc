#include "cuda/candidate/mamba2_mixer_call.h"

#include <string>

#include "cuda/gemm/gemm.h"

namespace assay::gpu {
namespace {

Mamba2MixerDims dims_of(const Call& call, const std::string& p) {
  const auto u = call.axes("input.hidden_states", 3), conv = call.axes(p + "conv1d.weight", 3);
  Mamba2MixerDims d{.batch = u[0],
                    .seq_len = u[1],
                    .hidden_size = u[2],
                    .heads = call.axes(p + "_fp32_params.A_log", 1)[0],
                    .head_dim = 0,
                    .groups = call.int_attribute("n_groups"),
                    .state_size = 0,
                    .taps = conv[2]};
  const std::int64_t inner = call.axes(p + "norm.weight", 1)[0];
  if (d.heads < 1 || inner % d.heads != 0)
    throw Unsupported(p + "norm.weight: " + std::to_string(inner) + " channels; want a multiple of the " +
                      std::to_string(d.heads) + " heads of " + p + "_fp32_params.A_log");
  if (d.groups < 1 || conv[0] < inner || (conv[0] - inner) % (2 * d.groups) != 0)
    throw Unsupported(p + "conv1d.weight: " + std::to_string(conv[0]) + " channels; want " + std::to_string(inner) +
                      " and 2 n_groups state_size more");
  d.head_dim = inner / d.heads;
  d.state_size = (conv[0] - inner) / (2 * d.groups);
  return d;
}

constexpr const char* kParameters[] = {"in_proj.weight",       "in_proj.bias",       "conv1d.weight",  "conv1d.bias",
                                       "_fp32_params.dt_bias", "_fp32_params.A_log", "_fp32_params.D", "norm.weight",
                                       "out_proj.weight",      "out_proj.bias"};
constexpr const char* kTaps[] = {"masked", "projected", "A", "convolved", "scanned", "normed"};

template <std::size_t n>
void append(std::vector<std::string>& to, const std::string& prefix, const char* const (&names)[n]) {
  for (const char* name : names) to.push_back(prefix + name);
}

bool is_decode(const Call& call) { return call.op() == "mamba2_mixer.decode"; }

}  // namespace

MixerCall::MixerCall(const Call& call, const std::string& p)
    : dims(dims_of(call, p)),
      element(call.strided_rows("input.hidden_states").element),
      hidden_states(activations(call, "input.hidden_states", dims.hidden_size)),
      in_proj(model(call, p + "in_proj.weight", {dims.projected(), dims.hidden_size})),
      in_bias(optional(call, p + "in_proj.bias", {dims.projected()})),
      conv(model(call, p + "conv1d.weight", {dims.conv_channels(), 1, dims.taps})),
      conv_bias(optional(call, p + "conv1d.bias", {dims.conv_channels()})),
      dt_bias(float32(call, p + "_fp32_params.dt_bias", {dims.heads})),
      A_log(float32(call, p + "_fp32_params.A_log", {dims.heads})),
      D(float32(call, p + "_fp32_params.D", {dims.heads})),
      norm(model(call, p + "norm.weight", {dims.inner()})),
      out_proj(model(call, p + "out_proj.weight", {dims.hidden_size, dims.inner()})),
      out_bias(optional(call, p + "out_proj.bias", {dims.hidden_size})),
      mask(call.int32_data("input.attention_mask", {dims.batch, dims.seq_len})),
      seq_idx(call.int32_data("input.seq_idx", {dims.batch, dims.seq_len})),
      eps(call.float_attribute("eps")) {
  (void)mamba2_mixer_workspace(dims, size_of(element));  // checks the dims
  if (is_decode(call)) return;
  dt_min = call.float_attribute("dt_min"), dt_max = call.float_attribute("dt_max");
  if (!(dt_min <= dt_max))
    throw Unsupported("attribute dt_min is above dt_max, or one of them is NaN; want dt_min <= dt_max");
}

std::vector<std::string> MixerCall::tensors(const std::string& prefix) {
  std::vector<std::string> names = {"input.hidden_states", "input.attention_mask"};
  append(names, prefix, kParameters);
  return names;
}
std::vector<std::string> MixerTaps::tensors() {
  std::vector<std::string> names;
  append(names, "tap.", kTaps);
  return names;
}
std::vector<std::string> MixerGradients::tensors(const std::string& prefix) {
  std::vector<std::string> names;
  append(names, prefix, kParameters);
  append(names, "tap.d_", kTaps);
  return names;
}

void accept_only(const Call& call, const std::vector<std::string_view>& attributes,
                 const std::vector<std::string>& tensors) {
  const std::vector<std::string_view> views(tensors.begin(), tensors.end());
  call.accept_only(attributes, views);
}

MixerTaps::MixerTaps(const Call& call, const MixerCall& m)
    : masked(m.tap(call, "tap.masked", m.dims.hidden_size)),
      projected(m.tap(call, "tap.projected", m.dims.projected())),
      convolved(m.tap(call, "tap.convolved", m.dims.conv_channels())),
      scanned(m.tap(call, "tap.scanned", m.dims.inner())),
      normed(m.tap(call, "tap.normed", m.dims.inner())) {
  if (call.has("tap.A")) A = MixerCall::float32(call, "tap.A", {m.dims.heads});
}

MixerGradients::MixerGradients(const Call& call, const MixerCall& m, const std::string& parameters,
                               const std::string& p)
    : in_proj(m.model(call, p + "in_proj.weight", {m.dims.projected(), m.dims.hidden_size})),
      in_bias(m.optional(call, p + "in_proj.bias", {m.dims.projected()})),
      conv(m.model(call, p + "conv1d.weight", {m.dims.conv_channels(), 1, m.dims.taps})),
      conv_bias(m.optional(call, p + "conv1d.bias", {m.dims.conv_channels()})),
      dt_bias(MixerCall::float32(call, p + "_fp32_params.dt_bias", {m.dims.heads})),
      A_log(MixerCall::float32(call, p + "_fp32_params.A_log", {m.dims.heads})),
      D(MixerCall::float32(call, p + "_fp32_params.D", {m.dims.heads})),
      norm(m.model(call, p + "norm.weight", {m.dims.inner()})),
      out_proj(m.model(call, p + "out_proj.weight", {m.dims.hidden_size, m.dims.inner()})),
      out_bias(m.optional(call, p + "out_proj.bias", {m.dims.hidden_size})),
      masked(m.tap(call, "tap.d_masked", m.dims.hidden_size)),
      projected(m.tap(call, "tap.d_projected", m.dims.projected())),
      convolved(m.tap(call, "tap.d_convolved", m.dims.conv_channels())),
      scanned(m.tap(call, "tap.d_scanned", m.dims.inner())),
      normed(m.tap(call, "tap.d_normed", m.dims.inner())) {
  if (call.has("tap.d_A")) A = MixerCall::float32(call, "tap.d_A", {m.dims.heads});
  for (const char* bias : {"in_proj.bias", "conv1d.bias", "out_proj.bias"})
    if (call.has(parameters + bias) != call.has(p + bias))
      throw Unsupported(parameters + bias + " and " + p + bias + ": want both or neither");
  if (!call.has("saved")) throw Unsupported("saved: missing; want what the forward in training saved");
}

std::vector<std::string_view> MixerCall::attributes(bool decode) {
  if (decode) return {"n_groups", "eps"};
  return {"n_groups", "eps", "chunk_size", "dt_min", "dt_max"};
}

Rows MixerCall::model(const Call& call, std::string_view name, Shape shape) const {
  const Rows rows = call.compact(name, shape);
  require_element(name, rows, element);
  return rows;
}

Rows MixerCall::float32(const Call& call, std::string_view name, Shape shape) {
  const Rows rows = call.compact(name, shape);
  require_element(name, rows, Element::float32);
  return rows;
}

MixerSaved::MixerSaved(const Mamba2MixerDims& d, Element element) {
  constexpr std::size_t kAlignment = 256;
  const auto place = [&](std::int64_t elements, std::size_t size) {
    const std::size_t at = bytes_;
    bytes_ += (static_cast<std::size_t>(elements) * size + kAlignment - 1) / kAlignment * kAlignment;
    return at;
  };
  projected_ = place(d.tokens() * d.projected(), size_of(element));
  A_ = place(d.heads, sizeof(float));
  convolved_ = place(d.tokens() * d.conv_channels(), size_of(element));
  scanned_ = place(d.tokens() * d.inner(), size_of(element));
  normed_ = place(d.tokens() * d.inner(), size_of(element));
  rstd_ = place(d.tokens() * d.groups, sizeof(float));
}

// Matrix products: a scan in chunks runs on tensor cores, and so do a GPU's projections of bfloat16.
void amend_mixer_contract(Element element, std::string_view scan_variant, assay_contract& contract) {
  const bool bfloat16 = element == Element::bfloat16;
  if (scan_variant != "chunked" && !(kDenseProductsOnTensorCores && bfloat16)) return;
  contract.multiply = bfloat16 ? ASSAY_MULTIPLY_BF16 : ASSAY_MULTIPLY_3XTF32;
  contract.accumulate = ASSAY_ACCUMULATE_FP32_TENSOR_CORE;
}

}  // namespace assay::gpu
