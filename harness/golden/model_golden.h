// A whole model's fixtures, one path a file. Private to this folder.
#pragma once

#include "harness/golden/expert_choice.h"
#include "harness/golden/layers.h"
#include "harness/golden/mixer_inputs.h"
#include "reference/mtp.h"

namespace assay::harness {

GoldenEvaluation evaluate_model_training(const Fixture& fixture);  // with MTP and either loss
GoldenEvaluation evaluate_model_cached(const Fixture& fixture);    // prefill, reorder, decode
GoldenEvaluation evaluate_model_init(const Fixture& fixture);
GoldenEvaluation evaluate_hugging_face_model(const Fixture& fixture);  // of a checkpoint in transformers' layout

// The experts given for the layers of one pass: `step` is "" or "decode.0.".
template <class T>
void give_experts(reference::ModelInput<T>& input, const reference::NemotronV3Config& config, const ExpertChoice& given,
                  const std::string& step = "");
// What the routers of the backbone's layers did in that pass, and those of multi-token prediction.
template <class T>
void take_routers(RoutedResults<T>& results, std::vector<reference::BlockSaved<T>>& blocks,
                  const std::string& step = "");
template <class T>
void take_mtp_routers(RoutedResults<T>& results, reference::MtpOutput<T>& mtp);

}  // namespace assay::harness
