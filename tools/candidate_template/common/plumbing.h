// What every candidate needs and no kernel cares about: reading a call, saying no, memory, schedules.
#pragma once

#include <cstddef>
#include <cstdint>

#include "harness/abi/assay_candidate.h"

namespace plumbing {

// The tensor of that name, or nullptr: optional tensors that a case does not use are absent.
const DLTensor* find(const assay_call* call, const char* name);
// One that must be there. Throws std::invalid_argument naming it if it is not.
const DLTensor& tensor(const assay_call* call, const char* name);

// A float or integer attribute. Throws std::invalid_argument naming it if the call has none.
double number(const assay_call* call, const char* name);

bool is_float32(const DLTensor& tensor);
bool is_bfloat16(const DLTensor& tensor);

// Elements from one row to the next of a tensor whose rows are contiguous, or -1 if they are not.
std::int64_t row_stride(const DLTensor& tensor);

// Writes the reason and returns 0: `return refuse(reason, reason_size, "want float32 or bfloat16");`
int refuse(char* reason, std::size_t reason_size, const char* text);

// What a candidate says for itself; the rest of the table is the same for all.
struct Operation {
  const char* name;  // who made it, and its version
  int (*supports)(const assay_call* call, char* reason, std::size_t reason_size);
  void (*contract)(const assay_call* call, assay_contract* contract);  // starts as IEEE, float32, deterministic
  std::size_t (*workspace_bytes)(const assay_call* call);              // nullptr: none
  std::size_t (*saved_bytes)(const assay_call* call);                  // nullptr: none
  void (*run)(const assay_call* call, void* stream);                   // may throw: the text is reported
};
assay_candidate table_of(const Operation& operation);

}  // namespace plumbing
