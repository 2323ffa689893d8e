// ssd_scan_normed: the scan with the gate and the group norm of a Mamba-2 mixer behind it, as one operation: ssd_scan
// without a gate, then gated_rms_norm. The candidate gives y, too, so each part is judged as its own operation is: y
// and the state as the scan's, the output on the y that the candidate found.
//
//   ssd_scan_normed/forward batch=1 seq_len=129 heads=4 head_dim=32 groups=2 state_size=64 states=both documents=no
//     layout=strided eps=1e-05 dtype=bf16 fill=model seed=7
//
// states, documents, layout: as in ssd_scan's cases.
#include <fmt/format.h>

#include <stdexcept>

#include "harness/cases/norm_case.h"
#include "harness/cases/norm_limits.h"
#include "harness/core/random.h"
#include "reference/gated_rms_norm.h"

namespace assay::harness {
namespace {

using reference::Tensor;

const char* const kOperation = "ssd_scan_normed.forward";

// The same case of the scan alone, with a gate for its inputs' sake.
Case scan_case(const Case& c) {
  return {"ssd_scan",
          "forward",
          c.sizes,
          {{"gate", "yes"},
           {"D", "head"},
           {"bias", "yes"},
           {"softplus", "yes"},
           {"limits", "open"},
           {"states", c.option("states")},
           {"documents", c.option("documents")},
           {"dt", "model"},
           {"params", "f32"},
           {"layout", c.option("layout")}},
          c.dtype,
          c.fill,
          c.seed};
}

// What of the call belongs to the scan.
Call scan_call(const Call& call) {
  Call scan{"ssd_scan.forward", {}, {}};
  for (const auto& attribute : call.attributes)
    if (attribute.first != "eps") scan.attributes.push_back(attribute);
  for (const HostTensor& t : call.tensors)
    if (t.name != "input.z" && t.name != "param.norm_weight" && t.name != "output.hidden_states")
      scan.tensors.push_back(t);
  return scan;
}

void check(const Case& c) {
  check_form(c, {"batch", "seq_len", "heads", "head_dim", "groups", "state_size"},
             {{"states", {"none", "final", "both"}},
              {"documents", {"no", "packed"}},
              {"layout", {"compact", "strided"}},
              {"eps", {}}},
             {"forward"});
  (void)eps_option(c);
  family("ssd_scan").check(scan_case(c));
}

std::vector<Call> calls(const Case& c) {
  Call call = std::move(family("ssd_scan").calls(scan_case(c)).front());
  call.op = kOperation;
  call.attributes.emplace_back("eps", eps_option(c));
  const std::int64_t width = c.size("heads") * c.size("head_dim");
  std::vector<double> weight;
  for (std::int64_t i = 0; i < width; ++i) weight.push_back(1 + 0.25 * Random(c.seed, "param.norm_weight").normal(i));
  call.tensors.push_back(case_tensor(kOperation, "param.norm_weight", c.dtype, {width}, weight));
  call.tensors.push_back(case_tensor(kOperation, "output.hidden_states", c.dtype, call.tensor("output.y").shape));
  return {call};
}

template <class T>
Tensor<T> normed(const reference::Numerics<T>& num, const Call& call) {
  const std::int64_t tokens = call.tensor("output.y").shape[0] * call.tensor("output.y").shape[1],
                     width = call.tensor("param.norm_weight").shape[0];
  const auto rows = [&](const char* name) { return to_reference<T>(call.tensor(name)).reshaped({tokens, width}); };
  const Tensor<T> z = rows("input.z");
  return reference::gated_rms_norm_forward<T>(
             num, rows("output.y"), &z, to_reference<T>(call.tensor("param.norm_weight")),
             width / call.tensor("input.B").shape[2], static_cast<T>(call.number("eps")))
      .hidden_states;
}

std::vector<Expectation> expect(const Call& call, const assay_contract& contract, bool exact) {
  std::vector<Expectation> result = family("ssd_scan").expect(scan_call(call), contract, exact);
  const DType dtype = call.tensor("output.y").dtype;
  const std::vector<double> oracle = to_double(normed<double>({}, call)), y = call.tensor("output.y").to_double(),
                            z = call.tensor("input.z").to_double(),
                            weight = call.tensor("param.norm_weight").to_double();
  const auto width = static_cast<std::int64_t>(weight.size());
  assay_contract norm_contract = contract;  // its sum of squares is no product of the tensor cores
  norm_contract.accumulate = ASSAY_ACCUMULATE_FP32;
  Tolerance t = norm_forward_tolerance({.rows = static_cast<std::int64_t>(y.size()) / width,
                                        .width = width,
                                        .group = width / call.tensor("input.B").shape[2],
                                        .eps = call.number("eps"),
                                        .x = y,
                                        .gate = z,
                                        .weight = weight,
                                        .d_y = {},
                                        .d_x_extra = {},
                                        .dtype = dtype,
                                        .contract = norm_contract},
                                       oracle);
  Expectation e = expectation_of(call, "output.hidden_states", false);
  e.oracle = oracle;
  e.matched = to_double(normed<float>(matched_numerics(dtype), call));
  e.limit = std::move(t.limit);
  e.freedom = std::move(t.freedom);
  result.push_back(std::move(e));
  return result;
}

std::vector<Case> cases(Tier tier) {
  struct Size {
    std::int64_t batch, seq_len, heads, head_dim, groups, state_size;
  };
  // No row, no token; chunks of 32, 64 and 128 tokens, one more and one less; groups of one tile of channels, of 512
  // and 1,280, and too wide for the fused kernel; what has no fast kernel; Nano's heads.
  std::vector<Size> sizes = {{0, 5, 2, 16, 1, 16},   {2, 0, 2, 16, 1, 16},   {1, 1, 1, 1, 1, 1},
                             {2, 5, 4, 3, 2, 8},     {1, 1, 2, 16, 1, 16},   {1, 33, 4, 16, 2, 48},
                             {2, 65, 6, 32, 3, 32},  {1, 129, 4, 32, 2, 64}, {1, 127, 8, 64, 1, 16},
                             {1, 70, 3, 80, 1, 144}, {1, 40, 1, 32, 1, 256}, {1, 34, 20, 64, 1, 16},
                             {1, 19, 21, 64, 1, 16}};
  const std::size_t small = sizes.size();
  sizes.insert(sizes.end(), {{1, 17, 64, 64, 8, 128}, {1, 130, 8, 64, 1, 128}});
  if (tier != Tier::quick) sizes.insert(sizes.end(), {{2, 300, 16, 64, 2, 128}, {1, 140, 96, 80, 8, 128}});
  std::vector<Case> result;
  std::uint64_t seed = 50000;
  for (const DType dtype : {DType::float32, DType::bfloat16})
    for (std::size_t k = 0; k < sizes.size(); ++k)
      for (const char* fill : {"model", "outlier", "integer"}) {
        const Size& s = sizes[k];
        if (tier == Tier::quick && k >= small && fill != std::string("model")) continue;
        ++seed;
        constexpr const char* kStates[] = {"final", "none", "both"};
        result.push_back({"ssd_scan_normed",
                          "forward",
                          {{"batch", s.batch},
                           {"seq_len", s.seq_len},
                           {"heads", s.heads},
                           {"head_dim", s.head_dim},
                           {"groups", s.groups},
                           {"state_size", s.state_size}},
                          {{"states", kStates[seed % 3]},
                           {"documents", seed % 4 == 0 ? "packed" : "no"},
                           {"layout", seed / 2 % 2 == 0 ? "strided" : "compact"},
                           {"eps", seed % 2 == 0 ? "1e-06" : "1e-05"}},
                          dtype,
                          fill,
                          seed});
      }
  return result;
}

}  // namespace

Family ssd_scan_normed_family() {
  return {.name = "ssd_scan_normed",
          .cases = cases,
          .check = check,
          .calls = calls,
          .expect = expect,
          .judged_on = {"output.y"},
          .upstream_contract = [](const Call& call) { return family("ssd_scan").upstream_contract(scan_call(call)); }};
}

}  // namespace assay::harness
