# What our candidate libraries are made of, as absolute paths: libassay_simt.so takes all three lists, device_simt.cc
# and the dense product by loops, libassay_cuda.so all three, device_cuda.cc and the dense product by cuBLASLt.
cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH assay_cuda_folder)

set(assay_kernel_sources   # compiled by nvcc, or as C++ for the executor
  causal_conv1d/causal_conv1d_bwd.cu
  causal_conv1d/causal_conv1d_fwd.cu
  causal_conv1d/causal_conv1d_update.cu
  common/column_sum.cu
  gated_rms_norm/gated_rms_norm_bwd.cu
  gated_rms_norm/gated_rms_norm_fwd.cu
  gemm/sum_rows.cu
  mamba2_block/stream.cu
  mamba2_decode_step/mamba2_decode_step.cu
  mamba2_mixer/steps.cu
  rms_norm/rms_norm_bwd.cu
  rms_norm/rms_norm_fwd.cu
  ssd_scan/ssd_scan_bwd.cu
  ssd_scan/ssd_scan_bwd_chunked.cu
  ssd_scan/ssd_scan_bwd_states.cu
  ssd_scan/ssd_scan_chunked.cu
  ssd_scan/ssd_scan_fwd.cu
  ssd_scan/ssd_scan_normed.cu
  ssd_scan/ssd_scan_varlen.cu
  ssm_state_update/ssm_state_update.cu)
set(assay_kernel_host_sources   # the families' plans
  causal_conv1d/causal_conv1d.cc
  common/row_plan.cc
  gated_rms_norm/gated_rms_norm.cc
  gemm/gemm.cc
  mamba2_block/mamba2_block.cc
  mamba2_decode_step/mamba2_decode_step.cc
  mamba2_mixer/mamba2_mixer.cc
  mamba2_mixer/mamba2_mixer_backward.cc
  rms_norm/rms_norm.cc
  ssd_scan/ssd_scan.cc
  ssd_scan/ssd_scan_backward.cc
  ssm_state_update/ssm_state_update.cc)
set(assay_glue_sources   # with one of device_*.cc and one of flavour_*.cc
  candidate/call.cc
  candidate/candidate.cc
  candidate/causal_conv1d_ops.cc
  candidate/gated_rms_norm_ops.cc
  candidate/linear_ops.cc
  candidate/mamba2_block_ops.cc
  candidate/mamba2_decode_step_ops.cc
  candidate/mamba2_mixer_backward_ops.cc
  candidate/mamba2_mixer_call.cc
  candidate/mamba2_mixer_ops.cc
  candidate/operation.cc
  candidate/rms_norm_ops.cc
  candidate/ssd_scan_ops.cc
  candidate/ssm_state_update_ops.cc)
set(assay_product_simt_sources gemm/product_blocked.cu)
set(assay_product_cuda_sources gemm/cublas_lt.cc gemm/product_cublas.cc)
foreach(sources IN ITEMS assay_kernel_sources assay_kernel_host_sources assay_glue_sources assay_product_simt_sources
    assay_product_cuda_sources)
  list(TRANSFORM ${sources} PREPEND "${assay_cuda_folder}/")
endforeach()
set(assay_device_simt_source "${assay_cuda_folder}/candidate/device_simt.cc")
set(assay_device_cuda_source "${assay_cuda_folder}/candidate/device_cuda.cc")
set(assay_flavour_fast_source "${assay_cuda_folder}/candidate/flavour_fast.cc")
set(assay_flavour_plain_source "${assay_cuda_folder}/candidate/flavour_plain.cc")
