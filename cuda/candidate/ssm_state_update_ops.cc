// ssm_state_update.forward of the catalogue, by cuda/ssm_state_update.
#include "cuda/candidate/element_types.h"
#include "cuda/candidate/flavour.h"
#include "cuda/candidate/operation.h"
#include "cuda/ssm_state_update/ssm_state_update.h"

namespace assay::gpu {
namespace {

struct Step {
  explicit Step(const Call& call);

  Rows x, dt, A, B, C, state, y;
  Rows D = {}, z = {}, dt_bias = {};
  bool D_per_channel = false;
  SsmStateUpdateDims dims;

  const char* variant() const { return ssm_state_update_variant(dims, size_of(state.element), kMethod); }
};

Step::Step(const Call& call) {
  call.accept_only({"dt_softplus"},
                   {"input.x", "input.dt", "input.A", "input.B", "input.C", "input.D", "input.z", "input.dt_bias",
                    "input.state_batch_indices", "state", "output.y"});
  const auto x_axes = call.axes("input.x", 3), B_axes = call.axes("input.B", 3), state_axes = call.axes("state", 4);
  const std::int64_t batch = x_axes[0], heads = x_axes[1], head_dim = x_axes[2], groups = B_axes[1], keys = B_axes[2];
  x = call.batch_rows("input.x", {batch, heads, head_dim});
  dt = call.batch_rows("input.dt", {batch, heads});
  A = call.vector("input.A", heads);
  B = call.batch_rows("input.B", {batch, groups, keys});
  C = call.batch_rows("input.C", {batch, groups, keys});
  const bool indexed = call.has("input.state_batch_indices");
  state = call.batch_rows("state", {indexed ? state_axes[0] : batch, heads, head_dim, keys});
  y = call.compact("output.y", {batch, heads, head_dim});
  if (indexed) call.int32_data("input.state_batch_indices", {batch});
  require_element("input.A", A, Element::float32);
  require_element_or_float32("input.dt", dt, x.element);
  for (const auto& [name, rows] : {std::pair{"input.B", &B}, {"input.C", &C}, {"output.y", &y}})
    require_element(name, *rows, x.element);
  if (call.has("input.z")) {
    z = call.batch_rows("input.z", {batch, heads, head_dim});
    require_element("input.z", z, x.element);
  }
  if (call.has("input.D")) {
    D_per_channel = call.rank("input.D") == 2;
    D = D_per_channel ? call.compact("input.D", {heads, head_dim}) : call.vector("input.D", heads);
  }
  if (call.has("input.dt_bias")) dt_bias = call.vector("input.dt_bias", heads);
  dims = {.batch = batch,
          .heads = heads,
          .head_dim = head_dim,
          .groups = groups,
          .state_size = keys,
          .x_stride = x.stride,
          .dt_stride = dt.stride,
          .B_stride = B.stride,
          .C_stride = C.stride,
          .z_stride = call.has("input.z") ? z.stride : heads * head_dim,
          .state_stride = state.stride};
  (void)variant();  // checks the dims
}

void run(const Call& call, cudaStream_t stream) {
  const Step s(call);
  const auto launch = [&]<class T, class S>() {
    ssm_state_update(s.dims,
                     SsmStateUpdate<T, S>{.x = s.x.as<T>(),
                                          .dt = scalars(s.dt),
                                          .A = s.A.as<float>(),
                                          .B = s.B.as<T>(),
                                          .C = s.C.as<T>(),
                                          .D = scalars(s.D),
                                          .D_per_channel = s.D_per_channel,
                                          .z = s.z.as<T>(),
                                          .dt_bias = scalars(s.dt_bias),
                                          .dt_softplus = call.int_attribute("dt_softplus") != 0,
                                          .state_rows = call.int32_data("input.state_batch_indices", {s.dims.batch}),
                                          .state = s.state.as<S>(),
                                          .y = s.y.as<T>()},
                     stream, kMethod);
  };
  visit_element(s.x.element, [&]<class T>() {
    visit_element(s.state.element, [&]<class S>() { launch.template operator()<T, S>(); });
  });
}

constexpr Operation kOperations[] = {
    {.name = "ssm_state_update.forward",
     .check = [](const Call& call) { (void)Step(call); },
     .variant = [](const Call& call) { return Step(call).variant(); },
     .workspace_bytes = [](const Call&) { return std::size_t{0}; },
     .saved_bytes = [](const Call&) { return std::size_t{0}; },
     .run = run},
};

}  // namespace

std::span<const Operation> ssm_state_update_operations() { return kOperations; }

}  // namespace assay::gpu
