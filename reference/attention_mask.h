// AttentionMask: which keys a query sees, and what is added to its scores.
//
// On the training path                  no mask, or a 2-D one of ones     causal()
//                                      a 2-D padding mask [B, keys]      causal_with_padding(mask)
//                                      a mask of more than two axes      allowed(mask) or additive(mask): the mask
//                                                                        alone decides, no causality is added
//                                      cu_seqlens                        packed(cu_seqlens, cu_seqlens_padded)
// With a cache holding c keys for a queries: causal(c - a).
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "reference/parameters.h"
#include "reference/tensor.h"

namespace assay::reference {

template <class T>
class AttentionMask {
 public:
  struct KeyRange {
    Index begin = 0, end = 0;
  };

  // Query i sees key j <= i + offset.
  static AttentionMask causal(Index offset = 0) {
    AttentionMask mask;
    mask.offset_ = offset;
    return mask;
  }
  static AttentionMask everything() {
    AttentionMask mask;
    mask.order_ = Order::everything;
    return mask;
  }
  // Causal, and only keys with mask[b, j] != 0. Padded queries are computed like any other.
  static AttentionMask causal_with_padding(Tensor<std::uint8_t> mask, Index offset = 0) {
    if (mask.rank() != 2)
      throw std::invalid_argument("AttentionMask: padding mask " + to_string(mask.shape()) + "; want [B, keys]");
    AttentionMask result = causal(offset);
    result.padding_ = std::move(mask);
    return result;
  }
  // Query i of head h sees key j where the mask is not 0. Broadcast, from the right, to [B, heads, queries, keys].
  static AttentionMask allowed(Tensor<std::uint8_t> mask) {
    AttentionMask result = everything();
    result.allowed_ = four_axes(std::move(mask));
    return result;
  }
  // Added to the scores: 0 where a key is seen, -inf where not, anything between. Broadcast as above.
  static AttentionMask additive(Tensor<T> mask) {
    AttentionMask result = everything();
    result.additive_ = four_axes(std::move(mask));
    return result;
  }
  // Documents in one row, each causal and by itself. Document m lies at [padded[m], padded[m] + cu[m+1] - cu[m]); the
  // rest of its slot is padding: it sees nothing and nothing sees it. padded empty: the documents lie side by side.
  static AttentionMask packed(const std::vector<Index>& cu, const std::vector<Index>& padded, Index total) {
    const std::vector<Index>& slots = padded.empty() ? cu : padded;
    if (cu.empty() || cu.size() != slots.size() || cu.front() != 0 || slots.front() != 0 || slots.back() > total)
      throw std::invalid_argument("AttentionMask: cu_seqlens do not describe documents of a stream of " +
                                  std::to_string(total));
    AttentionMask mask;
    mask.order_ = Order::documents;
    mask.documents_.assign(total, {});
    for (std::size_t m = 0; m + 1 < cu.size(); ++m) {
      const Index length = cu[m + 1] - cu[m], start = slots[m];
      if (length < 0 || start + length > slots[m + 1])
        throw std::invalid_argument("AttentionMask: document " + std::to_string(m) + " of " + std::to_string(length) +
                                    " tokens does not fit its slot");
      for (Index i = start; i < start + length; ++i) mask.documents_[i] = {start, i + 1};
    }
    return mask;
  }

  // Throws std::invalid_argument if the mask does not fit scores [batch, heads, queries, keys].
  void check(Index batch, Index heads, Index queries, Index keys) const {
    const Shape scores = {batch, heads, queries, keys};
    check_broadcast(allowed_.shape(), scores);
    check_broadcast(additive_.shape(), scores);
    if (!padding_.shape().empty() && padding_.shape() != Shape{batch, keys})
      throw std::invalid_argument("AttentionMask: padding mask " + to_string(padding_.shape()) + "; want " +
                                  to_string({batch, keys}));
    if (order_ == Order::documents &&
        (batch != 1 || static_cast<Index>(documents_.size()) != queries || queries != keys))
      throw std::invalid_argument("AttentionMask: packed documents need one row of queries and keys " +
                                  std::to_string(documents_.size()) + " long");
  }

  // No key outside this range is seen by the query.
  KeyRange range(Index query, Index keys) const {
    switch (order_) {
      case Order::everything:
        return {0, keys};
      case Order::documents:
        return documents_[query];
      case Order::causal:
        break;
    }
    return {0, std::clamp<Index>(query + offset_ + 1, 0, keys)};
  }

  // scores[j - range.begin] of one query and head: -inf where the key is not seen, the additive mask added elsewhere.
  void apply(Index b, Index h, Index query, KeyRange range, T* scores) const {
    constexpr T kUnseen = -std::numeric_limits<T>::infinity();
    const auto for_each_key = [&](const auto& mask, const auto& body) {
      const auto [first, step] = row_of(mask, b, h, query);
      for (Index j = range.begin; j < range.end; ++j) body(scores[j - range.begin], first[j * step]);
    };
    if (!padding_.empty())
      for (Index j = range.begin; j < range.end; ++j)
        if (!padding_(b, j)) scores[j - range.begin] = kUnseen;
    if (!allowed_.empty())
      for_each_key(allowed_, [](T& score, std::uint8_t is_seen) { score = is_seen ? score : kUnseen; });
    if (!additive_.empty()) for_each_key(additive_, [](T& score, T bias) { score += bias; });
  }
  // The same keys seen, twice the bias: the mask of doubled scores.
  AttentionMask doubled() const {
    AttentionMask result = *this;
    for (T& bias : result.additive_.span()) bias *= 2;
    return result;
  }
  bool is_only_a_range() const { return padding_.empty() && allowed_.empty() && additive_.empty(); }

 private:
  enum class Order { causal, everything, documents };

  template <class U>
  static Tensor<U> four_axes(Tensor<U> mask) {
    if (mask.rank() < 3 || mask.rank() > 4)
      throw std::invalid_argument("AttentionMask: mask " + to_string(mask.shape()) +
                                  "; want [B, heads, queries, keys] or [heads, queries, keys]");
    Shape shape = mask.shape();
    if (shape.size() == 3) shape.insert(shape.begin(), 1);
    return std::move(mask).reshaped(shape);
  }
  static void check_broadcast(const Shape& mask, const Shape& scores) {
    for (std::size_t axis = 0; axis < mask.size(); ++axis)
      if (mask[axis] != 1 && mask[axis] != scores[axis])
        throw std::invalid_argument("AttentionMask: mask " + to_string(mask) + " does not broadcast to " +
                                    to_string(scores));
  }
  // The mask's row for one query and head, and the step from key to key: 0 where all keys share one entry.
  template <class U>
  static std::pair<const U*, Index> row_of(const Tensor<U>& mask, Index b, Index h, Index i) {
    const auto at = [&](Index axis, Index index) { return mask.dim(axis) == 1 ? 0 : index; };
    return {&mask(at(0, b), at(1, h), at(2, i), 0), mask.dim(3) == 1 ? 0 : 1};
  }

  Order order_ = Order::causal;
  Index offset_ = 0;
  std::vector<KeyRange> documents_;  // of each query
  Tensor<std::uint8_t> padding_;     // [B, keys]
  Tensor<std::uint8_t> allowed_;     // [B or 1, heads or 1, queries or 1, keys or 1]
  Tensor<T> additive_;               // likewise
};

}  // namespace assay::reference
