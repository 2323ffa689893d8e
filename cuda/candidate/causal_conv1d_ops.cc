// causal_conv1d.forward, .backward and .update of the catalogue, by cuda/causal_conv1d.
#include <string>

#include "cuda/candidate/element_types.h"
#include "cuda/candidate/flavour.h"
#include "cuda/candidate/operation.h"
#include "cuda/causal_conv1d/causal_conv1d.h"

namespace assay::gpu {
namespace {

bool silu_attribute(const Call& call) {
  const std::string_view activation = call.string_attribute("activation");
  if (activation != "silu" && activation != "none") {
    throw Unsupported("attribute activation is \"" + std::string(activation) + "\"; want silu or none");
  }
  return activation == "silu";
}

// The tensors of one call: each has the activations' element type.
class Tensors {
 public:
  Tensors(const Call& call, Element activations) : call_(call), activations_(activations) {}

  // A compact tensor of this shape.
  Rows compact(std::string_view name, std::initializer_list<std::int64_t> shape) const {
    const Rows rows = call_.compact(name, shape);
    require_element(name, rows, activations_);
    return rows;
  }
  // The same, or data = nullptr if the call has none.
  Rows optional(std::string_view name, std::initializer_list<std::int64_t> shape) const {
    return call_.has(name) ? compact(name, shape) : Rows{};
  }

 private:
  const Call& call_;
  Element activations_;
};

// What forward and backward read. Absent tensors have data = nullptr.
struct Inputs {
  explicit Inputs(const Call& call);

  Rows hidden_states;
  CausalConv1dDims dims;
  Tensors tensors;
  Rows weight, bias, initial_state;
  const std::int32_t* seq_idx;
  bool silu;

  const char* variant() const { return causal_conv1d_variant(dims, size_of(hidden_states.element), kMethod); }
  template <class T>
  CausalConv1dInputs<T> as() const {
    return {.hidden_states = hidden_states.as<T>(),
            .weight = weight.as<T>(),
            .bias = bias.as<T>(),
            .initial_state = initial_state.as<T>(),
            .seq_idx = seq_idx,
            .silu = silu};
  }
};

CausalConv1dDims dims_of(const Call& call, const Rows& hidden_states) {
  const auto shape = call.axes("input.hidden_states", 3);
  return {.batch = shape[0],
          .seq_len = shape[1],
          .channels = shape[2],
          .taps = call.axes("param.weight", 2)[1],
          .row_stride = hidden_states.stride};
}

Inputs::Inputs(const Call& call)
    : hidden_states(call.strided_rows("input.hidden_states")),
      dims(dims_of(call, hidden_states)),
      tensors(call, hidden_states.element),
      weight(tensors.compact("param.weight", {dims.channels, dims.taps})),
      bias(tensors.optional("param.bias", {dims.channels})),
      initial_state(tensors.optional("input.initial_state", {dims.batch, dims.channels, dims.past()})),
      seq_idx(call.int32_data("input.seq_idx", {dims.batch, dims.seq_len})),
      silu(silu_attribute(call)) {
  if (call.has("input.seq_idx")) {
    for (const char* state : {"input.initial_state", "output.final_state", "grad.output.final_state"}) {
      if (call.has(state)) throw Unsupported(std::string("input.seq_idx and ") + state + ": want one of them at most");
    }
  }
  (void)variant();  // checks the dims
}

struct Forward : Inputs {
  explicit Forward(const Call& call)
      : Inputs(call),
        out(tensors.compact("output.hidden_states", {dims.batch, dims.seq_len, dims.channels})),
        final_state(tensors.optional("output.final_state", {dims.batch, dims.channels, dims.past()})) {
    call.accept_only({"activation"}, {"input.hidden_states", "input.seq_idx", "input.initial_state", "param.weight",
                                      "param.bias", "output.hidden_states", "output.final_state"});
  }

  Rows out, final_state;
};

void run_forward(const Call& call, cudaStream_t stream) {
  const Forward f(call);
  visit_elements(f.hidden_states.element, f.hidden_states.element, [&]<class T, class>() {
    causal_conv1d_forward(
        f.dims, CausalConv1dForward<T>{.in = f.as<T>(), .out = f.out.as<T>(), .final_state = f.final_state.as<T>()},
        stream, kMethod);
  });
}

struct Backward : Inputs {
  explicit Backward(const Call& call)
      : Inputs(call),
        d_out(tensors.compact("grad.output.hidden_states", {dims.batch, dims.seq_len, dims.channels})),
        d_final_state(tensors.optional("grad.output.final_state", {dims.batch, dims.channels, dims.past()})),
        d_hidden_states(call.strided_rows("grad.input.hidden_states")),
        d_weight(tensors.compact("grad.weight", {dims.channels, dims.taps})),
        d_initial_state(tensors.optional("grad.input.initial_state", {dims.batch, dims.channels, dims.past()})) {
    call.accept_only({"activation"},
                     {"input.hidden_states", "input.seq_idx", "input.initial_state", "param.weight", "param.bias",
                      "grad.output.hidden_states", "grad.output.final_state", "grad.input.hidden_states",
                      call.has("input.initial_state") ? "grad.input.initial_state" : "", "grad.weight",
                      call.has("param.bias") ? "grad.bias" : ""});
    require_same_rows("grad.input.hidden_states", d_hidden_states, hidden_states);
    require_element("grad.input.hidden_states", d_hidden_states, hidden_states.element);
    if (call.has("param.bias")) d_bias = tensors.compact("grad.bias", {dims.channels});
  }

