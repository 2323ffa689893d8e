#include "harness/worker/wire.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "harness/worker/captured_output.h"

namespace assay::harness {
namespace {

using protocol::Decoder;
using protocol::Encoder;
using protocol::Frame;
using protocol::LoadStatus;
using protocol::Malformed;
using protocol::RunStatus;

Shape compact_strides(const Shape& shape) {
  Shape strides(shape.size(), 1);
  for (std::size_t axis = shape.size(); axis-- > 1;)
    strides[axis - 1] = strides[axis] * std::max<std::int64_t>(shape[axis], 1);
  return strides;
}

// Elements from the first to the last, gaps included; saturates.
std::uint64_t span_of(const HostTensor& t) {
  if (t.size() == 0) return 0;
  if (t.strides.empty()) return static_cast<std::uint64_t>(t.size());
  std::uint64_t span = 1;
  for (std::size_t axis = 0; axis < t.shape.size(); ++axis) {
    std::uint64_t reach = 0;
    if (__builtin_mul_overflow(static_cast<std::uint64_t>(t.shape[axis] - 1),
                               static_cast<std::uint64_t>(t.strides[axis]), &reach) ||
        __builtin_add_overflow(span, reach, &span)) {
      return std::numeric_limits<std::uint64_t>::max();
    }
  }
  return span;
}

// Sufficient, and true of every view that a model makes: from the innermost axis outwards each stride steps over all
// that lies inside it.
bool overlaps_itself(const HostTensor& t) {
  if (t.size() == 0) return false;  // whatever its strides are
  std::vector<std::pair<std::int64_t, std::int64_t>> axes;  // stride, extent
  for (std::size_t axis = 0; axis < t.strides.size(); ++axis) {
    if (t.shape[axis] > 1) axes.emplace_back(t.strides[axis], t.shape[axis]);
  }
  std::sort(axes.begin(), axes.end());
  std::int64_t span = 1;
  for (const auto& [stride, extent] : axes) {
    if (stride < span) return true;
    if (__builtin_mul_overflow(stride, extent - 1, &span) || __builtin_add_overflow(span, stride, &span)) return false;
  }
  return false;
}

void check(const std::string& op, const HostTensor& t) {
  const auto fail = [&](const std::string& what) {
    throw std::invalid_argument(fmt::format("{}: {}: {}", op, t.name, what));
  };
  const bool carries_bytes =
      t.role == Role::in || t.role == Role::inout || (t.role == Role::saved && !is_written_saved(t));
  const auto wanted = static_cast<std::uint64_t>(t.size()) * size_of(t.dtype);
  if (carries_bytes && t.bytes.size() != wanted) {
    fail(fmt::format("{} bytes; shape {} needs {}", t.bytes.size(), to_string(t.shape), wanted));
  }
  if (t.role == Role::saved && (t.dtype != DType::uint8 || t.shape.size() > 1 || !t.strides.empty())) {
    fail(fmt::format("saved, {} {}; want uint8 of shape [] (to be written) or [bytes] (to be read), compact",
                     name(t.dtype), to_string(t.shape)));
  }
  if (!t.strides.empty() && t.strides.size() != t.shape.size()) {
    fail(fmt::format("{} strides for shape {}", t.strides.size(), to_string(t.shape)));
  }
  if (std::any_of(t.strides.begin(), t.strides.end(), [](std::int64_t stride) { return stride < 0; })) {
    fail(fmt::format("strides {}; want none negative", to_string(t.strides)));
  }
  if (t.role != Role::in && overlaps_itself(t)) {
    fail(fmt::format("shape {}, strides {}: elements overlap; only inputs may", to_string(t.shape),
                     to_string(t.strides)));
  }
}

std::uint64_t compact_bytes(const HostTensor& t) { return static_cast<std::uint64_t>(t.size()) * size_of(t.dtype); }

void encode(Encoder& out, const HostTensor& t, const Slot& slot) {
  const Shape shape = is_written_saved(t) ? Shape{0} : t.shape;
  const DLDataType dtype = to_dlpack(t.dtype);
  out.put(std::string_view(t.name));
  out.put(static_cast<std::uint32_t>(t.role));
  out.put(is_written_saved(t) ? protocol::kTensorIsWritten : std::uint32_t{0});
  out.put(dtype.code);
  out.put(dtype.bits);
  out.put(dtype.lanes);
  out.put(static_cast<std::uint32_t>(shape.size()));
  for (const std::int64_t extent : shape) out.put(extent);
  for (const std::int64_t stride : t.strides.empty() ? compact_strides(shape) : t.strides) out.put(stride);
  out.put(slot.offset);
  out.put(slot.bytes);
}

void encode(Encoder& out, const AttributeValue& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    out.put(std::uint32_t{ASSAY_ATTRIBUTE_INT});
    out.put(*integer);
  } else if (const auto* real = std::get_if<double>(&value)) {
    out.put(std::uint32_t{ASSAY_ATTRIBUTE_FLOAT});
    out.put(*real);
  } else {
    out.put(std::uint32_t{ASSAY_ATTRIBUTE_STRING});
    out.put(std::string_view(std::get<std::string>(value)));
  }
}

std::size_t tensor_index(Decoder& in, const Call& call) {
  const auto index = in.get<std::uint32_t>();
  if (index >= call.tensors.size()) throw Malformed{"a tensor that is not in the call"};
  return index;
}

FenceViolation decode_fence(Decoder& in, const Call& call) {
  const auto index = in.get<std::uint32_t>();
  if (index >= call.tensors.size() && index != protocol::kWorkspaceIndex)
    throw Malformed{"a fence of no tensor in the call"};
  FenceViolation violation;
  violation.tensor = index == protocol::kWorkspaceIndex ? "workspace" : call.tensors[index].name;
  violation.where = static_cast<FenceViolation::Where>(in.choice(protocol::Where::gap));
  violation.offset = in.get<std::int64_t>();
  violation.bytes = in.get<std::int64_t>();
  if (violation.bytes <= 0) throw Malformed{"a changed fence without changed bytes"};
  return violation;
}

// A finding about `count` elements of one tensor.
template <class Finding>
Finding decode_elements(Decoder& in, const Call& call) {
  const HostTensor& tensor = call.tensors[tensor_index(in, call)];
  Finding finding{.tensor = tensor.name, .first = in.get<std::int64_t>(), .count = in.get<std::int64_t>()};
  // The size of a written saved tensor is the candidate's affair, and nothing of this kind is ever said about it.
  if (is_written_saved(tensor) || finding.first < 0 || finding.first >= tensor.size() || finding.count <= 0 ||
      finding.count > tensor.size() - finding.first) {
    throw Malformed{"a finding outside its tensor"};
  }
  return finding;
}

template <class E>
void decode_field(Decoder& in, const char* field, E last, E& value, std::string& error) {
  const auto number = in.get<std::int32_t>();
  if (number < 0 || number > static_cast<std::int32_t>(last)) {
    error = fmt::format("contract: {} = {}; want 0 .. {}", field, number, static_cast<std::int32_t>(last));
  } else {
    value = static_cast<E>(number);
  }
}

void decode_contract(Decoder& in, Contract& contract, std::string& error) {
  decode_field(in, "multiply", ASSAY_MULTIPLY_BF16, contract.multiply, error);
  decode_field(in, "accumulate", ASSAY_ACCUMULATE_FP64, contract.accumulate, error);
  decode_field(in, "deterministic", true, contract.deterministic, error);
  decode_field(in, "flush_denormals", true, contract.flush_denormals, error);
  decode_field(in, "softplus", ASSAY_SOFTPLUS_NAIVE, contract.softplus, error);
  decode_field(in, "functions", ASSAY_FUNCTIONS_FAST, contract.functions, error);
  decode_field(in, "workspace_zeroed", true, contract.workspace_zeroed, error);
}

}  // namespace

