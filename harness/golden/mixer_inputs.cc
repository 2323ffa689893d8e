#include "harness/golden/mixer_inputs.h"

#include <fmt/format.h>

#include "harness/golden/layers.h"

namespace assay::harness {

void check_attention_mask(FixtureReader& in, const Shape& scores) {
  const HostTensor* mask = in.fixture().find("input.attention_mask");
  if (!mask) return;
  if (mask->shape.size() == 2) {
    in.require(mask->name, Dtypes::mask, {scores[0], scores[3]});
    return;
  }
  const std::string pointer = "/tensors/input.attention_mask";
  in.require(mask->name, is_floating(mask->dtype) ? Dtypes::floating : Dtypes::mask, Shape(mask->shape.size(), kAny));
  if (!is_floating(mask->dtype) && mask->dtype != DType::boolean)
    in.fail(pointer + "/dtype", fmt::format("{}; want bool, or a floating dtype that is added", name(mask->dtype)));
  const std::size_t rank = mask->shape.size();
  bool fits = rank == 3 || rank == 4;
  for (std::size_t i = 0; fits && i < rank; ++i) fits = mask->shape[i] == 1 || mask->shape[i] == scores[4 - rank + i];
  if (!fits)
    in.fail(pointer + "/shape", fmt::format("{}; want [{}, {}], or what broadcasts to {}", to_string(mask->shape),
                                            scores[0], scores[3], to_string(scores)));
}

void check_cu_seqlens(FixtureReader& in, const std::string& tensor, Index tokens) {
  const HostTensor* cu = in.allow(tensor, Dtypes::whole, {kAny});
  if (!cu) return;
  const std::string pointer = "/tensors/" + tensor;
  if (cu->size() == 0) in.fail(pointer, "empty; want [0, ...]");
  double before = 0;
  for (Index i = 0; i < cu->size(); ++i) {
    const double at = cu->at(i);
    if ((i == 0 && at != 0) || at < before || at > static_cast<double>(tokens))
      in.fail(fmt::format("{}/data/{}", pointer, i),
              fmt::format("{}; want ascending numbers from 0 to at most {}", at, tokens));
    before = at;
  }
}

void check_documents(FixtureReader& in, Index batch, Index tokens) {
  in.allow("input.seq_idx", Dtypes::whole, {batch, tokens});
  for (const char* tensor : {"input.cu_seqlens", "input.cu_seqlens_padded"})
    check_cu_seqlens(in, tensor, batch * tokens);
  const HostTensor *cu = in.fixture().find("input.cu_seqlens"), *padded = in.fixture().find("input.cu_seqlens_padded");
  if (padded && (!cu || cu->shape != padded->shape))
    in.fail("/tensors/input.cu_seqlens_padded/shape",
            to_string(padded->shape) + "; want input.cu_seqlens of the same shape");
}

reference::Quirks quirks_of(FixtureReader& in) {
  const Origin origin = origin_of(in.fixture());
  const bool automodel = origin == Origin::automodel, hugging_face = origin == Origin::hugging_face;
  // Of masks, Automodel counts the tokens of all but bool ones.
  const HostTensor* mask = in.fixture().find("input.attention_mask");
  const bool counts_mask = automodel && mask && mask->dtype != DType::boolean;
  return {.attention_ignores_cu_seqlens = in.boolean("attention_ignores_cu_seqlens", automodel),
          .automatic_cu_seqlens = in.boolean("automatic_cu_seqlens", counts_mask),
          .generation_attends_padding = in.boolean("generation_attends_padding", automodel),
          .continued_prefill_forgets = in.boolean("continued_prefill_forgets", automodel),
          .ssm_cache_in_float32 = in.boolean("ssm_cache_in_float32", hugging_face),
          .mamba_masks_after_conv = in.boolean("mamba_masks_after_conv", hugging_face),
          .mamba_clamps_by_time_step_min = in.boolean("mamba_clamps_by_time_step_min", hugging_face),
          .hugging_face_norm = in.boolean("hugging_face_norm", hugging_face),
          .hugging_face_routing = in.boolean("hugging_face_routing", hugging_face)};
}

}  // namespace assay::harness
