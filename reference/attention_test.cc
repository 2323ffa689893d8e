#include "reference/attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "reference/attention_layer.h"
#include "reference/projection.h"
#include "reference/testing/layer_check.h"

namespace assay::reference {
namespace {

using testing::check_fixture;
using testing::check_gradient;
using testing::check_gradients;
using testing::Fixture;
using testing::inner_product;
using testing::max_difference;
using testing::Random;
using testing::Results;

using Mask = AttentionMask<double>;
constexpr double kExact = 1e-12;  // equal but for the order of a few hundred double additions

struct QueryKeyValue {
  Tensor<double> q, k, v;
};
QueryKeyValue random_qkv(Random& random, Index batch, Index queries, Index keys, Index heads, Index kv_heads,
                         Index head_dim) {
  return {random.tensor<double>({batch, queries, heads, head_dim}, -2, 2),
          random.tensor<double>({batch, keys, kv_heads, head_dim}, -2, 2),
          random.tensor<double>({batch, keys, kv_heads, head_dim})};
}

// The definition, written without a thought for speed. seen(b, h, i, j) and bias(b, h, i, j).
Tensor<double> attention_by_definition(const QueryKeyValue& in,
                                       const std::function<bool(Index, Index, Index, Index)>& seen,
                                       const std::function<double(Index, Index, Index, Index)>& bias = {}) {
  const Index batch = in.q.dim(0), queries = in.q.dim(1), heads = in.q.dim(2), width = in.q.dim(3), keys = in.k.dim(1);
  Tensor<double> o(in.q.shape());
  for (Index b = 0; b < batch; ++b)
    for (Index h = 0; h < heads; ++h)
      for (Index i = 0; i < queries; ++i) {
        const Index kv = h / (heads / in.k.dim(2));
        double total = 0;
        for (Index j = 0; j < keys; ++j) {
          if (!seen(b, h, i, j)) continue;
          double score = 0;
          for (Index d = 0; d < width; ++d) score += in.q(b, i, h, d) * in.k(b, j, kv, d);
          const double p = std::exp(score / std::sqrt(static_cast<double>(width)) + (bias ? bias(b, h, i, j) : 0));
          total += p;
          for (Index d = 0; d < width; ++d) o(b, i, h, d) += p * in.v(b, j, kv, d);
        }
        for (Index d = 0; d < width; ++d) o(b, i, h, d) /= total == 0 ? 1 : total;
      }
  return o;
}

TEST(Attention, HandWorked) {
  // One head of width 4 (tau = 1/2), two tokens. Token 1: scores 0 and ln 3, so P = 1/4, 3/4.
  const Tensor<double> q({1, 2, 1, 4}, {1, 0, 0, 0, 2 * std::log(3.0), 0, 0, 0});
  const Tensor<double> k({1, 2, 1, 4}, {0, 1, 0, 0, 1, 0, 0, 0});
  const Tensor<double> v({1, 2, 1, 4}, {4, 8, 0, -4, 8, 0, 4, 4});
  const AttentionOutput<double> out = attention_forward(Numerics<double>{}, q, k, v, Mask::causal());
  const double wanted[] = {4, 8, 0, -4, 7, 2, 3, 2};
  for (Index i = 0; i < 8; ++i) EXPECT_NEAR(out.o[i], wanted[i], 1e-14);
  EXPECT_NEAR(out.log_sum_exp[0], 0, 1e-15);
  EXPECT_NEAR(out.log_sum_exp[1], std::log(4.0), 1e-15);
}

TEST(Attention, AgreesWithTheDefinitionForEveryMask) {
  Random random(1);
  for (int round = 0; round < 12; ++round) {
    const Index batch = random.integer(1, 3), kv_heads = random.integer(1, 2), heads = kv_heads * random.integer(1, 6);
    const Index length = random.integer(1, 150), width = random.integer(1, 9);
    const QueryKeyValue in = random_qkv(random, batch, length, length, heads, kv_heads, width);
    const auto forward = [&](const Mask& mask) {
      return attention_forward(Numerics<double>{}, in.q, in.k, in.v, mask).o;
    };
    const auto causal = [](Index, Index, Index i, Index j) { return j <= i; };
    EXPECT_LE(max_difference(forward(Mask::causal()), attention_by_definition(in, causal)), kExact);
    EXPECT_LE(max_difference(forward(Mask::everything()), attention_by_definition(in, [](auto...) { return true; })),
              kExact);

    Tensor<std::uint8_t> padding({batch, length});
    for (auto& bit : padding.span()) bit = random.integer(0, 2) > 0;
    EXPECT_LE(max_difference(forward(Mask::causal_with_padding(padding)),
                             attention_by_definition(
                                 in, [&](Index b, Index, Index i, Index j) { return j <= i && padding(b, j); })),
              kExact);

    // Neither causal nor the same for every head; some queries see nothing.
    Tensor<std::uint8_t> allowed({batch, heads, length, length});
    for (auto& bit : allowed.span()) bit = random.integer(0, 3) == 0;
    EXPECT_LE(max_difference(forward(Mask::allowed(allowed)),
                             attention_by_definition(
                                 in, [&](Index b, Index h, Index i, Index j) { return allowed(b, h, i, j) != 0; })),
              kExact);
    const Tensor<double> additive = random.tensor<double>({1, heads, 1, length}, -3, 3);
    EXPECT_LE(max_difference(forward(Mask::additive(additive)),
                             attention_by_definition(
                                 in, [](auto...) { return true; },
                                 [&](Index, Index h, Index, Index j) { return additive(0, h, 0, j); })),
              kExact);
  }
}

TEST(Attention, AQueryWithoutKeysGivesZeroAndNoGradient) {
  Random random(2);
  const QueryKeyValue in = random_qkv(random, 2, 5, 5, 2, 1, 4);
  Tensor<double> additive({2, 1, 5, 5});
  for (Index b = 0; b < 2; ++b)
    for (Index j = 0; j < 5; ++j) additive(b, 0, 3, j) = -INFINITY;
  const Tensor<std::uint8_t> all_but_padded({2, 5}, std::vector<std::uint8_t>{0, 0, 0, 1, 1, 0, 0, 0, 0, 0});
  struct Case {
    Mask mask;
    std::function<bool(Index, Index)> is_blind;
  };
  for (const Case& c :
       {Case{Mask::additive(additive), [](Index, Index i) { return i == 3; }},
        Case{Mask::causal_with_padding(all_but_padded), [](Index b, Index i) { return b == 1 || i < 3; }}}) {
    const AttentionOutput<double> out = attention_forward(Numerics<double>{}, in.q, in.k, in.v, c.mask);
    const Tensor<double> d_o = random.tensor<double>(in.q.shape());
    Tensor<double> d_o_seeing = d_o;
    for (Index b = 0; b < 2; ++b)
      for (Index i = 0; i < 5; ++i)
        for (Index h = 0; h < 2; ++h)
          for (Index d = 0; d < 4; ++d) {
            ASSERT_TRUE(std::isfinite(out.o(b, i, h, d)));
            if (!c.is_blind(b, i)) continue;
            EXPECT_EQ(out.o(b, i, h, d), 0);
            EXPECT_EQ(out.log_sum_exp(b, h, i), -INFINITY);
            d_o_seeing(b, i, h, d) = 0;
          }
    const auto d = attention_backward(Numerics<double>{}, in.q, in.k, in.v, c.mask, out, d_o);
    const auto d_seeing = attention_backward(Numerics<double>{}, in.q, in.k, in.v, c.mask, out, d_o_seeing);
    EXPECT_EQ(max_difference(d.q, d_seeing.q), 0);
    EXPECT_EQ(max_difference(d.k, d_seeing.k), 0);
    EXPECT_EQ(max_difference(d.v, d_seeing.v), 0);
  }
}

// A score that is no number is no key unseen: it must show, also where the mask hides every other key.
TEST(Attention, NaNIsNotHidden) {
  Random random(15);
  for (Index keys : {2, 70}) {
    QueryKeyValue in = random_qkv(random, 1, keys, keys, 1, 1, 4);
    in.k(0, keys - 1, 0, 2) = NAN;
    Tensor<std::uint8_t> allowed({1, 1, keys, keys});
    for (Index i = 0; i < keys; ++i) allowed(0, 0, i, keys - 1) = 1;
    const auto out = attention_forward(Numerics<double>{}, in.q, in.k, in.v, Mask::allowed(allowed));
    for (double o : out.o.span()) EXPECT_TRUE(std::isnan(o));
    for (double lse : out.log_sum_exp.span()) EXPECT_TRUE(std::isnan(lse));
  }
}

TEST(Attention, PackedDocumentsAreSeparateDocuments) {
  Random random(3);
  const std::vector<Index> cu = {0, 5, 5, 77, 80}, padded = {0, 8, 8, 84, 88};
  const QueryKeyValue in = random_qkv(random, 1, 90, 90, 4, 2, 6);
  const Mask mask = Mask::packed(cu, padded, 90);
  const AttentionOutput<double> out = attention_forward(Numerics<double>{}, in.q, in.k, in.v, mask);
  const auto slice = [](const Tensor<double>& t, Index begin, Index end) {
    const Index row = t.dim(2) * t.dim(3);
    return Tensor<double>({1, end - begin, t.dim(2), t.dim(3)},
                          std::vector<double>(t.data() + begin * row, t.data() + end * row));
  };
  std::vector<bool> is_real(90, false);
  for (std::size_t m = 0; m + 1 < cu.size(); ++m) {
    const Index begin = padded[m], end = begin + cu[m + 1] - cu[m];
    std::fill(is_real.begin() + begin, is_real.begin() + end, true);
    const auto alone = attention_forward(Numerics<double>{}, slice(in.q, begin, end), slice(in.k, begin, end),
                                         slice(in.v, begin, end), Mask::causal());
    EXPECT_LE(max_difference(slice(out.o, begin, end), alone.o), kExact);
  }
  for (Index i = 0; i < 90; ++i)
    for (Index d = 0; d < 24 && !is_real[i]; ++d) EXPECT_EQ(out.o[i * 24 + d], 0);
  EXPECT_THROW(Mask::packed({0, 9}, {0, 8}, 8), std::invalid_argument);
}

TEST(Attention, Invariants) {
  Random random(4);
  const Index batch = 2, length = 70, heads = 6, kv_heads = 2, width = 5;
  const QueryKeyValue in = random_qkv(random, batch, length, length, heads, kv_heads, width);
  const Numerics<double> num;
  const auto forward = [&](const QueryKeyValue& x) { return attention_forward(num, x.q, x.k, x.v, Mask::causal()).o; };
  const Tensor<double> o = forward(in);

  QueryKeyValue moved = in;  // one vector added to all keys of a head
  for (Index b = 0; b < batch; ++b)
    for (Index j = 0; j < length; ++j)
      for (Index d = 0; d < width; ++d) moved.k(b, j, 1, d) += 0.5 * static_cast<double>(d) - 1;
  EXPECT_LE(max_difference(forward(moved), o), kExact);

  // Linear in v, and within the convex hull of v: an affine function of v that is below 1 stays below 1.
  QueryKeyValue scaled = in;
  for (double& value : scaled.v.span()) value = 3 * value + 1;
  const Tensor<double> o_scaled = forward(scaled);
  for (Index i = 0; i < o.size(); ++i) EXPECT_NEAR(o_scaled[i], 3 * o[i] + 1, kExact);
  for (double value : o.span()) EXPECT_LE(std::abs(value), 1 + kExact);

  // Grouped heads = keys and values repeated; the gradients of k and v are sums over the repeats.
  QueryKeyValue repeated = in;
  repeated.k = repeated.v = Tensor<double>({batch, length, heads, width});
  for (Index b = 0; b < batch; ++b)
    for (Index j = 0; j < length; ++j)
      for (Index h = 0; h < heads; ++h)
        for (Index d = 0; d < width; ++d) {
          repeated.k(b, j, h, d) = in.k(b, j, h / 3, d);
          repeated.v(b, j, h, d) = in.v(b, j, h / 3, d);
        }
  EXPECT_EQ(max_difference(forward(repeated), o), 0);
  const Tensor<double> d_o = random.tensor<double>(o.shape());
  const auto out = attention_forward(num, in.q, in.k, in.v, Mask::causal());
  const auto d = attention_backward(num, in.q, in.k, in.v, Mask::causal(), out, d_o);
  const auto d_repeated = attention_backward(num, repeated.q, repeated.k, repeated.v, Mask::causal(), out, d_o);
  EXPECT_EQ(max_difference(d.q, d_repeated.q), 0);
  for (Index b = 0; b < batch; ++b)
    for (Index j = 0; j < length; ++j)
      for (Index h = 0; h < kv_heads; ++h)
        for (Index c = 0; c < width; ++c) {
          double k_sum = 0, v_sum = 0;
          for (Index r = 0; r < 3; ++r)
            k_sum += d_repeated.k(b, j, 3 * h + r, c), v_sum += d_repeated.v(b, j, 3 * h + r, c);
          EXPECT_NEAR(d.k(b, j, h, c), k_sum, kExact);
          EXPECT_NEAR(d.v(b, j, h, c), v_sum, kExact);
        }

  // Causality, and no positional encoding: two past tokens may change places.
  QueryKeyValue swapped = in;
  for (Index h = 0; h < kv_heads; ++h)
    for (Index c = 0; c < width; ++c) {
      std::swap(swapped.k(1, 3, h, c), swapped.k(1, 20, h, c));
      std::swap(swapped.v(1, 3, h, c), swapped.v(1, 20, h, c));
    }
  const Tensor<double> o_swapped = forward(swapped);
  const auto row_difference = [&](Index b, Index i) {
    double largest = 0;
    for (Index c = 0; c < heads * width; ++c)
      largest = std::max(
          largest, std::abs(o[(b * length + i) * heads * width + c] - o_swapped[(b * length + i) * heads * width + c]));
    return largest;
  };
  for (Index i = 0; i < length; ++i) {
    EXPECT_EQ(row_difference(0, i), 0);
    if (i < 3) {
      EXPECT_EQ(row_difference(1, i), 0);
    } else if (i < 20) {
      EXPECT_GT(row_difference(1, i), 1e-4);
    } else {
      EXPECT_LE(row_difference(1, i), kExact);
    }
  }
}

TEST(Attention, PartsOverDisjointKeysMerge) {
  Random random(5);
  const QueryKeyValue in = random_qkv(random, 2, 40, 40, 4, 2, 8);
  const auto whole = attention_forward(Numerics<double>{}, in.q, in.k, in.v, Mask::causal());
  std::vector<AttentionOutput<double>> parts;
  for (Index part = 0; part < 3; ++part) {
    Tensor<std::uint8_t> allowed({1, 1, 40, 40});
    for (Index i = 0; i < 40; ++i)
      for (Index j = 0; j <= i; ++j) allowed(0, 0, i, j) = j % 3 == part;
    parts.push_back(attention_forward(Numerics<double>{}, in.q, in.k, in.v, Mask::allowed(allowed)));
  }
  const auto merged = merge_attention(Numerics<double>{}, parts);
  EXPECT_LE(max_difference(merged.o, whole.o), kExact);
  EXPECT_LE(max_difference(merged.log_sum_exp, whole.log_sum_exp), kExact);
}

TEST(Attention, TermsAreSumsOverKeys) {
  Random random(13);
  const QueryKeyValue in = random_qkv(random, 2, 9, 9, 4, 2, 3);
  const Tensor<double> additive = random.tensor<double>({1, 4, 9, 9}, -2, 2);
  const AttentionTerms<double> terms = attention_terms(in.q, in.k, in.v, Mask::additive(additive));
  // One term at a time: the output when a single key has a value is that key's term.
  Tensor<double> absolute(in.q.shape()), squares(in.q.shape());
  for (Index j = 0; j < 9; ++j) {
    Tensor<double> v(in.v.shape());
    for (Index b = 0; b < 2; ++b) std::copy_n(&in.v(b, j, 0, 0), 6, &v(b, j, 0, 0));
    const Tensor<double> term = attention_forward(Numerics<double>{}, in.q, in.k, v, Mask::additive(additive)).o;
    for (Index i = 0; i < term.size(); ++i) {
      absolute[i] += std::abs(term[i]);
      squares[i] += term[i] * term[i];
    }
  }
  EXPECT_LE(max_difference(terms.absolute, absolute), kExact);
  EXPECT_LE(max_difference(terms.squares, squares), kExact);
  const AttentionTerms<double> blind =
      attention_terms(in.q, in.k, in.v, Mask::allowed(Tensor<std::uint8_t>({1, 1, 9, 9})));
  EXPECT_EQ(testing::rms(blind.squares), 0);
}

// Every product of the gradients' formulas by itself, over several stacks of queries and a query that sees nothing.
TEST(Attention, BackwardTermsAreThoseOfTheGradients) {
  Random random(15);
  constexpr Index kBatch = 2, kTokens = 35, kHeads = 6, kPerKv = 3, kWidth = 3;
  const QueryKeyValue in = random_qkv(random, kBatch, kTokens, kTokens, kHeads, kHeads / kPerKv, kWidth);
  Tensor<std::uint8_t> allowed({kBatch, 1, kTokens, kTokens});
  for (Index b = 0; b < kBatch; ++b)
    for (Index i = 0; i < kTokens; ++i)
      for (Index j = 0; j < kTokens; ++j) allowed(b, 0, i, j) = i != 4 && (i + 2 * j + b) % 3 != 0;
  const Mask mask = Mask::allowed(allowed);
  const auto out = attention_forward(Numerics<double>{}, in.q, in.k, in.v, mask);
  const auto d_o = random.tensor<double>(in.q.shape(), -1, 1);
  const auto d = attention_backward(Numerics<double>{}, in.q, in.k, in.v, mask, out, d_o);
  const auto terms = attention_backward_terms(in.q, in.k, in.v, mask, out, d_o);

  const double tau = 1 / std::sqrt(static_cast<double>(kWidth));
  AttentionGradients<double> sum{Tensor<double>(in.q.shape()), Tensor<double>(in.k.shape()),
                                 Tensor<double>(in.v.shape())};
  AttentionGradients<double> absolute = sum, squares = sum;
  const auto add = [&](Tensor<double> AttentionGradients<double>::*of, Index b, Index t, Index h, Index at, double term) {
    (sum.*of)(b, t, h, at) += term;
    (absolute.*of)(b, t, h, at) += std::abs(term);
    (squares.*of)(b, t, h, at) += term * term;
  };
  using G = AttentionGradients<double>;
  for (Index b = 0; b < kBatch; ++b)
    for (Index h = 0; h < kHeads; ++h)
      for (Index i = 0; i < kTokens; ++i)
        for (Index j = 0; j < kTokens; ++j) {
          if (!allowed(b, 0, i, j)) continue;
          const Index kv = h / kPerKv;
          double score = 0;
          for (Index c = 0; c < kWidth; ++c) score += tau * in.q(b, i, h, c) * in.k(b, j, kv, c);
          const double p = std::exp(score - out.log_sum_exp(b, h, i));
          for (Index c = 0; c < kWidth; ++c) {
            add(&G::v, b, j, kv, c, p * d_o(b, i, h, c));
            for (const double s : {d_o(b, i, h, c) * in.v(b, j, kv, c), -d_o(b, i, h, c) * out.o(b, i, h, c)})
              for (Index e = 0; e < kWidth; ++e) {
                add(&G::q, b, i, h, e, tau * p * s * in.k(b, j, kv, e));
                add(&G::k, b, j, kv, e, tau * p * s * in.q(b, i, h, e));
              }
          }
        }
  for (const auto of : {&G::q, &G::k, &G::v}) {
    EXPECT_LE(max_difference(d.*of, sum.*of), kExact);
    EXPECT_LE(max_difference(terms.absolute.*of, absolute.*of), kExact);
    EXPECT_LE(max_difference(terms.squares.*of, squares.*of), kExact);
  }
}

TEST(Attention, LeftPaddingUnderAMaskChangesNoRealToken) {
  Random random(14);
  const QueryKeyValue in = random_qkv(random, 2, 12, 12, 2, 1, 4);
  Tensor<std::uint8_t> padding({2, 12}, 1);
  for (Index b = 0; b < 2; ++b)
    for (Index j = 0; j < 5; ++j) padding(b, j) = 0;
  const auto tail = [](const Tensor<double>& t) {
    const Index each = t.dim(2) * t.dim(3);
    Tensor<double> part({2, 7, t.dim(2), t.dim(3)});
    for (Index b = 0; b < 2; ++b) std::copy_n(t.data() + (b * 12 + 5) * each, 7 * each, part.data() + b * 7 * each);
    return part;
  };
  const auto padded = attention_forward(Numerics<double>{}, in.q, in.k, in.v, Mask::causal_with_padding(padding));
  const auto alone = attention_forward(Numerics<double>{}, tail(in.q), tail(in.k), tail(in.v), Mask::causal());
  EXPECT_LE(max_difference(tail(padded.o), alone.o), kExact);
}

TEST(Attention, NoTokensAndOneToken) {
  Random random(6);
  QueryKeyValue in = random_qkv(random, 1, 0, 0, 2, 1, 4);
  const auto none = attention_forward(Numerics<double>{}, in.q, in.k, in.v, Mask::causal());
  EXPECT_EQ(none.o.size(), 0);
  EXPECT_EQ(attention_backward(Numerics<double>{}, in.q, in.k, in.v, Mask::causal(), none, none.o).k.size(), 0);
  in = random_qkv(random, 2, 1, 1, 4, 2, 4);
  const auto one = attention_forward(Numerics<double>{}, in.q, in.k, in.v, Mask::causal());
  for (Index b = 0; b < 2; ++b)
    for (Index h = 0; h < 4; ++h)
      for (Index d = 0; d < 4; ++d) EXPECT_EQ(one.o(b, 0, h, d), in.v(b, 0, h / 2, d));
}

TEST(Attention, RefusesShapesThatDoNotFit) {
  Random random(7);
  const QueryKeyValue in = random_qkv(random, 2, 4, 4, 3, 2, 4);  // 3 query heads on 2
  EXPECT_THROW(attention_forward(Numerics<double>{}, in.q, in.k, in.v, Mask::causal()), std::invalid_argument);
  const QueryKeyValue good = random_qkv(random, 2, 4, 4, 2, 2, 4);
  EXPECT_THROW(attention_forward(Numerics<double>{}, good.q, good.k, good.v,
                                 Mask::causal_with_padding(Tensor<std::uint8_t>({2, 5}))),
               std::invalid_argument);
  EXPECT_THROW(
      attention_forward(Numerics<double>{}, good.q, good.k, good.v, Mask::additive(Tensor<double>({3, 1, 4, 4}))),
      std::invalid_argument);
}

// ---- the layer

struct Layer {
  AttentionDims dims{6, 2, 5};
  Index width = 7;
  Parameters<double> p;

