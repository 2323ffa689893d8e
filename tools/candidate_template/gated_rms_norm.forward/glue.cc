// A call of Assay's candidate interface becomes a launch. `assay list --ops` documents the tensors of @OP@.
#include <cstdint>
#include <string_view>

#include "cuda/candidate/element_types.h"
#include "cuda/candidate/flavour.h"
#include "cuda/candidate/operation.h"
#include "kernel.h"

using namespace assay::gpu;

namespace {

// Throws Unsupported for what the kernel cannot do. Assay never sends that then, and reports NOT_SUPPORTED.
void check(const Call& call) {
  call.accept_only({"eps", "group_size"},
                   {"input.hidden_states", "input.gate", "param.weight", "output.hidden_states", "saved"});
  const Rows x = call.strided_rows("input.hidden_states");  // float32 or bfloat16, rows of one stride
  require_element("param.weight", call.vector("param.weight", x.width), x.element);
  if (call.has("input.gate")) require_element("input.gate", call.strided_rows("input.gate"), x.element);
  const std::int64_t group_size = call.int_attribute("group_size");
  if (group_size < 1 || x.width % group_size != 0) throw Unsupported("group_size: want a divisor of the width");
  if (x.rows * (x.width / group_size) > INT32_MAX) {
    throw Unsupported("hidden_states: 2^31 groups or more; the kernel takes a block for each");
  }
}

template <class T>
GatedRmsNorm<T> arguments(const Call& call) {
  const Rows x = call.strided_rows("input.hidden_states");
  const bool gated = call.has("input.gate");
  return {
      .rows = x.rows,
      .width = x.width,
      .group_size = call.int_attribute("group_size"),
      .row_stride = x.stride,
      .gate_row_stride = gated ? call.strided_rows("input.gate").stride : 0,
      .hidden_states = x.as<T>(),
      .gate = gated ? call.strided_rows("input.gate").as<T>() : nullptr,
      .weight = call.vector("param.weight", x.width).as<T>(),
      .eps = call.float_attribute("eps"),
      .out_hidden_states = call.compact_rows("output.hidden_states", x).as<T>(),
  };
}

void run(const Call& call, cudaStream_t stream) {
  const Element element = call.strided_rows("input.hidden_states").element;
  visit_elements(element, element, [&]<class T, class>() { launch_gated_rms_norm(arguments<T>(call), stream); });
}

const char* variant(const Call&) { return "one block per row and group"; }  // the report names it
std::size_t no_bytes(const Call&) { return 0; }  // of workspace, of what a backward would need

const Operation kOperation = {"@OP@", check, variant, no_bytes, no_bytes, run};

}  // namespace

const char* const assay::gpu::kCandidateName = "@NAME@";

// What you promise is what you are judged by. As it stands: IEEE products, float32 sums, accurate functions,
// deterministic. Say here if the kernel multiplies in tf32, calls __expf, adds by atomics, ...
void assay::gpu::amend_contract(const Call&, assay_contract&) {}

const Operation& assay::gpu::find_operation(std::string_view name) {
  if (name == kOperation.name) return kOperation;
  throw Unsupported("only @OP@ is here");
}
