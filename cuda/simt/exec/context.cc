#include "cuda/simt/exec/context.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdint>
#include <string>

#include "cuda/simt/executor.h"

#if !defined(__x86_64__)
#error "the executor's context switch is written for x86-64"
#endif

// Callee-saved registers go to the old stack, come from the new one. mxcsr and the x87 control word are not switched:
// kernels leave them alone.
asm(R"(
.text
.globl simt_switch_stack
.hidden simt_switch_stack
.type simt_switch_stack,@function
simt_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch_stack,.-simt_switch_stack
)");

extern "C" void simt_switch_stack(void** save, void* load);

namespace simt {
namespace {

constexpr std::size_t kPage = 4096;
#if defined(SIMT_ASAN) || defined(SIMT_TSAN) || defined(SIMT_MSAN)
constexpr std::size_t kStackBytes = 256 << 10;  // instrumented frames are several times larger
#else
constexpr std::size_t kStackBytes = 64 << 10;
#endif

}  // namespace

void switch_context([[maybe_unused]] Context& from, Context& to, [[maybe_unused]] bool from_ends) {
#if defined(SIMT_ASAN)
  __sanitizer_start_switch_fiber(from_ends ? nullptr : &from.fake_stack, to.stack, to.stack_bytes);
#endif
#if defined(SIMT_TSAN)
  __tsan_switch_to_fiber(to.tsan_fiber, __tsan_switch_to_fiber_no_sync);
#endif
  simt_switch_stack(&from.stack_pointer, to.stack_pointer);
#if defined(SIMT_ASAN)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void context_entered() {
#if defined(SIMT_ASAN)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

Context this_thread_context() {
  Context context;
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) throw Error("executor: cannot find this thread's stack");
  pthread_attr_getstack(&attributes, &context.stack, &context.stack_bytes);
  pthread_attr_destroy(&attributes);
#if defined(SIMT_TSAN)
  context.tsan_fiber = __tsan_get_current_fiber();
#endif
  return context;
}

Context make_stack(unsigned index) {
  void* memory = mmap(nullptr, kStackBytes + kPage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kPage, PROT_NONE) != 0) {
    throw Error("executor: no memory for the stack of resident thread " + std::to_string(index));
  }
  Context context;
  context.stack = static_cast<unsigned char*>(memory) + kPage;
  context.stack_bytes = kStackBytes;
#if defined(SIMT_TSAN)
  context.tsan_fiber = __tsan_create_fiber(0);
#endif
  return context;
}

void release_stack(Context& context) {
  allow_access(context.stack, context.stack_bytes);
  munmap(static_cast<unsigned char*>(context.stack) - kPage, context.stack_bytes + kPage);
  context.stack = nullptr;
}

void prepare(Context& context, unsigned index, void (*entry)()) {
  allow_access(context.stack, context.stack_bytes);  // an abandoned kernel leaves its frames poisoned
  const std::size_t colour = index % 48 * 64;
  auto* top = reinterpret_cast<void**>(static_cast<unsigned char*>(context.stack) + context.stack_bytes - 64 - colour);
  *--top = nullptr;  // the return address of entry(), and the alignment that a call leaves
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  context.stack_pointer = top;
  mark_initialised(top, 8 * sizeof(void*));
}

}  // namespace simt
