// Every layer made of matrix products, with drawn inputs and parameters, ready to run: for benchmarks and for the test of the
// memory that layers take.
#pragma once

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "reference/block.h"
#include "reference/cross_entropy.h"
#include "reference/embedding.h"
#include "reference/linear.h"
#include "reference/testing/random.h"

namespace assay::reference::testing {

// S tokens of one sequence through layers of this model.
struct LayerSizes {
  std::string name;
  Index seq_len;
  NemotronV3Config config;
};

inline LayerSizes nano_sizes(Index seq_len = 512) {
  NemotronV3Config c;
  c.vocab_size = 8192, c.hidden_size = 2688, c.intermediate_size = 1856;
  c.num_attention_heads = 32, c.num_key_value_heads = 2, c.head_dim = 128;
  c.mamba_num_heads = 64;
  c.n_routed_experts = 16, c.num_experts_per_tok = 6, c.routed_scaling_factor = 2.5;  // 16 of Nano's 128 experts
  c.moe_intermediate_size = 1856, c.moe_shared_expert_intermediate_size = 3712;
  return {"nano", seq_len, c};
}
inline LayerSizes tiny_sizes(Index seq_len = 512) {
  NemotronV3Config c;
  c.vocab_size = 256, c.hidden_size = 64, c.intermediate_size = 96;
  c.num_attention_heads = 4, c.num_key_value_heads = 2, c.head_dim = 16;
  c.mamba_num_heads = 8, c.mamba_head_dim = 16, c.n_groups = 2, c.ssm_state_size = 16, c.chunk_size = 16;
  c.n_routed_experts = 8, c.num_experts_per_tok = 3, c.routed_scaling_factor = 2.5;
  c.moe_intermediate_size = 32, c.moe_shared_expert_intermediate_size = 48;
  return {"tiny", seq_len, c};
}

using Kept = std::shared_ptr<void>;  // everything that a pass leaves behind

struct LayerPass {
  double forward_flops = 0, training_flops = 0;  // of the matrix products; 0 for layers without
  std::function<Kept()> forward, training;       // training: forward, and all gradients
};

// Makes inputs and parameters when called.
struct LayerCase {
  std::string name;
  std::function<LayerPass()> make;
};

template <class T, class... Results>
Kept keep(Results&&... results) {
  return std::make_shared<std::tuple<std::decay_t<Results>...>>(std::forward<Results>(results)...);
}

template <class T>
Parameters<T> mixer_parameters(const NemotronV3Config& c, BlockType type, Random& random, const std::string& prefix = "") {
  Parameters<T> p;
  const auto set = [&](const char* name, Shape shape, Index fan_in) {
    const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
    p.set(prefix + name, random.tensor<T>(std::move(shape), -bound, bound));
  };
  const auto linear = [&](const char* name, Index out, Index in) { set(name, {out, in}, in); };
  const Index D = c.hidden_size, E = c.n_routed_experts;
  switch (type) {
    case BlockType::mamba:
      linear("in_proj.weight", c.in_proj_rows(), D);
      set("conv1d.weight", {c.conv_dim(), 1, c.conv_kernel}, c.conv_kernel);
      set("conv1d.bias", {c.conv_dim()}, c.conv_kernel);
      for (const char* name : {"_fp32_params.dt_bias", "_fp32_params.A_log", "_fp32_params.D"}) set(name, {c.mamba_num_heads}, 1);
      set("norm.weight", {c.mamba_intermediate_size()}, 1);
      linear("out_proj.weight", D, c.mamba_intermediate_size());
      break;
    case BlockType::attention:
      linear("q_proj.weight", c.attention_width(), D);
      linear("k_proj.weight", c.key_value_width(), D);
      linear("v_proj.weight", c.key_value_width(), D);
      linear("o_proj.weight", D, c.attention_width());
      break;
    case BlockType::mlp:
      linear("up_proj.weight", c.intermediate_size, D);
      linear("down_proj.weight", D, c.intermediate_size);
      break;
    case BlockType::moe:
      linear("gate.weight", E, D);
      set("gate.e_score_correction_bias", {E}, 100);
      set("experts.gate_and_up_projs", {E, D, c.moe_intermediate_size}, D);
      set("experts.down_projs", {E, c.moe_intermediate_size, D}, c.moe_intermediate_size);
      linear("shared_experts.up_proj.weight", c.moe_shared_expert_intermediate_size, D);
      linear("shared_experts.down_proj.weight", D, c.moe_shared_expert_intermediate_size);
      break;
  }
  return p;
}

// Multiplications and additions of the products of one mixer's forward pass. Causal scores count once, by half.
inline double mixer_flops(const NemotronV3Config& c, BlockType type, Index seq_len) {
  const auto S = static_cast<double>(seq_len), D = static_cast<double>(c.hidden_size);
  switch (type) {
    case BlockType::mamba: {
      const auto Q = c.chunk_size, N = c.ssm_state_size, P = c.mamba_head_dim;
      return 2 * S * D * static_cast<double>(c.in_proj_rows() + c.mamba_intermediate_size()) +
             S * static_cast<double>(2 * Q * N * c.n_groups + c.mamba_num_heads * (2 * Q * P + 4 * P * N));
    }
    case BlockType::attention:
      return 4 * S * D * static_cast<double>(c.attention_width() + c.key_value_width()) +
             2 * S * S * static_cast<double>(c.attention_width());
    case BlockType::mlp:
      return 4 * S * D * static_cast<double>(c.intermediate_size);
    case BlockType::moe:
      return 4 * S * D * static_cast<double>(c.num_experts_per_tok * c.moe_intermediate_size + c.moe_shared_expert_intermediate_size) +
             2 * S * D * static_cast<double>(c.n_routed_experts);
  }
  return 0;
}

// A mixer alone, as its layer function takes it.
template <class T>
LayerPass mixer_pass(const LayerSizes& sizes, BlockType type) {
  struct Data {
    NemotronV3Config config;
    Parameters<T> p;
    Tensor<T> x, d_out;
  };
  Random random(1);
  const NemotronV3Config& c = sizes.config;
  const Shape shape = {1, sizes.seq_len, c.hidden_size};
  const auto data = std::make_shared<Data>(Data{c, mixer_parameters<T>(c, type, random), random.tensor<T>(shape), random.tensor<T>(shape)});
  const auto run = [=](bool backward) -> Kept {
    const Numerics<T> num;
    const ParameterScope<T> p(data->p);
    Parameters<T> d_p;
    const GradientScope<T> to(d_p);
    const auto pass = [&](auto saved, const auto& forward, const auto& back) -> Kept {
      Tensor<T> out = forward(backward ? &saved : nullptr);
      if (!backward) return keep<T>(std::move(out));
      Tensor<T> d_x = back(saved);
      return keep<T>(std::move(out), std::move(saved), std::move(d_x), std::move(d_p));
    };
    const auto dims = attention_dims(data->config);
    const auto mask = AttentionMask<T>::causal();
    switch (type) {
      case BlockType::mamba:
        return pass(Mamba2MixerSaved<T>(), [&](auto* s) { return mamba2_mixer_forward(num, data->config, p, data->x, nullptr, nullptr, s); },
                    [&](auto& s) { return mamba2_mixer_backward(num, data->config, p, data->x, nullptr, nullptr, s, data->d_out, to); });
      case BlockType::attention:
        return pass(AttentionLayerSaved<T>(), [&](auto* s) { return attention_layer_forward(num, dims, p, data->x, mask, s); },
                    [&](auto& s) { return attention_layer_backward(num, dims, p, data->x, mask, s, data->d_out, to); });
      case BlockType::mlp:
        return pass(MlpSaved<T>(), [&](auto* s) { return mlp_forward(num, p, data->x, s); },
                    [&](auto& s) { return mlp_backward(num, p, data->x, s, data->d_out, to); });
      case BlockType::moe:
        break;
    }
    const MoeOptions options = moe_options(data->config);
    return pass(MoeSaved<T>(), [&](auto* s) { return moe_forward<T>(num, options, p, data->x, nullptr, nullptr, s); },
                [&](auto& s) { return moe_backward<T>(num, options, p, data->x, nullptr, s, data->d_out, to); });
  };
  const double flops = mixer_flops(c, type, sizes.seq_len);
  return {flops, 3 * flops, [=] { return run(false); }, [=] { return run(true); }};
}

// Norm, mixer and residual.
template <class T>
LayerPass block_pass(const LayerSizes& sizes, BlockType type) {
  struct Data {
    NemotronV3Config config;
    Parameters<T> p;
    Tensor<T> x, d_out;
  };
  Random random(2);
  const NemotronV3Config& c = sizes.config;
  const Shape shape = {1, sizes.seq_len, c.hidden_size};
  const auto data = std::make_shared<Data>(
      Data{c, mixer_parameters<T>(c, type, random, "mixer."), random.tensor<T>(shape), random.tensor<T>(shape)});
  data->p.set("norm.weight", random.tensor<T>({c.hidden_size}));
  const auto forward = [=](BlockSaved<T>* saved) {
    return block_forward<T>(Numerics<T>{}, data->config, {}, type, ParameterScope<T>(data->p), data->x, {}, saved);
  };
  const double flops = mixer_flops(c, type, sizes.seq_len);
  return {flops, 3 * flops, [=] { return keep<T>(forward(nullptr)); },
          [=] {
            BlockSaved<T> saved;
            Parameters<T> d_p;
            Tensor<T> out = forward(&saved);
            Tensor<T> d_x = block_backward<T>(Numerics<T>{}, data->config, {}, type, ParameterScope<T>(data->p), {}, saved, data->d_out,
                                              false, GradientScope<T>(d_p));
            return keep<T>(std::move(out), std::move(saved), std::move(d_x), std::move(d_p));
          }};
}

template <class T>
LayerPass linear_pass(const LayerSizes& sizes) {
  struct Data {
    Tensor<T> x, weight, d_y;
  };
  Random random(3);
  const Index S = sizes.seq_len, in = sizes.config.hidden_size, out = sizes.config.intermediate_size;
  const auto data = std::make_shared<Data>(Data{random.tensor<T>({S, in}), random.tensor<T>({out, in}), random.tensor<T>({S, out})});
  const auto forward = [=] { return linear_forward(Numerics<T>{}, data->x, data->weight); };
  const double flops = 2 * static_cast<double>(S) * static_cast<double>(in * out);
  return {flops, 3 * flops, [=] { return keep<T>(forward()); },
          [=] { return keep<T>(forward(), linear_backward(Numerics<T>{}, data->x, data->weight, data->d_y)); }};
}

// Scores, softmax and weighted values, without projections. Backward multiplies five times where forward does twice.
template <class T>
LayerPass attention_pass(const LayerSizes& sizes) {
  struct Data {
    Tensor<T> q, k, v, d_o;
  };
  Random random(4);
  const NemotronV3Config& c = sizes.config;
  const Shape q = {1, sizes.seq_len, c.num_attention_heads, c.head_dim}, kv = {1, sizes.seq_len, c.num_key_value_heads, c.head_dim};
  const auto data = std::make_shared<Data>(Data{random.tensor<T>(q), random.tensor<T>(kv), random.tensor<T>(kv), random.tensor<T>(q)});
  const auto forward = [=] { return attention_forward(Numerics<T>{}, data->q, data->k, data->v, AttentionMask<T>::causal()); };
  const double flops = 2 * static_cast<double>(sizes.seq_len) * static_cast<double>(sizes.seq_len * c.attention_width());
  return {flops, 3.5 * flops, [=] { return keep<T>(forward()); },
          [=] {
            AttentionOutput<T> out = forward();
            AttentionGradients<T> d =
                attention_backward(Numerics<T>{}, data->q, data->k, data->v, AttentionMask<T>::causal(), out, data->d_o);
            return keep<T>(std::move(out), std::move(d));
          }};
}

template <class T>
LayerPass router_pass(const LayerSizes& sizes) {
  struct Data {
    RouterOptions options;
    Parameters<T> p;
    Tensor<T> x, d_weights;
  };
  Random random(5);
  const NemotronV3Config& c = sizes.config;
  const auto data = std::make_shared<Data>();
  data->options = moe_options(c).router;
  data->p.set("weight", random.tensor<T>({c.n_routed_experts, c.hidden_size}, -0.02, 0.02));
  data->p.set("e_score_correction_bias", random.tensor<T>({c.n_routed_experts}, -0.1, 0.1));
  data->x = random.tensor<T>({sizes.seq_len, c.hidden_size});
  data->d_weights = random.tensor<T>({sizes.seq_len, c.num_experts_per_tok});
  const auto forward = [=] { return router_forward<T>(Numerics<T>{}, data->options, ParameterScope<T>(data->p), data->x); };
  const double flops = 2 * static_cast<double>(sizes.seq_len) * static_cast<double>(c.hidden_size * c.n_routed_experts);
  return {flops, 3 * flops, [=] { return keep<T>(forward()); },
          [=] {
            RouterOutput<T> out = forward();
            Parameters<T> d_p;
            Tensor<T> d_x = router_backward<T>(Numerics<T>{}, data->options, ParameterScope<T>(data->p), data->x, nullptr, out,
                                               data->d_weights, GradientScope<T>(d_p));
            return keep<T>(std::move(out), std::move(d_x), std::move(d_p));
          }};
}

template <class T>
LayerPass embedding_pass(const LayerSizes& sizes) {
  struct Data {
    Tensor<T> weight, d_y;
    std::vector<std::int64_t> ids;
  };
  Random random(6);
  const NemotronV3Config& c = sizes.config;
  const auto data = std::make_shared<Data>(
      Data{random.tensor<T>({c.vocab_size, c.hidden_size}), random.tensor<T>({sizes.seq_len, c.hidden_size}), {}});
  for (Index t = 0; t < sizes.seq_len; ++t) data->ids.push_back(random.integer(0, c.vocab_size - 1));
  const auto forward = [=] { return embedding_forward(data->weight, data->ids); };
  return {0, 0, [=] { return keep<T>(forward()); },
          [=] { return keep<T>(forward(), embedding_backward(Numerics<T>{}, data->ids, data->d_y, data->weight.dim(0))); }};
}

struct LossData {
  Tensor<Index> targets;
  LossData(const LayerSizes& sizes, Random& random) : targets({sizes.seq_len}) {
    for (Index& target : targets.span()) target = random.integer(0, sizes.config.vocab_size - 1);
  }
};

template <class T>
LayerPass cross_entropy_pass(const LayerSizes& sizes) {
  Random random(7);
  const auto logits = std::make_shared<Tensor<T>>(random.tensor<T>({sizes.seq_len, sizes.config.vocab_size}));
  const auto data = std::make_shared<LossData>(sizes, random);
  const auto forward = [=] { return cross_entropy_forward(Numerics<T>{}, *logits, data->targets); };
  return {0, 0, [=] { return keep<T>(forward()); },
          [=] {
            CrossEntropy<T> loss = forward();
            Tensor<T> d = cross_entropy_backward(Numerics<T>{}, *logits, data->targets, loss, T(1));
            return keep<T>(std::move(loss), std::move(d));
          }};
}

// The head's projection to logits and their cross entropy.
template <class T>
LayerPass lm_head_loss_pass(const LayerSizes& sizes) {
  struct Data {
    Tensor<T> x, weight;
  };
  Random random(8);
  const NemotronV3Config& c = sizes.config;
  const auto data = std::make_shared<Data>(
      Data{random.tensor<T>({sizes.seq_len, c.hidden_size}), random.tensor<T>({c.vocab_size, c.hidden_size}, -0.02, 0.02)});
  const auto targets = std::make_shared<LossData>(sizes, random);
  const auto run = [=](bool backward) -> Kept {
    const Numerics<T> num;
    Tensor<T> logits = linear_forward(num, data->x, data->weight);
    CrossEntropy<T> loss = cross_entropy_forward(num, logits, targets->targets);
    if (!backward) return keep<T>(std::move(loss));
    LinearGradients<T> d = linear_backward(num, data->x, data->weight, cross_entropy_backward(num, logits, targets->targets, loss, T(1)));
    return keep<T>(std::move(loss), std::move(d), std::move(logits));
  };
  const double flops = 2 * static_cast<double>(sizes.seq_len) * static_cast<double>(c.hidden_size * c.vocab_size);
  return {flops, 3 * flops, [=] { return run(false); }, [=] { return run(true); }};
}

template <class T>
std::vector<LayerCase> layer_cases(const LayerSizes& sizes) {
  std::vector<LayerCase> cases = {
      {"linear", [=] { return linear_pass<T>(sizes); }},
      {"attention", [=] { return attention_pass<T>(sizes); }},
      {"router", [=] { return router_pass<T>(sizes); }},
      {"embedding", [=] { return embedding_pass<T>(sizes); }},
      {"cross_entropy", [=] { return cross_entropy_pass<T>(sizes); }},
      {"lm_head_loss", [=] { return lm_head_loss_pass<T>(sizes); }},
  };
  const std::pair<const char*, BlockType> mixers[] = {
      {"attention", BlockType::attention}, {"mlp", BlockType::mlp}, {"moe", BlockType::moe}, {"mamba2", BlockType::mamba}};
  for (const auto& [name, type] : mixers) {
    const std::string layer = type == BlockType::attention ? "attention_layer" : type == BlockType::mamba ? "mamba2_mixer" : name;
    cases.push_back({layer, [=, type = type] { return mixer_pass<T>(sizes, type); }});
  }
  for (const auto& [name, type] : mixers) cases.push_back({std::string("block.") + name, [=, type = type] { return block_pass<T>(sizes, type); }});
  return cases;
}

}  // namespace assay::reference::testing
