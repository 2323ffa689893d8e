// mamba2_block: a block of the backbone whose mixer is the Mamba-2 layer (reference/block.h), judged as the layer is.
//
//   mamba2_block/train_forward batch=2 seq_len=17 preset=tiny mask=left documents=packed stream=f32 dtype=bf16
//   fill=model
//                              seed=7
//
// mamba2_block/train_backward has the same options; all but stream are the mixer's, and so are its tensors.
// stream: the dtype of the sum that goes out: the model's, or f32 (residual_in_fp32; bf16 models only).
#include <algorithm>
#include <stdexcept>

#include "harness/cases/mamba2_block_call.h"
#include "harness/cases/mamba2_block_expect.h"
#include "harness/cases/norm_case.h"
#include "harness/core/random.h"

namespace assay::harness {
namespace {

// The case of the mixer alone.
Case mixer_case(Case c) {
  c.family = "mamba2_mixer";
  std::erase_if(c.options, [](const auto& option) { return option.first == "stream"; });
  return c;
}

void check(const Case& c) {
  const auto fail = [&](const std::string& text) { throw std::invalid_argument(to_line(c) + ": " + text); };
  if (c.path != "train_forward" && c.path != "train_backward")
    fail("path \"" + c.path + "\" is unknown (train_forward, train_backward)");
  if (c.options.empty() || c.options.back().first != "stream") fail("option \"stream\" is missing");
  const std::string& stream = c.option("stream");
  if (stream != "model" && stream != "f32") fail("stream=" + stream + " is unknown; want model or f32");
  if (stream == "f32" && c.dtype == DType::float32) fail("stream=f32 of an f32 model; want stream=model");
  family("mamba2_mixer").check(mixer_case(c));
}

std::vector<Call> calls(const Case& c) {
  std::vector<Call> result;
  const DType stream = c.option("stream") == "f32" ? DType::float32 : c.dtype;
  for (const Call& mixer : family("mamba2_mixer").calls(mixer_case(c))) {
    const std::int64_t width = mixer.tensor("input.hidden_states").shape.back();
    const Random random(c.seed, "param.norm.weight of the block");
    std::vector<double> weight;
    for (std::int64_t i = 0; i < width; ++i) weight.push_back(1 + 0.2 * random.normal(i));
    result.push_back(block_call(
        mixer, case_tensor("mamba2_block.train_forward", "param.norm.weight", c.dtype, {width}, weight), stream));
  }
  return result;
}

std::vector<Case> cases(Tier tier) {
  struct Tokens {
    std::int64_t batch, seq_len;
  };
  // The mixer's own cases have the sizes that matter to it; here no row, no token, one, and some.
  std::vector<Tokens> sizes = {{0, 5}, {2, 0}, {1, 1}, {3, 3}, {2, 17}, {2, 37}};
  if (tier != Tier::quick) sizes.insert(sizes.end(), {{1, 65}, {2, 129}});
  constexpr const char *kPresets[] = {"tiny", "tiny-all", "tiny-plain"}, *kMasks[] = {"none", "left", "right", "holes"};
  std::vector<Case> result;
  std::uint64_t seed = 70000;
  for (const char* path : {"train_forward", "train_backward"})
    for (const DType dtype : {DType::float32, DType::bfloat16})
      for (const char* stream : {"model", "f32"})
        for (const Tokens& s : sizes)
          for (const char* fill : {"model", "outlier", "edge"}) {
            if (stream == std::string("f32") && dtype == DType::float32) continue;
            if (fill != std::string("model") && s.seq_len != 17) continue;
            ++seed;
            result.push_back({"mamba2_block",
                              path,
                              {{"batch", s.batch}, {"seq_len", s.seq_len}},
                              {{"preset", kPresets[seed % 3]},
                               {"mask", kMasks[seed % 4]},
                               {"documents", seed % 2 == 0 ? "no" : "packed"},
                               {"stream", stream}},
                              dtype,
                              fill,
                              seed});
          }
  return result;
}

}  // namespace

Family mamba2_block_family() {
  return {.name = "mamba2_block",
          .cases = cases,
          .check = check,
          .calls = calls,
          .expect = block_expectations,
          .layer = true};
}

}  // namespace assay::harness
