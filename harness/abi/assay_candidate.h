/* The candidate interface of Assay, version 1.
 *
 * A candidate is a shared library that implements operations of the catalogue (`assay list --ops`) and exports one
 * symbol, assay_candidate_v1. Assay loads it in a worker process of its own, allocates every tensor through it, runs
 * it, and judges what comes back. Plain C11; needs <dlpack/dlpack.h> and nothing else.
 *
 * Rules
 *  - Functions that return int return 0 for success. Text goes into the caller's buffer, truncated and
 *    NUL-terminated. No function may throw, exit, print or keep a pointer it was given past the call.
 *  - All functions are called from one thread.
 *  - Tensors follow DLPack. `strides` is never NULL and counts elements; an operation's page says which tensors may
 *    be strided views, all others are row-major and compact. `data` is what `allocate` returned plus an offset, and
 *    is aligned to at least 16 bytes where the shape is compact; DLTensor.byte_offset is always 0.
 *    A tensor with a zero dimension may have data == NULL.
 *  - dtypes are DLPack's. Codes that an older dlpack.h lacks are given below by their DLPack numbers.
 */
#ifndef ASSAY_CANDIDATE_H
#define ASSAY_CANDIDATE_H

#include <dlpack/dlpack.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ASSAY_CANDIDATE_ABI_VERSION 1u
#define ASSAY_CANDIDATE_SYMBOL "assay_candidate_v1"

/* DLPack type codes newer than Debian 12's dlpack.h. */
enum { ASSAY_DL_BOOL = 6, ASSAY_DL_FLOAT8_E4M3FN = 10, ASSAY_DL_FLOAT8_E5M2 = 12 };

/* What an operation does with a tensor. */
typedef enum assay_role {
  ASSAY_ROLE_IN = 0,    /* read; must be unchanged afterwards */
  ASSAY_ROLE_OUT = 1,   /* every element must be written; poisoned before the run */
  ASSAY_ROLE_INOUT = 2, /* read, then overwritten with a new value (a decode cache) */
  ASSAY_ROLE_SAVED = 3, /* uint8 [saved_bytes]: written by a forward, read unchanged by its backward */
  ASSAY_ROLE_TAP = 4    /* an intermediate that the candidate may fill for diagnosis; untouched = not offered */
} assay_role;

typedef struct assay_tensor {
  const char* name; /* as in the catalogue and in fixtures: "input.hidden_states", "grad.weight" */
  int32_t role;     /* assay_role */
  int32_t reserved; /* 0 */
  DLTensor tensor;
} assay_tensor;

typedef enum assay_attribute_kind {
  ASSAY_ATTRIBUTE_INT = 0,
  ASSAY_ATTRIBUTE_FLOAT = 1,
  ASSAY_ATTRIBUTE_STRING = 2
} assay_attribute_kind;

typedef struct assay_attribute {
  const char* name;
  int32_t kind;     /* assay_attribute_kind: which of the three below is meant; the others are 0, 0.0 and NULL */
  int32_t reserved; /* 0 */
  int64_t int_value;
  double float_value;
  const char* string_value;
} assay_attribute;

/* One call of one operation. Optional tensors that a case does not use are absent from the list.
 * In supports, contract, variant, workspace_bytes and saved_bytes the tensors' data pointers are NULL. */
typedef struct assay_call {
  size_t struct_size;
  const char* op; /* "rms_norm.forward", "ssd_scan.backward", ... */
  const assay_attribute* attributes;
  size_t attribute_count;
  const assay_tensor* tensors;
  size_t tensor_count;
  void* workspace; /* workspace_bytes bytes, 256-byte aligned; NULL where that is 0 */
  size_t workspace_bytes;
} assay_call;

/* What the candidate promises about its arithmetic for one call. The limits it is judged by follow from this. */
typedef enum assay_multiply {
  ASSAY_MULTIPLY_IEEE = 0,    /* products of the stored operands, exact or rounded once to float32 */
  ASSAY_MULTIPLY_TF32 = 1,    /* float32 operands rounded to tf32 first */
  ASSAY_MULTIPLY_3XTF32 = 2,  /* float32 operands split into two tf32 parts, three products */
  ASSAY_MULTIPLY_BF16 = 3     /* operands rounded to bfloat16 first */
} assay_multiply;
typedef enum assay_accumulate {
  ASSAY_ACCUMULATE_FP32 = 0,             /* float32, rounding to nearest */
  ASSAY_ACCUMULATE_FP32_TENSOR_CORE = 1, /* float32 inside tensor cores, which truncate */
  ASSAY_ACCUMULATE_FP64 = 2
} assay_accumulate;
/* Elementary functions by their accurate versions (expf, rsqrtf: a few ulp) or by the fast intrinsics (__expf, ...). */
typedef enum assay_functions { ASSAY_FUNCTIONS_ACCURATE = 0, ASSAY_FUNCTIONS_FAST = 1 } assay_functions;
typedef enum assay_softplus { ASSAY_SOFTPLUS_LOG1P = 0, ASSAY_SOFTPLUS_NAIVE = 1 } assay_softplus;

