#include "reference/embedding.h"

#include <algorithm>

#include "reference/check.h"

namespace assay::reference {
namespace {

void check_ids(const char* name, std::span<const std::int64_t> ids, Index vocabulary) {
  for (std::size_t t = 0; t < ids.size(); ++t)
    require(ids[t] >= 0 && ids[t] < vocabulary, name, ": ids[", t, "] = ", ids[t], "; want 0 <= id < ", vocabulary);
}

}  // namespace

template <class T>
Tensor<T> embedding_forward(const Tensor<T>& weight, std::span<const std::int64_t> ids) {
  const char* name = "embedding_forward";
  require(weight.rank() == 2, name, ": weight has shape ", to_string(weight.shape()), "; want [vocabulary, width]");
  check_ids(name, ids, weight.dim(0));
  const Index width = weight.dim(1);
  Tensor<T> y = Tensor<T>::uninitialized({static_cast<Index>(ids.size()), width});
  for (std::size_t t = 0; t < ids.size(); ++t) std::copy_n(weight.data() + ids[t] * width, width, y.data() + t * width);
  return y;
}

template <class T>
Tensor<T> embedding_backward(const Numerics<T>& num, std::span<const std::int64_t> ids, const Tensor<T>& d_y, Index vocabulary) {
  const char* name = "embedding_backward";
  require(d_y.rank() == 2 && d_y.dim(0) == static_cast<Index>(ids.size()), name, ": d_y has shape ", to_string(d_y.shape()),
          "; want [", ids.size(), ", width]");
  check_ids(name, ids, vocabulary);
  const Index width = d_y.dim(1);
  Tensor<T> d_weight({vocabulary, width});
  for (std::size_t t = 0; t < ids.size(); ++t) {
    T* row = d_weight.data() + ids[t] * width;
    const T* dy = d_y.data() + t * width;
    for (Index j = 0; j < width; ++j) row[j] += dy[j];
  }
  num.store(d_weight.span());
  return d_weight;
}

template Tensor<float> embedding_forward(const Tensor<float>&, std::span<const std::int64_t>);
template Tensor<double> embedding_forward(const Tensor<double>&, std::span<const std::int64_t>);
template Tensor<float> embedding_backward(const Numerics<float>&, std::span<const std::int64_t>, const Tensor<float>&, Index);
template Tensor<double> embedding_backward(const Numerics<double>&, std::span<const std::int64_t>, const Tensor<double>&, Index);

}  // namespace assay::reference
