# The CUDA toolkit: its headers for the CPU executor, everywhere; its compiler for the cuda preset.
#
# nvcc is called by custom commands rather than as CMake's CUDA language: that language wants a toolkit laid out as
# NVIDIA's installer does it, links a test program before it believes in a compiler, and discards what ptxas says.
# Here each source has one command, whose register report is kept, and the wheels that tools/setup.sh fetches will do.

# ---- where it is. The same places in the same order as in tools/setup.sh.
set(ASSAY_CUDA_HOME "" CACHE PATH "CUDA toolkit; empty: build/toolkit (tools/setup.sh), nvcc on PATH, /usr/local/cuda")
set(assay_oldest_cudart 13000)

# assay_find_toolkit(VAR FILE): the first toolkit that is new enough and has FILE, or an empty string.
function(assay_find_toolkit var file)
  set(homes "${ASSAY_CUDA_HOME}")
  if(NOT homes)
    set(homes "${assay_root}/build/toolkit")
    find_program(nvcc_on_path nvcc NO_CACHE)
    if(nvcc_on_path)
      file(REAL_PATH "${nvcc_on_path}" nvcc_on_path)
      cmake_path(GET nvcc_on_path PARENT_PATH bin)
      cmake_path(GET bin PARENT_PATH home)
      list(APPEND homes "${home}")
    endif()
    list(APPEND homes /usr/local/cuda)
  endif()
  set(${var} "" PARENT_SCOPE)
  foreach(home IN LISTS homes)
    if(EXISTS "${home}/${file}" AND EXISTS "${home}/include/cuda_runtime_api.h")
      file(STRINGS "${home}/include/cuda_runtime_api.h" version REGEX "^#define CUDART_VERSION ")
      string(REGEX MATCH "[0-9]+" version "${version}")
      if(version GREATER_EQUAL assay_oldest_cudart)
        set(${var} "${home}" PARENT_SCOPE)
        return()
      endif()
    endif()
  endforeach()
endfunction()

if(ASSAY_ENABLE_CUDA)
  assay_find_toolkit(assay_cuda_home bin/nvcc)
  if(NOT assay_cuda_home)
    message(FATAL_ERROR "No nvcc of CUDA 13 or newer found. Run `tools/setup.sh --with-nvcc` once: it fetches one into "
      "build/toolkit, without root. Or name yours with -DASSAY_CUDA_HOME=FOLDER.")
  endif()
else()
  assay_find_toolkit(assay_cuda_home include/cuda_runtime.h)
  if(NOT assay_cuda_home)
    message(FATAL_ERROR "No headers of CUDA 13 or newer found. Run `tools/setup.sh` once: it fetches them into "
      "build/toolkit, without root. Or name your toolkit with -DASSAY_CUDA_HOME=FOLDER.")
  endif()
endif()
message(STATUS "CUDA toolkit: ${assay_cuda_home}")

add_library(assay_cuda_headers INTERFACE)
target_include_directories(assay_cuda_headers SYSTEM INTERFACE
  "${assay_cuda_home}/include" "${assay_cuda_home}/include/cccl")

# ---- what nvcc is asked for
set(assay_nvcc_architectures   # SASS for every GPU we name; PTX of two of them, for the ptx target and newer GPUs
  -gencode=arch=compute_80,code=[compute_80,sm_80]
  -gencode=arch=compute_90a,code=[compute_90a,sm_90a]
  -gencode=arch=compute_100a,code=sm_100a
  -gencode=arch=compute_120a,code=sm_120a)
set(assay_nvcc_flags -std=c++20 -O3 --compress-mode=none ${assay_nvcc_architectures}
  -Xptxas=-v,-warn-spills,-warn-lmem-usage
  -Xcompiler=-fPIC,-fvisibility=hidden,-march=x86-64-v3,-ffp-contract=off,-Wall,-Wextra)
if(ASSAY_WARNINGS_ARE_ERRORS)
  list(APPEND assay_nvcc_flags -Werror=all-warnings -Xptxas=-Werror -Xcompiler=-Werror)
endif()

