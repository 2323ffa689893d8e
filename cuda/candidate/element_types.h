// From element types known at run time to template arguments.
#pragma once

#include <cuda_bf16.h>

#include <type_traits>

#include "cuda/candidate/call.h"
#include "cuda/common/scalars.h"

namespace assay::gpu {

inline Scalars scalars(const Rows& rows) {
  if (rows.element == Element::float32) return rows.as<float>();
  return rows.as<__nv_bfloat16>();
}

// Calls body.template operator()<T, Other>(): a tensor beside activations of type T has type T, too, or float.
template <class Body>
void visit_elements(Element activations, Element other, Body body) {
  using bf16 = __nv_bfloat16;
  if (activations == Element::float32) {
    body.template operator()<float, float>();
  } else if (other == Element::float32) {
    body.template operator()<bf16, float>();
  } else {
    body.template operator()<bf16, bf16>();
  }
}

// Calls body.template operator()<T>().
template <class Body>
void visit_element(Element element, Body body) {
  if (element == Element::float32) {
    body.template operator()<float>();
  } else {
    body.template operator()<__nv_bfloat16>();
  }
}

// The same with two tensors beside them: body.template operator()<T, First, Second>().
template <class Body>
void visit_elements(Element activations, Element first, Element second, Body body) {
  visit_elements(activations, first, [&]<class T, class First>() {
    visit_elements(activations, second, [&]<class U, class Second>() {
      if constexpr (std::is_same_v<T, U>) body.template operator()<T, First, Second>();
    });
  });
}

}  // namespace assay::gpu
