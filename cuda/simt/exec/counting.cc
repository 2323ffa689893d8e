#include "cuda/simt/exec/counting.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

#include "cuda/simt/exec/device_memory.h"
#include "cuda/simt/exec/worker.h"

namespace simt {

bool counting_enabled = false;
bool counting_instrumented = false;

namespace {

constexpr std::uint64_t kSector = 32;
constexpr std::uint64_t kBanks = 32, kBankBytes = 4;

// Orders the accesses of a warp by the instruction they belong to. Everything in it is the same in every run but for
// `place`, an address, whose order does not matter to a sum.
using Instruction = std::tuple<std::uint64_t, std::uint32_t, std::uint32_t, std::uint32_t, bool>;

// What the lanes that execute it access: lanes and addresses, in the order of lanes.
struct LaneAddresses {
  std::vector<unsigned> lanes;
  std::vector<std::uintptr_t> addresses;
};

// The n-th execution of each place since the last synchronisation belongs to the n-th of the other lanes.
void add_lane(unsigned lane, const ThreadLog& log, std::map<Instruction, LaneAddresses>& instructions) {
  std::map<std::pair<std::uint64_t, std::uint32_t>, std::uint32_t> executions;
  for (const Access& access : log.accesses) {
    const std::uint32_t n = executions[{access.place, access.segment}]++;
    LaneAddresses& all = instructions[{access.place, access.segment, n, access.bytes, access.write}];
    all.lanes.push_back(lane);
    all.addresses.push_back(reinterpret_cast<std::uintptr_t>(access.address));
  }
}

std::uint64_t distinct(std::vector<std::uint64_t>& values) {
  std::ranges::sort(values);
  return static_cast<std::uint64_t>(std::unique(values.begin(), values.end()) - values.begin());
}

// Addresses of all lanes, each of `bytes` bytes, some of them overlapping.
std::uint64_t distinct_bytes(std::vector<std::uintptr_t> addresses, std::uint64_t bytes) {
  std::ranges::sort(addresses);
  std::uint64_t total = 0, end = 0;
  for (const std::uintptr_t address : addresses) {
    total += address + bytes - std::clamp<std::uint64_t>(end, address, address + bytes);
    end = std::max<std::uint64_t>(end, address + bytes);
  }
  return total;
}

void add_global(Traffic& traffic, const std::vector<std::uintptr_t>& addresses, std::uint64_t bytes) {
  std::vector<std::uint64_t> sectors;
  for (const std::uintptr_t address : addresses) {
    for (std::uint64_t s = address / kSector; s <= (address + bytes - 1) / kSector; ++s) sectors.push_back(s);
  }
  const std::uint64_t moved = distinct_bytes(addresses, bytes);
  traffic.instructions += 1;
  traffic.bytes += moved;
  traffic.units += distinct(sectors);
  traffic.ideal_units += (moved + kSector - 1) / kSector;
}

// Accesses of up to 4 bytes are served for the whole warp at once, of 8 for half a warp, of 16 for a quarter. Each time
// needs as many wavefronts as the busiest bank has distinct words to deliver.
void add_shared(Traffic& traffic, const LaneAddresses& all, std::uint64_t bytes) {
  const auto together = static_cast<unsigned>(32 / std::max<std::uint64_t>(1, bytes / kBankBytes));
  for (std::size_t i = 0; i < all.lanes.size();) {
    std::vector<std::uint64_t> words;
    for (const unsigned part = all.lanes[i] / together; i < all.lanes.size() && all.lanes[i] / together == part; ++i) {
      const std::uintptr_t first = all.addresses[i] / kBankBytes, last = (all.addresses[i] + bytes - 1) / kBankBytes;
      for (std::uint64_t w = first; w <= last; ++w) words.push_back(w);
    }
    words.resize(distinct(words));
    std::array<std::uint64_t, kBanks> load{};
    for (const std::uint64_t word : words) ++load[word % kBanks];
    traffic.units += *std::ranges::max_element(load);
    traffic.ideal_units += 1;
  }
  traffic.instructions += 1;
  traffic.bytes += distinct_bytes(all.addresses, bytes);
}

void add_warp(const Block& block, unsigned first, Counters& counters) {
  std::map<Instruction, LaneAddresses> instructions;
  for (unsigned lane = 0; lane < 32 && first + lane < block.threads; ++lane) {
    add_lane(lane, *block.fibers[first + lane]->log, instructions);
  }
  for (auto& [instruction, all] : instructions) {
    const std::uint64_t bytes = std::get<3>(instruction);
    const bool write = std::get<4>(instruction);
    if (block.shared.contains(reinterpret_cast<const void*>(all.addresses.front()))) {
      for (std::uintptr_t& a : all.addresses) a = block.shared.offset(reinterpret_cast<const void*>(a));
      add_shared(write ? counters.shared_write : counters.shared_read, all, bytes);
    } else {
      add_global(write ? counters.global_write : counters.global_read, all.addresses, bytes);
    }
  }
}

void add(Traffic& a, const Traffic& b) {
  a.instructions += b.instructions;
  a.bytes += b.bytes;
  a.units += b.units;
  a.ideal_units += b.ideal_units;
}

// Blocks run beside each other: the longest chain of a launch is that of one of them.
void add_block(Counters& total, Counters block) {
  const std::uint64_t tensor =
      std::accumulate(block.tensor_operations.begin(), block.tensor_operations.end(), std::uint64_t{0});
  block.longest_block_bytes = block.global_read.bytes + block.global_write.bytes;
  block.longest_block_operations = tensor + block.float_operations + block.special_functions + block.atomics;
  const std::uint64_t bytes = std::max(total.longest_block_bytes, block.longest_block_bytes);
  const std::uint64_t operations = std::max(total.longest_block_operations, block.longest_block_operations);
  const std::uint64_t steps = std::max(total.longest_thread_steps, block.longest_thread_steps);
  total += block;
  total.longest_block_bytes = bytes;
  total.longest_block_operations = operations;
  total.longest_thread_steps = steps;
}

}  // namespace

void ThreadLog::clear() { *this = ThreadLog{std::move(accesses)}, accesses.clear(); }

ThreadLog* current_log() {
  return counting_enabled && current_thread != nullptr ? Worker::current_fiber().log.get() : nullptr;
}

void log_access(std::uint64_t place, const void* address, std::size_t bytes, bool write) {
  ThreadLog* log = current_log();
  if (log == nullptr) return;
  if (!Worker::current_fiber().block->shared.contains(address) && !is_device_memory(address)) return;
  log->accesses.push_back({place ^ log->call_path, address, static_cast<std::uint32_t>(bytes), log->segment, write});
}

void count_atomic() {
  if (ThreadLog* log = current_log(); log != nullptr) ++log->atomics;
}

std::uint64_t place_of(Site site) {
  return reinterpret_cast<std::uintptr_t>(site.file) * 31 + static_cast<std::uint64_t>(site.line);
}

void account_block(Block& block, Counters& total) {
  Counters counters;
  counters.barriers = block.barriers_completed;
  for (unsigned first = 0; first < block.threads; first += 32) add_warp(block, first, counters);
  for (unsigned i = 0; i < block.threads; ++i) {
    ThreadLog& log = *block.fibers[i]->log;
    const std::uint64_t operations = block.fibers[i]->float_operations;
    counters.longest_thread_steps =
        std::max(counters.longest_thread_steps,
                 log.accesses.size() + log.segment + operations + log.special_functions + log.atomics);
    counters.float_operations += operations;
    counters.special_functions += log.special_functions;
    counters.atomics += log.atomics;
    counters.warp_operations += log.warp_operations;
    for (std::size_t t = 0; t < log.tensor_operations.size(); ++t) {
      counters.tensor_operations[t] += log.tensor_operations[t];
    }
    log.clear();
  }
  add_block(total, counters);
}

Counters& operator+=(Counters& a, const Counters& b) {
  add(a.global_read, b.global_read);
  add(a.global_write, b.global_write);
  add(a.shared_read, b.shared_read);
  add(a.shared_write, b.shared_write);
  for (std::size_t i = 0; i < a.tensor_operations.size(); ++i) a.tensor_operations[i] += b.tensor_operations[i];
  a.float_operations += b.float_operations;
  a.special_functions += b.special_functions;
  a.atomics += b.atomics;
  a.barriers += b.barriers;
  a.warp_operations += b.warp_operations;
  a.longest_block_bytes += b.longest_block_bytes;
  a.longest_block_operations += b.longest_block_operations;
  a.longest_thread_steps += b.longest_thread_steps;
  a.blocks += b.blocks;
  a.balanced_block_bytes += b.balanced_block_bytes;
  a.sees_plain_accesses |= b.sees_plain_accesses;
  return a;
}

std::vector<std::pair<std::string, std::uint64_t>> named(const Counters& c) {
  std::vector<std::pair<std::string, std::uint64_t>> result;
  const auto add_traffic = [&](const std::string& name, const Traffic& t, const std::string& unit) {
    result.emplace_back(name + ".instructions", t.instructions);
    result.emplace_back(name + ".bytes", t.bytes);
    result.emplace_back(name + "." + unit, t.units);
    result.emplace_back(name + ".ideal_" + unit, t.ideal_units);
  };
  if (c.sees_plain_accesses) {
    add_traffic("global_read", c.global_read, "sectors");
    add_traffic("global_write", c.global_write, "sectors");
    add_traffic("shared_read", c.shared_read, "wavefronts");
    add_traffic("shared_write", c.shared_write, "wavefronts");
    result.emplace_back("bank_conflicts", c.bank_conflicts());
    result.emplace_back("float_operations", c.float_operations);
    result.emplace_back("longest_block_bytes", c.longest_block_bytes);
    result.emplace_back("longest_block_operations", c.longest_block_operations);
    result.emplace_back("longest_thread_steps", c.longest_thread_steps);
    result.emplace_back("balanced_block_bytes", c.balanced_block_bytes);
  }
  result.emplace_back("blocks", c.blocks);
  constexpr std::array<const char*, static_cast<std::size_t>(TensorType::kCount)> kTypes = {
      "bf16", "f16", "tf32", "e4m3", "e5m2", "s8", "u8"};
  for (std::size_t i = 0; i < kTypes.size(); ++i) {
    result.emplace_back(std::string("tensor_operations.") + kTypes[i], c.tensor_operations[i]);
  }
  result.emplace_back("special_functions", c.special_functions);
  result.emplace_back("atomics", c.atomics);
  result.emplace_back("barriers", c.barriers);
  result.emplace_back("warp_operations", c.warp_operations);
  return result;
}

}  // namespace simt
