// Planted breaks: one wrong line each, to prove that the verdicts see them.
//
//   if (planted<Break::eps_outside_root>) ...
//
// Every planted<> is false and the line is not there, but where ASSAY_PLANTED is defined: these objects have all the
// lines, and a library that they are linked into says by kPlanted which one is in force (cuda/candidate/planted.cc).
// cuda/candidate/planted.txt says which source each break lives in and where a verdict must see it.
#pragma once

namespace assay::gpu {

enum class Break {
  // rms_norm_fwd.cu
  eps_outside_root,      // 1 / (sqrt(mean) + eps)
  eps_added_to_sum,      // 1 / sqrt((sum + eps) / n)
  coarse_rsqrt,          // rstd cut to 12 bits, as a cheap approximation gives it
  unfinished_rsqrt,      // rstd cut to 20 bits, as a Newton step too few leaves it
  tail_not_stored,       // the last element of a row that is read by elements
  bf16_sum,              // the sum of squares in bfloat16
  residual_not_added,    // out_residual is the input alone
  output_rounded_twice,  // rnd(weight rnd(h rstd))
  output_truncated,      // to bfloat16 by cutting bits off
  // rms_norm_bwd.cu
  sum_not_guarded,         // no __syncthreads before the next row's sum
  projection_left_out,     // rstd u without - xhat c
  stale_rstd,              // of the row before
  last_row_not_summed,     // in d_weight
  coarse_products,         // d_weight from xhat cut to 17 bits
  residual_gradient_lost,  // d_out_residual is not added
  // gated_rms_norm_fwd.cu
  group_off_by_one,     // the weight of the next group
  mean_over_width,      // instead of over the group
  rstd_transposed,      // saved as [rows, groups]
  gate_of_another_row,  // rows 2n and 2n + 1 swapped
  // gated_rms_norm_bwd.cu
  silu_for_derivative,    // d_gate = d_v x silu(z)
  gated_sum_not_guarded,  // no __syncthreads before the next group's sum
  bf16_partials,          // the partial sums of d_weight rounded to bfloat16
  // causal_conv1d_fwd.cu
  taps_reversed,          // the first tap multiplies the present
  bias_dropped,           // p starts from 0
  document_ignored,       // taps read across document boundaries
  halo_forgotten,         // a tile takes the rows before it for zeros
  initial_state_ignored,  // x before the first token is 0
  final_state_shifted,    // by one column where the sequence is shorter than the state
  // causal_conv1d_bwd.cu
  silu_derivative_of_input,  // silu'(x) for silu'(p)
  last_tile_not_summed,      // in d_weight and d_bias
  // ssd_scan_bwd_chunked.cu
  scan_bwd_last_head_alone,         // dG of the group's last head for their sum
  scan_bwd_state_of_chunk_before,   // H of the chunk before
  scan_bwd_token_misses_own_decay,  // r without what token m itself reads from the entering state
  scan_bwd_decay_gradient_sign,     // dA negative
  scan_bwd_slope_left_out,          // ddt = dDelta
  scan_bwd_clamp_lets_all_pass,     // dDelta also where the clamp holds
  scan_bwd_skip_sum_rounded,        // dD from dy silu(z) after its rounding
  scan_bwd_copy_not_awaited,        // the copies of a tile of x, dy, H and Gamma are not waited for
  // ssd_scan_bwd_states.cu
  scan_bwd_stops_at_chunk,     // Gamma comes from the next chunk alone
  scan_bwd_crosses_documents,  // Gamma passes through chunks in which documents begin
  // causal_conv1d_update.cu
  token_not_kept,  // the state moves, its last column stays
  // ssm_state_update.cu
  bias_after_softplus,       // Delta = softplus(dt) + dt_bias
  decay_of_another_head,     // A of head 0 for every head
  skip_of_another_head,      // D of head 0 for every head
  batch_index_ignored,       // batch row b uses cache row b
  state_update_group,        // head % groups instead of head / (heads / groups)
  output_from_stored_state,  // y from the state after its rounding
  // mamba2_decode_step.cu
  step_conv_tail_stale,           // the columns of B and C do not move on
  step_keys_of_group_0,           // B and C of group 0 for every group
  step_decay_of_first_head,       // A of the group's first head for all its heads
  step_gate_after_norm,           // the norm of y, times silu(z)
  step_mean_over_all_heads,       // instead of over the group's
  step_output_from_stored_state,  // y from the state after its rounding
  step_sum_not_guarded,           // no __syncthreads between v and the sum of its squares
  // ssd_scan_chunked.cu
  scan_bias_after_softplus,             // Delta = softplus(dt) + dt_bias
  scan_clamp_before_softplus,           // Delta = softplus(clamp(dt + dt_bias))
  scan_step_not_clamped,                // Delta = softplus(dt + dt_bias)
  scan_decay_of_next_token,             // cum_i without token i
  scan_decay_of_first_head,             // A of the group's first head for all its heads
  scan_C_of_group_0,                    // for every group
  scan_skip_of_another_head,            // D of head 0 for every head
  scan_initial_state_of_first_head,     // that of row 0, head 0 for every row and head
  scan_row_always_continues,            // the initial state also enters a row whose seq_idx does not begin with 0
  scan_documents_mix_in_chunk,          // y reads the tokens of other documents in its chunk
  scan_state_enters_any_document,       // the entering state goes on across documents, in y
  scan_entering_state_not_decayed,      // y = H C without exp(cum)
  scan_increment_not_decayed,           // U = Delta without exp(cum_last - cum)
  scan_looks_back_too_far,              // the state of the chunk before the one before
  scan_final_state_without_last_chunk,  // half of it is the state that entered the last chunk
  scan_state_kept_in_bf16,              // between chunks
  scan_state_not_awaited,               // no __syncthreads between the warps that fetch H and the product H C
  scan_copy_not_awaited,                // the copies of a tile of x are not waited for
  // ssd_scan_chunked.cu, the gate and the norm behind it
  normed_gate_after_norm,      // the norm of y, times silu(z)
  normed_gate_of_first_token,  // z of the first of two tokens for both
  normed_weight_of_next_head,  // and of the first for the last
  normed_mean_over_all_heads,  // instead of over the group's
  normed_eps_left_out,         // of the root
  normed_odd_tail_not_stored,  // the last token, where the second of its two lies past the end
  // ssd_scan_varlen.cu
  scan_document_ends_early,     // its state lacks the last token
  scan_document_not_restarted,  // it begins with the state that entered its last chunk, whoever's it was
  // mamba2_mixer.cc
  mixer_mask_forgotten,         // in_proj reads the input, not the masked one
  mixer_keys_swapped,           // the scan takes C for B
  mixer_gate_of_another_slice,  // x of in_proj's output in the place of z
  // mamba2_mixer/steps.cu
  mixer_mask_ignored,         // every token is real
  mixer_columns_shifted,      // a continued prefill's convolution starts one token too early
  mixer_stale_tail,           // the cache lacks the last token
  mixer_state_truncated,      // to bfloat16 by cutting bits off
  mixer_rate_not_negated,     // A = exp(A_log)
  mixer_chain_rule_left_out,  // d_A_log = d_A
  // mamba2_mixer_backward.cc
  mixer_norm_of_normed,              // the norm's backward reads what the norm gave, not what it read
  mixer_gate_gradient_of_scan,       // the scan's gradient in the place of z's
  mixer_skip_by_dt_bias,             // dt_bias in the place of D
  mixer_key_gradients_swapped,       // B gets the gradient of C
  mixer_gradient_crosses_documents,  // the convolution's backward without seq_idx
  mixer_weight_sees_padding,         // in_proj's weight gradient from the input, not the masked one
  mixer_gradient_unmasked,           // padded tokens pass a gradient to the input
  // mamba2_block
  block_sum_in_model_dtype,      // stream.cu: a float stream is rounded to bfloat16
  block_residual_gradient_lost,  // mamba2_block.cc: only what went through the mixer comes back
};

#ifdef ASSAY_PLANTED
extern const Break kPlanted;
template <Break kBreak>
struct Planted {
  operator bool() const { return kPlanted == kBreak; }
};
template <Break kBreak>
inline constexpr Planted<kBreak> planted{};
#else
template <Break kBreak>
inline constexpr bool planted = false;
#endif

}  // namespace assay::gpu
