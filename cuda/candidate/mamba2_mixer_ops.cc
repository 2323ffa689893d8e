// mamba2_mixer.train_forward, .prefill and .decode of the catalogue, by cuda/mamba2_mixer.
#include <cmath>
#include <string>
#include <vector>

#include "cuda/candidate/element_types.h"
#include "cuda/candidate/flavour.h"
#include "cuda/candidate/operation.h"
#include "cuda/gemm/gemm.h"
#include "cuda/mamba2_mixer/mamba2_mixer.h"
#include "cuda/ssd_scan/ssd_scan.h"

namespace assay::gpu {
namespace {

bool is_decode(const Call& call) { return call.op() == "mamba2_mixer.decode"; }
bool is_prefill(const Call& call) { return call.op() == "mamba2_mixer.prefill"; }

Mamba2MixerDims dims_of(const Call& call) {
  const auto u = call.axes("input.hidden_states", 3), conv = call.axes("param.conv1d.weight", 3);
  Mamba2MixerDims d{.batch = u[0],
                    .seq_len = u[1],
                    .hidden_size = u[2],
                    .heads = call.axes("param._fp32_params.A_log", 1)[0],
                    .head_dim = 0,
                    .groups = call.int_attribute("n_groups"),
                    .state_size = 0,
                    .taps = conv[2]};
  const std::int64_t inner = call.axes("param.norm.weight", 1)[0];
  if (d.heads < 1 || inner % d.heads != 0)
    throw Unsupported("param.norm.weight: " + std::to_string(inner) + " channels; want a multiple of the " +
                      std::to_string(d.heads) + " heads of param._fp32_params.A_log");
  if (d.groups < 1 || conv[0] < inner || (conv[0] - inner) % (2 * d.groups) != 0)
    throw Unsupported("param.conv1d.weight: " + std::to_string(conv[0]) + " channels; want " + std::to_string(inner) +
                      " and 2 n_groups state_size more");
  d.head_dim = inner / d.heads;
  d.state_size = (conv[0] - inner) / (2 * d.groups);
  return d;
}

struct Mixer {
  explicit Mixer(const Call& call)
      : dims(dims_of(call)),
        element(call.strided_rows("input.hidden_states").element),
        hidden_states(activations(call, "input.hidden_states", dims.hidden_size)),
        in_proj(model(call, "param.in_proj.weight", {dims.projected(), dims.hidden_size})),
        in_bias(optional(call, "param.in_proj.bias", {dims.projected()})),
        conv(model(call, "param.conv1d.weight", {dims.conv_channels(), 1, dims.taps})),
        conv_bias(optional(call, "param.conv1d.bias", {dims.conv_channels()})),
        dt_bias(float32(call, "param._fp32_params.dt_bias", {dims.heads})),
        A_log(float32(call, "param._fp32_params.A_log", {dims.heads})),
        D(float32(call, "param._fp32_params.D", {dims.heads})),
        norm(model(call, "param.norm.weight", {dims.inner()})),
        out_proj(model(call, "param.out_proj.weight", {dims.hidden_size, dims.inner()})),
        out_bias(optional(call, "param.out_proj.bias", {dims.hidden_size})),
        out(activations(call, "output.hidden_states", dims.hidden_size)),
        mask(call.int32_data("input.attention_mask", {dims.batch, dims.seq_len})),
        masked(tap(call, "tap.masked", dims.hidden_size)),
        projected(tap(call, "tap.projected", dims.projected())),
        convolved(tap(call, "tap.convolved", dims.conv_channels())),
        scanned(tap(call, "tap.scanned", dims.inner())),
        normed(tap(call, "tap.normed", dims.inner())) {
    if (call.has("tap.A")) A = float32(call, "tap.A", {dims.heads});
    (void)mamba2_mixer_workspace(dims, size_of(element));  // checks the dims
    if (!is_decode(call)) {
      dt_min = call.float_attribute("dt_min"), dt_max = call.float_attribute("dt_max");
      if (!(dt_min <= dt_max))
        throw Unsupported("attribute dt_min is above dt_max, or one of them is NaN; want dt_min <= dt_max");
    }
    if (call.op() == "mamba2_mixer.train_forward") {
      seq_idx = call.int32_data("input.seq_idx", {dims.batch, dims.seq_len});
      return;
    }
    if (is_decode(call) && dims.seq_len != 1)
      throw Unsupported("input.hidden_states: " + std::to_string(dims.seq_len) + " tokens of each batch row; want 1");
    conv_state = model(call, "conv_state", {dims.batch, dims.conv_channels(), dims.taps});
    ssm_state = call.compact("ssm_state", {dims.batch, dims.heads, dims.head_dim, dims.state_size});
  }

