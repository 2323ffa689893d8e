// A decoded `run` frame.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "harness/abi/assay_candidate.h"
#include "harness/worker/layout.h"
#include "harness/worker/protocol.h"

namespace assay::harness {

struct RequestAttribute {
  std::string name;
  assay_attribute_kind kind;
  std::int64_t int_value = 0;
  double float_value = 0;
  std::string string_value;
};

struct RequestTensor {
  std::string name;
  assay_role role;
  bool written_saved = false;
  DLDataType dtype;
  std::vector<std::int64_t> shape, strides;
  std::uint64_t slot_offset = 0, slot_bytes = 0;

  bool is_read() const {
    return role == ASSAY_ROLE_IN || role == ASSAY_ROLE_INOUT || (role == ASSAY_ROLE_SAVED && !written_saved);
  }
  bool must_stay() const { return role == ASSAY_ROLE_IN || (role == ASSAY_ROLE_SAVED && !written_saved); }
  bool comes_back() const { return !must_stay(); }
  bool is_judged_written() const { return role == ASSAY_ROLE_OUT || role == ASSAY_ROLE_TAP; }
  std::size_t element_bytes() const { return dtype.bits / 8; }
};

struct Request {
  std::uint64_t shared_bytes = 0, memory_limit = 0, seed = 0;
  std::int32_t schedule = -1;
  int poison = 0;
  bool count = false;
  std::string op;
  std::vector<RequestAttribute> attributes;
  std::vector<RequestTensor> tensors;
};

// Throws protocol::Malformed.
Request decode_request(protocol::Decoder& in);

}  // namespace assay::harness
