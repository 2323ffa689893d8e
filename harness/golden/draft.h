// A fixture in the making: inputs drawn by seed and name, and the names of what is to be recorded.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "harness/golden/fixture_reader.h"
#include "harness/golden/golden.h"

namespace assay::harness {

// Evaluates the layer and fills in the tensors that have no values; what they are judged by, in the order of the layer.
// Throws std::logic_error if a tensor is left without values.
std::vector<GoldenTensor> record(Fixture& fixture);

class Draft {
 public:
  // The numbers of a tensor depend on `name` and the tensor's name alone, so the files of both dtypes begin alike.
  // The file's name is `name` with "_f32" or "_bf16".
  Draft(const std::string& name, std::string layer, std::string path, reference::NemotronV3Config config, DType model);

  DType model() const { return model_; }
  const reference::NemotronV3Config& config() const { return config_; }

  Draft& attribute(const std::string& name, nlohmann::ordered_json value);
  // mean + std N(0, 1), in the model's dtype.
  Draft& normal(const std::string& name, Shape shape, double std = 1, double mean = 0);
  Draft& normal_float32(const std::string& name, Shape shape, double std = 1, double mean = 0);
  Draft& ids(const std::string& name, Shape shape, Index end);
  Draft& values(const std::string& name, DType dtype, Shape shape, const std::vector<double>& values);
  // Values where a trained layer has them: norms near 1, A negative, dt bias as initialised, products of unit size.
  Draft& parameters(const std::vector<FixtureReader::NamedShape>& shapes);

  Draft& expect(const std::string& name, Shape shape);  // in the model's dtype
  Draft& expect(const std::string& name, DType dtype, Shape shape);
  Draft& expect_gradients_of_parameters();

  // Inputs with their values, expected tensors without.
  Fixture unrecorded() && { return std::move(fixture_); }

 private:
  HostTensor& add(const std::string& name, DType dtype, Shape shape);
  Draft& normal_as(const std::string& name, DType dtype, Shape shape, double std, double mean);

  Fixture fixture_;
  std::string stream_;
  reference::NemotronV3Config config_;
  DType model_;
};

}  // namespace assay::harness