  template <class T>
  Mamba2MixerParams<T> params(const Call& call) const {
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
            .eps = call.float_attribute("eps"),
            .dt_min = dt_min,
            .dt_max = dt_max};
  }
  template <class T>
  Mamba2MixerForward<T> forward(const Call& call) const {
    return {.hidden_states = hidden_states.as<T>(),
            .mask = mask,
            .out = out.as<T>(),
            .taps = {.masked = masked.as<T>(),
                     .projected = projected.as<T>(),
                     .A = A.as<float>(),
                     .convolved = convolved.as<T>(),
                     .scanned = scanned.as<T>(),
                     .normed = normed.as<T>()},
            .workspace = call.workspace()};
  }
  const char* scan_variant() const {
    const std::int64_t channels = dims.conv_channels();
    return ssd_scan_variant({.batch = dims.batch,
                             .seq_len = dims.seq_len,
                             .heads = dims.heads,
                             .head_dim = dims.head_dim,
                             .groups = dims.groups,
                             .state_size = dims.state_size,
                             .x_stride = channels,
                             .dt_stride = dims.projected(),
                             .B_stride = channels,
                             .C_stride = channels,
                             .z_stride = dims.inner()},
                            size_of(element), kMethod);
  }

  Mamba2MixerDims dims;
  Element element;
  Rows hidden_states, in_proj, in_bias, conv, conv_bias, dt_bias, A_log, D, norm, out_proj, out_bias, out;
  const std::int32_t *mask, *seq_idx = nullptr;
  Rows masked, projected, convolved, scanned, normed, A = {};
  Rows conv_state = {}, ssm_state = {};
  float dt_min = 0, dt_max = HUGE_VALF;

