# Models as Hugging Face keeps them: config.json, safetensors, and the names in a checkpoint.
add_library(assay_harness_model_files STATIC
  checkpoint.cc
  model_config.cc
  model_config_fields.cc
  safetensors.cc
  safetensors_header.cc)
target_link_libraries(assay_harness_model_files PUBLIC assay_harness_io assay_reference PRIVATE fmt::fmt)

assay_test(harness_model_files_test
  SOURCES checkpoint_test.cc model_config_test.cc safetensors_test.cc
  LIBS assay_harness_model_files
  LABELS golden)
if(TARGET harness_model_files_test)
  target_compile_definitions(harness_model_files_test PRIVATE ASSAY_GOLDEN="${PROJECT_SOURCE_DIR}/golden")
endif()
