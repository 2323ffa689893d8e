#include "harness/verify/expected.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>

#include "harness/core/random.h"
#include "harness/verify/run.h"

namespace assay::harness {
namespace {

void draw(HostTensor& t, std::uint64_t seed) {
  const Random random(seed, t.name);
  t.bytes.resize(static_cast<std::size_t>(t.size()) * size_of(t.dtype));
  for (std::int64_t i = 0; i < t.size(); ++i) {
    const double value = random.normal(static_cast<std::uint64_t>(i));
    t.set(i, is_floating(t.dtype) ? value : value > 0);
  }
}

// The judged call of a case, as if a candidate had run it and written what it likes.
Call executed(const Case& c) {
  Call call = family(c.family).calls(c).back();
  for (HostTensor& t : call.tensors) {
    if (t.role == Role::inout) t.before = t.bytes;
    if (t.role != Role::in || t.bytes.empty()) draw(t, 1);
  }
  return call;
}

bool same(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}
bool same(const std::vector<Expectation>& a, const std::vector<Expectation>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Expectation& x, const Expectation& y) {
    return x.tensor == y.tensor && same(x.oracle, y.oracle) && same(x.limit, y.limit) && same(x.matched, y.matched) &&
           same(x.freedom, y.freedom);
  });
}

// Small cases, a few of every operation, dtype and fill.
std::vector<Case> samples() {
  std::vector<Case> result;
  std::map<std::string, int> taken;
  for (const Case& c : list_cases(Tier::quick)) {
    const std::string kind = c.operation() + " " + std::string(short_name(c.dtype)) + " " + c.fill;
    if (family(c.family).layer || taken[kind] >= 8) continue;
    const Call call = family(c.family).calls(c).back();
    std::int64_t size = 0;
    for (const HostTensor& t : call.tensors) size += t.size();
    if (size < 64 || size > 20'000) continue;
    ++taken[kind];
    result.push_back(c);
  }
  return result;
}

TEST(Expected, AFamilyReadsNoOutputThatItDoesNotDeclare) {
  const std::vector<Case> cases = samples();
  ASSERT_GT(cases.size(), 300u);
  for (const Case& c : cases) {
    const Family& f = family(c.family);
    const Call call = executed(c);
    Call other = call;
    for (HostTensor& t : other.tensors)
      if (t.role != Role::in && std::find(f.judged_on.begin(), f.judged_on.end(), t.name) == f.judged_on.end())
        draw(t, 2);
    const assay_contract contract = plain_contract(call);
    const bool exact = c.fill == "integer";
    EXPECT_TRUE(same(f.expect(call, contract, exact), f.expect(other, contract, exact))) << to_line(c);
  }
}

// Whatever changes between two executions, the second gets its own.
TEST(Expected, AreThoseOfEachExecution) {
  for (const char* line :
       {"rms_norm/forward rows=7 width=96 residual=same layout=strided eps=1e-05 dtype=bf16 fill=model seed=2",
        "linear/backward rows=7 in_features=31 out_features=33 bias=yes layout=compact dtype=f32 fill=model seed=2",
        "causal_conv1d/update batch=2 channels=13 taps=4 state_len=3 activation=silu bias=yes layout=compact dtype=f32 "
        "fill=model seed=1"}) {
    const Case c = parse_case(line);
    const Family& f = family(c.family);
    const Call call = executed(c);
    Expected expected(f, false);
    const auto expect_own = [&](const Call& now, const assay_contract& contract) {
      EXPECT_TRUE(same(expected.of(now, contract), f.expect(now, contract, false))) << line;
    };
    assay_contract contract = plain_contract(call);
    expect_own(call, contract);
    for (std::size_t k = 0; k < call.tensors.size(); ++k) {
      Call changed = call;
      draw(changed.tensors[k], 3);
      expect_own(changed, contract);
      changed.tensors[k].before = changed.tensors[k].bytes;
      if (changed.tensors[k].role == Role::inout) expect_own(changed, contract);
    }
    contract.multiply = ASSAY_MULTIPLY_TF32;
    expect_own(call, contract);
    contract.functions = ASSAY_FUNCTIONS_FAST;
    expect_own(call, contract);
  }
}

}  // namespace
}  // namespace assay::harness
