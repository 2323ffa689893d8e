#include "harness/core/catalogue.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <stdexcept>

namespace assay::harness {
namespace {

const AttributeSpec kEps = {"eps", "float", "added to the mean square, inside the root; > 0"};
const AttributeSpec kGroupSize = {"group_size", "int", "channels that share one root mean square; divides width"};

const AttributeSpec kActivation = {"activation", "string", "silu, or none"};

const std::vector<std::string> kRows = {"rows", "width"};
const std::vector<std::string> kWidth = {"width"};
const std::vector<std::string> kBytes = {"bytes"};

const std::vector<std::string> kTokens = {"batch", "seq_len", "channels"};
const std::vector<std::string> kChannels = {"channels"};
const std::vector<std::string> kTaps = {"channels", "taps"};
const std::vector<std::string> kConvState = {"batch", "channels", "past"};

const char* const kMixerExactness =
    "none: the norm between the projections leaves no class of exact values; each step's own operation has one";
const char* const kMixer =
    "z | xBC | dt = (u m) in_proj^T; x | B | C = silu(conv(xBC)); y = scan(x, dt, B, C) with A = -exp(A_log); "
    "out = norm(y, z) out_proj^T; m: the padding mask; taps: masked = u m, projected, A, convolved, scanned = y, normed";
const AttributeSpec kGroups = {"n_groups", "int", "groups of heads that share B and C, and of channels in the norm"};
const AttributeSpec kChunk = {
    "chunk_size", "int", "tokens of a chunk in the model; exact results do not depend on it, and a kernel may have its own"};
const AttributeSpec kSoftplus = {"dt_softplus", "flag", "1: Delta is softplus of dt + dt_bias; 0: the sum itself"};
const AttributeSpec kDtMin = {"dt_min", "float", "Delta is at least this"};
const AttributeSpec kDtMax = {"dt_max", "float", "Delta is at most this; may be infinite"};

const std::vector<std::string> kHeadTokens = {"batch", "seq_len", "heads", "head_dim"};
const std::vector<std::string> kSteps = {"batch", "seq_len", "heads"};
const std::vector<std::string> kKeys = {"batch", "seq_len", "groups", "state_size"};
const std::vector<std::string> kScanState = {"batch", "heads", "head_dim", "state_size"};

// The tensors of the scan: what every operation reads, then its own.
std::vector<TensorSpec> scan_tensors(bool gate_optional, std::vector<TensorSpec> own) {
  const auto model = DTypeRule::model;
  std::vector<TensorSpec> all = {
      {"input.x", Role::in, kHeadTokens, model, false, true},
      {"input.dt", Role::in, kSteps, DTypeRule::residual, false, true},
      {"input.A", Role::in, {"heads"}, DTypeRule::float32},
      {"input.B", Role::in, kKeys, model, false, true},
      {"input.C", Role::in, kKeys, model, false, true},
      {"input.D", Role::in, {"heads"}, DTypeRule::residual, true, false, false, {"heads", "head_dim"}},
      {"input.z", Role::in, kHeadTokens, model, gate_optional, true},
      {"input.dt_bias", Role::in, {"heads"}, DTypeRule::residual, true},
      {"input.initial_state", Role::in, kScanState, DTypeRule::residual, true},
      {"input.seq_idx", Role::in, {"batch", "seq_len"}, DTypeRule::int32, true}};
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

const std::vector<std::string> kMixerTokens = {"batch", "seq_len", "hidden_size"}, kHeads = {"heads"};

// What every path of the Mamba-2 mixer reads, `own`: what it has besides, and what it writes.
std::vector<TensorSpec> mixer_tensors(std::vector<TensorSpec> own, const std::vector<TensorSpec>& written) {
  const auto model = DTypeRule::model;
  std::vector<TensorSpec> all = {
      {"input.hidden_states", Role::in, kMixerTokens, model},
      {"input.attention_mask", Role::in, {"batch", "seq_len"}, DTypeRule::int32, true},
      {"param.in_proj.weight", Role::in, {"projected", "hidden_size"}, model},
      {"param.in_proj.bias", Role::in, {"projected"}, model, true},
      {"param.conv1d.weight", Role::in, {"channels", "one", "taps"}, model},
      {"param.conv1d.bias", Role::in, {"channels"}, model, true},
      {"param._fp32_params.dt_bias", Role::in, kHeads, DTypeRule::float32},
      {"param._fp32_params.A_log", Role::in, kHeads, DTypeRule::float32},
      {"param._fp32_params.D", Role::in, kHeads, DTypeRule::float32},
      {"param.norm.weight", Role::in, {"inner"}, model},
      {"param.out_proj.weight", Role::in, {"hidden_size", "inner"}, model},
      {"param.out_proj.bias", Role::in, {"hidden_size"}, model, true}};
  all.insert(all.end(), own.begin(), own.end());
  all.insert(all.end(), written.begin(), written.end());
  return all;
}
const std::vector<TensorSpec> kMixerOutputs = {
    {"output.hidden_states", Role::out, kMixerTokens, DTypeRule::model},
    {"tap.masked", Role::tap, kMixerTokens, DTypeRule::model, true},
    {"tap.projected", Role::tap, {"batch", "seq_len", "projected"}, DTypeRule::model, true},
    {"tap.A", Role::tap, kHeads, DTypeRule::float32, true},
    {"tap.convolved", Role::tap, {"batch", "seq_len", "channels"}, DTypeRule::model, true},
    {"tap.scanned", Role::tap, {"batch", "seq_len", "inner"}, DTypeRule::model, true},
    {"tap.normed", Role::tap, {"batch", "seq_len", "inner"}, DTypeRule::model, true}};
const std::vector<TensorSpec> kMixerGradients = {
    {"grad.input.hidden_states", Role::out, kMixerTokens, DTypeRule::model},
    {"grad.in_proj.weight", Role::out, {"projected", "hidden_size"}, DTypeRule::model},
    {"grad.in_proj.bias", Role::out, {"projected"}, DTypeRule::model, true},
    {"grad.conv1d.weight", Role::out, {"channels", "one", "taps"}, DTypeRule::model},
    {"grad.conv1d.bias", Role::out, {"channels"}, DTypeRule::model, true},
    {"grad._fp32_params.dt_bias", Role::out, kHeads, DTypeRule::float32},
    {"grad._fp32_params.A_log", Role::out, kHeads, DTypeRule::float32},
    {"grad._fp32_params.D", Role::out, kHeads, DTypeRule::float32},
    {"grad.norm.weight", Role::out, {"inner"}, DTypeRule::model},
    {"grad.out_proj.weight", Role::out, {"hidden_size", "inner"}, DTypeRule::model},
    {"grad.out_proj.bias", Role::out, {"hidden_size"}, DTypeRule::model, true},
    {"tap.d_masked", Role::tap, kMixerTokens, DTypeRule::model, true},
    {"tap.d_projected", Role::tap, {"batch", "seq_len", "projected"}, DTypeRule::model, true},
    {"tap.d_A", Role::tap, kHeads, DTypeRule::float32, true},
    {"tap.d_convolved", Role::tap, {"batch", "seq_len", "channels"}, DTypeRule::model, true},
    {"tap.d_scanned", Role::tap, {"batch", "seq_len", "inner"}, DTypeRule::model, true},
    {"tap.d_normed", Role::tap, {"batch", "seq_len", "inner"}, DTypeRule::model, true}};
// The Mamba-2 mixer's tensors in a block: its parameters one level down, the stream in its own dtype; `own`: the block's.
std::vector<TensorSpec> block_tensors(const std::vector<TensorSpec>& mixer, const std::vector<TensorSpec>& own) {
  std::vector<TensorSpec> all;
  for (const TensorSpec& of_mixer : mixer) {
    TensorSpec& t = all.emplace_back(of_mixer);
    const bool gradient = t.name.starts_with("grad.") && !t.name.starts_with("grad.input.");
    if (t.name == "output.hidden_states" || t.name == "grad.output.hidden_states")
      t.dtype = DTypeRule::residual;
    else if (t.name.starts_with("param.") || gradient)
      t.name.insert(t.name.find('.') + 1, "mixer.");
  }
  all.insert(all.end(), own.begin(), own.end());
  return all;
}
const TensorSpec kBlockNorm = {"param.norm.weight", Role::in, {"hidden_size"}, DTypeRule::model};
const TensorSpec kMixerDocuments = {"input.seq_idx", Role::in, {"batch", "seq_len"}, DTypeRule::int32, true};
const std::vector<TensorSpec> kMixerCache = {
    {"conv_state", Role::inout, {"batch", "channels", "taps"}, DTypeRule::model},
    {"ssm_state", Role::inout, {"batch", "heads", "head_dim", "state_size"}, DTypeRule::residual}};

const char* const kConvExactness =
    "activation none: bits equal; silu: saturated, p is 0 or a multiple of 128; bits equal in bf16, the functions' own "
    "documented error in f32";
const char* const kNormExactness =
    "saturated: eps = 1/4 and mean square + eps = 4^m with m differing by row and group, width a power of two; bits "
    "equal in bf16, the functions' own documented error in f32";

std::vector<OperationSpec> make_catalogue() {
  const auto model = DTypeRule::model;
  return {
      {"rms_norm.forward",
       "h = hidden_states + residual, rounded to the residual's dtype (without residual h = hidden_states); "
       "y = weight * h / sqrt(mean(h^2) + eps)",
       kNormExactness,
       {kEps},
       {{"input.hidden_states", Role::in, kRows, model, false, true},
        {"input.residual", Role::in, kRows, DTypeRule::residual, true},
        {"param.weight", Role::in, kWidth, model},
        {"output.hidden_states", Role::out, kRows, model},
        {"output.residual", Role::out, kRows, DTypeRule::residual, true},
        {"saved", Role::saved, kBytes, model, true}}},
      {"rms_norm.backward",
       "u = weight * dy, xhat = h * rstd; d_h = rstd * (u - xhat * mean(u * xhat)) + d_residual; "
       "d_weight = sum over rows of dy * xhat",
       kNormExactness,
       {kEps},
       {{"input.hidden_states", Role::in, kRows, model, true, true},
        {"output.residual", Role::in, kRows, DTypeRule::residual, true},
        {"param.weight", Role::in, kWidth, model},
        {"grad.output.hidden_states", Role::in, kRows, model},
        {"grad.output.residual", Role::in, kRows, DTypeRule::residual, true},
        {"saved", Role::saved, kBytes, model},
        {"grad.input.hidden_states", Role::out, kRows, model},
        {"grad.input.residual", Role::out, kRows, DTypeRule::residual, true},
        {"grad.weight", Role::out, kWidth, model}}},
      {"gated_rms_norm.forward",
       "v = hidden_states * silu(gate) (without gate v = hidden_states); y = weight * v / sqrt(mean of v^2 over its "
       "group "
       "+ eps)",
       kNormExactness,
       {kEps, kGroupSize},
       {{"input.hidden_states", Role::in, kRows, model, false, true},
        {"input.gate", Role::in, kRows, model, true, true},
        {"param.weight", Role::in, kWidth, model},
        {"output.hidden_states", Role::out, kRows, model},
        {"saved", Role::saved, kBytes, model, true}}},
      {"gated_rms_norm.backward",
       "u = weight * dy, vhat = v * rstd; d_v = rstd * (u - vhat * mean of u * vhat over its group); "
       "d_hidden_states = d_v * silu(gate); d_gate = d_v * hidden_states * silu'(gate); "
       "d_weight = sum over rows of dy * vhat",
       kNormExactness,
       {kEps, kGroupSize},
       {{"input.hidden_states", Role::in, kRows, model, false, true},
        {"input.gate", Role::in, kRows, model, true, true},
        {"param.weight", Role::in, kWidth, model},
        {"grad.output.hidden_states", Role::in, kRows, model},
        {"saved", Role::saved, kBytes, model},
        {"grad.input.hidden_states", Role::out, kRows, model},
        {"grad.input.gate", Role::out, kRows, model, true},
        {"grad.weight", Role::out, kWidth, model}}},
      {"causal_conv1d.forward",
       "p[t] = bias + sum over taps j of weight[j] * x[t - (taps - 1) + j], from the document of t alone; y = silu(p) or p, "
       "0 where seq_idx < 0; final_state = the last past = taps - 1 columns of (initial_state, x)",
       kConvExactness,
       {kActivation},
       {{"input.hidden_states", Role::in, kTokens, model, false, true},
        {"input.seq_idx", Role::in, {"batch", "seq_len"}, DTypeRule::int32, true},
        {"input.initial_state", Role::in, kConvState, model, true},
        {"param.weight", Role::in, kTaps, model},
        {"param.bias", Role::in, kChannels, model, true},
        {"output.hidden_states", Role::out, kTokens, model},
        {"output.final_state", Role::out, kConvState, model, true}}},
      {"causal_conv1d.backward",
       "dp = dy * silu'(p) or dy; d_x[t] = sum over taps j of weight[j] * dp[t + (taps - 1) - j], plus d_final_state where "
       "that copies x[t]; d_initial_state likewise; d_weight[j] = sum over tokens of dp[t] * x[t - (taps - 1) + j]; "
       "d_bias = sum over tokens of dp",
       kConvExactness,
       {kActivation},
       {{"input.hidden_states", Role::in, kTokens, model, false, true},
        {"input.seq_idx", Role::in, {"batch", "seq_len"}, DTypeRule::int32, true},
        {"input.initial_state", Role::in, kConvState, model, true},
        {"param.weight", Role::in, kTaps, model},
        {"param.bias", Role::in, kChannels, model, true},
        {"grad.output.hidden_states", Role::in, kTokens, model},
        {"grad.output.final_state", Role::in, kConvState, model, true},
        {"grad.input.hidden_states", Role::out, kTokens, model, false, true},
        {"grad.input.initial_state", Role::out, kConvState, model, true},
        {"grad.weight", Role::out, kTaps, model},
        {"grad.bias", Role::out, kChannels, model, true}}},
      {"causal_conv1d.update",
       "one token: y = silu(bias + sum over taps of weight * the last taps - 1 columns of conv_state and x), or without "
       "silu; conv_state moves left by one column and takes x as its last",
       kConvExactness,
       {kActivation},
       {{"input.hidden_states", Role::in, {"batch", "channels"}, model, false, true},
        {"conv_state", Role::inout, {"batch", "channels", "state_len"}, model},
        {"param.weight", Role::in, kTaps, model},
        {"param.bias", Role::in, kChannels, model, true},
        {"output.hidden_states", Role::out, {"batch", "channels"}, model}}},
      {"ssd_scan.forward",
       "Delta = clamp(softplus(dt + dt_bias), dt_min, dt_max), without softplus clamp(dt + dt_bias); state[t] = exp(Delta A) "
       "state[t - 1] + Delta x B, the state dropped where a document begins (seq_idx[t] != seq_idx[t - 1], the first "
       "token's before being 0); y = (sum over state_size of state C + D x) silu(z); final_state = the last state; "
       "varlen_states[m] = the state after document m's last token, cu_seqlens[m + 1] - 1, counted from its first, zeros "
       "for an empty document (one batch row, no initial state, seq_idx changing where documents begin)",
       "saturated: Delta 32 or 64 by softplus above its threshold or by the clamp; heads of decay 1 and 0: bits equal in "
       "bf16, the functions' own documented error in f32; heads of decay 1/2 and 1/4 by token: the limits of the other "
       "fills",
       {kChunk, kSoftplus, kDtMin, kDtMax},
       scan_tensors(true,
                    {{"input.cu_seqlens", Role::in, {"boundaries"}, DTypeRule::int32, true},
                     {"output.y", Role::out, kHeadTokens, model},
                     {"output.final_state", Role::out, kScanState, DTypeRule::float32, true},
                     {"output.varlen_states", Role::out, {"documents", "heads", "head_dim", "state_size"}, model, true},
                     {"saved", Role::saved, kBytes, model, true}})},
      {"ssd_scan.backward",
       "with dy <- dy silu(z) (rounded to the model's dtype, but for d_D), from the last token to the first, q = "
       "d_final_state: q <- q + dy C; d_x = D dy + Delta q B; d_B = sum of Delta x q, d_C = sum of dy state, over the group's "
       "heads; dDelta = A e + x (q B), e = exp(Delta A) <q, the state before>; d_A = sum of Delta e; d_dt = dDelta "
       "softplus' where the clamp lets it pass, d_dt_bias their sum; d_D = sum of dy x; q <- exp(Delta A) q, 0 where a "
       "document begins; d_initial_state = q, rounded to the model's dtype; d_z = dy (y before the gate) silu'(z)",
       "none: sums over a group's heads outgrow bfloat16's 8 bits",
       {kChunk, kSoftplus, kDtMin, kDtMax},
       scan_tensors(
           true, {{"grad.output.y", Role::in, kHeadTokens, model},
                  {"grad.output.final_state", Role::in, kScanState, DTypeRule::float32, true},
                  {"saved", Role::saved, kBytes, model},
                  {"grad.input.x", Role::out, kHeadTokens, model, false, true},
                  {"grad.input.dt", Role::out, kSteps, DTypeRule::residual, false, true},
                  {"grad.input.A", Role::out, {"heads"}, DTypeRule::float32},
                  {"grad.input.B", Role::out, kKeys, model, false, true},
                  {"grad.input.C", Role::out, kKeys, model, false, true},
                  {"grad.input.D", Role::out, {"heads"}, DTypeRule::float32, true, false, false, {"heads", "head_dim"}},
                  {"grad.input.z", Role::out, kHeadTokens, model, true, true},
                  {"grad.input.dt_bias", Role::out, {"heads"}, DTypeRule::float32, true},
                  {"grad.input.initial_state", Role::out, kScanState, DTypeRule::residual, true}})},
      {"ssd_scan_normed.forward",
       "y = ssd_scan.forward without a gate; hidden_states = gated_rms_norm.forward of y and z, groups as B and C",
       "y and final_state as ssd_scan.forward; the output has no exact class",
       {kChunk, kSoftplus, kDtMin, kDtMax, kEps},
       scan_tensors(false, {{"param.norm_weight", Role::in, {"inner"}, model},
                            {"output.y", Role::out, kHeadTokens, model},
                            {"output.final_state", Role::out, kScanState, DTypeRule::float32, true},
                            {"output.hidden_states", Role::out, kHeadTokens, model}})},
      {"ssm_state_update.forward",
       "Delta = softplus(dt + dt_bias), or dt + dt_bias; state <- state exp(Delta A) + (B Delta) x; "
       "y = (sum over state_size of state C + D x) silu(z), from the state before its rounding; a batch index below 0: "
       "y = 0, no state changes",
       "saturated: Delta above softplus's threshold, decays 1 and 0 by head, gates at 32, 64, 0 and -110; bits equal in "
       "bf16, the functions' own documented error in f32",
       {kSoftplus},
       {{"input.x", Role::in, {"batch", "heads", "head_dim"}, model, false, true},
        {"input.dt", Role::in, {"batch", "heads"}, DTypeRule::residual, false, true},
        {"input.A", Role::in, {"heads"}, DTypeRule::float32},
        {"input.B", Role::in, {"batch", "groups", "state_size"}, model, false, true},
        {"input.C", Role::in, {"batch", "groups", "state_size"}, model, false, true},
        {"input.D", Role::in, {"heads"}, DTypeRule::residual, true, false, false, {"heads", "head_dim"}},
        {"input.z", Role::in, {"batch", "heads", "head_dim"}, model, true, true},
        {"input.dt_bias", Role::in, {"heads"}, DTypeRule::residual, true},
        {"input.state_batch_indices", Role::in, {"batch"}, DTypeRule::int32, true},
        {"state", Role::inout, {"cache_rows", "heads", "head_dim", "state_size"}, DTypeRule::either},
        {"output.y", Role::out, {"batch", "heads", "head_dim"}, model}}},
      {"mamba2_decode_step.forward",
       "a token of a Mamba-2 mixer between its projections: x B C = rnd(causal_conv1d.update with silu); y = "
       "rnd(ssm_state_update.forward), softplus of dt + dt_bias; output = gated_rms_norm.forward of y and z, groups as B "
       "and C. projected is z | x B C | dt; a batch index (of both caches) below 0: output 0, no cache changes",
       "state and conv_state saturated: x, B, C are 0 or 128 k, Delta above softplus's threshold, decays 1 and 0; the "
       "output has no exact class",
       {kEps, {"groups", "int", "groups of heads that share B and C and are normed together; divides heads"}},
       {{"input.projected", Role::in, kRows, model, false, true},
        {"input.state_batch_indices", Role::in, {"rows"}, DTypeRule::int32, true},
        {"conv_state", Role::inout, {"cache_rows", "channels", "state_len"}, model},
        {"state", Role::inout, {"cache_rows", "heads", "head_dim", "state_size"}, DTypeRule::residual},
        {"param.conv_weight", Role::in, kTaps, model},
        {"param.conv_bias", Role::in, kChannels, model, true},
        {"param.dt_bias", Role::in, {"heads"}, DTypeRule::float32},
        {"param.A", Role::in, {"heads"}, DTypeRule::float32},
        {"param.D", Role::in, {"heads"}, DTypeRule::float32},
        {"param.norm_weight", Role::in, {"inner"}, model},
        {"output.hidden_states", Role::out, {"rows", "inner"}, model}}},
      {"linear.forward",
       "y = hidden_states weight^T + bias, rounded once",
       "bits equal: sums of odd integers below 2^24",
       {},
       {{"input.hidden_states", Role::in, {"rows", "in_features"}, model, false, true},
        {"param.weight", Role::in, {"out_features", "in_features"}, model},
        {"param.bias", Role::in, {"out_features"}, model, true},
        {"output.hidden_states", Role::out, {"rows", "out_features"}, model}}},
      {"linear.backward",
       "d_hidden_states = dy weight; d_weight = dy^T hidden_states; d_bias = sum over rows of dy; each rounded once",
       "bits equal: sums of odd integers below 2^24",
       {},
       {{"input.hidden_states", Role::in, {"rows", "in_features"}, model, false, true},
        {"param.weight", Role::in, {"out_features", "in_features"}, model},
        {"grad.output.hidden_states", Role::in, {"rows", "out_features"}, model, false, true},
        {"grad.input.hidden_states", Role::out, {"rows", "in_features"}, model},
        {"grad.weight", Role::out, {"out_features", "in_features"}, model},
        {"grad.bias", Role::out, {"out_features"}, model, true}}},
      {"mamba2_mixer.train_forward",
       kMixer + std::string("; seq_idx: documents, as in causal_conv1d and ssd_scan"),
       kMixerExactness,
       {kGroups, kEps, kChunk, kDtMin, kDtMax},
       mixer_tensors({kMixerDocuments, {"saved", Role::saved, kBytes, model, true}}, kMixerOutputs)},
      {"mamba2_mixer.train_backward",
       "the steps' own backwards, from the last to the first, each tensor between two steps rounded once; d_A_log = d_A A; "
       "d_hidden_states = d_masked m; taps: the gradients of the forward's, d_masked with a mask alone",
       kMixerExactness,
       {kGroups, kEps, kChunk, kDtMin, kDtMax},
       mixer_tensors({kMixerDocuments,
                      {"grad.output.hidden_states", Role::in, kMixerTokens, model},
                      {"saved", Role::saved, kBytes, model}},
                     kMixerGradients)},
      {"mamba2_mixer.prefill",
       kMixer + std::string("; conv_state: the last columns of xBC; ssm_state: the scan's final state, rounded to its dtype"),
       kMixerExactness,
       {kGroups, kEps, kChunk, kDtMin, kDtMax,
        {"continued", "int",
         "1: goes on from the states, so that two prefills equal one; 0: begins with zeros and overwrites them, but a "
         "single token still moves conv_state left by one"}},
       mixer_tensors(kMixerCache, kMixerOutputs)},
      {"mamba2_mixer.decode",
       kMixer + std::string("; one token: both states move on by it, Delta has no limits"),
       kMixerExactness,
       {kGroups, kEps},
       mixer_tensors(kMixerCache, kMixerOutputs)},
      {"mamba2_block.train_forward",
       "input_normed = rms_norm(hidden_states); mixed = mamba2_mixer.train_forward of it; out = hidden_states + mixed, "
       "rounded to the stream's dtype once; taps: input_normed, mixed, and the mixer's",
       kMixerExactness,
       {kGroups, kEps, kChunk, kDtMin, kDtMax},
       block_tensors(mixer_tensors({kMixerDocuments, {"saved", Role::saved, kBytes, model, true}}, kMixerOutputs),
                     {kBlockNorm,
                      {"tap.input_normed", Role::tap, kMixerTokens, model, true},
                      {"tap.mixed", Role::tap, kMixerTokens, model, true}})},
      {"mamba2_block.train_backward",
       "dy <- dy rounded to the model's dtype; d_input_normed = mamba2_mixer.train_backward of it; d_hidden_states = "
       "rms_norm.backward of that + dy; taps: d_input_normed, and the mixer's",
       kMixerExactness,
       {kGroups, kEps, kChunk, kDtMin, kDtMax},
       block_tensors(mixer_tensors({kMixerDocuments,
                                    {"grad.output.hidden_states", Role::in, kMixerTokens, model},
                                    {"saved", Role::saved, kBytes, model}},
                                   kMixerGradients),
                     {kBlockNorm,
                      {"grad.norm.weight", Role::out, {"hidden_size"}, model},
                      {"tap.d_input_normed", Role::tap, kMixerTokens, model, true}})},
  };
}

}  // namespace

const TensorSpec* OperationSpec::find(std::string_view tensor) const {
  const auto it = std::find_if(tensors.begin(), tensors.end(), [&](const TensorSpec& t) { return t.name == tensor; });
  return it == tensors.end() ? nullptr : &*it;
}

const std::vector<OperationSpec>& catalogue() {
  static const std::vector<OperationSpec> operations = make_catalogue();
  return operations;
}

const OperationSpec& operation(std::string_view name) {
  std::vector<std::string> known;
  for (const OperationSpec& op : catalogue()) {
    if (op.name == name) return op;
    known.push_back(op.name);
  }
  throw std::invalid_argument(
      fmt::format("operation \"{}\" is not in the catalogue; it has {}", name, fmt::join(known, ", ")));
}

}  // namespace assay::harness
