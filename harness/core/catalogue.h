// The catalogue: every operation that can be verified, with its named tensors, symbolic shapes and dtypes. The
// documentation (`assay list --ops`), the fixtures and the argument checks are made from it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "harness/core/call.h"

namespace assay::harness {

// Which dtype a tensor has: that of the case, or a fixed one.
enum class DTypeRule {
  model,
  float32,
  int32,
  int64,
  boolean,
  residual,  // model, or float32 if the stream is
  either     // float32 or bfloat16, whatever the model's is
};

struct TensorSpec {
  std::string name;  // "input.hidden_states", as in calls and fixtures
  Role role = Role::in;
  std::vector<std::string> axes;  // "rows", "width": named axes, outermost first
  DTypeRule dtype = DTypeRule::model;
  bool optional = false;
  bool strided = false;     // may be a view whose rows lie further apart than its width
  bool infinities = false;  // infinities are legal values (a mask), NaN never is
  std::vector<std::string> or_axes = {};  // another shape that it may have
};

struct AttributeSpec {
  std::string name;
  std::string kind;  // "int", "flag" (an int, 0 or 1), "float", "string"
  std::string meaning;
};

struct OperationSpec {
  std::string name;       // "rms_norm.forward"
  std::string equation;   // one line per output
  std::string exactness;  // what the integer fill demands: "saturated: ...", or why there is none
  std::vector<AttributeSpec> attributes;
  std::vector<TensorSpec> tensors;

  std::string family() const { return name.substr(0, name.find('.')); }
  const TensorSpec* find(std::string_view tensor) const;
};

const std::vector<OperationSpec>& catalogue();
// Throws std::invalid_argument naming the nearest known operations.
const OperationSpec& operation(std::string_view name);

}  // namespace assay::harness
