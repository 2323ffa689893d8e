#include "cuda/gemm/cublas_lt.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <map>
#include <mutex>
#include <stdexcept>
#include <string>

namespace assay::gpu::gemm {
namespace {

// The result of dlerror(), which may be null.
std::string reason() {
  const char* const text = dlerror();
  return text ? text : "no reason given";
}

template <class Function>
void find(void* library, const char* file, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) {
    throw std::runtime_error(std::string(file) + ": no function " + name + " (" + reason() +
                             "); want cuBLAS of the CUDA toolkit that this library was built with");
  }
}

}  // namespace

void CublasLt::check(cublasStatus_t status, const char* call) const {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(std::string(call) + ": " + status_text(status));
}

CublasLt open_cublas_lt(const char* file) {
  void* const library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    throw std::runtime_error("dense products need cuBLASLt: " + reason() + ". Install cuBLAS " +
                             std::to_string(CUBLAS_VER_MAJOR) +
                             " (part of the CUDA toolkit), or name its folder in LD_LIBRARY_PATH");
  }
  CublasLt lt;
  find(library, file, "cublasLtCreate", lt.create);
  find(library, file, "cublasLtGetStatusString", lt.status_text);
  find(library, file, "cublasLtMatmul", lt.matmul);
  find(library, file, "cublasLtMatmulAlgoGetHeuristic", lt.heuristic);
  find(library, file, "cublasLtMatmulDescCreate", lt.desc_create);
  find(library, file, "cublasLtMatmulDescDestroy", lt.desc_destroy);
  find(library, file, "cublasLtMatmulDescSetAttribute", lt.desc_set);
  find(library, file, "cublasLtMatrixLayoutCreate", lt.layout_create);
  find(library, file, "cublasLtMatrixLayoutDestroy", lt.layout_destroy);
  find(library, file, "cublasLtMatmulPreferenceCreate", lt.preference_create);
  find(library, file, "cublasLtMatmulPreferenceDestroy", lt.preference_destroy);
  find(library, file, "cublasLtMatmulPreferenceSetAttribute", lt.preference_set);
  return lt;
}

const CublasLt& cublas_lt() {
  static const std::string file = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
  static const CublasLt lt = open_cublas_lt(file.c_str());
  return lt;
}

cublasLtHandle_t cublas_lt_handle() {
  static std::mutex mutex;
  static std::map<int, cublasLtHandle_t> handles;  // for as long as the process runs
  const CublasLt& lt = cublas_lt();
  int device = 0;
  if (const cudaError_t status = cudaGetDevice(&device); status != cudaSuccess) {
    throw std::runtime_error(std::string("cudaGetDevice: ") + cudaGetErrorString(status));
  }
  const std::lock_guard lock(mutex);
  cublasLtHandle_t& handle = handles[device];
  if (handle == nullptr) lt.check(lt.create(&handle), "cublasLtCreate");
  return handle;
}

}  // namespace assay::gpu::gemm
