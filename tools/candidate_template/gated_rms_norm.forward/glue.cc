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
  const DLTensor* gate = plumbing::find(call, "input.gate");
  if (!plumbing::is_float32(x) && !plumbing::is_bfloat16(x)) {
    return plumbing::refuse(reason, reason_size, "hidden_states: want float32 or bfloat16");
  }
  if (plumbing::row_stride(x) < 0) return plumbing::refuse(reason, reason_size, "hidden_states: rows not contiguous");
  if (gate != nullptr && plumbing::row_stride(*gate) < 0) {
    return plumbing::refuse(reason, reason_size, "gate: rows not contiguous");
  }
  if (x.shape[0] * x.shape[1] > INT32_MAX) {
    return plumbing::refuse(reason, reason_size, "a block per row and group: want less than 2^31 elements");
  }
  return 1;
}

template <class T>
void launch(const assay_call* call, void* stream) {
  const DLTensor& x = plumbing::tensor(call, "input.hidden_states");
  const DLTensor* gate = plumbing::find(call, "input.gate");
  launch_gated_rms_norm(
      GatedRmsNorm<T>{
          .rows = x.shape[0],
          .width = x.shape[1],
          .group_size = static_cast<std::int64_t>(plumbing::number(call, "group_size")),
          .row_stride = plumbing::row_stride(x),
          .gate_row_stride = gate ? plumbing::row_stride(*gate) : 0,
          .hidden_states = static_cast<const T*>(x.data),
          .gate = gate ? static_cast<const T*>(gate->data) : nullptr,
          .weight = static_cast<const T*>(plumbing::tensor(call, "param.weight").data),
          .eps = static_cast<float>(plumbing::number(call, "eps")),
          .out_hidden_states = static_cast<T*>(plumbing::tensor(call, "output.hidden_states").data),
      },
      static_cast<cudaStream_t>(stream));
}

void run(const assay_call* call, void* stream) {
  if (plumbing::is_float32(plumbing::tensor(call, "input.hidden_states"))) {
    launch<float>(call, stream);
  } else {
    launch<__nv_bfloat16>(call, stream);
  }
}

}  // namespace

const assay_candidate* assay_candidate_v1() {
  static const assay_candidate table =
      plumbing::table_of({.name = "@NAME@", .supports = supports, .contract = nullptr, .workspace_bytes = nullptr,
                          .saved_bytes = nullptr, .run = run});
  return &table;
}