DLDataType to_dlpack(DType dtype) {
  const auto bits = static_cast<std::uint8_t>(8 * size_of(dtype));
  switch (dtype) {
    case DType::float32:
    case DType::float64:
    case DType::float16:
      return {kDLFloat, bits, 1};
    case DType::bfloat16:
      return {kDLBfloat, bits, 1};
    case DType::int64:
    case DType::int32:
      return {kDLInt, bits, 1};
    case DType::uint8:
      return {kDLUInt, bits, 1};
    case DType::boolean:
      return {ASSAY_DL_BOOL, bits, 1};
  }
  throw std::invalid_argument("to_dlpack: unknown dtype");
}

void check(const Call& call) {
  for (const HostTensor& tensor : call.tensors) check(call.op, tensor);
}

std::uint64_t storage_bytes(const Call& call) {
  std::uint64_t total = 0;
  for (const HostTensor& tensor : call.tensors) {
    std::uint64_t bytes = 0;
    const std::uint64_t span = is_written_saved(tensor) ? 0 : span_of(tensor);
    if (__builtin_mul_overflow(span, size_of(tensor.dtype), &bytes) || __builtin_add_overflow(total, bytes, &total)) {
      return std::numeric_limits<std::uint64_t>::max();
    }
  }
  return total;
}

