// mamba2_decode_step.forward of the catalogue, by cuda/mamba2_decode_step.
#include <string>

#include "cuda/candidate/element_types.h"
#include "cuda/candidate/flavour.h"
#include "cuda/candidate/operation.h"
#include "cuda/mamba2_decode_step/mamba2_decode_step.h"

namespace assay::gpu {
namespace {

struct Step {
  explicit Step(const Call& call);

  Rows projected, conv_state, state, conv_weight, dt_bias, A, D, norm_weight, out;
  Rows conv_bias = {};
  Mamba2DecodeStepDims dims;

  const char* variant() const {
    return mamba2_decode_step_variant(dims, size_of(projected.element), size_of(state.element), kMethod);
  }
};

Step::Step(const Call& call) {
  call.accept_only({"eps", "groups"}, {"input.projected", "input.state_batch_indices", "conv_state", "state",
                                       "param.conv_weight", "param.conv_bias", "param.dt_bias", "param.A", "param.D",
                                       "param.norm_weight", "output.hidden_states"});
  const auto state_axes = call.axes("state", 4), conv_axes = call.axes("conv_state", 3);
  (void)call.axes("input.projected", 2);
  projected = call.strided_rows("input.projected");
  const std::int64_t heads = state_axes[1], head_dim = state_axes[2], state_size = state_axes[3];
  dims = {.batch = projected.rows,
          .heads = heads,
          .head_dim = head_dim,
          .groups = call.int_attribute("groups"),
          .state_size = state_size,
          .taps = call.axes("param.conv_weight", 2)[1],
          .conv_len = conv_axes[2],
          .row_stride = projected.stride};
  if (projected.width != dims.width()) {
    throw Unsupported("input.projected: " + std::to_string(projected.width) + " columns; want " +
                      std::to_string(dims.width()) + ": z, x B C and dt");
  }
  const bool indexed = call.has("input.state_batch_indices");
  const std::int64_t cache_rows = indexed ? state_axes[0] : dims.batch;
  const auto compact = [&](const char* name, std::initializer_list<std::int64_t> shape) {
    const Rows rows = call.compact(name, shape);
    require_element(name, rows, projected.element);
    return rows;
  };
  const auto float32 = [&](const char* name) {
    const Rows rows = call.vector(name, heads);
    require_element(name, rows, Element::float32);
    return rows;
  };
  conv_state = compact("conv_state", {cache_rows, dims.conv_channels(), dims.conv_len});
  state = call.compact("state", {cache_rows, heads, head_dim, state_size});
  conv_weight = compact("param.conv_weight", {dims.conv_channels(), dims.taps});
  if (call.has("param.conv_bias")) conv_bias = compact("param.conv_bias", {dims.conv_channels()});
  dt_bias = float32("param.dt_bias");
  A = float32("param.A");
  D = float32("param.D");
  norm_weight = compact("param.norm_weight", {dims.inner()});
  out = compact("output.hidden_states", {dims.batch, dims.inner()});
  (void)call.int32_data("input.state_batch_indices", {dims.batch});
  (void)variant();  // checks the dims
}

void run(const Call& call, cudaStream_t stream) {
  const Step s(call);
  visit_element(s.projected.element, [&]<class T>() {
    visit_element(s.state.element, [&]<class S>() {
      mamba2_decode_step(
          s.dims,
          Mamba2DecodeStep<T, S>{.projected = s.projected.as<T>(),
                                 .conv_weight = s.conv_weight.as<T>(),
                                 .conv_bias = s.conv_bias.as<T>(),
                                 .dt_bias = s.dt_bias.as<float>(),
                                 .A = s.A.as<float>(),
                                 .D = s.D.as<float>(),
                                 .norm_weight = s.norm_weight.as<T>(),
                                 .eps = call.float_attribute("eps"),
                                 .state_rows = call.int32_data("input.state_batch_indices", {s.dims.batch}),
                                 .conv_state = s.conv_state.as<T>(),
                                 .state = s.state.as<S>(),
                                 .out = s.out.as<T>()},
          stream, kMethod);
    });
  });
}

constexpr Operation kOperations[] = {
    {.name = "mamba2_decode_step.forward",
     .check = [](const Call& call) { (void)Step(call); },
     .variant = [](const Call& call) { return Step(call).variant(); },
     .workspace_bytes = [](const Call&) { return std::size_t{0}; },
     .saved_bytes = [](const Call&) { return std::size_t{0}; },
     .run = run},
};

}  // namespace

std::span<const Operation> mamba2_decode_step_operations() { return kOperations; }

}  // namespace assay::gpu
