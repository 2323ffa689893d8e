// A run with one of everything, for the tests of the reports.
#pragma once

#include <cmath>

#include "harness/core/result.h"

namespace assay::harness {

inline TensorResult sample_tensor(std::string name, double headroom) {
  TensorResult t;
  t.tensor = std::move(name);
  t.gate = "bound";
  t.elements = 96;
  t.headroom = headroom;
  return t;
}

inline CaseResult sample_case(std::string operation, std::string dtype, Status status, std::string line) {
  CaseResult c;
  c.operation = std::move(operation);
  c.dtype = std::move(dtype);
  c.status = status;
  c.line = std::move(line);
  c.candidate_seconds = 0.25;
  c.reference_seconds = 0.5;
  return c;
}

inline CaseResult sample_failure() {
  CaseResult c = sample_case("rms_norm.backward", "bf16", Status::failed,
                             "rms_norm/backward rows=7 width=96 dtype=bf16 fill=model seed=7");
  c.variant = "warp_per_row";
  c.contract = "ieee, fp32, deterministic";
  c.schedule = "descending-late";
  c.message = "the sum of the last rows is missing <here> & \"there\"\nsecond line";
  c.repro = "assay verify 'rms_norm/backward rows=7 width=96 dtype=bf16 fill=model seed=7'";
  TensorResult t = sample_tensor("grad.weight", 0.004);
  t.status = Status::failed;
  t.failing = 12;
  t.worst_at = "width=17";
  t.got = 1.25, t.wanted = 1.5, t.limit = 0.001;
  t.rms_ratio = 2.5, t.max_ratio = 7;
  t.pattern = "every 8th channel";
  c.tensors = {sample_tensor("grad.input.hidden_states", HUGE_VAL), t};
  return c;
}

inline RunResult sample_run() {
  RunResult run;
  run.subject = "candidate";
  run.target = "cpu:simt";
  run.candidate = "assay 0.1";
  run.notes = {"a CPU run cannot show hardware timing"};
  run.seconds = 1.75;
  run.cases = {sample_case("rms_norm.forward", "f32", Status::passed, "rms_norm/forward rows=1 dtype=f32"),
               sample_failure(),
               sample_case("rms_norm.forward", "bf16", Status::crashed, "rms_norm/forward rows=2 dtype=bf16"),
               sample_case("rms_norm.forward", "bf16", Status::timeout, "rms_norm/forward rows=3 dtype=bf16"),
               sample_case("rms_norm.forward", "bf16", Status::not_supported, "rms_norm/forward rows=4 dtype=bf16"),
               sample_case("rms_norm.forward", "bf16", Status::skipped, "rms_norm/forward rows=5 dtype=bf16")};
  run.cases[0].tensors = {sample_tensor("output.hidden_states", 3.14159), sample_tensor("output.residual", HUGE_VAL)};
  run.cases[2].message = "signal 11 (segmentation fault)";
  run.cases[4].message = "no bf16 here";
  run.trust = {
      {"rms_norm.forward", "f32", "output.hidden_states", Trust::trusted, "", 212, 3.14159},
      {"rms_norm.backward", "bf16", "grad.weight", Trust::untrusted, "a planted error went unreported", 3, 0.004}};
  return run;
}

inline RunResult sample_pass() {
  RunResult run = sample_run();
  run.cases.resize(1);
  run.trust.resize(1);
  return run;
}

}  // namespace assay::harness
