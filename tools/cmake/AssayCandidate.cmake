# For the CMakeLists.txt of a user's own candidate: include(<Assay>/tools/cmake/AssayCandidate.cmake), where <Assay> is
# a checkout or the share/assay of an installation.
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
option(ASSAY_WARNINGS_ARE_ERRORS "Stop at a compiler's warning" OFF)
set(ASSAY_BUILD_TESTS OFF)   # those of the executor
list(APPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}")
include(AssayTargets)
add_subdirectory("${assay_root}/harness/abi" assay/abi)
add_subdirectory("${assay_root}/cuda/simt" assay/simt)

# assay_candidate(NAME a.cu b.cc ...): libNAME.so, whose kernels run on the CPU executor; and, where ASSAY_ENABLE_CUDA
# is on, libNAME_cuda.so from the same sources by nvcc, with CANDIDATE_ON_GPU=1 defined.
function(assay_candidate name)
  set(kernels ${ARGN})
  list(FILTER kernels INCLUDE REGEX "\\.cu$")
  set(glue ${ARGN})
  list(FILTER glue EXCLUDE REGEX "\\.cu$")

  assay_simt_sources(units ${kernels})
  add_library(${name} SHARED ${units} ${glue})
  target_include_directories(${name} PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE assay_options assay_abi assay_simt)
  target_compile_options(${name} PRIVATE ${assay_sanitize})

  if(ASSAY_ENABLE_CUDA)
    assay_cuda_library(${name}_cuda SOURCES ${ARGN} DEFINITIONS CANDIDATE_ON_GPU=1 LIBS assay_abi)
  endif()
endfunction()
