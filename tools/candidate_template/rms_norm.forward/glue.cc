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
  call.accept_only({"eps"}, {"input.hidden_states", "input.residual", "param.weight", "output.hidden_states",
                             "output.residual", "saved"});
  const Rows x = call.strided_rows("input.hidden_states");  // float32 or bfloat16, rows of one stride
  if (x.rows > INT32_MAX) throw Unsupported("hidden_states: 2^31 rows or more; the kernel takes a block for each");
  require_element("param.weight", call.vector("param.weight", x.width), x.element);
  if (call.has("input.residual")) {
    const Rows residual = call.compact_rows("input.residual", x);
    if (x.element == Element::float32) require_element("input.residual", residual, Element::float32);
  }
}

template <class T, class R>
RmsNorm<T, R> arguments(const Call& call) {
  const Rows x = call.strided_rows("input.hidden_states");
  const bool with_residual = call.has("input.residual");
  return {
      .rows = x.rows,
      .width = x.width,
      .row_stride = x.stride,
      .hidden_states = x.as<T>(),
      .residual = with_residual ? call.compact_rows("input.residual", x).as<R>() : nullptr,
      .weight = call.vector("param.weight", x.width).as<T>(),
      .eps = call.float_attribute("eps"),
      .out_hidden_states = call.compact_rows("output.hidden_states", x).as<T>(),
      .out_residual = with_residual ? call.compact_rows("output.residual", x).as<R>() : nullptr,
  };
}

void run(const Call& call, cudaStream_t stream) {
  const Rows x = call.strided_rows("input.hidden_states");
  const Rows stream_rows = call.has("input.residual") ? call.compact_rows("input.residual", x) : x;
  visit_elements(x.element, stream_rows.element,
                 [&]<class T, class R>() { launch_rms_norm(arguments<T, R>(call), stream); });
}

const char* variant(const Call&) { return "one block per row"; }  // the report names it
std::size_t no_bytes(const Call&) { return 0; }                   // of workspace, of what a backward would need

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
