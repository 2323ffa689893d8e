#include "harness/cases/mamba2_mixer_fixture.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "harness/cases/mamba2_mixer_backward_call.h"
#include "harness/cases/norm_case.h"
#include "harness/core/catalogue.h"
#include "harness/io/model_config.h"
#include "reference/ssd_scan.h"

namespace assay::harness {
namespace {

FixtureError error_at(const Fixture& f, const std::string& pointer, const std::string& text) {
  return FixtureError(fmt::format("{}: {}: {}", f.file.string(), pointer, text));
}

// As upstream: seq_idx as it is, else from cu_seqlens_padded or cu_seqlens. Rows of a larger batch are single
// documents.
std::optional<std::vector<double>> documents(const Fixture& f, std::int64_t batch, std::int64_t tokens) {
  if (const HostTensor* given = f.find("input.seq_idx")) return given->to_double();
  const HostTensor* cu = f.find("input.cu_seqlens_padded");
  if (!cu) cu = f.find("input.cu_seqlens");
  if (!cu) return std::nullopt;
  if (batch > 1) return std::vector<double>(static_cast<std::size_t>(batch * tokens));
  std::vector<std::int32_t> boundaries;
  for (const double b : cu->to_double()) boundaries.push_back(static_cast<std::int32_t>(b));
  const std::vector<std::int32_t> numbers = reference::seq_idx_from_cu_seqlens(boundaries, tokens);
  return std::vector<double>(numbers.begin(), numbers.end());
}

class MixerFixture {
 public:
  explicit MixerFixture(const Fixture& f)
      : f_(f),
        config_(parse_model_config(f.config, f.file, "/config")),
        shape_(tokens(f.tensor("input.hidden_states"))) {}

  std::vector<FixtureCall> calls() {
    if (f_.path == "train") {
      begin("mamba2_mixer.train_forward", "");
      if (const auto numbers = documents(f_, shape_[0], shape_[1]))
        add(case_tensor(call().op, "input.seq_idx", DType::int32, {shape_[0], shape_[1]}, *numbers));
      finish("");
      if (f_.find("grad.output.hidden_states")) backward();
      return std::move(calls_);
    }
    if (f_.path != "prefill_decode")
      throw error_at(f_, "/path", fmt::format("\"{}\"; want train or prefill_decode", f_.path));
    const HostTensor *conv = f_.find("output.conv_state"), *ssm = f_.find("output.ssm_state");
    if (!conv || !ssm) throw error_at(f_, "/tensors", "no output.conv_state or output.ssm_state; prefill writes them");
    begin("mamba2_mixer.prefill", "");
    call().attributes.emplace_back("continued", std::int64_t{0});
    add(case_tensor(call().op, "conv_state", conv->dtype, conv->shape));
    add(case_tensor(call().op, "ssm_state", ssm->dtype, ssm->shape));
    finish("");
    const std::int64_t steps = f_.attributes.value("decode_steps", std::int64_t{0});
    for (std::int64_t step = 0; step < steps; ++step) {
      const std::string at = fmt::format("decode.{}.", step);
      begin("mamba2_mixer.decode", at);
      add(unwritten_tensor(call().op, "conv_state", conv->dtype, conv->shape));  // what the candidate left
      add(unwritten_tensor(call().op, "ssm_state", ssm->dtype, ssm->shape));
      finish(at);
    }
    return std::move(calls_);
  }

 private:
  static Shape tokens(const HostTensor& t) { return t.shape.size() == 2 ? Shape{1, t.shape[0], t.shape[1]} : t.shape; }
  Call& call() { return calls_.back().call; }
  void add(HostTensor t) { call().tensors.push_back(std::move(t)); }

  void begin(const char* op, const std::string& at) {
    calls_.emplace_back();
    calls_.back().step = at.substr(0, at.empty() ? 0 : at.size() - 1);
    calls_.back().follows = !at.empty();
    call().op = op;
    call().attributes = {{"n_groups", config_.n_groups}, {"eps", config_.layer_norm_epsilon}};
    if (at.empty()) {
      call().attributes.emplace_back("chunk_size", config_.chunk_size);
      call().attributes.emplace_back("dt_min", config_.time_step_limit[0]);
      call().attributes.emplace_back("dt_max", config_.time_step_limit[1]);
    }
    HostTensor u = f_.tensor(at + "input.hidden_states");
    u.name = "input.hidden_states", u.role = Role::in, u.shape = tokens(u);
    add(std::move(u));
    if (const HostTensor* mask = at.empty() ? f_.find("input.attention_mask") : nullptr)
      add(case_tensor(op, "input.attention_mask", DType::int32, mask->shape, mask->to_double()));
    for (const HostTensor& t : f_.tensors)
      if (t.name.starts_with("param.")) add(t);
  }

  // The outputs with what was recorded of them, and the taps.
  void finish(const std::string& at) {
    const HostTensor& u = call().tensor("input.hidden_states");
    const DType dtype = u.dtype;
    const Shape shape = u.shape;
    add(case_tensor(call().op, "output.hidden_states", dtype, shape));
    for (const char* name : {"hidden_states", "conv_state", "ssm_state"})
      if (const HostTensor* t = f_.find(at + "output." + name)) {
        HostTensor recorded = *t;
        recorded.name = name == std::string("hidden_states") ? "output.hidden_states" : name;
        if (call().find(recorded.name)) calls_.back().recorded.push_back(std::move(recorded));
      }
    const auto width = [&](const char* tensor) { return call().tensor(tensor).shape.at(0); };
    const auto tap = [&](const char* name, std::int64_t channels) {
      add(case_tensor(call().op, name, dtype, {shape[0], shape[1], channels}));
    };
    if (call().find("input.attention_mask")) tap("tap.masked", shape[2]);
    tap("tap.projected", width("param.in_proj.weight"));
    add(case_tensor(call().op, "tap.A", DType::float32, {width("param._fp32_params.A_log")}));
    tap("tap.convolved", width("param.conv1d.weight"));
    tap("tap.scanned", width("param.norm.weight"));
    tap("tap.normed", width("param.norm.weight"));
  }

  void backward() {
    HostTensor d_output = f_.tensor("grad.output.hidden_states");
    d_output.shape = tokens(d_output);
    Call gradients = mixer_backward_call(call(), std::move(d_output));
    FixtureCall& fc = calls_.emplace_back();
    fc.call = std::move(gradients), fc.follows = true;
    for (const HostTensor& t : fc.call.tensors)
      if (const HostTensor* recorded = t.role == Role::out ? f_.find(t.name) : nullptr)
        fc.recorded.push_back(*recorded);
  }

  const Fixture& f_;
  reference::NemotronV3Config config_;
  Shape shape_;
  std::vector<FixtureCall> calls_;
};

}  // namespace

FixtureCalls mixer_fixture_calls(const Fixture& fixture) {
  try {
    return {MixerFixture(fixture).calls(), ""};
  } catch (const ConfigError& error) {
    throw FixtureError(error.what());
  } catch (const std::out_of_range& error) {  // a tensor or an axis that is not there
    throw error_at(fixture, "/tensors", error.what());
  }
}

}  // namespace assay::harness
