#include "reference/mlp.h"

#include "reference/projection.h"
#include "reference/row_pieces.h"

namespace assay::reference {
namespace {

// a = relu2(h); a may be h itself.
template <class T>
void activate(const Numerics<T>& num, const Tensor<T>& h, Tensor<T>& a) {
  parallel_for(h.size(), rows_per_piece(1), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) a[i] = relu2(h[i]);
    num.store(a.span().subspan(begin, end - begin));
  });
}
template <class T>
Tensor<T> activated(const Numerics<T>& num, const Tensor<T>& h) {
  Tensor<T> a = Tensor<T>::uninitialized(h.shape());
  activate(num, h, a);
  return a;
}

}  // namespace

template <class T>
Tensor<T> mlp_forward(const Numerics<T>& num, const ParameterScope<T>& p, const Tensor<T>& hidden_states,
                      MlpSaved<T>* saved) {
  const Index inner = p["up_proj.weight"].dim(0), width = hidden_states.dim(-1);
  Tensor<T> h = projection_forward(num, p.scope("up_proj."), hidden_states, inner);
  const ParameterScope<T> down = p.scope("down_proj.");
  if (!saved) {
    activate(num, h, h);
    return projection_forward(num, down, h, width);
  }
  saved->h = std::move(h);
  return projection_forward(num, down, activated(num, saved->h), width);
}

template <class T>
Tensor<T> mlp_backward(const Numerics<T>& num, const ParameterScope<T>& p, const Tensor<T>& hidden_states,
                       const MlpSaved<T>& saved, const Tensor<T>& d_out, const GradientScope<T>& d_p) {
  Tensor<T> d_h = projection_backward(num, p, "down_proj.", activated(num, saved.h), d_out, d_p);
  parallel_for(d_h.size(), rows_per_piece(1), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) d_h[i] *= relu2_derivative(saved.h[i]);
    num.store(d_h.span().subspan(begin, end - begin));
  });
  return projection_backward(num, p, "up_proj.", hidden_states, d_h, d_p);
}

#define ASSAY_INSTANTIATE(T)                                                                                          \
  template Tensor<T> mlp_forward(const Numerics<T>&, const ParameterScope<T>&, const Tensor<T>&, MlpSaved<T>*);       \
  template Tensor<T> mlp_backward(const Numerics<T>&, const ParameterScope<T>&, const Tensor<T>&, const MlpSaved<T>&, \
                                  const Tensor<T>&, const GradientScope<T>&);
ASSAY_INSTANTIATE(float)
ASSAY_INSTANTIATE(double)
#undef ASSAY_INSTANTIATE

}  // namespace assay::reference