# assay_nvcc_objects(OBJECTS REPORTS NAME SOURCES a.cu ... [FLAGS f ...]): object files that nvcc compiles for all
# architectures, and what ptxas reports for each, kept in <build>/ptxas/.
function(assay_nvcc_objects objects_var reports_var name)
  cmake_parse_arguments(arg "" "" "SOURCES;FLAGS" ${ARGN})
  set(objects)
  set(reports)
  foreach(source IN LISTS arg_SOURCES)
    get_filename_component(path "${source}" ABSOLUTE)
    file(RELATIVE_PATH relative "${PROJECT_SOURCE_DIR}" "${path}")
    set(object "${PROJECT_BINARY_DIR}/nvcc/${name}/${relative}.o")
    set(report "${PROJECT_BINARY_DIR}/ptxas/${name}/${relative}.txt")
    cmake_path(GET object PARENT_PATH object_folder)
    cmake_path(GET report PARENT_PATH report_folder)
    file(MAKE_DIRECTORY "${object_folder}" "${report_folder}")
    add_custom_command(
      OUTPUT "${object}" BYPRODUCTS "${report}"
      COMMAND "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/keep_report.sh" "${report}" "${assay_cuda_home}/bin/nvcc"
        -ccbin "${CMAKE_CXX_COMPILER}" ${assay_nvcc_flags} ${arg_FLAGS} "-I${assay_root}"
        -c "${path}" -o "${object}" -MD -MF "${object}.d"
      DEPENDS "${path}" "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/keep_report.sh"
      DEPFILE "${object}.d"
      COMMENT "nvcc ${relative}"
      VERBATIM)
    list(APPEND objects "${object}")
    list(APPEND reports "${report}")
  endforeach()
  set(${objects_var} "${objects}" PARENT_SCOPE)
  set(${reports_var} "${reports}" PARENT_SCOPE)
endfunction()

# assay_link_cudart(TARGET): the shared CUDA runtime, so that another runtime can stand in for it.
function(assay_link_cudart target)
  find_library(assay_cudart cudart PATHS "${assay_cuda_home}" PATH_SUFFIXES lib64 lib REQUIRED NO_DEFAULT_PATH)
  set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(${target} PRIVATE "${assay_cudart}")
endfunction()

# assay_cuda_library(NAME SOURCES a.cu b.cc ... [LIBS t ...] SHARED_PLANS p): a shared library whose .cu files nvcc
# compiles, and whose other sources the C++ compiler does. The target NAME_registers writes what ptxas reports, with the
# dynamic shared memory that the program p prints, as a table.
function(assay_cuda_library name)
  cmake_parse_arguments(arg "" "SHARED_PLANS" "SOURCES;LIBS" ${ARGN})
  set(device_sources ${arg_SOURCES})
  set(host_sources ${arg_SOURCES})
  list(FILTER device_sources INCLUDE REGEX "\\.cu$")
  list(FILTER host_sources EXCLUDE REGEX "\\.cu$")
  assay_nvcc_objects(objects reports ${name} SOURCES ${device_sources} FLAGS -lineinfo)
  add_library(${name} SHARED ${objects} ${host_sources})
  target_link_libraries(${name} PRIVATE assay_options assay_cuda_headers ${arg_LIBS})
  assay_link_cudart(${name})
  set(dynamic "${PROJECT_BINARY_DIR}/ptxas/${name}.dynamic.txt")
  add_custom_target(${name}_registers
    COMMAND ${arg_SHARED_PLANS} > "${dynamic}"
    COMMAND "${assay_root}/ci/register_report.py" --library "$<TARGET_FILE:${name}>" --dynamic "${dynamic}"
            --table "${PROJECT_BINARY_DIR}/ptxas/${name}.txt" --json "${PROJECT_BINARY_DIR}/ptxas/${name}.json" ${reports}
    DEPENDS ${name} ${arg_SHARED_PLANS} COMMENT "registers, shared memory and spills of ${name}" USES_TERMINAL VERBATIM)
endfunction()

# assay_cuda_program(NAME SOURCES a.cu ...): a program that nvcc compiles, all of it.
function(assay_cuda_program name)
  cmake_parse_arguments(arg "" "" "SOURCES" ${ARGN})
  assay_nvcc_objects(objects reports ${name} SOURCES ${arg_SOURCES})
  add_executable(${name} ${objects})
  assay_link_cudart(${name})
endfunction()
