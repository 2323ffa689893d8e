// cuBLASLt, opened when the first product runs: a library without dense products needs none. Private to the family.
#pragma once

#include <cublasLt.h>

namespace assay::gpu::gemm {

struct CublasLt {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtGetStatusString) status_text;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;

  // Throws std::runtime_error naming the call and the status, unless that is success.
  void check(cublasStatus_t status, const char* call) const;
};

// The functions of `file`. Throws std::runtime_error saying what is missing and the remedy.
CublasLt open_cublas_lt(const char* file);

// The library of the toolkit's version that the loader finds, opened once, with its handle for the present device.
const CublasLt& cublas_lt();
cublasLtHandle_t cublas_lt_handle();

}  // namespace assay::gpu::gemm