typedef struct assay_contract {
  size_t struct_size;        /* set by the caller: how much it can take */
  int32_t multiply;          /* assay_multiply */
  int32_t accumulate;        /* assay_accumulate */
  int32_t deterministic;     /* 1: the same call gives the same bits every time */
  int32_t flush_denormals;   /* 1: denormal operands or results may become zero */
  int32_t softplus;          /* assay_softplus: ln(1 + e^x) by log1p, or as written */
  int32_t functions;         /* assay_functions */
  int32_t workspace_zeroed;  /* 1: the workspace must be zero on entry; 0: it may hold anything */
} assay_contract;

/* A thread schedule of an executor that has several (the CPU target). Runs of one arithmetic must agree bit for bit. */
typedef struct assay_schedule {
  const char* name;       /* "ascending-late", ... */
  const char* arithmetic; /* "nominal" or "hostile": whose freedom of rounding is used against the kernel */
} assay_schedule;

/* What a run moved or computed, by name: "global_read.bytes", "float_operations", ... A static string. */
typedef struct assay_counter {
  const char* name;
  uint64_t value;
} assay_counter;

typedef struct assay_candidate {
  size_t struct_size;   /* sizeof(assay_candidate) when the candidate was compiled */
  uint32_t abi_version; /* ASSAY_CANDIDATE_ABI_VERSION */
  uint32_t reserved;    /* 0 */
  const char* name;     /* who made it, and its version: "assay 0.1" */

  /* Where it runs: "cpu:simt", "cpu:ptx", "cuda:NVIDIA H100 80GB HBM3". Non-zero, with the reason in `text`, when
   * there is no such device here. Called once, before anything else. */
  int (*target)(char* text, size_t text_size);
  int32_t device_type; /* DLPack device of the tensors: kDLCPU, kDLCUDA */
  int32_t device_id;

  /* 1: can run this call; 0: cannot, `reason` says why (dtype, shape, strides, architecture). Never a silent
   * fallback to something else. */
  int (*supports)(const assay_call* call, char* reason, size_t reason_size);
  int (*contract)(const assay_call* call, assay_contract* contract);
  /* The name of the kernel variant that this call would run, for the report; a static string. */
  const char* (*variant)(const assay_call* call);
  size_t (*workspace_bytes)(const assay_call* call);
  /* Size of the `saved` tensor that this forward call hands to its backward; 0: none. */
  size_t (*saved_bytes)(const assay_call* call);
  /* Enqueues the operation on `stream` (a cudaStream_t, or NULL). An error that shows only later is reported by
   * synchronize. */
  int (*run)(const assay_call* call, void* stream, char* error, size_t error_size);

  /* Device memory. allocate returns 256-byte aligned memory of unspecified content. */
  int (*allocate)(size_t bytes, void** data, char* error, size_t error_size);
  void (*free)(void* data);
  int (*upload)(void* device, const void* host, size_t bytes, char* error, size_t error_size);
  int (*download)(void* host, const void* device, size_t bytes, char* error, size_t error_size);
  int (*synchronize)(void* stream, char* error, size_t error_size);

  /* Schedules, for targets that emulate a GPU; schedule_count 0 and NULL functions elsewhere. */
  int32_t schedule_count;
  int32_t reserved2; /* 0 */
  const assay_schedule* schedules;
  int (*select_schedule)(int32_t index, uint64_t seed);

  /* Counting, for targets that know what their kernels do; both NULL elsewhere. A table may also end before them: a
   * candidate that was compiled without them has a smaller struct_size, and is as good as any.
   * set_counting(1) sets every counter to 0 and counts all runs until set_counting(0). counters() writes up to
   * `capacity` of them and returns how many there are. */
  int (*set_counting)(int32_t on);
  size_t (*counters)(assay_counter* counters, size_t capacity);
} assay_candidate;

#if defined(_WIN32)
#define ASSAY_CANDIDATE_EXPORT __declspec(dllexport)
#else
#define ASSAY_CANDIDATE_EXPORT __attribute__((visibility("default")))
#endif

/* The one exported symbol; the table lives as long as the library is loaded. */
ASSAY_CANDIDATE_EXPORT const assay_candidate* assay_candidate_v1(void);

#ifdef __cplusplus
}
#endif
#endif /* ASSAY_CANDIDATE_H */
