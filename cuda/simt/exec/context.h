// A stack that code can be suspended on and resumed: the core of a fiber. x86-64 System V.
#pragma once

#include <cstddef>

#include "cuda/simt/exec/sanitizer.h"

namespace simt {

struct Context {
  void* stack_pointer = nullptr;  // while suspended
  void* stack = nullptr;          // lowest address
  std::size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // ASan's
  void* tsan_fiber = nullptr;
};

// Suspends `from` and resumes `to`. `from_ends`: nobody will resume it.
void switch_context(Context& from, Context& to, bool from_ends = false);

// The context of the calling operating system thread.
Context this_thread_context();

// A new stack with a guard page below; `index` shifts the first frame so that equal depths of neighbours do not compete
// for the same cache sets. Stacks live until release_stack().
Context make_stack(unsigned index);
void release_stack(Context& context);
// The next switch to `context` calls entry() on an empty stack. entry must call context_entered() first and not return.
void prepare(Context& context, unsigned index, void (*entry)());
void context_entered();

}  // namespace simt
