#include "harness/io/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <map>
#include <vector>

#include "harness/io/model_config.h"
#include "harness/io/strict_json.h"
#include "reference/elementary.h"
#include "reference/init/parameter_specs.h"

namespace assay::harness {
namespace {

using reference::ModelDtype;
using reference::ModelTensor;
using reference::ModelTensors;
using reference::ParameterSpec;
using Config = reference::NemotronV3Config;
using Form = CheckpointTarget::Form;

// ---- names

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// "12." off the front. Numbers are written as upstream writes them: without sign or leading zeros.
std::optional<std::int64_t> take_number(std::string_view& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const auto digits = static_cast<std::size_t>(end - text.data());
  if (error != std::errc{} || digits == text.size() || text[digits] != '.' || text.front() == '-' ||
      (text.front() == '0' && digits > 1))
    return std::nullopt;
  text.remove_prefix(digits + 1);
  return value;
}

constexpr std::string_view kUp = "experts.gate_and_up_projs", kDown = "experts.down_projs";

// What stands behind "mixer." in a file.
std::optional<CheckpointTarget> mixer_target(std::string_view name, const std::string& prefix) {
  const auto to = [&](Form form, std::string_view local, std::int64_t expert = -1) {
    return CheckpointTarget{form, prefix + std::string(local), expert};
  };
  for (const std::string_view kept : {"dt_bias", "A_log", "D"})
    if (name == kept) return to(Form::whole, "_fp32_params." + std::string(kept));
  if (name == "experts.up_proj") return to(Form::fused_experts, kUp);
  if (name == "experts.down_proj") return to(Form::fused_experts, kDown);
  std::string_view rest = name;
  if (!take_prefix(rest, "experts.")) return to(Form::whole, name);
  const std::optional<std::int64_t> expert = take_number(rest);
  if (!expert) return to(Form::whole, name);
  if (rest == "up_proj.weight") return to(Form::expert, kUp, *expert);
  if (rest == "down_proj.weight") return to(Form::expert, kDown, *expert);
  if (rest == "gate_proj.weight") return to(Form::left_out, "");
  return std::nullopt;
}

// "layers.3.mixer.q_proj.weight" behind `root`; layers from `count` on are left out.
std::optional<CheckpointTarget> layer_target(std::string_view name, std::string_view root, std::int64_t count) {
  if (!take_prefix(name, "layers.")) return std::nullopt;
  const std::optional<std::int64_t> layer = take_number(name);
  if (!layer) return std::nullopt;
  if (*layer >= count) return CheckpointTarget{.form = Form::left_out, .parameter = ""};
  const std::string prefix = fmt::format("{}layers.{}.", root, *layer);
  if (take_prefix(name, "mixer.")) return mixer_target(name, prefix + "mixer.");
  return CheckpointTarget{.form = Form::whole, .parameter = prefix + std::string(name)};
}

std::string published_name(std::string_view parameter) {
  if (parameter == "model.embed_tokens.weight") return "backbone.embeddings.weight";
  if (parameter == "model.norm.weight") return "backbone.norm_f.weight";
  std::string name(parameter);
  if (name.starts_with("model.")) name.replace(0, 5, "backbone");
  constexpr std::string_view kKept = "_fp32_params.";
  if (const auto at = name.find(kKept); at != name.npos) name.erase(at, kKept.size());
  return name;
}

std::string published_expert_name(std::string_view parameter, std::int64_t expert) {
  const bool is_up = parameter.ends_with(kUp);
  parameter.remove_suffix((is_up ? kUp : kDown).size());
  return fmt::format("{}experts.{}.{}_proj.weight", published_name(parameter), expert, is_up ? "up" : "down");
}

bool is_expert_matrix(std::string_view parameter) { return parameter.ends_with(kUp) || parameter.ends_with(kDown); }

// ---- values

ModelDtype stored_dtype(std::string_view parameter, const Config& config) {
  return reference::is_kept_in_float32(parameter) ? ModelDtype::float32 : config.torch_dtype;
}

void require_storable(const char* function, ModelDtype dtype) {
  if (dtype == ModelDtype::float64)
    throw std::invalid_argument(std::string(function) + ": torch_dtype float64; want float32 or bfloat16");
}

float round_to(ModelDtype dtype, float value) {
  return dtype == ModelDtype::bfloat16 ? reference::round_to_bfloat16(value) : value;
}

float load_float(DType dtype, const std::byte* p, std::size_t i) {
  if (dtype == DType::bfloat16) {
    std::uint16_t bits;
    std::memcpy(&bits, p + 2 * i, sizeof bits);
    return std::bit_cast<float>(std::uint32_t{bits} << 16);
  }
  float value;
  std::memcpy(&value, p + 4 * i, sizeof value);
  return value;
}

std::vector<std::byte> to_bytes(std::span<const float> values, ModelDtype dtype) {
  const std::size_t size = dtype == ModelDtype::bfloat16 ? 2 : 4;
  std::vector<std::byte> bytes(values.size() * size);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(values[i]);
    const std::uint16_t high = static_cast<std::uint16_t>(bits >> 16);
    std::memcpy(bytes.data() + i * size, size == 2 ? static_cast<const void*>(&high) : &bits, size);
  }
  return bytes;
}

// [rows, columns] of a file to [columns, rows].
void copy_transposed(DType dtype, const std::byte* from, std::int64_t rows, std::int64_t columns, ModelDtype to_dtype,
                     float* to) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c)
      to[c * rows + r] = round_to(to_dtype, load_float(dtype, from, static_cast<std::size_t>(r * columns + c)));
}

