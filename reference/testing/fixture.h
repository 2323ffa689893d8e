// For tests only: reads a golden fixture and trusts it. The harness has the reader that trusts nothing.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reference/config.h"
#include "reference/tensor.h"

namespace assay::reference::testing {

struct FixtureTensor {
  std::string name;
  std::string dtype;  // "float32", "bfloat16", "int64", "bool", ...
  Shape shape;
  std::vector<double> data;

  template <class T>
  Tensor<T> as() const {
    return Tensor<T>(shape, std::vector<T>(data.begin(), data.end()));
  }
};

struct Fixture {
  std::string name, layer, path;
  nlohmann::json config, attributes;
  std::vector<FixtureTensor> tensors;  // in the order of the file

  const FixtureTensor* find(std::string_view tensor) const;
  // Throws std::out_of_range naming the fixture and the tensor.
  const FixtureTensor& operator[](std::string_view tensor) const;
  NemotronV3Config model_config() const;  // fields that the file does not name keep their defaults
};

// golden/upstream/NAME.json
Fixture load_fixture(const std::string& name);

// Recordings in golden/upstream whose names begin so, sorted.
std::vector<std::string> fixture_names(const std::string& prefix);
nlohmann::json load_json(const std::string& file);

}  // namespace assay::reference::testing
