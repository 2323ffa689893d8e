// What can be known without a GPU: the library opens, or the error says what to do.
#include "cuda/gemm/cublas_lt.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

namespace assay::gpu::gemm {
namespace {

std::string error_of(const char* file) {
  try {
    open_cublas_lt(file);
  } catch (const std::runtime_error& e) {
    return e.what();
  }
  return "no error";
}

TEST(CublasLt, AMissingLibraryIsNamedWithTheRemedy) {
  const std::string error = error_of("libcublasLt.so.0");
  EXPECT_NE(error.find("dense products need cuBLASLt: libcublasLt.so.0: cannot open"), std::string::npos) << error;
  EXPECT_NE(error.find("Install cuBLAS"), std::string::npos) << error;
}

TEST(CublasLt, AnotherLibraryIsRefusedByTheFirstFunctionThatItLacks) {
  const std::string error = error_of("libm.so.6");
  EXPECT_NE(error.find("libm.so.6: no function cublasLtCreate"), std::string::npos) << error;
}

TEST(CublasLt, TheToolkitsLibraryHasEveryFunction) {
  const CublasLt* lt = nullptr;
  try {
    lt = &cublas_lt();
  } catch (const std::runtime_error& e) {
    GTEST_SKIP() << e.what();
  }
  EXPECT_NO_THROW(lt->check(CUBLAS_STATUS_SUCCESS, "nothing"));
  try {
    lt->check(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmul");
    FAIL() << "no exception";
  } catch (const std::runtime_error& e) {
    EXPECT_EQ(std::string(e.what()).rfind("cublasLtMatmul: ", 0), 0u) << e.what();
  }
}

}  // namespace
}  // namespace assay::gpu::gemm
