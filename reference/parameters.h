// Parameters: the tensors of a model or of one layer by upstream's names, and what is special about each.
//
// A layer reads a ParameterScope: the same tensors under a prefix, so that its code says p["q_proj.weight"] wherever
// the layer stands ("model.layers.3.mixer.", "mtp.layers.0.mixer."). It hands its gradients to a GradientScope under
// the same names; what arrives twice (a shared head, a repeated layer) is added up.
#pragma once

#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "reference/check.h"
#include "reference/numerics.h"
#include "reference/tensor.h"

namespace assay::reference {

// Tensors that stay float32 whatever the model's dtype is: they never pass through bfloat16.
inline bool is_kept_in_float32(std::string_view name) {
  return name.find("_fp32_params") != name.npos || name.find("e_score_correction_bias") != name.npos;
}

struct ParameterFlags {
  bool no_weight_decay = false;  // A_log and D
  bool no_reinit = false;        // dt_bias, once it is initialised
  bool is_buffer = false;        // e_score_correction_bias: no gradient
};

template <class T>
struct Parameter {
  Tensor<T> value;
  ParameterFlags flags;
};

template <class T>
class Parameters {
 public:
  using Map = std::map<std::string, Parameter<T>, std::less<>>;

  void set(std::string name, Tensor<T> value, ParameterFlags flags = {}) {
    entries_.insert_or_assign(std::move(name), Parameter<T>{std::move(value), flags});
  }
  const Tensor<T>* find(std::string_view name) const {
    const auto entry = entries_.find(name);
    return entry == entries_.end() ? nullptr : &entry->second.value;
  }
  Tensor<T>* find(std::string_view name) { return const_cast<Tensor<T>*>(std::as_const(*this).find(name)); }
  // Throws std::invalid_argument naming the parameter if there is none.
  const Tensor<T>& operator[](std::string_view name) const {
    const Tensor<T>* tensor = find(name);
    if (!tensor) throw std::invalid_argument("parameter " + std::string(name) + " is missing");
    return *tensor;
  }
  Tensor<T>& operator[](std::string_view name) { return const_cast<Tensor<T>&>(std::as_const(*this)[name]); }

  const Map& entries() const { return entries_; }
  Map& entries() { return entries_; }

 private:
  Map entries_;
};

// A read-only view of the parameters whose names begin with a prefix.
template <class T>
class ParameterScope {
 public:
  ParameterScope(const Parameters<T>& all, std::string prefix = "") : all_(&all), prefix_(std::move(prefix)) {}

  ParameterScope scope(std::string_view prefix) const { return {*all_, prefix_ + std::string(prefix)}; }
  const Tensor<T>& operator[](std::string_view name) const { return (*all_)[prefix_ + std::string(name)]; }
  const Tensor<T>* find(std::string_view name) const { return all_->find(prefix_ + std::string(name)); }
  // The tensor, if it has the shape; throws std::invalid_argument naming both shapes otherwise.
  const Tensor<T>& with_shape(std::string_view name, const Shape& shape) const {
    const Tensor<T>& tensor = (*this)[name];
    if (tensor.shape() != shape)
      throw std::invalid_argument("parameter " + prefix_ + std::string(name) + " has shape " +
                                  to_string(tensor.shape()) + "; want " + to_string(shape));
    return tensor;
  }

 private:
  const Parameters<T>* all_;
  std::string prefix_;
};

// Where a backward pass leaves the gradients of the parameters under a prefix.
template <class T>
class GradientScope {
 public:
  GradientScope(Parameters<T>& all, std::string prefix = "") : all_(&all), prefix_(std::move(prefix)) {}

  GradientScope scope(std::string_view prefix) const { return {*all_, prefix_ + std::string(prefix)}; }
  // Sets the gradient, or adds to the one already there: one rounding to the parameter's dtype.
  void add(const Numerics<T>& num, std::string_view name, Tensor<T> gradient) const {
    const std::string full = prefix_ + std::string(name);
    Tensor<T>* sum = all_->find(full);
    if (!sum) return all_->set(full, std::move(gradient));
    if (sum->shape() != gradient.shape())
      throw std::invalid_argument("gradient of " + full + " has shape " + to_string(gradient.shape()) + "; want " +
                                  to_string(sum->shape()));
    const bool in_float32 = is_kept_in_float32(full);
    for (Index i = 0; i < sum->size(); ++i) {
      const T total = (*sum)[i] + gradient[i];
      (*sum)[i] = in_float32 ? total : num.store(total);
    }
  }

 private:
  Parameters<T>* all_;
  std::string prefix_;
};

}  // namespace assay::reference
