// rms_norm.forward and rms_norm.backward of the catalogue, by cuda/rms_norm.
#include "cuda/candidate/element_types.h"
#include "cuda/candidate/flavour.h"
#include "cuda/candidate/operation.h"
#include "cuda/rms_norm/rms_norm.h"

namespace assay::gpu {
namespace {

// The tensors of a forward call. Optional ones have rows = 0 and data = nullptr.
struct Forward {
  explicit Forward(const Call& call);

  Rows hidden_states, weight, out_hidden_states;
  bool has_residual;
  Rows residual = {}, out_residual = {};
  RmsNormDims dims;

  Element stream() const { return has_residual ? residual.element : hidden_states.element; }
  std::size_t saved_bytes() const { return static_cast<std::size_t>(dims.rows) * sizeof(float); }
  const char* variant() const { return rms_norm_variant(dims, size_of(hidden_states.element), kMethod); }
};

Forward::Forward(const Call& call)
    : hidden_states(call.strided_rows("input.hidden_states")),
      weight(call.vector("param.weight", hidden_states.width)),
      out_hidden_states(call.compact_rows("output.hidden_states", hidden_states)),
      has_residual(call.has("input.residual") || call.has("output.residual")),
      dims{hidden_states.rows, hidden_states.width, hidden_states.stride} {
  call.accept_only({"eps"}, {"input.hidden_states", "input.residual", "param.weight", "output.hidden_states",
                             "output.residual", "saved"});
  const Element activations = hidden_states.element;
  require_element("output.hidden_states", out_hidden_states, activations);
  require_element_or_float32("param.weight", weight, activations);
  if (has_residual) {
    residual = call.compact_rows("input.residual", hidden_states);
    out_residual = call.compact_rows("output.residual", hidden_states);
    require_element_or_float32("input.residual", residual, activations);
    require_element("output.residual", out_residual, residual.element);
  }
  (void)variant();  // checks the dims
}

void run_forward(const Call& call, cudaStream_t stream) {
  const Forward f(call);
  visit_elements(f.hidden_states.element, f.stream(), f.weight.element, [&]<class T, class R, class W>() {
    rms_norm_forward(f.dims,
                     RmsNormForward<T, R, W>{.hidden_states = f.hidden_states.as<T>(),
                                             .residual = f.residual.as<R>(),
                                             .weight = f.weight.as<W>(),
                                             .eps = call.float_attribute("eps"),
                                             .out_hidden_states = f.out_hidden_states.as<T>(),
                                             .out_residual = f.out_residual.as<R>(),
                                             .rstd = static_cast<float*>(call.saved(f.saved_bytes()))},
                     stream, kMethod);
  });
}

struct Backward {
  explicit Backward(const Call& call);

  Rows normed, d_out, weight, d_hidden_states, d_weight;
  bool has_residual;
  Rows d_out_residual = {}, d_residual = {};
  RmsNormDims dims;

  std::size_t saved_bytes() const { return static_cast<std::size_t>(dims.rows) * sizeof(float); }
  const char* variant() const { return rms_norm_variant(dims, size_of(d_out.element), kMethod); }
};

Backward::Backward(const Call& call)
    : normed(call.strided_rows(call.has("output.residual") ? "output.residual" : "input.hidden_states")),
      d_out(call.compact_rows("grad.output.hidden_states", normed)),
      weight(call.vector("param.weight", d_out.width)),
      d_hidden_states(call.compact_rows("grad.input.hidden_states", d_out)),
      d_weight(call.vector("grad.weight", d_out.width)),
      has_residual(call.has("output.residual")),
      dims{normed.rows, normed.width, normed.stride} {
  call.accept_only(
      {"eps"}, {has_residual ? "output.residual" : "input.hidden_states", "param.weight", "grad.output.hidden_states",
                "grad.output.residual", "saved", "grad.input.hidden_states", "grad.input.residual", "grad.weight"});
  const Element activations = d_out.element;
  require_element("grad.input.hidden_states", d_hidden_states, activations);
  require_element_or_float32("param.weight", weight, activations);
  require_element("grad.weight", d_weight, weight.element);
  if (has_residual) {
    require_element_or_float32("output.residual", normed, activations);
  } else {
    require_element("input.hidden_states", normed, activations);
  }
  if (call.has("grad.output.residual")) {
    d_out_residual = call.compact_rows("grad.output.residual", normed);
    require_element("grad.output.residual", d_out_residual, normed.element);
  }
  if (call.has("grad.input.residual")) {
    d_residual = call.compact_rows("grad.input.residual", normed);
    require_element("grad.input.residual", d_residual, normed.element);
  }
  (void)variant();  // checks the dims
}

void run_backward(const Call& call, cudaStream_t stream) {
  const Backward b(call);
  visit_elements(b.d_out.element, b.normed.element, b.weight.element, [&]<class T, class R, class W>() {
    rms_norm_backward(b.dims,
                      RmsNormBackward<T, R, W>{.normed = b.normed.as<R>(),
                                               .weight = b.weight.as<W>(),
                                               .rstd = static_cast<float*>(call.saved(b.saved_bytes())),
                                               .d_out = b.d_out.as<T>(),
                                               .d_out_residual = b.d_out_residual.as<R>(),
                                               .d_hidden_states = b.d_hidden_states.as<T>(),
                                               .d_residual = b.d_residual.as<R>(),
                                               .d_weight = b.d_weight.as<W>(),
                                               .workspace = static_cast<float*>(call.workspace())},
                      stream, kMethod);
  });
}

constexpr Operation kOperations[] = {
    {.name = "rms_norm.forward",
     .check = [](const Call& call) { (void)Forward(call); },
     .variant = [](const Call& call) { return Forward(call).variant(); },
     .workspace_bytes = [](const Call&) { return std::size_t{0}; },
     .saved_bytes = [](const Call& call) { return Forward(call).saved_bytes(); },
     .run = run_forward},
    {.name = "rms_norm.backward",
     .check = [](const Call& call) { (void)Backward(call); },
     .variant = [](const Call& call) { return Backward(call).variant(); },
     .workspace_bytes = [](const Call& call) { return rms_norm_backward_workspace(Backward(call).dims); },
     .saved_bytes = [](const Call&) { return std::size_t{0}; },
     .run = run_backward},
};

}  // namespace

std::span<const Operation> rms_norm_operations() { return kOperations; }

}  // namespace assay::gpu
