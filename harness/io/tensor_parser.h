// One member of a fixture's "tensors", from the events of its JSON. Private to io.
#pragma once

#include <optional>
#include <string>

#include "harness/core/call.h"
#include "harness/io/strict_json.h"

namespace assay::harness {

inline constexpr std::size_t kMaxRank = 8;

// Fed with what lies inside {"dtype", "shape", "data"}, at any order of the keys; elements are converted as they come.
// A dtype that stands behind the data is legal JSON: then the data waits as text. Every error is a JsonError.
class TensorParser {
 public:
  explicit TensorParser(std::string name) { tensor_.name = std::move(name); }

  void begin(const JsonPath& path, bool object);
  void value(const JsonPath& path, const JsonScalar& s);
  HostTensor finish(const JsonPath& path);  // `path` is that of the tensor

 private:
  void member(const JsonPath& path, const JsonScalar& s);
  void axis(const JsonPath& path, const JsonScalar& s);
  void element(const JsonPath& path, const JsonScalar& s);
  void remember(const JsonScalar& s);
  void replay(const JsonPath& path);
  std::int64_t count_wanted(const JsonPath& path) const;

  HostTensor tensor_;
  std::optional<DType> dtype_;
  std::optional<Shape> shape_;
  bool data_seen_ = false;
  std::int64_t count_ = 0;
  std::string waiting_;
};

}  // namespace assay::harness