  Layer(Random& random, bool bias) {
    const auto add = [&](const char* name, Index out, Index in) {
      p.set(std::string(name) + ".weight", random.tensor<double>({out, in}));
      if (bias) p.set(std::string(name) + ".bias", random.tensor<double>({out}));
    };
    add("q_proj", dims.num_attention_heads * dims.head_dim, width);
    add("k_proj", dims.num_key_value_heads * dims.head_dim, width);
    add("v_proj", dims.num_key_value_heads * dims.head_dim, width);
    add("o_proj", width, dims.num_attention_heads * dims.head_dim);
  }
};

TEST(AttentionLayer, GradientsAreFiniteDifferences) {
  Random random(8);
  const Index batch = 2, length = 9;
  Tensor<double> additive({batch, 1, length, length});  // causal, with an offset, and one query that sees nothing
  for (Index b = 0; b < batch; ++b)
    for (Index i = 0; i < length; ++i)
      for (Index j = 0; j < length; ++j) additive(b, 0, i, j) = j > i || i == 4 ? -INFINITY : random.uniform(-1, 1);
  Tensor<std::uint8_t> padding({batch, length}, 1);
  padding(0, 0) = padding(1, 8) = padding(1, 3) = 0;
  for (const Mask& mask : {Mask::causal(), Mask::causal_with_padding(padding), Mask::additive(additive)}) {
    Layer layer(random, true);
    Tensor<double> u = random.tensor<double>({batch, length, layer.width}, -2, 2);
    const Tensor<double> d_out = random.tensor<double>({batch, length, layer.width});
    const Numerics<double> num;
    AttentionLayerSaved<double> saved;
    attention_layer_forward<double>(num, layer.dims, layer.p, u, mask, &saved);
    Parameters<double> d_p;
    const Tensor<double> d_u = attention_layer_backward<double>(num, layer.dims, layer.p, u, mask, saved, d_out, d_p);
    const auto loss = [&] {
      return inner_product(attention_layer_forward<double>(num, layer.dims, layer.p, u, mask), d_out);
    };
    check_gradients(layer.p, d_p, loss);
    check_gradient("hidden_states", u, d_u, loss);
    testing::check_adjoint(layer.p, d_p, u, d_u, loss);
  }
}

TEST(AttentionLayer, PackedGradientsAreFiniteDifferencesAtDocumentBoundaries) {
  Random random(9);
  Layer layer(random, true);
  const Mask mask = Mask::packed({0, 4, 11}, {0, 6, 14}, 15);
  Tensor<double> u = random.tensor<double>({15, layer.width}, -2, 2);
  const Tensor<double> d_out = random.tensor<double>({15, layer.width});
  const Numerics<double> num;
  AttentionLayerSaved<double> saved;
  attention_layer_forward<double>(num, layer.dims, layer.p, u, mask, &saved);
  Parameters<double> d_p;
  const Tensor<double> d_u = attention_layer_backward<double>(num, layer.dims, layer.p, u, mask, saved, d_out, d_p);
  const auto loss = [&] {
    return inner_product(attention_layer_forward<double>(num, layer.dims, layer.p, u, mask), d_out);
  };
  check_gradients(layer.p, d_p, loss);
  check_gradient("hidden_states", u, d_u, loss, 1e-6, 40);
  testing::check_adjoint(layer.p, d_p, u, d_u, loss);
  for (Index t : {3, 4, 5, 6, 12, 13})
    EXPECT_NEAR(testing::finite_difference(u, t * layer.width + 2, loss), d_u(t, 2), 1e-6);
}

// <d_out, J delta> = <J^T d_out, delta> for a random direction through input and parameters together.
TEST(AttentionLayer, Adjoint) {
  Random random(10);
  Layer layer(random, true);
  Tensor<double> u = random.tensor<double>({2, 33, layer.width}, -2, 2);
  const Tensor<double> d_out = random.tensor<double>(u.shape());
  const Numerics<double> num;
  AttentionLayerSaved<double> saved;
  attention_layer_forward<double>(num, layer.dims, layer.p, u, Mask::causal(), &saved);
  Parameters<double> d_p;
  const Tensor<double> d_u =
      attention_layer_backward<double>(num, layer.dims, layer.p, u, Mask::causal(), saved, d_out, d_p);
  testing::check_adjoint(layer.p, d_p, u, d_u, [&] {
    return inner_product(attention_layer_forward<double>(num, layer.dims, layer.p, u, Mask::causal()), d_out);
  });
}

TEST(AttentionLayer, PrefillInPiecesAndDecodeEqualTraining) {
  Random random(11);
  const Layer layer(random, true);
  const Numerics<double> num;
  const Tensor<double> u = random.tensor<double>({2, 23, layer.width}, -2, 2);
  const Tensor<double> trained = attention_layer_forward<double>(num, layer.dims, layer.p, u, Mask::causal());
  const auto columns = [&](const Tensor<double>& t, Index begin, Index end) {
    Tensor<double> part({t.dim(0), end - begin, t.dim(2)});
    for (Index b = 0; b < t.dim(0); ++b)
      for (Index s = begin; s < end; ++s)
        for (Index d = 0; d < t.dim(2); ++d) part(b, s - begin, d) = t(b, s, d);
    return part;
  };
  for (const std::vector<Index>& cuts : {std::vector<Index>{23}, {1, 2, 3, 23}, {9, 20, 21, 22, 23}, {22, 23}}) {
    KeyValueCache<double> cache;
    Index begin = 0;
    for (Index end : cuts) {
      const Tensor<double> out =
          attention_layer_cached<double>(num, layer.dims, layer.p, columns(u, begin, end), cache);
      EXPECT_LE(max_difference(out, columns(trained, begin, end)), kExact);
      EXPECT_EQ(cache.length(), end);
      begin = end;
    }
  }
  // Upstream's rule: the second chunk sees all of itself. Its last token is right all the same.
  KeyValueCache<double> cache;
  attention_layer_cached<double>(num, layer.dims, layer.p, columns(u, 0, 10), cache, ContinuedPrefill::sees_all_keys);
  const Tensor<double> second = attention_layer_cached<double>(num, layer.dims, layer.p, columns(u, 10, 23), cache,
                                                               ContinuedPrefill::sees_all_keys);
  const Tensor<double> all = attention_layer_forward<double>(num, layer.dims, layer.p, u, Mask::everything());
  EXPECT_LE(max_difference(second, columns(all, 10, 23)), kExact);
  EXPECT_GT(max_difference(second, columns(trained, 10, 23)), 1e-3);
  EXPECT_LE(max_difference(columns(second, 12, 13), columns(trained, 22, 23)), kExact);
}

TEST(AttentionLayer, QueryHeadsOfAGroupMayChangePlaces) {
  Random random(12);
  Layer layer(random, true);
  const Tensor<double> u = random.tensor<double>({1, 12, layer.width});
  const Numerics<double> num;
  const Tensor<double> before = attention_layer_forward<double>(num, layer.dims, layer.p, u, Mask::causal());
  for (Index d = 0; d < layer.dims.head_dim; ++d) {  // heads 3 and 5 share the second key/value head
    const Index a = 3 * layer.dims.head_dim + d, b = 5 * layer.dims.head_dim + d;
    for (Index c = 0; c < layer.width; ++c) {
      std::swap(layer.p["q_proj.weight"](a, c), layer.p["q_proj.weight"](b, c));
      std::swap(layer.p["o_proj.weight"](c, a), layer.p["o_proj.weight"](c, b));
    }
    std::swap(layer.p["q_proj.bias"][a], layer.p["q_proj.bias"][b]);
  }
  EXPECT_LE(max_difference(attention_layer_forward<double>(num, layer.dims, layer.p, u, Mask::causal()), before),
            kExact);
}

// ---- recordings of the upstream layer

struct RunTraining {
  template <class T>
  Results<T> operator()(const Numerics<T>& num, const Parameters<T>& p, const Fixture& fixture) const {
    const AttentionDims dims = attention_dims(fixture.model_config());
    const Tensor<T> u = fixture["input.hidden_states"].as<T>(), d_out = fixture["grad.output.hidden_states"].as<T>();
    AttentionMask<T> mask = AttentionMask<T>::causal();
    if (const auto* given = fixture.find("input.attention_mask"))
      mask = given->shape.size() == 2 ? AttentionMask<T>::causal_with_padding(given->as<std::uint8_t>())
                                      : AttentionMask<T>::allowed(given->as<std::uint8_t>());
    AttentionLayerSaved<T> saved;
    Results<T> results;
    results["output.hidden_states"] = attention_layer_forward<T>(num, dims, p, u, mask, &saved);
    Parameters<T> d_p;
    results["grad.input.hidden_states"] = attention_layer_backward<T>(num, dims, p, u, mask, saved, d_out, d_p);
    testing::add_gradients(results, d_p);
    if (p.find("k_proj.bias")) results["terms.grad.k_proj.bias"] = key_bias_terms(num, dims, p, mask, saved, d_out);
    return results;
  }

