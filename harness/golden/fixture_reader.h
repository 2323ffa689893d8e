// A fixture as a layer takes it apart: every tensor and attribute that the layer knows is asked for by name, dtype and
// shape, before anything is computed; what nobody asked for is an error.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "harness/io/fixture.h"
#include "reference/config.h"
#include "reference/parameters.h"

namespace assay::harness {

using Index = std::int64_t;
constexpr Index kAny = -1;  // in a wanted shape: any size

enum class Dtypes {
  model,             // the model's dtype
  float32,           // float32 whatever the model's dtype is
  model_or_float32,  // residual streams, states, losses
  floating,          // float32 or bfloat16
  whole,             // int64 or int32
  mask,              // bool, uint8, int64, int32: 0 or 1 each
  any,
};

class FixtureReader {
 public:
  // `model_tensor` has the model's dtype: float32 or bfloat16, and the one that the config names, if it does.
  FixtureReader(const Fixture& fixture, std::string_view model_tensor);
  // The same where no tensor of the file is in the model's dtype: that of the config.
  explicit FixtureReader(const Fixture& fixture);

  const Fixture& fixture() const { return fixture_; }
  DType model() const { return model_; }
  // Throws FixtureError: "FILE: POINTER: TEXT".
  [[noreturn]] void fail(const std::string& pointer, const std::string& text) const;

  // The config, valid for a model whose layers are of these types; by default of those that it names.
  reference::NemotronV3Config config() const;
  reference::NemotronV3Config config(reference::BlockType layer) const;

  // ---- attributes
  const nlohmann::ordered_json* attribute(const std::string& name);  // null if absent
  Index integer(const std::string& name, Index low, Index high);
  double number(const std::string& name);  // infinity as config.json may spell it
  bool boolean(const std::string& name, std::optional<bool> if_absent = {});

  // ---- tensors
  const HostTensor& require(const std::string& name, Dtypes dtypes, const Shape& shape);
  const HostTensor* allow(const std::string& name, Dtypes dtypes, const Shape& shape);  // null if absent
  // input.hidden_states [B, S, width], or where `packed` [T, width]; output.hidden_states and gradients of that shape.
  Shape hidden_states(Index width, bool packed = false);
  // Every parameter and buffer of these, and their gradients, which may be absent.
  struct NamedShape {
    std::string name;
    Shape shape;
    bool is_buffer = false, in_float32 = false;
  };
  void parameters(const std::vector<NamedShape>& wanted);
  // Ids within [0, end), or one of the others.
  void check_range(const std::string& name, Index end, std::optional<Index> other = {}) const;

  // True if any gradient is recorded; the incoming one must be there then.
  bool has_gradients() const;
  // Throws FixtureError naming the first tensor or attribute that nobody asked for.
  void finish() const;

 private:
  const HostTensor& checked(const HostTensor& t, Dtypes dtypes, const Shape& shape);
  reference::NemotronV3Config parsed_config() const;
  void validate(const reference::NemotronV3Config& config) const;

  const Fixture& fixture_;
  DType model_ = DType::float32;
  std::set<std::string, std::less<>> known_tensors_, known_attributes_;
};

// Is the tensor one that must come out: "output.*", "grad.*" but for the incoming "grad.output.*", of a step, too, and
// what generation and initialisation leave?
bool is_expected(std::string_view tensor);

// A tensor that is about to be recorded has no values yet. `own`, rounded to its dtype, stands for them.
bool has_values(const HostTensor& t);
std::vector<double> values_or(const HostTensor& t, const std::vector<double>& own);

template <class T>
reference::Tensor<T> to_tensor(const HostTensor& t) {
  reference::Tensor<T> result(reference::Shape(t.shape.begin(), t.shape.end()));
  for (Index i = 0; i < result.size(); ++i) result[i] = static_cast<T>(t.at(i));
  return result;
}
template <class T>
std::optional<reference::Tensor<T>> to_tensor(const HostTensor* t) {
  if (!t) return std::nullopt;
  return to_tensor<T>(*t);
}

// The fixture's param.* and buffer.* without these prefixes.
template <class T>
reference::Parameters<T> parameters_of(const Fixture& fixture) {
  reference::Parameters<T> parameters;
  for (const HostTensor& t : fixture.tensors)
    for (const std::string prefix : {"param.", "buffer."})
      if (t.name.starts_with(prefix))
        parameters.set(t.name.substr(prefix.size()), to_tensor<T>(t), {.is_buffer = prefix == "buffer."});
  return parameters;
}

// Parameters of a layer of the config's block type, by their names below "mixer."; or of the whole model.
std::vector<FixtureReader::NamedShape> mixer_shapes(const reference::NemotronV3Config& config,
                                                    reference::BlockType type, const std::string& below = "mixer.");
std::vector<FixtureReader::NamedShape> model_shapes(const reference::NemotronV3Config& config);

}  // namespace assay::harness
