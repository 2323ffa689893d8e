# For the CMakeLists.txt of a user's own candidate: include(<Assay>/tools/cmake/AssayCandidate.cmake), where <Assay> is
# a checkout or the share/assay of an installation.
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
option(ASSAY_WARNINGS_ARE_ERRORS "Stop at a compiler's warning" OFF)
option(ASSAY_COUNTING "Build for assay verify --count: slower, and every access and operation is counted" OFF)
set(ASSAY_BUILD_TESTS OFF)   # those of the executor
list(APPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}")
include(AssayTargets)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")
add_subdirectory("${assay_root}/harness/abi" assay/abi)
add_subdirectory("${assay_root}/cuda/simt" assay/simt)

# assay_candidate(NAME a.cu b.cc ...): libNAME.so, whose kernels run on the CPU executor; and, where ASSAY_ENABLE_CUDA
# is on, libNAME_cuda.so from the same sources by nvcc. The sources define kCandidateName, amend_contract and
# find_operation; the exported table and the device's memory come from cuda/candidate/.
function(assay_candidate name)
  set(kernels ${ARGN})
  list(FILTER kernels INCLUDE REGEX "\\.cu$")
  set(glue ${ARGN})
  list(FILTER glue EXCLUDE REGEX "\\.cu$")

  set(interface "${assay_root}/cuda/candidate/candidate.cc" "${assay_root}/cuda/candidate/call.cc")

  assay_simt_sources(units ${kernels})
  add_library(${name} SHARED ${units} ${glue} ${interface} "${assay_root}/cuda/candidate/device_simt.cc")
  target_include_directories(${name} PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE assay_options assay_abi assay_simt)
  if(ASSAY_COUNTING)
    if(NOT TARGET assay_simt_counting)
      message(FATAL_ERROR "ASSAY_COUNTING: want g++, and no ASSAY_SANITIZER")
    endif()
    target_link_libraries(${name} PRIVATE assay_simt_counting)
  endif()
  target_compile_options(${name} PRIVATE ${assay_sanitize})
  if(NOT ASSAY_SANITIZER)   # a sanitizer's functions come with the worker
    target_link_options(${name} PRIVATE -Wl,--no-undefined)
  endif()

  if(ASSAY_ENABLE_CUDA)
    assay_cuda_library(${name}_cuda SOURCES ${ARGN} ${interface} "${assay_root}/cuda/candidate/device_cuda.cc"
      LIBS assay_abi)
    target_include_directories(${name}_cuda PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
  endif()
endfunction()
