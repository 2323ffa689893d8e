# What every target of the project shares, and what a user's own candidate is built with (AssayCandidate.cmake).
# Nothing here names a package host or a path of one machine.
cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH assay_root)
cmake_path(GET assay_root PARENT_PATH assay_root)   # the checkout, or the installed copy of what candidates need

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")
find_package(Threads REQUIRED)

# ---- warnings, and the flags that make results a function of their inputs alone
add_library(assay_options INTERFACE)
target_compile_options(assay_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -march=x86-64-v3 -ffp-contract=off
  -Wno-missing-field-initializers   # designated initializers leave the rest at its default, and mean to
  $<$<BOOL:${ASSAY_WARNINGS_ARE_ERRORS}>:-Werror>
  # g++ 12 sees overlapping copies in std::string where there are none (GCC bug 105651).
  $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>)
target_include_directories(assay_options INTERFACE "${assay_root}")
if(ASSAY_SANITIZER STREQUAL "address")
  set(assay_sanitize -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1)
elseif(ASSAY_SANITIZER STREQUAL "thread")
  set(assay_sanitize -fsanitize=thread -O1)
elseif(ASSAY_SANITIZER STREQUAL "memory")
  set(assay_sanitize -fsanitize=memory -fsanitize-memory-track-origins -fno-math-errno -fno-omit-frame-pointer -O1)
elseif(ASSAY_SANITIZER)
  message(FATAL_ERROR "ASSAY_SANITIZER = ${ASSAY_SANITIZER}; want address, thread, memory or nothing")
endif()

include(AssayCuda)   # assay_cuda_headers, assay_cuda_library()

# ---- tests
# assay_test_flags(NAME): those of a test without kernels, whose assertions take longer to optimise than to run.
function(assay_test_flags name)
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  target_compile_definitions(${name} PRIVATE EIGEN_DONT_PARALLELIZE)   # as the reference has it
endfunction()
if(ASSAY_BUILD_TESTS AND NOT ASSAY_SANITIZER)
  find_package(GTest REQUIRED)
  find_package(Eigen3 REQUIRED NO_MODULE)
  find_package(nlohmann_json REQUIRED)
  include(GoogleTest)
  # Most of what a test's compiler reads, compiled once for all tests: in a program, since its flags have to be theirs.
  file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/test_headers.cc" CONTENT "")
  add_executable(assay_test_headers EXCLUDE_FROM_ALL "${PROJECT_BINARY_DIR}/test_headers.cc")
  target_link_libraries(assay_test_headers PRIVATE assay_options Eigen3::Eigen nlohmann_json::nlohmann_json GTest::gtest_main)
  target_precompile_headers(assay_test_headers PRIVATE <Eigen/Core> <gtest/gtest.h> <nlohmann/json.hpp>)
  assay_test_flags(assay_test_headers)
endif()
# assay_test(NAME SOURCES a_test.cc ... LIBS t ... [LABELS l ...]): one GoogleTest binary, each test known to ctest.
function(assay_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBS;LABELS" ${ARGN})
  if(NOT ASSAY_BUILD_TESTS OR ASSAY_SANITIZER)
    return()
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE assay_options ${arg_LIBS} GTest::gtest_main)
  if(NOT arg_SOURCES MATCHES "\\.cu")   # kernels keep their own flags
    assay_test_flags(${name})
    target_precompile_headers(${name} REUSE_FROM assay_test_headers)
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS "cpu;${arg_LABELS}" TIMEOUT 300)
endfunction()

# assay_simt_sources(VAR file.cu ...): CUDA sources as C++ translation units for the CPU executor. Each is included
# from a generated .cc, so that the same file can also be given to nvcc in one build.
function(assay_simt_sources var)
  set(result)
  foreach(file ${ARGN})
    get_filename_component(path "${file}" ABSOLUTE)
    file(RELATIVE_PATH relative "${PROJECT_SOURCE_DIR}" "${path}")
    set(unit "${PROJECT_BINARY_DIR}/simt/${relative}.cc")
    file(CONFIGURE OUTPUT "${unit}" CONTENT "#include \"${path}\"\n")
    set_source_files_properties("${unit}" PROPERTIES OBJECT_DEPENDS "${path}")
    list(APPEND result "${unit}")
  endforeach()
  set(${var} "${result}" PARENT_SCOPE)
endfunction()

# assay_included_first_by_its_source(dir/name.h RESULT): whether dir/name.cc or .cu does (when configured). Then the
# build shows that the header compiles alone.
function(assay_included_first_by_its_source header result)
  set(${result} FALSE PARENT_SCOPE)
  cmake_path(REMOVE_EXTENSION header LAST_ONLY OUTPUT_VARIABLE stem)
  foreach(source IN ITEMS "${PROJECT_SOURCE_DIR}/${stem}.cc" "${PROJECT_SOURCE_DIR}/${stem}.cu")
    if(EXISTS "${source}")
      file(STRINGS "${source}" includes REGEX "^#include")
      list(GET includes 0 first)
      if(first STREQUAL "#include \"${header}\"")
        set(${result} TRUE PARENT_SCOPE)
      endif()
    endif()
  endforeach()
endfunction()

# assay_check_headers(NAME FOLDER PATTERNS *.h ... LIBS t ...): a target that compiles alone each header of a folder that
# the build does not already, with what LIBS let it see, and the test headers.NAME that builds the target.
function(assay_check_headers name folder)
  cmake_parse_arguments(arg "" "" "PATTERNS;LIBS" ${ARGN})
  list(TRANSFORM arg_PATTERNS PREPEND "${folder}/")
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}" ${arg_PATTERNS})
  set(units)
  foreach(header IN LISTS headers)
    assay_included_first_by_its_source("${header}" proven)
    if(proven)
      continue()
    endif()
    set(unit "${PROJECT_BINARY_DIR}/headers/${header}.cc")
    file(CONFIGURE OUTPUT "${unit}" CONTENT "#include \"${header}\"\n")
    list(APPEND units "${unit}")
  endforeach()
  add_library(headers_${name} OBJECT EXCLUDE_FROM_ALL ${units})
  target_compile_options(headers_${name} PRIVATE -O0)
  target_link_libraries(headers_${name} PRIVATE assay_options ${arg_LIBS})
  add_test(NAME headers.${name} COMMAND "${CMAKE_COMMAND}" --build "${PROJECT_BINARY_DIR}" --target headers_${name})
  # Two builds of one folder at a time would step on each other.
  set_tests_properties(headers.${name} PROPERTIES LABELS cpu TIMEOUT 900 RESOURCE_LOCK build_folder)
endfunction()