// ---- reading

struct Source {
  const StoredTensor* tensor;
  CheckpointTarget target;
};

class CheckpointReader {
 public:
  CheckpointReader(const SafetensorsModel& model, const Config& config) : model_(model), config_(config) {
    for (const auto& [name, tensor] : model.tensors()) {
      const std::optional<CheckpointTarget> target = checkpoint_target(name, config);
      if (!target) fail(*tensor, "belongs to no part of the model; want a name of the NemotronH checkpoint format");
      if (target->form != Form::left_out) sources_[target->parameter].push_back({tensor, *target});
    }
  }

  ModelTensors read(const std::function<bool(std::string_view)>& wanted) {
    ModelTensors tensors;
    for (const ParameterSpec& spec : reference::parameter_specs(config_)) {
      const auto found = sources_.find(spec.name);
      if (found == sources_.end())
        throw CheckpointError(
            fmt::format("{}: parameter {} is missing; want tensor {}", model_.path().string(), spec.name,
                        harness::quoted(is_expert_matrix(spec.name) ? published_expert_name(spec.name, 0)
                                                                    : published_name(spec.name))));
      require_one_form(found->second);
      if (!wanted || wanted(spec.name)) tensors.emplace(spec.name, read_parameter(spec, found->second));
      sources_.erase(found);
    }
    if (!sources_.empty())
      fail(*sources_.begin()->second.front().tensor,
           fmt::format("the config builds no parameter {}; want another config, or the tensor away",
                       sources_.begin()->first));
    return tensors;
  }

 private:
  [[noreturn]] void fail(const StoredTensor& tensor, const std::string& what) const {
    throw CheckpointError(
        fmt::format("{}: tensor {}: {}", model_.file_of(tensor).string(), harness::quoted(tensor.name), what));
  }

  // A parameter comes whole, or fused, or expert by expert; never twice.
  void require_one_form(const std::vector<Source>& sources) const {
    for (std::size_t i = 1; i < sources.size(); ++i)
      if (sources[i].target.form != Form::expert || sources[0].target.form != Form::expert)
        fail(*sources[i].tensor, fmt::format("{} already comes from {}; want one of them", sources[i].target.parameter,
                                             harness::quoted(sources[0].tensor->name)));
  }

  ModelTensor read_parameter(const ParameterSpec& spec, const std::vector<Source>& sources) const {
    ModelTensor result{reference::Tensor<float>(spec.shape), stored_dtype(spec.name, config_), spec.flags};
    // Which upstream sets when it draws dt_bias; a loaded one is as good as drawn.
    result.flags.no_reinit = spec.name.ends_with("dt_bias");
    switch (sources[0].target.form) {
      case Form::expert:
        read_experts(spec, sources, result);
        break;
      case Form::fused_experts:
        read_fused_experts(spec, *sources[0].tensor, result);
        break;
      default:
        read_whole(spec, *sources[0].tensor, result);
        break;
    }
    return result;
  }

  void require(const StoredTensor& tensor, const Shape& shape) const {
    if (tensor.dtype != DType::float32 && tensor.dtype != DType::bfloat16)
      fail(tensor, fmt::format("dtype is {}; want F32 or BF16", safetensors_name(tensor.dtype)));
    if (tensor.shape != shape)
      fail(tensor, fmt::format("shape is {}; want {}", to_string(tensor.shape), to_string(shape)));
  }

  void read_whole(const ParameterSpec& spec, const StoredTensor& tensor, ModelTensor& result) const {
    require(tensor, spec.shape);
    for (std::int64_t i = 0; i < result.values.size(); ++i)
      result.values[i] =
          round_to(result.dtype, load_float(tensor.dtype, tensor.bytes.data(), static_cast<std::size_t>(i)));
  }

  // The file has [out, in] for each expert, the parameter [experts, in, out].
  void read_experts(const ParameterSpec& spec, const std::vector<Source>& sources, ModelTensor& result) const {
    const std::int64_t experts = spec.shape[0], in = spec.shape[1], out = spec.shape[2];
    std::vector<const StoredTensor*> of_expert(static_cast<std::size_t>(experts));
    for (const Source& source : sources) {
      if (source.target.expert >= experts)
        fail(*source.tensor,
             fmt::format("expert {} of {}; want another config, or the tensor away", source.target.expert, experts));
      const StoredTensor*& slot = of_expert[static_cast<std::size_t>(source.target.expert)];
      if (slot) fail(*source.tensor, "the expert is also " + harness::quoted(slot->name) + "; want it once");
      slot = source.tensor;
    }
    for (std::int64_t e = 0; e < experts; ++e) {
      const StoredTensor* tensor = of_expert[static_cast<std::size_t>(e)];
      if (!tensor)
        throw CheckpointError(fmt::format("{}: expert {} of {} is missing; want tensor {}", model_.path().string(), e,
                                          spec.name, harness::quoted(published_expert_name(spec.name, e))));
      require(*tensor, {out, in});
      copy_transposed(tensor->dtype, tensor->bytes.data(), out, in, result.dtype, result.values.data() + e * in * out);
    }
  }

