// One dense product by cuBLASLt.
//
// cuBLASLt's matrices are column-major: our row-major [rows, columns] is its columns x rows. So it is asked for
//   out^T = b a^T      [columns, rows] = [columns, depth] [depth, rows]
// where b, as it sees it, is depth x columns and to be transposed unless it was given transposed; a is depth x rows.
// Partial sums of a split sum stay float (no reduction in the output's type): one rounding.
#include <cuda_bf16.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "cuda/gemm/cublas_lt.h"
#include "cuda/gemm/gemm.h"
#include "cuda/gemm/product.h"

namespace assay::gpu {
namespace gemm {
namespace {

constexpr std::size_t kWorkspaceBytes = 32 << 20;  // what NVIDIA recommends for Hopper; older GPUs use less of it

template <class T>
constexpr cudaDataType_t kType = std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_16BF;

template <class Handle, class Destroy>
auto owned(Handle handle, Destroy destroy) {
  return std::unique_ptr<std::remove_pointer_t<Handle>, Destroy>(handle, destroy);
}

// What a pointer and a stride of T are aligned to, at most 256 bytes.
template <class T>
std::uint32_t alignment(const T* data, std::int64_t stride) {
  const auto bits = reinterpret_cast<std::uintptr_t>(data) | static_cast<std::uintptr_t>(stride) * sizeof(T) | 256u;
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

class Multiplication {
 public:
  explicit Multiplication(const CublasLt& lt) : lt_(lt) {}

  template <class T>
  void run(const Product<T>& p, void* workspace, cudaStream_t stream) const {
    cublasLtMatmulDesc_t desc_handle = nullptr;
    lt_.check(lt_.desc_create(&desc_handle, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    const auto desc = owned(desc_handle, lt_.desc_destroy);
    const cublasOperation_t left = p.b.transposed ? CUBLAS_OP_N : CUBLAS_OP_T;
    const cublasOperation_t right = p.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    set(desc.get(), CUBLASLT_MATMUL_DESC_TRANSA, left);
    set(desc.get(), CUBLASLT_MATMUL_DESC_TRANSB, right);
    if (p.bias != nullptr) {
      set(desc.get(), CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(desc.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
    }
    const auto b = layout(p.b, p.columns, p.depth), a = layout(p.a, p.rows, p.depth);
    const auto out = layout(Matrix<T>{p.out, p.out_stride}, p.rows, p.columns);

    cublasLtMatmulPreference_t preference_handle = nullptr;
    lt_.check(lt_.preference_create(&preference_handle), "cublasLtMatmulPreferenceCreate");
    const auto preference = owned(preference_handle, lt_.preference_destroy);
    const std::uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const std::uint32_t out_alignment = alignment(p.out, p.out_stride);
    prefer(preference.get(), CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
    prefer(preference.get(), CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions);
    prefer(preference.get(), CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(p.b.data, p.b.stride));
    prefer(preference.get(), CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(p.a.data, p.a.stride));
    prefer(preference.get(), CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, out_alignment);
    prefer(preference.get(), CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out_alignment);

    const cublasLtHandle_t handle = cublas_lt_handle();
    cublasLtMatmulHeuristicResult_t choice = {};
    int found = 0;
    lt_.check(
        lt_.heuristic(handle, desc.get(), b.get(), a.get(), out.get(), out.get(), preference.get(), 1, &choice, &found),
        "cublasLtMatmulAlgoGetHeuristic");
    if (found == 0) {
      throw std::runtime_error("cublasLtMatmulAlgoGetHeuristic: no algorithm for " + std::to_string(p.rows) + " x " +
                               std::to_string(p.depth) + " times " + std::to_string(p.depth) + " x " +
                               std::to_string(p.columns));
    }
    lt_.check(choice.state, "cublasLtMatmulAlgoGetHeuristic");
    const float one = 1.0f, zero = 0.0f;
    lt_.check(lt_.matmul(handle, desc.get(), &one, p.b.data, b.get(), p.a.data, a.get(), &zero, p.out, out.get(), p.out,
                         out.get(), &choice.algo, workspace, kWorkspaceBytes, stream),
              "cublasLtMatmul");
  }

 private:
  template <class Value>
  void set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute, const Value& value) const {
    lt_.check(lt_.desc_set(desc, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  }
  template <class Value>
  void prefer(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
              const Value& value) const {
    lt_.check(lt_.preference_set(preference, attribute, &value, sizeof value), "cublasLtMatmulPreferenceSetAttribute");
  }

  // A [rows, columns] matrix of ours as it lies in memory, in cuBLASLt's words.
  template <class T>
  auto layout(const Matrix<T>& matrix, std::int64_t rows, std::int64_t columns) const {
    cublasLtMatrixLayout_t handle = nullptr;
    const auto inner = static_cast<std::uint64_t>(matrix.transposed ? rows : columns);
    const auto outer = static_cast<std::uint64_t>(matrix.transposed ? columns : rows);
    lt_.check(lt_.layout_create(&handle, kType<T>, inner, outer, matrix.stride), "cublasLtMatrixLayoutCreate");
    return owned(handle, lt_.layout_destroy);
  }

  const CublasLt& lt_;
};

}  // namespace
}  // namespace gemm

const char* const kDenseProductVariant = "cublasLt";
const bool kDenseProductsOnTensorCores = true;

namespace gemm {

std::size_t product_workspace() { return kWorkspaceBytes; }

template <class T>
void multiply(const Product<T>& product, void* workspace, cudaStream_t stream) {
  Multiplication(cublas_lt()).run(product, workspace, stream);
}

template void multiply(const Product<float>&, void*, cudaStream_t);
template void multiply(const Product<__nv_bfloat16>&, void*, cudaStream_t);

}  // namespace gemm
}  // namespace assay::gpu
