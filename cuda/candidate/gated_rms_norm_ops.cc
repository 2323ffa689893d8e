// gated_rms_norm.forward and gated_rms_norm.backward of the catalogue, by cuda/gated_rms_norm.
#include "cuda/candidate/element_types.h"
#include "cuda/candidate/flavour.h"
#include "cuda/candidate/operation.h"
#include "cuda/gated_rms_norm/gated_rms_norm.h"

namespace assay::gpu {
namespace {

// What forward and backward read. An absent gate has rows = 0 and data = nullptr.
struct Inputs {
  explicit Inputs(const Call& call);

  Rows hidden_states, weight;
  bool has_gate;
  Rows gate = {};
  GatedRmsNormDims dims;

  std::size_t saved_bytes() const { return static_cast<std::size_t>(dims.groups() * dims.rows) * sizeof(float); }
  const char* variant() const { return gated_rms_norm_variant(dims, size_of(hidden_states.element), kMethod); }
};

Inputs::Inputs(const Call& call)
    : hidden_states(call.strided_rows("input.hidden_states")),
      weight(call.vector("param.weight", hidden_states.width)),
      has_gate(call.has("input.gate")) {
  const Element activations = hidden_states.element;
  require_element_or_float32("param.weight", weight, activations);
  if (has_gate) {
    gate = call.strided_rows("input.gate");
    require_same_rows("input.gate", gate, hidden_states);
    require_element("input.gate", gate, activations);
  }
  dims = {.rows = hidden_states.rows,
          .width = hidden_states.width,
          .group_size = call.int_attribute("group_size"),
          .row_stride = hidden_states.stride,
          .gate_stride = has_gate ? gate.stride : hidden_states.width};
  (void)variant();  // checks the dims
}

struct Forward : Inputs {
  explicit Forward(const Call& call) : Inputs(call), out(call.compact_rows("output.hidden_states", hidden_states)) {
    call.accept_only({"eps", "group_size"},
                     {"input.hidden_states", "input.gate", "param.weight", "output.hidden_states", "saved"});
    require_element("output.hidden_states", out, hidden_states.element);
  }

  Rows out;
};

void run_forward(const Call& call, cudaStream_t stream) {
  const Forward f(call);
  visit_elements(f.hidden_states.element, f.weight.element, [&]<class T, class W>() {
    gated_rms_norm_forward(f.dims,
                           GatedRmsNormForward<T, W>{.hidden_states = f.hidden_states.as<T>(),
                                                     .gate = f.gate.as<T>(),
                                                     .weight = f.weight.as<W>(),
                                                     .eps = call.float_attribute("eps"),
                                                     .out = f.out.as<T>(),
                                                     .rstd = static_cast<float*>(call.saved(f.saved_bytes()))},
                           stream, kMethod);
  });
}

struct Backward : Inputs {
  explicit Backward(const Call& call)
      : Inputs(call),
        d_out(call.compact_rows("grad.output.hidden_states", hidden_states)),
        d_hidden_states(call.compact_rows("grad.input.hidden_states", hidden_states)),
        d_weight(call.vector("grad.weight", hidden_states.width)) {
    call.accept_only({"eps", "group_size"},
                     {"input.hidden_states", "input.gate", "param.weight", "grad.output.hidden_states", "saved",
                      "grad.input.hidden_states", has_gate ? "grad.input.gate" : "", "grad.weight"});
    const Element activations = hidden_states.element;
    require_element("grad.output.hidden_states", d_out, activations);
    require_element("grad.input.hidden_states", d_hidden_states, activations);
    require_element("grad.weight", d_weight, weight.element);
    if (has_gate) {
      d_gate = call.compact_rows("grad.input.gate", hidden_states);
      require_element("grad.input.gate", d_gate, activations);
    }
  }

  Rows d_out, d_hidden_states, d_weight;
  Rows d_gate = {};
};

void run_backward(const Call& call, cudaStream_t stream) {
  const Backward b(call);
  visit_elements(b.hidden_states.element, b.weight.element, [&]<class T, class W>() {
    gated_rms_norm_backward(b.dims,
                            GatedRmsNormBackward<T, W>{.hidden_states = b.hidden_states.as<T>(),
                                                       .gate = b.gate.as<T>(),
                                                       .weight = b.weight.as<W>(),
                                                       .rstd = static_cast<float*>(call.saved(b.saved_bytes())),
                                                       .d_out = b.d_out.as<T>(),
                                                       .d_hidden_states = b.d_hidden_states.as<T>(),
                                                       .d_gate = b.d_gate.as<T>(),
                                                       .d_weight = b.d_weight.as<W>(),
                                                       .workspace = static_cast<float*>(call.workspace())},
                            stream, kMethod);
  });
}

constexpr Operation kOperations[] = {
    {.name = "gated_rms_norm.forward",
     .check = [](const Call& call) { (void)Forward(call); },
     .variant = [](const Call& call) { return Forward(call).variant(); },
     .workspace_bytes = [](const Call&) { return std::size_t{0}; },
     .saved_bytes = [](const Call& call) { return Forward(call).saved_bytes(); },
     .run = run_forward},
    {.name = "gated_rms_norm.backward",
     .check = [](const Call& call) { (void)Backward(call); },
     .variant = [](const Call& call) { return Backward(call).variant(); },
     .workspace_bytes = [](const Call& call) { return gated_rms_norm_backward_workspace(Backward(call).dims); },
     .saved_bytes = [](const Call&) { return std::size_t{0}; },
     .run = run_backward},
};

}  // namespace

std::span<const Operation> gated_rms_norm_operations() { return kOperations; }

}  // namespace assay::gpu
