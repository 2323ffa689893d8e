// A call of Assay's candidate interface becomes a launch. `assay list --ops` documents the tensors of @OP@.
#include <string_view>

#include "cuda/candidate/flavour.h"
#include "cuda/candidate/operation.h"
#include "kernel.h"

using namespace assay::gpu;

namespace {

// Throws Unsupported for what the kernel cannot do. Assay never sends that then, and reports NOT_SUPPORTED. Once the
// kernel is written, read the call's attributes and tensors here as `run` does; what they cannot be throws by itself.
void check(const Call&) { throw Unsupported("not written yet"); }

void run(const Call& call, cudaStream_t stream) {
  const Rows input = call.strided_rows("input.hidden_states");  // the names that `assay list --ops` gives
  const Rows output = call.compact_rows("output.hidden_states", input);
  launch({.rows = input.rows,
          .width = input.width,
          .row_stride = input.stride,
          .input = input.as<float>(),
          .output = output.as<float>()},
         stream);
}

const char* variant(const Call&) { return "first"; }  // the report names it
std::size_t no_bytes(const Call&) { return 0; }       // of workspace, of what a forward hands to its backward

const Operation kOperation = {"@OP@", check, variant, no_bytes, no_bytes, run};

}  // namespace

const char* const assay::gpu::kCandidateName = "@NAME@";

// What you promise is what you are judged by. As it stands: IEEE products, float32 sums, accurate functions,
// deterministic. Say here if the kernel multiplies in tf32, calls __expf, adds by atomics, ...
void assay::gpu::amend_contract(const Call&, assay_contract&) {}

// A backward also needs the forward of its operation here: Assay runs that first, for the `saved` bytes it hands over.
const Operation& assay::gpu::find_operation(std::string_view name) {
  if (name == kOperation.name) return kOperation;
  throw Unsupported("not written yet");
}