  Rows d_out, d_final_state, d_hidden_states, d_weight, d_initial_state;
  Rows d_bias = {};
};

void run_backward(const Call& call, cudaStream_t stream) {
  const Backward b(call);
  visit_elements(b.hidden_states.element, b.hidden_states.element, [&]<class T, class>() {
    causal_conv1d_backward(b.dims,
                           CausalConv1dBackward<T>{.in = b.as<T>(),
                                                   .d_out = b.d_out.as<T>(),
                                                   .d_final_state = b.d_final_state.as<T>(),
                                                   .d_hidden_states = b.d_hidden_states.as<T>(),
                                                   .d_row_stride = b.d_hidden_states.stride,
                                                   .d_weight = b.d_weight.as<T>(),
                                                   .d_bias = b.d_bias.as<T>(),
                                                   .d_initial_state = b.d_initial_state.as<T>(),
                                                   .workspace = static_cast<float*>(call.workspace())},
                           stream, kMethod);
  });
}

struct Update {
  explicit Update(const Call& call)
      : hidden_states(call.strided_rows("input.hidden_states")),
        dims{.batch = hidden_states.rows,
             .seq_len = 1,
             .channels = hidden_states.width,
             .taps = call.axes("param.weight", 2)[1],
             .row_stride = hidden_states.stride},
        state_len(call.axes("conv_state", 3)[2]),
        silu(silu_attribute(call)) {
    call.accept_only({"activation"},
                     {"input.hidden_states", "conv_state", "param.weight", "param.bias", "output.hidden_states"});
    (void)call.axes("input.hidden_states", 2);
    const Tensors tensors(call, hidden_states.element);
    weight = tensors.compact("param.weight", {dims.channels, dims.taps});
    bias = tensors.optional("param.bias", {dims.channels});
    state = tensors.compact("conv_state", {dims.batch, dims.channels, state_len});
    out = tensors.compact("output.hidden_states", {dims.batch, dims.channels});
    if (state_len < dims.past()) {
      throw Unsupported("conv_state: " + std::to_string(state_len) +
                        " columns; want at least taps - 1 = " + std::to_string(dims.past()));
    }
    (void)variant();  // checks the dims
  }

  const char* variant() const { return causal_conv1d_update_variant(dims, state_len, kMethod); }

  Rows hidden_states;
  CausalConv1dDims dims;
  std::int64_t state_len;
  bool silu;
  Rows weight, bias, state, out;
};

void run_update(const Call& call, cudaStream_t stream) {
  const Update u(call);
  visit_elements(u.hidden_states.element, u.hidden_states.element, [&]<class T, class>() {
    causal_conv1d_update(u.dims,
                         CausalConv1dUpdate<T>{.hidden_states = u.hidden_states.as<T>(),
                                               .state = u.state.as<T>(),
                                               .state_len = u.state_len,
                                               .weight = u.weight.as<T>(),
                                               .bias = u.bias.as<T>(),
                                               .silu = u.silu,
                                               .out = u.out.as<T>()},
                         stream, kMethod);
  });
}

constexpr auto kNoBytes = [](const Call&) { return std::size_t{0}; };

constexpr Operation kOperations[] = {
    {.name = "causal_conv1d.forward",
     .check = [](const Call& call) { (void)Forward(call); },
     .variant = [](const Call& call) { return Forward(call).variant(); },
     .workspace_bytes = kNoBytes,
     .saved_bytes = kNoBytes,
     .run = run_forward},
    {.name = "causal_conv1d.backward",
     .check = [](const Call& call) { (void)Backward(call); },
     .variant = [](const Call& call) { return Backward(call).variant(); },
     .workspace_bytes = [](const Call& call) { return causal_conv1d_backward_workspace(Backward(call).dims); },
     .saved_bytes = kNoBytes,
     .run = run_backward},
    {.name = "causal_conv1d.update",
     .check = [](const Call& call) { (void)Update(call); },
     .variant = [](const Call& call) { return Update(call).variant(); },
     .workspace_bytes = kNoBytes,
     .saved_bytes = kNoBytes,
     .run = run_update},
};

}  // namespace

std::span<const Operation> causal_conv1d_operations() { return kOperations; }

}  // namespace assay::gpu
