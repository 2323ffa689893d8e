// What a fixture gives the mixers besides hidden states: masks, documents, and upstream's quirks.
#pragma once

#include "harness/golden/fixture_reader.h"
#include "reference/model.h"

namespace assay::harness {

// input.attention_mask, if there is one: [B, S] of 0 and 1; or of 3 or 4 axes, bool or floating, that broadcasts to the
// scores [B, heads, queries, keys]. Throws FixtureError.
void check_attention_mask(FixtureReader& in, const Shape& scores);

// Causal without a mask, causal with padding for one of two axes; one of more axes decides alone.
template <class T>
reference::AttentionMask<T> attention_mask_of(const Fixture& fixture) {
  using Mask = reference::AttentionMask<T>;
  const HostTensor* mask = fixture.find("input.attention_mask");
  if (!mask) return Mask::causal();
  if (mask->shape.size() == 2) return Mask::causal_with_padding(to_tensor<std::uint8_t>(*mask));
  if (is_floating(mask->dtype)) return Mask::additive(to_tensor<T>(*mask));
  return Mask::allowed(to_tensor<std::uint8_t>(*mask));
}

// input.cu_seqlens, input.cu_seqlens_padded [documents + 1] from 0, and input.seq_idx [B, S]. Throws FixtureError.
void check_documents(FixtureReader& in, Index batch, Index tokens);
void check_cu_seqlens(FixtureReader& in, const std::string& tensor, Index tokens);

// Masks and documents of a block or model.
template <class T>
reference::ModelInput<T> mixer_input_of(const Fixture& fixture) {
  reference::ModelInput<T> input;
  if (const HostTensor* mask = fixture.find("input.attention_mask")) {
    if (mask->shape.size() == 2)
      input.attention_mask = to_tensor<std::uint8_t>(*mask);
    else
      input.mask_4d = attention_mask_of<T>(fixture);
  }
  for (const auto& [tensor, documents] :
       {std::pair{"input.cu_seqlens", &input.cu_seqlens}, {"input.cu_seqlens_padded", &input.cu_seqlens_padded}})
    if (const HostTensor* t = fixture.find(tensor))
      for (Index i = 0; i < t->size(); ++i) documents->push_back(static_cast<Index>(t->at(i)));
  input.seq_idx = to_tensor<std::int32_t>(fixture.find("input.seq_idx"));
  return input;
}

// Where the code that the fixture was recorded from does otherwise than this reference; attributes of the same names
// say otherwise.
reference::Quirks quirks_of(FixtureReader& in);

}  // namespace assay::harness
