// The layers' evaluations, one a file. Private to this folder.
#pragma once

#include <initializer_list>
#include <string_view>

#include "harness/golden/fixture_reader.h"
#include "harness/golden/golden.h"

namespace assay::harness {

GoldenEvaluation evaluate_kernel_fixture(const Fixture& fixture);
GoldenEvaluation evaluate_mlp_fixture(const Fixture& fixture);
GoldenEvaluation evaluate_attention_fixture(const Fixture& fixture);
GoldenEvaluation evaluate_router_fixture(const Fixture& fixture);
GoldenEvaluation evaluate_moe_fixture(const Fixture& fixture);
GoldenEvaluation evaluate_ssd_scan_fixture(const Fixture& fixture);
GoldenEvaluation evaluate_ssm_state_update_fixture(const Fixture& fixture);
GoldenEvaluation evaluate_mamba2_mixer_fixture(const Fixture& fixture);
GoldenEvaluation evaluate_block_fixture(const Fixture& fixture);
GoldenEvaluation evaluate_model_fixture(const Fixture& fixture);
GoldenEvaluation evaluate_rng_fixture(const Fixture& fixture);

// Whose code the numbers were recorded from: with all that it does otherwise than this reference by default.
enum class Origin { reference, automodel, hugging_face };
Origin origin_of(const Fixture& fixture);

// Throws FixtureError unless the fixture's path is one of these.
void require_path(const FixtureReader& in, std::initializer_list<std::string_view> paths);

}  // namespace assay::harness