 private:
  using Shape = std::initializer_list<std::int64_t>;
  Rows model(const Call& call, std::string_view name, Shape shape) const {
    const Rows rows = call.compact(name, shape);
    require_element(name, rows, element);
    return rows;
  }
  static Rows float32(const Call& call, std::string_view name, Shape shape) {
    const Rows rows = call.compact(name, shape);
    require_element(name, rows, Element::float32);
    return rows;
  }
  Rows optional(const Call& call, std::string_view name, Shape shape) const {
    return call.has(name) ? model(call, name, shape) : Rows{};
  }
  Rows activations(const Call& call, std::string_view name, std::int64_t width) const {
    return model(call, name, {dims.batch, dims.seq_len, width});
  }
  Rows tap(const Call& call, std::string_view name, std::int64_t width) const {
    return call.has(name) ? activations(call, name, width) : Rows{};
  }
};

void check(const Call& call) {
  static constexpr std::string_view kTensors[] = {"input.hidden_states",
                                                  "input.attention_mask",
                                                  "param.in_proj.weight",
                                                  "param.in_proj.bias",
                                                  "param.conv1d.weight",
                                                  "param.conv1d.bias",
                                                  "param._fp32_params.dt_bias",
                                                  "param._fp32_params.A_log",
                                                  "param._fp32_params.D",
                                                  "param.norm.weight",
                                                  "param.out_proj.weight",
                                                  "param.out_proj.bias",
                                                  "output.hidden_states",
                                                  "tap.masked",
                                                  "tap.projected",
                                                  "tap.A",
                                                  "tap.convolved",
                                                  "tap.scanned",
                                                  "tap.normed"};
  std::vector<std::string_view> tensors(std::begin(kTensors), std::end(kTensors));
  std::vector<std::string_view> attributes = {"n_groups", "eps"};
  if (!is_decode(call)) attributes.insert(attributes.end(), {"chunk_size", "dt_min", "dt_max"});
  if (is_prefill(call)) attributes.push_back("continued");
  if (call.op() == "mamba2_mixer.train_forward")
    tensors.push_back("input.seq_idx");
  else
    tensors.insert(tensors.end(), {"conv_state", "ssm_state"});
  call.accept_only(attributes, tensors);
  (void)Mixer(call);
}

// Calls body.template operator()<T, S>() for activations of type T and a cache of type S.
template <class Body>
void visit(const Mixer& m, Body body) {
  visit_element(m.element, [&]<class T>() {
    visit_element(m.ssm_state.element, [&]<class S>() { body.template operator()<T, S>(); });
  });
}

void run_training(const Call& call, cudaStream_t stream) {
  const Mixer m(call);
  visit_element(m.element, [&]<class T>() {
    mamba2_mixer_train_forward(m.dims, m.params<T>(call), m.forward<T>(call), m.seq_idx, stream, kMethod);
  });
}

void run_prefill(const Call& call, cudaStream_t stream) {
  const Mixer m(call);
  visit(m, [&]<class T, class S>() {
    mamba2_mixer_prefill(m.dims, m.params<T>(call), m.forward<T>(call),
                         Mamba2MixerCache<T, S>{m.conv_state.as<T>(), m.ssm_state.as<S>()},
                         call.int_attribute("continued") != 0, stream, kMethod);
  });
}

void run_decode(const Call& call, cudaStream_t stream) {
  const Mixer m(call);
  visit(m, [&]<class T, class S>() {
    mamba2_mixer_decode(m.dims, m.params<T>(call), m.forward<T>(call),
                        Mamba2MixerCache<T, S>{m.conv_state.as<T>(), m.ssm_state.as<S>()}, stream, kMethod);
  });
}

// What the report calls the variant: the scan's, whose kernels differ most.
const char* variant(const Call& call) { return is_decode(call) ? "composed" : Mixer(call).scan_variant(); }

// Matrix products: the scan's in chunks run on tensor cores, and a GPU's projections of bfloat16.
void amend_contract(const Call& call, assay_contract& contract) {
  const Mixer m(call);
  const bool bfloat16 = m.element == Element::bfloat16;
  const bool chunked = !is_decode(call) && std::string_view(m.scan_variant()) == "chunked";
  if (!chunked && !(kDenseProductsOnTensorCores && bfloat16)) return;
  contract.multiply = bfloat16 ? ASSAY_MULTIPLY_BF16 : ASSAY_MULTIPLY_3XTF32;
  contract.accumulate = ASSAY_ACCUMULATE_FP32_TENSOR_CORE;
}

std::size_t workspace_bytes(const Call& call) {
  const Mixer m(call);
  return mamba2_mixer_workspace(m.dims, size_of(m.element));
}

constexpr Operation operation(const char* name, void (*run)(const Call&, cudaStream_t)) {
  return {.name = name,
          .check = check,
          .variant = variant,
          .workspace_bytes = workspace_bytes,
          .saved_bytes = [](const Call&) { return std::size_t{0}; },
          .run = run,
          .amend_contract = amend_contract};
}
constexpr Operation kOperations[] = {operation("mamba2_mixer.train_forward", run_training),
                                     operation("mamba2_mixer.prefill", run_prefill),
                                     operation("mamba2_mixer.decode", run_decode)};

}  // namespace

std::span<const Operation> mamba2_mixer_operations() { return kOperations; }

}  // namespace assay::gpu