  // The softmax does not feel k_proj.bias: its gradient is a sum of |k_bar| that cancels to rounding noise.
  template <class T>
  static Tensor<T> key_bias_terms(const Numerics<T>& num, const AttentionDims& dims, const Parameters<T>& p,
                                  const AttentionMask<T>& mask, const AttentionLayerSaved<T>& saved,
                                  const Tensor<T>& d_out) {
    Parameters<T> unused;
    Shape concat = d_out.shape();
    concat.back() = dims.num_attention_heads * dims.head_dim;
    const Tensor<T> d_o = projection_backward<T>(num, p, "o_proj.", saved.attention.o.reshaped(concat), d_out, unused);
    const auto d =
        attention_backward(num, saved.q, saved.k, saved.v, mask, saved.attention, d_o.reshaped(saved.q.shape()));
    const Index width = dims.num_key_value_heads * dims.head_dim;
    Tensor<T> terms({width});
    for (Index i = 0; i < d.k.size(); ++i) terms[i % width] += std::abs(d.k[i]);
    return terms;
  }
};

struct RunPrefillAndDecode {
  template <class T>
  Results<T> operator()(const Numerics<T>& num, const Parameters<T>& p, const Fixture& fixture) const {
    const AttentionDims dims = attention_dims(fixture.model_config());
    KeyValueCache<T> cache;
    Results<T> results;
    results["output.hidden_states"] =
        attention_layer_cached<T>(num, dims, p, fixture["input.hidden_states"].as<T>(), cache);
    results["output.key_cache"] = cache.keys;
    results["output.value_cache"] = cache.values;
    for (int step = 0; step < fixture.attributes.at("decode_steps").get<int>(); ++step) {
      const std::string prefix = "decode." + std::to_string(step) + ".";
      results[prefix + "output.hidden_states"] =
          attention_layer_cached<T>(num, dims, p, fixture[prefix + "input.hidden_states"].as<T>(), cache);
      results[prefix + "output.key_cache"] = cache.keys;
      results[prefix + "output.value_cache"] = cache.values;
    }
    return results;
  }
};

class AttentionFixture : public ::testing::TestWithParam<std::string> {};
TEST_P(AttentionFixture, IsReproduced) {
  if (GetParam().starts_with("attention_train"))
    check_fixture(GetParam(), {.relative_l2 = 5e-6}, RunTraining{});
  else
    check_fixture(GetParam(), {.relative_l2 = 5e-6}, RunPrefillAndDecode{});
}
INSTANTIATE_TEST_SUITE_P(Recorded, AttentionFixture, ::testing::ValuesIn(testing::fixture_names("attention_")),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace assay::reference
