// A call of Assay's candidate interface becomes a launch. `assay list --ops` documents the tensors of @OP@.
#include <cuda_bf16.h>

#include <cstdint>
#include <cstring>

#include "kernel.h"
#include "plumbing.h"

namespace {

// Say no to what the kernel cannot do; Assay never sends it then, and reports it as NOT_SUPPORTED.
int supports(const assay_call* call, char* reason, std::size_t reason_size) {
  if (std::strcmp(call->op, "@OP@") != 0) return plumbing::refuse(reason, reason_size, "only @OP@");
  const DLTensor& x = plumbing::tensor(call, "input.hidden_states");
  const DLTensor* residual = plumbing::find(call, "input.residual");
  const bool f32 = plumbing::is_float32(x), bf16 = plumbing::is_bfloat16(x);
  if (!f32 && !bf16) return plumbing::refuse(reason, reason_size, "hidden_states: want float32 or bfloat16");
  if (residual != nullptr && !plumbing::is_float32(*residual) && !(bf16 && plumbing::is_bfloat16(*residual))) {
    return plumbing::refuse(reason, reason_size, "residual: want the dtype of hidden_states, or float32");
  }
  if (plumbing::row_stride(x) < 0) return plumbing::refuse(reason, reason_size, "hidden_states: rows not contiguous");
  if (x.shape[0] > INT32_MAX) return plumbing::refuse(reason, reason_size, "a block per row: want less than 2^31 rows");
  return 1;
}

template <class T, class R>
void launch(const assay_call* call, void* stream) {
  const DLTensor& x = plumbing::tensor(call, "input.hidden_states");
  const DLTensor* residual = plumbing::find(call, "input.residual");
  launch_rms_norm(
      RmsNorm<T, R>{
          .rows = x.shape[0],
          .width = x.shape[1],
          .row_stride = plumbing::row_stride(x),
          .hidden_states = static_cast<const T*>(x.data),
          .residual = residual ? static_cast<const R*>(residual->data) : nullptr,
          .weight = static_cast<const T*>(plumbing::tensor(call, "param.weight").data),
          .eps = static_cast<float>(plumbing::number(call, "eps")),
          .out_hidden_states = static_cast<T*>(plumbing::tensor(call, "output.hidden_states").data),
          .out_residual = residual ? static_cast<R*>(plumbing::tensor(call, "output.residual").data) : nullptr,
      },
      static_cast<cudaStream_t>(stream));
}

void run(const assay_call* call, void* stream) {
  const DLTensor* residual = plumbing::find(call, "input.residual");
  if (plumbing::is_float32(plumbing::tensor(call, "input.hidden_states"))) {
    launch<float, float>(call, stream);
  } else if (residual != nullptr && plumbing::is_float32(*residual)) {
    launch<__nv_bfloat16, float>(call, stream);
  } else {
    launch<__nv_bfloat16, __nv_bfloat16>(call, stream);
  }
}

}  // namespace

const assay_candidate* assay_candidate_v1() {
  static const assay_candidate table =
      plumbing::table_of({.name = "@NAME@", .supports = supports, .contract = nullptr, .workspace_bytes = nullptr,
                          .saved_bytes = nullptr, .run = run});
  return &table;
}
