# Attention, MLP, mixture of experts, blocks, model: sources and tests. Included by CMakeLists.txt beside it.
set(assay_reference_layers_b
  attention.cc
  attention_layer.cc
  cache.cc
  cross_entropy.cc
  mlp.cc
  moe.cc
  moe_experts.cc
  parallel_partitions.cc
  router.cc
)
target_sources(assay_reference PRIVATE ${assay_reference_layers_b})
list(APPEND assay_reference_sources ${assay_reference_layers_b})

foreach(name attention cache cross_entropy mlp moe parallel_partitions router)
  assay_test(reference_${name}_test SOURCES ${name}_test.cc LIBS assay_reference_testing LABELS reference)
endforeach()
