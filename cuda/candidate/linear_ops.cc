// linear.forward and .backward of the catalogue, by cuda/gemm.
#include "cuda/candidate/element_types.h"
#include "cuda/candidate/operation.h"
#include "cuda/gemm/gemm.h"

namespace assay::gpu {
namespace {

struct Linear {
  explicit Linear(const Call& call)
      : x(call.strided_rows("input.hidden_states")),
        weight(call.compact("param.weight", {call.axes("param.weight", 2)[0], x.width})),
        dims{.rows = x.rows,
             .in_features = x.width,
             .out_features = call.axes("param.weight", 2)[0],
             .x_stride = x.stride,
             .y_stride = call.axes("param.weight", 2)[0]} {
    require_element("param.weight", weight, x.element);
  }

  // [rows, out_features], or a view of such rows.
  void output_like(std::string_view name, const Rows& rows) const {
    require_element(name, rows, x.element);
    if (rows.rows != dims.rows || rows.width != dims.out_features)
      throw Unsupported(std::string(name) + ": want " + std::to_string(dims.rows) + " rows of " +
                        std::to_string(dims.out_features));
  }
  Rows optional_vector(const Call& call, std::string_view name) const {
    if (!call.has(name)) return {};
    const Rows rows = call.vector(name, dims.out_features);
    require_element(name, rows, x.element);
    return rows;
  }

  Rows x, weight;
  LinearDims dims;
};

struct Forward : Linear {
  explicit Forward(const Call& call)
      : Linear(call), bias(optional_vector(call, "param.bias")), y(call.strided_rows("output.hidden_states")) {
    call.accept_only({}, {"input.hidden_states", "param.weight", "param.bias", "output.hidden_states"});
    output_like("output.hidden_states", y);
    dims.y_stride = y.stride;
  }

  Rows bias, y;
};

struct Backward : Linear {
  explicit Backward(const Call& call)
      : Linear(call),
        d_y(call.strided_rows("grad.output.hidden_states")),
        d_x(call.compact_rows("grad.input.hidden_states", {x.rows, x.width, x.width, x.element, nullptr})),
        d_weight(call.compact("grad.weight", {dims.out_features, dims.in_features})),
        d_bias(optional_vector(call, "grad.bias")) {
    call.accept_only({}, {"input.hidden_states", "param.weight", "grad.output.hidden_states",
                          "grad.input.hidden_states", "grad.weight", "grad.bias"});
    output_like("grad.output.hidden_states", d_y);
    dims.y_stride = d_y.stride;
    require_element("grad.input.hidden_states", d_x, x.element);
    require_element("grad.weight", d_weight, x.element);
  }

  Rows d_y, d_x, d_weight, d_bias;
};

void run_forward(const Call& call, cudaStream_t stream) {
  const Forward f(call);
  visit_element(f.x.element, [&]<class T>() {
    linear_forward(f.dims,
                   LinearForward<T>{.x = f.x.as<T>(),
                                    .weight = f.weight.as<T>(),
                                    .bias = f.bias.as<T>(),
                                    .y = f.y.as<T>(),
                                    .workspace = call.workspace()},
                   stream);
  });
}

void run_backward(const Call& call, cudaStream_t stream) {
  const Backward b(call);
  visit_element(b.x.element, [&]<class T>() {
    linear_backward(b.dims,
                    LinearBackward<T>{.x = b.x.as<T>(),
                                      .weight = b.weight.as<T>(),
                                      .d_y = b.d_y.as<T>(),
                                      .d_x = b.d_x.as<T>(),
                                      .d_weight = b.d_weight.as<T>(),
                                      .d_bias = b.d_bias.as<T>(),
                                      .workspace = call.workspace()},
                    stream);
  });
}

// On a GPU bfloat16 products run on tensor cores, which truncate.
void amend_contract(const Call& call, assay_contract& contract) {
  if (!kDenseProductsOnTensorCores || Linear(call).x.element == Element::float32) return;
  contract.multiply = ASSAY_MULTIPLY_BF16;
  contract.accumulate = ASSAY_ACCUMULATE_FP32_TENSOR_CORE;
}

constexpr Operation kOperations[] = {
    {.name = "linear.forward",
     .check = [](const Call& call) { (void)Forward(call); },
     .variant = [](const Call&) { return kDenseProductVariant; },
     .workspace_bytes = [](const Call&) { return linear_forward_workspace(); },
     .saved_bytes = [](const Call&) { return std::size_t{0}; },
     .run = run_forward,
     .amend_contract = amend_contract},
    {.name = "linear.backward",
     .check = [](const Call& call) { (void)Backward(call); },
     .variant = [](const Call&) { return kDenseProductVariant; },
     .workspace_bytes = [](const Call& call) { return linear_backward_workspace(Backward(call).dims); },
     .saved_bytes = [](const Call&) { return std::size_t{0}; },
     .run = run_backward,
     .amend_contract = amend_contract},
};

}  // namespace

std::span<const Operation> linear_operations() { return kOperations; }

}  // namespace assay::gpu
