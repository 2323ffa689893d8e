# The same program from two compilers must print the same hashes, for any number of threads and any alignment.
if(NOT ASSAY_BUILD_TESTS)
  return()
endif()
add_executable(reference_hashes testing/reference_hashes.cc)
target_link_libraries(reference_hashes PRIVATE assay_options assay::reference)
set(assay_hash_variants)  # program,threads,alignment
foreach(variant 2,0 3,0 1,1 2,2 1,3 2,4 1,5 2,6 1,7)
  list(APPEND assay_hash_variants "$<TARGET_FILE:reference_hashes>,${variant}")
endforeach()

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  find_program(ASSAY_OTHER_COMPILER NAMES clang++ clang++-19 clang++-18 clang++-17 clang++-16 clang++-15 clang++-14)
else()
  find_program(ASSAY_OTHER_COMPILER NAMES g++)
endif()
if(ASSAY_OTHER_COMPILER)
  get_target_property(eigen_include Eigen3::Eigen INTERFACE_INCLUDE_DIRECTORIES)
  get_target_property(sources assay_reference SOURCES)
  set(objects)
  foreach(source ${sources} testing/reference_hashes.cc)
    get_source_file_property(options "${source}" COMPILE_OPTIONS)
    if(NOT options)
      set(options)
    endif()
    get_filename_component(source "${source}" ABSOLUTE)
    file(RELATIVE_PATH name "${CMAKE_CURRENT_SOURCE_DIR}" "${source}")
    set(object "${CMAKE_CURRENT_BINARY_DIR}/other_compiler/${name}.o")
    get_filename_component(folder "${object}" DIRECTORY)
    file(MAKE_DIRECTORY "${folder}")
    add_custom_command(
      OUTPUT "${object}"
      COMMAND ${CMAKE_CXX_COMPILER_LAUNCHER} "${ASSAY_OTHER_COMPILER}" -std=c++20 -O2 -DNDEBUG -march=x86-64-v3 -ffp-contract=off -Wall
              -Wextra -Werror -DEIGEN_DONT_PARALLELIZE ${options} "-I${PROJECT_SOURCE_DIR}" -isystem "${eigen_include}" -MD -MF "${object}.d"
              -c "${source}" -o "${object}"
      DEPENDS "${source}"
      DEPFILE "${object}.d"
      COMMENT "Building ${name} with ${ASSAY_OTHER_COMPILER}"
      VERBATIM)
    list(APPEND objects "${object}")
  endforeach()
  set(other "${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/reference_hashes_other")
  add_custom_command(OUTPUT "${other}" COMMAND "${ASSAY_OTHER_COMPILER}" ${objects} -o "${other}" DEPENDS ${objects} VERBATIM)
  add_custom_target(reference_hashes_other ALL DEPENDS "${other}")
  list(APPEND assay_hash_variants "${other},1,0")
else()
  add_test(NAME reference_hashes.other_compiler
           COMMAND "${CMAKE_COMMAND}" -E echo "SKIPPED: no second compiler here; tools/setup.sh --with-clang installs one")
  set_tests_properties(reference_hashes.other_compiler PROPERTIES LABELS "cpu;reference" SKIP_REGULAR_EXPRESSION SKIPPED)
endif()

add_test(NAME reference_hashes
         COMMAND "${CMAKE_COMMAND}" "-DFIRST=$<TARGET_FILE:reference_hashes>,1,0" "-DOTHERS=${assay_hash_variants}"
                 -P "${CMAKE_CURRENT_SOURCE_DIR}/testing/compare_output.cmake")
set_tests_properties(reference_hashes PROPERTIES LABELS "cpu;reference" TIMEOUT 300)
