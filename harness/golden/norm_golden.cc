// Fixtures of the layers that have kernel operations: the recorded values stand where a candidate's would.
#include "harness/cases/fixture_calls.h"
#include "harness/golden/layers.h"

namespace assay::harness {

GoldenEvaluation evaluate_kernel_fixture(const Fixture& fixture) {
  const Family& fam = *family_of_layer(fixture.layer);
  std::vector<GoldenTensor> result;
  std::vector<HostTensor> outputs;
  FixtureCalls all = fixture_calls(fixture);
  for (FixtureCall& fc : all.calls) {
    link(fc.call, outputs);
    for (const HostTensor& t : fc.recorded) fc.call.tensor(t.name).bytes = t.bytes;
    for (Expectation& e : fam.expect(fc.call, fam.upstream_contract(fc.call), false)) {
      GoldenTensor g{
          .name = e.tensor, .dtype = e.dtype, .shape = e.shape, .recorded = fc.call.tensor(e.tensor).to_double()};
      g.oracle = std::move(e.oracle);
      g.matched = std::move(e.matched);
      g.limit = std::move(e.limit);
      result.push_back(std::move(g));
    }
    outputs.insert(outputs.end(), fc.recorded.begin(), fc.recorded.end());
  }
  return {std::move(result), ""};
}

}  // namespace assay::harness