SlotPlan plan_slots(const Call& call, std::uint64_t written_saved_bytes) {
  SlotPlan plan;
  plan.file_bytes = protocol::kControlBytes;
  for (const HostTensor& tensor : call.tensors) {
    const std::uint64_t bytes = is_written_saved(tensor) ? written_saved_bytes : compact_bytes(tensor);
    plan.slots.push_back({plan.file_bytes, bytes});
    plan.file_bytes += (bytes + protocol::kSlotAlignment - 1) / protocol::kSlotAlignment * protocol::kSlotAlignment;
  }
  return plan;
}

std::vector<std::byte> encode_run(const Call& call, const SlotPlan& plan, const RunRequest& request, int schedule,
                                  std::uint64_t shared_bytes, std::uint64_t memory_limit) {
  Encoder out(Frame::run);
  out.put(shared_bytes);
  out.put(memory_limit);
  out.put(request.seed);
  out.put(static_cast<std::int32_t>(schedule));
  out.put(static_cast<std::uint32_t>(request.poison != 0));
  out.put(static_cast<std::uint32_t>(request.count));
  out.put(std::string_view(call.op));
  out.put(static_cast<std::uint32_t>(call.attributes.size()));
  for (const auto& [attribute, value] : call.attributes) {
    out.put(std::string_view(attribute));
    encode(out, value);
  }
  out.put(static_cast<std::uint32_t>(call.tensors.size()));
  for (std::size_t i = 0; i < call.tensors.size(); ++i) encode(out, call.tensors[i], plan.slots[i]);
  return out.finish();
}

LoadedFrame decode_loaded(std::span<const std::byte> payload) {
  Decoder in(payload.data(), payload.size());
  if (in.get<std::uint32_t>() != protocol::kMagic) throw Malformed{"it does not begin as a worker does"};
  LoadedFrame frame;
  if (const auto version = in.get<std::uint32_t>(); version != protocol::kVersion) {
    frame.text = fmt::format("the worker speaks protocol version {}, this program version {}; want both of one build",
                             version, protocol::kVersion);
    return frame;
  }
  frame.status = in.choice(LoadStatus::no_device);
  frame.text = printable(in.text());
  if (frame.status == LoadStatus::ok) {
    frame.info.name = printable(in.text());
    frame.info.target = printable(in.text());
    frame.info.abi = in.get<std::uint32_t>();
    frame.info.can_count = in.get<std::uint32_t>() != 0;
    for (std::uint32_t left = in.count(2 * sizeof(std::uint32_t)); left > 0; --left) {
      ScheduleInfo& schedule = frame.info.schedules.emplace_back();
      schedule.name = printable(in.text());
      schedule.arithmetic = printable(in.text());
    }
  }
  in.end();
  return frame;
}

RanFrame decode_ran(std::span<const std::byte> payload, const Call& call) {
  Decoder in(payload.data(), payload.size());
  RanFrame frame;
  frame.status = in.choice(RunStatus::malformed);
  frame.text = printable(in.text());
  frame.saved_bytes = in.get<std::uint64_t>();
  if (frame.status == RunStatus::completed) {
    decode_contract(in, frame.contract, frame.contract_error);
    frame.variant = printable(in.text());
    frame.seconds = in.get<double>();
    if (!std::isfinite(frame.seconds) || frame.seconds < 0) throw Malformed{"a time that is none"};
    for (std::uint32_t left = in.count(24); left > 0; --left) frame.fences.push_back(decode_fence(in, call));
    for (std::uint32_t left = in.count(20); left > 0; --left)
      frame.changed.push_back(decode_elements<ChangedInput>(in, call));
    for (std::uint32_t left = in.count(20); left > 0; --left)
      frame.unwritten.push_back(decode_elements<Unwritten>(in, call));
    frame.absent.assign(call.tensors.size(), false);
    for (std::uint32_t left = in.count(4); left > 0; --left) {
      const std::size_t index = tensor_index(in, call);
      if (call.tensors[index].role != Role::tap) throw Malformed{"a tensor other than a tap that was not offered"};
      frame.absent[index] = true;
    }
    for (std::uint32_t left = in.count(12); left > 0; --left) {
      const std::string name = printable(in.text());
      const auto value = in.get<std::uint64_t>();
      constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
      if (value > kMost || !frame.counters.emplace(name, static_cast<std::int64_t>(value)).second)
        throw Malformed{"a counter that comes twice, or above 2^63"};
    }
  }
  in.end();
  return frame;
}

}  // namespace assay::harness
