// A checkpoint as Hugging Face transformers writes it, and what transformers computed with it: an independent second
// source.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "reference/model.h"
#include "reference/testing/layer_check.h"

namespace assay::reference {
namespace {

using testing::Fixture;
using testing::Results;

// Every tensor of a safetensors file that is to be trusted, widened.
std::map<std::string, Tensor<double>> read_safetensors(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw std::runtime_error("cannot open " + file);
  std::uint64_t header_bytes = 0;
  stream.read(reinterpret_cast<char*>(&header_bytes), sizeof header_bytes);
  std::string header(header_bytes, ' ');
  stream.read(header.data(), static_cast<std::streamsize>(header_bytes));
  const std::string data{std::istreambuf_iterator<char>(stream), {}};
  std::map<std::string, Tensor<double>> tensors;
  const auto entries = nlohmann::json::parse(header);
  for (const auto& [name, entry] : entries.items()) {
    if (name == "__metadata__") continue;
    Tensor<double> tensor(entry.at("shape").get<Shape>());
    const char* from = data.data() + entry.at("data_offsets").at(0).get<std::size_t>();
    const bool is_bfloat16 = entry.at("dtype") == "BF16";
    for (Index i = 0; i < tensor.size(); ++i) {
      std::uint32_t bits = 0;
      std::memcpy(reinterpret_cast<char*>(&bits) + (is_bfloat16 ? 2 : 0), from + i * (is_bfloat16 ? 2 : 4),
                  is_bfloat16 ? 2 : 4);
      float value;
      std::memcpy(&value, &bits, sizeof value);
      tensor[i] = value;
    }
    tensors[name] = std::move(tensor);
  }
  return tensors;
}

void replace(std::string& text, const std::string& from, const std::string& to) {
  if (const auto at = text.find(from); at != text.npos) text.replace(at, from.size(), to);
}

// [out, in] of one expert -> its place in a stack [E, in, out].
void put_expert(Parameters<double>& p, const std::string& name, Index e, Index experts, const Tensor<double>& matrix) {
  const Index out = matrix.dim(0), in = matrix.dim(1);
  if (!p.find(name)) p.set(name, Tensor<double>({experts, in, out}));
  for (Index i = 0; i < in; ++i)
    for (Index o = 0; o < out; ++o) p[name](e, i, o) = matrix(o, i);
}

Parameters<double> upstream_parameters(const std::map<std::string, Tensor<double>>& tensors,
                                       const NemotronV3Config& config) {
  Parameters<double> p;
  for (const auto& [file_name, tensor] : tensors) {
    std::string name = file_name;
    replace(name, "backbone.embeddings.", "model.embed_tokens.");
    replace(name, "backbone.norm_f.", "model.norm.");
    replace(name, "backbone.", "model.");
    for (const char* kept : {"dt_bias", "A_log"})
      replace(name, std::string("mixer.") + kept, std::string("mixer._fp32_params.") + kept);
    if (name.ends_with("mixer.D")) replace(name, "mixer.D", "mixer._fp32_params.D");
    if (const auto at = name.find("mixer.experts."); at != name.npos) {
      const Index e = std::stoll(name.substr(at + 14));
      const bool is_up = name.ends_with("up_proj.weight");
      put_expert(p, name.substr(0, at + 14) + (is_up ? "gate_and_up_projs" : "down_projs"), e, config.n_routed_experts,
                 tensor);
    } else {
      p.set(name, tensor, {.is_buffer = name.ends_with("e_score_correction_bias")});
    }
  }
  return p;
}

// A gradient under the name and in the layout of transformers' modules.
template <class T>
void add_gradient(Results<T>& results, std::string name, const Tensor<T>& gradient) {
  replace(name, "model.embed_tokens.", "model.embeddings.");
  replace(name, "model.norm.", "model.norm_f.");
  replace(name, "_fp32_params.", "");
  replace(name, "experts.gate_and_up_projs", "experts.up_proj");
  replace(name, "experts.down_projs", "experts.down_proj");
  if (gradient.rank() == 3 && name.find(".experts.") != name.npos) {  // transposed there
    Tensor<T> transposed({gradient.dim(0), gradient.dim(2), gradient.dim(1)});
    for (Index e = 0; e < gradient.dim(0); ++e)
      for (Index i = 0; i < gradient.dim(1); ++i)
        for (Index o = 0; o < gradient.dim(2); ++o) transposed(e, o, i) = gradient(e, i, o);
    results["grad." + name] = transposed;
  } else {
    results["grad." + name] = gradient;
  }
}

struct RunHuggingFace {
  template <class T>
  Results<T> operator()(const Numerics<T>& num, const Parameters<T>&, const Fixture& fixture) const {
    const NemotronV3Config config = fixture.model_config();
    const Quirks quirks{.ssm_cache_in_float32 = true,
                        .mamba_clamps_by_time_step_min = true,
                        .hugging_face_norm = true,
                        .hugging_face_routing = true};
    const std::string folder =
        std::string(ASSAY_GOLDEN_DIR) + "/upstream/" + fixture.attributes.at("checkpoint").get<std::string>();
    const Parameters<double> exact = upstream_parameters(read_safetensors(folder + "/model.safetensors"), config);
    Parameters<T> p;
    for (const auto& [name, parameter] : exact.entries())
      p.set(name, testing::cast<T>(parameter.value), parameter.flags);

    ModelInput<T> input;
    input.input_ids = fixture["input.input_ids"].template as<Index>();
    BackboneSaved<T> saved;
    const Tensor<T> h = backbone_forward<T>(num, config, quirks, p, input, &saved);
    Results<T> results;
    results["output.logits"] = lm_head_forward(num, p, h);
    const Loss<T> loss = in_model_loss(num, results["output.logits"], fixture["input.labels"].template as<Index>());
    results["output.loss"] = Tensor<T>({}, {loss.value});
    Parameters<T> d_p;
    backbone_backward<T>(num, config, quirks, p, input, saved, lm_head_backward(num, p, h, loss.d_logits, d_p), d_p);
    for (const auto& [name, gradient] : d_p.entries()) add_gradient(results, name, gradient.value);

    // The recorded tokens are fed back, so that one near-tie does not change every token after it; each must be the
    // largest logit, or within the model's rounding of it.
    const Tensor<Index> tokens = fixture["generate.output_ids"].template as<Index>();
    const Index prompt = fixture["generate.input_ids"].shape[1], total = tokens.dim(1);
    HybridCache<T> cache = make_cache<T>(config, 1);
    Tensor<T> logits({1, total - prompt, config.vocab_size});
    for (Index t = prompt; t < total; ++t) {
      const Index begin = t == prompt ? 0 : t - 1;
      input.input_ids = Tensor<Index>({1, t - begin}, std::vector<Index>(tokens.data() + begin, tokens.data() + t));
      const Tensor<T> next = lm_head_forward(num, p, backbone_step<T>(num, config, quirks, p, input, cache), 1);
      std::copy_n(next.data(), config.vocab_size, &logits(0, t - prompt, 0));
      const T largest = next[greedy_tokens(next)[0]];
      EXPECT_GE(next[tokens[t]], largest - (fixture.name.ends_with("_bf16") ? std::abs(largest) * T(0x1p-6) : T(1e-5)));
    }
    results["generate.logits"] = logits;
    results["generate.output_ids"] = fixture["generate.output_ids"].template as<T>();  // validated above
    return results;
  }
};

class HuggingFaceFixture : public ::testing::TestWithParam<std::string> {};
TEST_P(HuggingFaceFixture, IsReproduced) {
  testing::check_fixture(GetParam(), {.relative_l2 = 1e-5}, RunHuggingFace{});
}
INSTANTIATE_TEST_SUITE_P(Recorded, HuggingFaceFixture, ::testing::ValuesIn(testing::fixture_names("hf_model_")),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace assay::reference