  void read_fused_experts(const ParameterSpec& spec, const StoredTensor& tensor, ModelTensor& result) const {
    const std::int64_t experts = spec.shape[0], in = spec.shape[1], out = spec.shape[2];
    require(tensor, {experts, out, in});
    const auto matrix_bytes = static_cast<std::int64_t>(size_of(tensor.dtype)) * in * out;
    for (std::int64_t e = 0; e < experts; ++e)
      copy_transposed(tensor.dtype, tensor.bytes.data() + e * matrix_bytes, out, in, result.dtype,
                      result.values.data() + e * in * out);
  }

  const SafetensorsModel& model_;
  const Config& config_;
  std::map<std::string, std::vector<Source>> sources_;
};

// ---- writing

class CheckpointWriter {
 public:
  void add(std::string name, std::span<const float> values, ModelDtype dtype, Shape shape) {
    bytes_.push_back(to_bytes(values, dtype));
    stored_.push_back({.name = std::move(name),
                       .dtype = dtype == ModelDtype::bfloat16 ? DType::bfloat16 : DType::float32,
                       .shape = std::move(shape),
                       .bytes = bytes_.back()});
  }

  void add_experts(const std::string& parameter, const ModelTensor& tensor) {
    const std::int64_t experts = tensor.values.dim(0), in = tensor.values.dim(1), out = tensor.values.dim(2);
    std::vector<float> matrix(static_cast<std::size_t>(in * out));
    for (std::int64_t e = 0; e < experts; ++e) {
      const float* from = tensor.values.data() + e * in * out;
      for (std::int64_t i = 0; i < in; ++i)
        for (std::int64_t o = 0; o < out; ++o) matrix[static_cast<std::size_t>(o * in + i)] = from[i * out + o];
      add(published_expert_name(parameter, e), matrix, tensor.dtype, {out, in});
    }
  }

  std::span<const StoredTensor> tensors() const { return stored_; }

 private:
  std::vector<std::vector<std::byte>> bytes_;  // the buffers stay where they are when the vector grows
  std::vector<StoredTensor> stored_;
};

}  // namespace

std::optional<CheckpointTarget> checkpoint_target(std::string_view name, const Config& config) {
  if (name == "lm_head.weight") return CheckpointTarget{.parameter = std::string(name)};
  std::string_view rest = name;
  if (take_prefix(rest, "mtp.")) return layer_target(rest, "mtp.", config.mtp_sublayers());
  if (!take_prefix(rest, "backbone.") && !take_prefix(rest, "model.")) return std::nullopt;
  if (rest == "embeddings.weight" || rest == "embed_tokens.weight")
    return CheckpointTarget{.parameter = "model.embed_tokens.weight"};
  if (rest == "norm_f.weight" || rest == "norm.weight") return CheckpointTarget{.parameter = "model.norm.weight"};
  return layer_target(rest, "model.", config.num_hidden_layers());
}

ModelTensors read_checkpoint(const SafetensorsModel& model, const Config& config,
                             const std::function<bool(std::string_view)>& wanted) {
  require_storable("read_checkpoint", config.torch_dtype);
  return CheckpointReader(model, config).read(wanted);
}

void write_checkpoint(const std::filesystem::path& folder, const ModelTensors& tensors, const Config& config,
                      std::uint64_t shard_bytes) {
  require_storable("write_checkpoint", config.torch_dtype);
  CheckpointWriter writer;
  for (const ParameterSpec& spec : reference::parameter_specs(config)) {
    const auto found = tensors.find(spec.name);
    if (found == tensors.end())
      throw CheckpointError(fmt::format("{}: parameter {} is missing", folder.string(), spec.name));
    const ModelTensor& tensor = found->second;
    if (tensor.values.shape() != spec.shape)
      throw CheckpointError(fmt::format("{}: parameter {} has shape {}; want {}", folder.string(), spec.name,
                                        to_string(tensor.values.shape()), to_string(spec.shape)));
    if (tensor.dtype != stored_dtype(spec.name, config))
      throw CheckpointError(fmt::format("{}: parameter {} is {}; want {}", folder.string(), spec.name,
                                        name(tensor.dtype), name(stored_dtype(spec.name, config))));
    if (is_expert_matrix(spec.name))
      writer.add_experts(spec.name, tensor);
    else
      writer.add(published_name(spec.name), tensor.values.span(), tensor.dtype, spec.shape);
  }
  write_safetensors_model(folder, writer.tensors(), shard_bytes);
  write_model_config(config, folder / "config.json");
}

}  // namespace assay::harness
