// The parent's half of the protocol: a Call becomes a run frame, a ran frame becomes findings. Nothing that a worker
// says is believed before it was checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "harness/core/call.h"
#include "harness/worker/client.h"
#include "harness/worker/protocol.h"

namespace assay::harness {

DLDataType to_dlpack(DType dtype);

// A saved tensor of shape {} is written by its call.
inline bool is_written_saved(const HostTensor& tensor) { return tensor.role == Role::saved && tensor.shape.empty(); }

// Throws std::invalid_argument naming operation and tensor if the call cannot be run as it stands.
void check(const Call& call);
// Bytes of all tensors as they lie in the candidate's memory, gaps included; saturates instead of overflowing.
std::uint64_t storage_bytes(const Call& call);

// Where the tensors' elements lie in the shared file.
struct Slot {
  std::uint64_t offset = 0, bytes = 0;
};
struct SlotPlan {
  std::vector<Slot> slots;
  std::uint64_t file_bytes = 0;
};
SlotPlan plan_slots(const Call& call, std::uint64_t written_saved_bytes);

std::vector<std::byte> encode_run(const Call& call, const SlotPlan& plan, const RunRequest& request, int schedule,
                                  std::uint64_t shared_bytes, std::uint64_t memory_limit);

struct LoadedFrame {
  protocol::LoadStatus status = protocol::LoadStatus::unusable;
  std::string text;
  CandidateInfo info;
};
// Both throw protocol::Malformed.
LoadedFrame decode_loaded(std::span<const std::byte> payload);

struct RanFrame {
  protocol::RunStatus status = protocol::RunStatus::malformed;
  std::string text;
  std::uint64_t saved_bytes = 0;
  // if completed
  Contract contract;
  std::string contract_error;  // not empty: a field has a value that its enumeration lacks
  std::string variant;
  double seconds = 0;
  std::vector<FenceViolation> fences;
  std::vector<ChangedInput> changed;
  std::vector<Unwritten> unwritten;
  std::map<std::string, std::int64_t> counters;
  std::vector<bool> absent;  // by tensor: a tap that was not offered
};
RanFrame decode_ran(std::span<const std::byte> payload, const Call& call);

}  // namespace assay::harness
