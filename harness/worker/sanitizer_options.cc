// How a sanitized worker behaves by default (ASAN_OPTIONS and its like still win). The first report ends the process,
// so it costs one case and its text is that case's message. Leaks are not looked for: the worker leaves by _exit.
#include "harness/worker/annotations.h"

#define ASSAY_SANITIZER_HOOK extern "C" __attribute__((visibility("default"), used)) const char*

#ifdef ASSAY_ASAN
ASSAY_SANITIZER_HOOK __asan_default_options() {
  return "halt_on_error=1:detect_leaks=0:detect_stack_use_after_return=0:allocator_may_return_null=1";
}
ASSAY_SANITIZER_HOOK __ubsan_default_options() { return "print_stacktrace=1:halt_on_error=1"; }
#endif
#ifdef ASSAY_MSAN
ASSAY_SANITIZER_HOOK __msan_default_options() { return "halt_on_error=1:allocator_may_return_null=1"; }
#endif
#ifdef __SANITIZE_THREAD__
ASSAY_SANITIZER_HOOK __tsan_default_options() { return "halt_on_error=1:second_deadlock_stack=1"; }
#endif
