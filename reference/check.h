// Checks at the border of the reference. Messages name function, argument, found and wanted.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

#include "reference/tensor.h"

namespace assay::reference {

inline std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

// Throws std::invalid_argument with the parts, concatenated, unless the condition holds.
template <class... Part>
void require(bool condition, const Part&... parts) {
  if (condition) return;
  std::ostringstream text;
  (text << ... << parts);
  throw std::invalid_argument(text.str());
}

template <class T>
void require_shape(const char* function, const char* argument, const Tensor<T>& tensor, const Shape& want) {
  if (tensor.shape() == want) return;  // before the texts are made
  require(false, function, ": ", argument, " has shape ", to_string(tensor.shape()), "; want ", to_string(want));
}

}  // namespace assay::reference
