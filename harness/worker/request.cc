#include "harness/worker/request.h"

namespace assay::harness {
namespace {

using protocol::Decoder;
using protocol::Malformed;

RequestAttribute decode_attribute(Decoder& in) {
  RequestAttribute a;
  a.name = in.text();
  a.kind = in.choice(ASSAY_ATTRIBUTE_STRING);
  if (a.kind == ASSAY_ATTRIBUTE_INT) a.int_value = in.get<std::int64_t>();
  if (a.kind == ASSAY_ATTRIBUTE_FLOAT) a.float_value = in.get<double>();
  if (a.kind == ASSAY_ATTRIBUTE_STRING) a.string_value = in.text();
  return a;
}

RequestTensor decode_tensor(Decoder& in, std::uint64_t shared_bytes) {
  RequestTensor t;
  t.name = in.text();
  t.role = in.choice(ASSAY_ROLE_TAP);
  t.written_saved = (in.get<std::uint32_t>() & protocol::kTensorIsWritten) != 0;
  t.dtype.code = in.get<std::uint8_t>();
  t.dtype.bits = in.get<std::uint8_t>();
  t.dtype.lanes = in.get<std::uint16_t>();
  if (t.dtype.lanes != 1 || (t.dtype.bits != 8 && t.dtype.bits != 16 && t.dtype.bits != 32 && t.dtype.bits != 64)) {
    throw Malformed{"a dtype that is not of 8, 16, 32 or 64 bits and one lane"};
  }
  const std::uint32_t rank = in.count(2 * sizeof(std::int64_t));
  std::uint64_t elements = 1;
  for (std::uint32_t i = 0; i < rank; ++i) {
    t.shape.push_back(in.get<std::int64_t>());
    if (t.shape.back() < 0 || __builtin_mul_overflow(elements, static_cast<std::uint64_t>(t.shape.back()), &elements)) {
      throw Malformed{"a shape that is negative or too large"};
    }
  }
  for (std::uint32_t i = 0; i < rank; ++i) t.strides.push_back(in.get<std::int64_t>());
  t.slot_offset = in.get<std::uint64_t>();
  t.slot_bytes = in.get<std::uint64_t>();
  if (t.slot_bytes > shared_bytes || t.slot_offset > shared_bytes - t.slot_bytes)
    throw Malformed{"a slot outside the shared file"};
  if (!t.written_saved && elements > t.slot_bytes / t.element_bytes())
    throw Malformed{"a slot smaller than its tensor"};
  return t;
}

}  // namespace

Request decode_request(Decoder& in) {
  Request r;
  r.shared_bytes = in.get<std::uint64_t>();
  r.memory_limit = in.get<std::uint64_t>();
  r.seed = in.get<std::uint64_t>();
  r.schedule = in.get<std::int32_t>();
  r.poison = in.get<std::uint32_t>() != 0;
  r.count = in.get<std::uint32_t>() != 0;
  r.op = in.text();
  for (std::uint32_t left = in.count(8); left > 0; --left) r.attributes.push_back(decode_attribute(in));
  for (std::uint32_t left = in.count(32); left > 0; --left) r.tensors.push_back(decode_tensor(in, r.shared_bytes));
  in.end();
  return r;
}

}  // namespace assay::harness
