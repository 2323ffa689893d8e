#include "harness/io/checkpoint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "harness/io/model_config.h"
#include "harness/io/temporary_folder.h"
#include "reference/init/initialize.h"
#include "reference/init/mt19937.h"
#include "reference/init/parameter_specs.h"

namespace assay::harness {
namespace {

namespace fs = std::filesystem;
using reference::ModelDtype;
using reference::ModelTensors;
using Config = reference::NemotronV3Config;

const fs::path kGolden = ASSAY_GOLDEN;

fs::path recorded(const char* dtype) { return kGolden / "upstream" / (std::string("hf_checkpoint_") + dtype); }

template <class Action>
std::string complaint(Action action) {
  try {
    action();
  } catch (const CheckpointError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no CheckpointError";
  return "";
}

bool same_bits(const ModelTensors& a, const ModelTensors& b) {
  return std::ranges::equal(a, b, [](const auto& x, const auto& y) {
    const auto bytes = [](const auto& tensor) { return std::as_bytes(tensor.second.values.span()); };
    return x.first == y.first && x.second.dtype == y.second.dtype &&
           x.second.values.shape() == y.second.values.shape() && std::ranges::equal(bytes(x), bytes(y));
  });
}

ModelTensors initialised(const Config& config, std::uint64_t seed = 1) {
  reference::CpuGenerator generator(seed);
  return reference::initialize(config, generator);
}

// A recorded checkpoint whose tensors a test may rename, drop or replace before it is read.
struct Editable {
  explicit Editable(const char* dtype)
      : model(recorded(dtype)), config(read_model_config(recorded(dtype) / "config.json")) {
    for (const auto& [name, tensor] : model.tensors()) tensors.push_back(*tensor);
  }
  StoredTensor& at(std::string_view name) {
    return *std::ranges::find(tensors, name, [](const StoredTensor& t) -> std::string_view { return t.name; });
  }
  void erase(std::string_view name) {
    std::erase_if(tensors, [&](const StoredTensor& t) { return t.name == name; });
  }
  ModelTensors read(const std::function<bool(std::string_view)>& wanted = {}) const {
    const TemporaryFolder folder;
    write_safetensors_model(folder.path(), tensors);
    return read_checkpoint(SafetensorsModel(folder.path()), config, wanted);
  }

  SafetensorsModel model;
  Config config;
  std::vector<StoredTensor> tensors;
};

float stored(const StoredTensor& tensor, std::int64_t i) {
  return static_cast<float>(
      load(tensor.dtype, tensor.bytes.data() + i * static_cast<std::int64_t>(size_of(tensor.dtype))));
}

// ---- real checkpoints

TEST(Checkpoint, ReadsWhatTransformersWrites) {
  for (const char* dtype : {"f32", "bf16"}) {
    const Editable file(dtype);
    const ModelTensors tensors = file.read();
    EXPECT_EQ(tensors.size(), reference::parameter_specs(file.config).size());
    // Plain tensors keep their elements; A_log, D, dt_bias and the correction bias are float32 whatever the file has.
    for (const auto& [in_file, parameter] :
         {std::pair("backbone.embeddings.weight", "model.embed_tokens.weight"),
          {"backbone.norm_f.weight", "model.norm.weight"},
          {"lm_head.weight", "lm_head.weight"},
          {"backbone.layers.0.mixer.A_log", "model.layers.0.mixer._fp32_params.A_log"},
          {"backbone.layers.0.mixer.conv1d.weight", "model.layers.0.mixer.conv1d.weight"},
          {"backbone.layers.1.mixer.gate.e_score_correction_bias", "model.layers.1.mixer.gate.e_score_correction_bias"},
          {"backbone.layers.1.mixer.shared_experts.up_proj.weight",
           "model.layers.1.mixer.shared_experts.up_proj.weight"},
          {"backbone.layers.2.mixer.q_proj.weight", "model.layers.2.mixer.q_proj.weight"},
          {"backbone.layers.3.norm.weight", "model.layers.3.norm.weight"}}) {
      const auto& tensor = tensors.at(parameter);
      EXPECT_EQ(tensor.dtype, reference::is_kept_in_float32(parameter) ? ModelDtype::float32 : file.config.torch_dtype);
      for (std::int64_t i = 0; i < tensor.values.size(); ++i)
        ASSERT_EQ(tensor.values[i], stored(file.model.tensor(in_file), i)) << parameter << " " << i;
    }
    // Experts: [out, in] each in the file, [experts, in, out] in the model.
    const auto& up = tensors.at("model.layers.1.mixer.experts.gate_and_up_projs").values;
    const auto& down = tensors.at("model.layers.1.mixer.experts.down_projs").values;
    EXPECT_EQ(up.shape(), (Shape{8, 32, 16}));
    EXPECT_EQ(down.shape(), (Shape{8, 16, 32}));
    for (std::int64_t e = 0; e < 8; ++e) {
      const std::string expert = "backbone.layers.1.mixer.experts." + std::to_string(e);
      const StoredTensor &file_up = file.model.tensor(expert + ".up_proj.weight"),
                         &file_down = file.model.tensor(expert + ".down_proj.weight");
      for (std::int64_t d = 0; d < 32; ++d) {
        for (std::int64_t f = 0; f < 16; ++f) {
          ASSERT_EQ(up(e, d, f), stored(file_up, f * 32 + d));
          ASSERT_EQ(down(e, f, d), stored(file_down, d * 16 + f));
        }
      }
    }
    EXPECT_TRUE(tensors.at("model.layers.0.mixer._fp32_params.D").flags.no_weight_decay);
    EXPECT_TRUE(tensors.at("model.layers.0.mixer._fp32_params.dt_bias").flags.no_reinit);
  }
}

TEST(Checkpoint, AnotherModelDtypeRoundsOnceAndSparesTheFloat32Tensors) {
  Editable file("f32");
  const ModelTensors exact = file.read();
  file.config.torch_dtype = ModelDtype::bfloat16;
  for (const auto& [name, tensor] : file.read()) {
    const bool kept = reference::is_kept_in_float32(name);
    for (std::int64_t i = 0; i < tensor.values.size(); ++i) {
      const float value = exact.at(name).values[i];
      ASSERT_EQ(tensor.values[i], kept ? value : reference::round_to_bfloat16(value)) << name;
    }
  }
}

// ---- round trips

TEST(Checkpoint, RoundTripIsBitExact) {
  for (const char* name : {"tiny", "tiny-all", "tiny-plain"}) {
    for (const ModelDtype dtype : {ModelDtype::float32, ModelDtype::bfloat16}) {
      for (const std::uint64_t shard : {std::uint64_t{1} << 30, std::uint64_t{10000}}) {
        Config config = preset(name, kGolden);
        config.torch_dtype = dtype;
        const TemporaryFolder folder;
        const ModelTensors before = initialised(config);
        write_checkpoint(folder.path(), before, config, shard);
        EXPECT_EQ(fs::exists(folder / "model.safetensors.index.json"), shard == 10000);
        EXPECT_EQ(read_model_config(folder / "config.json"), config);
        EXPECT_TRUE(same_bits(read_checkpoint(SafetensorsModel(folder.path()), config), before)) << name;
      }
    }
  }
}

TEST(Checkpoint, WritesPublishedNamesAndFloat32) {
  const Config config = preset("tiny", kGolden);
  const TemporaryFolder folder;
  write_checkpoint(folder.path(), initialised(config), config);
  const SafetensorsModel model(folder.path());
  for (const char* name : {"A_log", "D", "dt_bias"})
    EXPECT_EQ(model.tensor(std::string("backbone.layers.0.mixer.") + name).dtype, DType::float32);
  EXPECT_EQ(model.tensor("backbone.layers.1.mixer.gate.e_score_correction_bias").dtype, DType::float32);
  EXPECT_EQ(model.tensor("backbone.embeddings.weight").dtype, DType::bfloat16);
  EXPECT_EQ(model.tensor("backbone.layers.1.mixer.experts.7.up_proj.weight").shape, (Shape{16, 32}));
  EXPECT_EQ(model.tensor("mtp.layers.1.mixer.experts.0.down_proj.weight").shape, (Shape{32, 16}));
  EXPECT_NE(model.find("mtp.layers.0.eh_proj.weight"), nullptr);
  EXPECT_NE(model.find("backbone.norm_f.weight"), nullptr);
}

TEST(Checkpoint, WritesBackTheNamesOfTheRecording) {
  const Editable file("f32");
  const TemporaryFolder folder;
  write_checkpoint(folder.path(), file.read(), file.config);
  const SafetensorsModel again(folder.path());
  ASSERT_EQ(again.tensors().size(), file.model.tensors().size());
  for (const auto& [name, tensor] : file.model.tensors()) {
    EXPECT_EQ(again.tensor(name).shape, tensor->shape) << name;
    EXPECT_TRUE(std::ranges::equal(again.tensor(name).bytes, tensor->bytes)) << name;
  }
}

// ---- other spellings, and what is left out

TEST(Checkpoint, ModelPrefixAndFusedExperts) {
  Editable file("bf16");
  const ModelTensors before = file.read();
  // As transformers holds them in memory: model.*, all experts of a matrix in one tensor, not transposed.
  std::vector<std::byte> up, down;
  for (int e = 0; e < 8; ++e) {
    for (const auto& [matrix, fused] : {std::pair("up", &up), {"down", &down}}) {
      const std::string name = "backbone.layers.1.mixer.experts." + std::to_string(e) + "." + matrix + "_proj.weight";
      const auto bytes = file.model.tensor(name).bytes;
      fused->insert(fused->end(), bytes.begin(), bytes.end());
      file.erase(name);
    }
  }
  file.tensors.push_back({"backbone.layers.1.mixer.experts.up_proj", DType::bfloat16, {8, 16, 32}, up});
  file.tensors.push_back({"backbone.layers.1.mixer.experts.down_proj", DType::bfloat16, {8, 32, 16}, down});
  for (StoredTensor& tensor : file.tensors)
    if (tensor.name.starts_with("backbone.")) tensor.name.replace(0, 8, "model");
  EXPECT_TRUE(same_bits(file.read(), before));
  file.at("model.embeddings.weight").name = "model.embed_tokens.weight";
  file.at("model.norm_f.weight").name = "model.norm.weight";
  EXPECT_TRUE(same_bits(file.read(), before));
}

TEST(Checkpoint, UpstreamsOwnNames) {
  Editable file("f32");
  const ModelTensors before = file.read();
  for (const char* kept : {"A_log", "D", "dt_bias"})
    file.at(std::string("backbone.layers.0.mixer.") + kept).name =
        std::string("model.layers.0.mixer._fp32_params.") + kept;
  EXPECT_TRUE(same_bits(file.read(), before));
}

TEST(Checkpoint, LeavesOutWhatTheModelDoesNotBuild) {
  Editable file("f32");
  ModelTensors whole = file.read();
  const std::byte four[16] = {};
  file.tensors.push_back({"backbone.layers.1.mixer.experts.3.gate_proj.weight", DType::float32, {4}, four});
  file.tensors.push_back({"mtp.layers.0.norm.weight", DType::float32, {4}, four});
  EXPECT_TRUE(same_bits(file.read(), whole));
  file.config.layers_block_type.resize(2);
  std::erase_if(whole, [](const auto& entry) {
    return entry.first.starts_with("model.layers.2.") || entry.first.starts_with("model.layers.3.");
  });
  EXPECT_TRUE(same_bits(file.read(), whole));
}

TEST(Checkpoint, ReadsOneLayerAlone) {
  const Editable file("f32");
  const ModelTensors layer = file.read([](std::string_view name) { return name.starts_with("model.layers.1."); });
  EXPECT_EQ(layer.size(), 7u);
  EXPECT_TRUE(layer.contains("model.layers.1.mixer.experts.down_projs"));
}

// ---- what is refused

TEST(Checkpoint, RefusesByFileAndTensor) {
  const auto message = [](auto edit) {
    Editable file("f32");
    edit(file);
    const std::string text = complaint([&] { file.read(); });
    EXPECT_NE(text.find("model.safetensors: "), text.npos) << text;
    return text;
  };
  const auto expect = [&](const char* part, auto edit) {
    const std::string text = message(edit);
    EXPECT_NE(text.find(part), text.npos) << text;
  };
  const std::string expert = "backbone.layers.1.mixer.experts.";
  expect("parameter lm_head.weight is missing; want tensor \"lm_head.weight\"",
         [](Editable& f) { f.erase("lm_head.weight"); });
  expect("want tensor \"backbone.layers.0.mixer.D\"", [](Editable& f) { f.erase("backbone.layers.0.mixer.D"); });
  expect(
      "expert 5 of model.layers.1.mixer.experts.gate_and_up_projs is missing; want tensor "
      "\"backbone.layers.1.mixer.experts.5.up_proj.weight\"",
      [&](Editable& f) { f.erase(expert + "5.up_proj.weight"); });
  expect("experts.down_projs is missing", [&](Editable& f) {
    for (int e = 0; e < 8; ++e) f.erase(expert + std::to_string(e) + ".down_proj.weight");
  });
  expect("expert 8 of 8", [&](Editable& f) { f.at(expert + "0.up_proj.weight").name = expert + "8.up_proj.weight"; });
  expect("tensor \"lm_head.bias\": belongs to no part",
         [](Editable& f) { f.at("lm_head.weight").name = "lm_head.bias"; });
  expect("belongs to no part", [](Editable& f) { f.at("lm_head.weight").name = "backbone.layers.x.norm.weight"; });
  expect("belongs to no part", [](Editable& f) { f.at("lm_head.weight").name = "backbone.layers.-1.norm.weight"; });
  expect("belongs to no part", [](Editable& f) { f.at("lm_head.weight").name = "backbone.layers.01.norm.weight"; });
  expect("builds no parameter model.layers.0.mixer.q_proj.weight", [](Editable& f) {
    f.tensors.push_back(f.at("lm_head.weight"));
    f.tensors.back().name = "backbone.layers.0.mixer.q_proj.weight";
  });
  expect("tensor \"model.norm.weight\": model.norm.weight already comes from \"backbone.norm_f.weight\"",
         [](Editable& f) {
           f.tensors.push_back(f.at("backbone.norm_f.weight"));
           f.tensors.back().name = "model.norm.weight";
         });
  expect("the expert is also", [&](Editable& f) {
    f.tensors.push_back(f.at(expert + "0.up_proj.weight"));
    f.tensors.back().name.replace(0, 8, "model");
  });
  expect("tensor \"backbone.layers.3.mixer.up_proj.weight\": shape is [32, 48]; want [48, 32]", [](Editable& f) {
    f.at("backbone.layers.3.mixer.up_proj.weight").shape = {32, 48};
  });
  expect("experts.2.down_proj.weight\": shape is [16, 32]; want [32, 16]", [&](Editable& f) {
    f.at(expert + "2.down_proj.weight").shape = {16, 32};
  });
  expect("dtype is I32; want F32 or BF16", [](Editable& f) { f.at("lm_head.weight").dtype = DType::int32; });
}

TEST(Checkpoint, RefusesToWriteWhatIsNotTheModel) {
  const Config config = preset("tiny", kGolden);
  const TemporaryFolder folder;
  const ModelTensors right = initialised(config);
  const auto refuse = [&](auto edit, const char* part) {
    ModelTensors tensors = right;
    edit(tensors);
    const std::string text = complaint([&] { write_checkpoint(folder.path(), tensors, config); });
    EXPECT_NE(text.find(part), text.npos) << text;
  };
  refuse([](ModelTensors& t) { t.erase("lm_head.weight"); }, "lm_head.weight is missing");
  refuse([](ModelTensors& t) { t.at("model.norm.weight").values = reference::Tensor<float>({31}); },
         "shape [31]; want [32]");
  refuse([](ModelTensors& t) { t.at("model.norm.weight").dtype = ModelDtype::float32; }, "is float32; want bfloat16");
  refuse([](ModelTensors& t) { t.at("model.layers.0.mixer._fp32_params.D").dtype = ModelDtype::bfloat16; },
         "is bfloat16; want float32");
  EXPECT_TRUE(fs::is_empty(folder.path()));
  Config wide = config;
  wide.torch_dtype = ModelDtype::float64;
  EXPECT_THROW(write_checkpoint(folder.path(), right, wide), std::invalid_argument);
}

}  // namespace
}  // namespace assay::harness
