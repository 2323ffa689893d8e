// What counting/as calls before a scalar floating-point instruction of a kernel: adds to the count of the thread that
// runs, if one does. Between two instructions of compiled code nothing may change: neither registers nor flags.
#include <cstddef>

#include "cuda/simt/exec/thread.h"

namespace simt {
static_assert(offsetof(Thread, float_operations) == 0, "the code below adds to the first word of a Thread");
}

asm(R"(
.macro SIMT_COUNT name, operations
.globl \name
.hidden \name
.type \name,@function
\name:
  pushfq
  pushq %rax
  movq _ZN4simt14current_threadE@gottpoff(%rip),%rax
  movq %fs:(%rax),%rax
  testq %rax,%rax
  jz 1f
  addq $\operations,(%rax)
1:
  popq %rax
  popfq
  ret
.size \name,.-\name
.endm
.text
SIMT_COUNT simt_count_float_operation, 1
SIMT_COUNT simt_count_fused_operation, 2
)");
