// A call of Assay's candidate interface becomes a launch. `assay list --ops` documents the tensors of @OP@.
#include <cstring>

#include "kernel.h"
#include "plumbing.h"

namespace {

// Say no to what the kernel cannot do; Assay never sends it then, and reports it as NOT_SUPPORTED. Once the kernel is
// written, look at dtypes, shapes and strides here, and return 1 for those that it takes.
int supports(const assay_call* call, char* reason, std::size_t reason_size) {
  if (std::strcmp(call->op, "@OP@") != 0) return plumbing::refuse(reason, reason_size, "only @OP@");
  return plumbing::refuse(reason, reason_size, "not written yet");
}

void run(const assay_call* call, void* stream) {
  const DLTensor& input = plumbing::tensor(call, "input.hidden_states");  // the names that `assay list --ops` gives
  const DLTensor& output = plumbing::tensor(call, "output.hidden_states");
  launch({.elements = input.shape[0] * input.shape[1],
          .input = static_cast<const float*>(input.data),
          .output = static_cast<float*>(output.data)},
         static_cast<cudaStream_t>(stream));
}

}  // namespace

const assay_candidate* assay_candidate_v1() {
  static const assay_candidate table =
      plumbing::table_of({.name = "@NAME@", .supports = supports, .contract = nullptr, .workspace_bytes = nullptr,
                          .saved_bytes = nullptr, .run = run});
  return &table;
}
