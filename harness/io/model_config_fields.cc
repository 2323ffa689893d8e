#include "harness/io/model_config_fields.h"

namespace assay::harness {
namespace {

using Config = reference::NemotronV3Config;

const ConfigField kFields[] = {
    {"vocab_size", &Config::vocab_size},
    {"hidden_size", &Config::hidden_size},
    {"residual_in_fp32", &Config::residual_in_fp32},
    {"layer_norm_epsilon", &Config::layer_norm_epsilon},
    {"tie_word_embeddings", &Config::tie_word_embeddings},
    {"num_attention_heads", &Config::num_attention_heads},
    {"num_key_value_heads", &Config::num_key_value_heads},
    {"head_dim", &Config::head_dim},
    {"attention_bias", &Config::attention_bias},
    {"attention_dropout", &Config::attention_dropout},
    {"intermediate_size", &Config::intermediate_size},
    {"mlp_hidden_act", &Config::mlp_hidden_act},
    {"mlp_bias", &Config::mlp_bias},
    {"mamba_num_heads", &Config::mamba_num_heads},
    {"mamba_head_dim", &Config::mamba_head_dim},
    {"n_groups", &Config::n_groups},
    {"ssm_state_size", &Config::ssm_state_size},
    {"conv_kernel", &Config::conv_kernel},
    {"chunk_size", &Config::chunk_size},
    {"use_conv_bias", &Config::use_conv_bias},
    {"use_bias", &Config::use_bias},
    {"mamba_hidden_act", &Config::mamba_hidden_act},
    {"time_step_min", &Config::time_step_min},
    {"time_step_max", &Config::time_step_max},
    {"time_step_floor", &Config::time_step_floor},
    {"n_routed_experts", &Config::n_routed_experts, 0.0},
    {"n_shared_experts", &Config::n_shared_experts, 1.0},
    {"num_experts_per_tok", &Config::num_experts_per_tok, 2.0},
    {"moe_intermediate_size", &Config::moe_intermediate_size, 7688.0},
    {"moe_shared_expert_intermediate_size", &Config::moe_shared_expert_intermediate_size, 7688.0},
    {"moe_latent_size", &Config::moe_latent_size, 0.0},
    {"n_group", &Config::n_group, 1.0},
    {"topk_group", &Config::topk_group, 1.0},
    {"norm_topk_prob", &Config::norm_topk_prob},
    {"routed_scaling_factor", &Config::routed_scaling_factor, 1.0},
    {"initializer_range", &Config::initializer_range},
    {"rescale_prenorm_residual", &Config::rescale_prenorm_residual},
    {"num_nextn_predict_layers", &Config::num_nextn_predict_layers, 0.0},
    {"mtp_use_repeated_layer", &Config::mtp_use_repeated_layer},
    {"mtp_loss_scaling_factor", &Config::mtp_loss_scaling_factor},
};

constexpr Spelling kSpellings[] = {
    {"attention_head_dim", "head_dim"},
    {"num_local_experts", "n_routed_experts"},
    {"mamba_n_groups", "n_groups"},
    {"mamba_d_conv", "conv_kernel"},
    {"mamba_dt_min", "time_step_min"},
    {"mamba_dt_max", "time_step_max"},
    {"mamba_dt_limit", "time_step_limit"},
    {"mamba_dt_init_floor", "time_step_floor"},
    {"mamba_conv_bias", "use_conv_bias"},
    {"mamba_chunk_size", "chunk_size"},
    {"torch_dtype", "dtype"},
    {"layer_types", "layers_block_type"},
};

constexpr std::string_view kUnread[] = {
    // what the file is, and who wrote it
    "_name_or_path", "architectures", "auto_map", "transformers_version", "transformers.js_config",
    // read elsewhere: tokens, generation, caches, kernels
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id", "use_cache",
    "num_logits_to_keep", "max_position_embeddings", "use_mamba_kernels", "mamba_ssm_cache_dtype",
    "moe_shared_expert_overlap", "output_router_logits", "router_aux_loss_coef", "router_jitter_noise",
    "keep_mtp_spec_in_bf16", "_attn_implementation_autoset", "attn_implementation", "is_decoder", "is_encoder_decoder",
    "cross_attention_hidden_size", "add_cross_attention", "tie_encoder_decoder", "output_attentions",
    "output_hidden_states", "return_dict", "return_dict_in_generate", "torchscript", "use_bfloat16",
    "chunk_size_feed_forward", "problem_type", "pruned_heads", "tokenizer_class", "prefix", "bad_words_ids",
    "begin_suppress_tokens", "suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "finetuning_task",
    "id2label", "label2id", "task_specific_params", "tf_legacy_loss", "num_labels", "diversity_penalty", "do_sample",
    "early_stopping", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "length_penalty",
    "max_length", "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences",
    "output_scores", "remove_invalid_values", "repetition_penalty", "temperature", "top_k", "top_p", "typical_p",
    // of the model, but without effect on it: no positional encoding, no dropout, sizes that others decide
    "expand", "mamba_expand", "mamba_proj_bias", "hidden_act", "hidden_dropout", "sliding_window", "rope_theta",
    "rope_scaling", "rope_parameters", "partial_rotary_factor", "time_step_rank", "time_step_init_scheme"};

}  // namespace

std::span<const ConfigField> config_fields() { return kFields; }
std::span<const Spelling> other_spellings() { return kSpellings; }
std::span<const std::string_view> unread_fields() { return kUnread; }

}  // namespace assay::harness
