# Attention, MLP, mixture of experts, blocks, model: sources and tests. Included by CMakeLists.txt beside it.
set(assay_reference_layers_b
  attention.cc
  attention_backward.cc
  attention_layer.cc
  block.cc
  cache.cc
  cross_entropy.cc
  layer_term_sums.cc
  mlp.cc
  model.cc
  moe.cc
  moe_experts.cc
  mtp.cc
  packed_product.cc
  parallel_partitions.cc
  parallel_partitions_mamba.cc
  router.cc
)
target_sources(assay_reference PRIVATE ${assay_reference_layers_b})
list(APPEND assay_reference_sources ${assay_reference_layers_b})

foreach(name attention block cache cross_entropy layer_term_sums mlp model model_hf moe mtp packed_product parallel_partitions parallel_partitions_mamba router)
  assay_test(reference_${name}_test SOURCES ${name}_test.cc LIBS assay_reference_testing LABELS reference)
endforeach()
