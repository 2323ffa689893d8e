#include <string>
#include <utility>
#include <vector>

#include "cuda/candidate/device.h"
#include "cuda/simt/counters.h"
#include "cuda/simt/executor.h"

namespace assay::gpu::device {

const DLDeviceType kType = kDLCPU;

std::string target() { return "cpu:simt"; }
void* allocate(std::size_t bytes) { return simt::device_alloc(bytes); }
void release(void* data) { simt::device_free(data); }
void upload(void* device, const void* host, std::size_t bytes) { simt::device_upload(device, host, bytes); }
void download(void* host, const void* device, std::size_t bytes) { simt::device_download(host, device, bytes); }
void synchronize(void*) {}  // a launch has finished when it returns

std::span<const assay_schedule> schedules() {
  static const std::vector<assay_schedule> list = [] {
    std::vector<assay_schedule> result;
    for (const simt::Schedule& s : simt::schedules()) {
      result.push_back({s.name, s.arithmetic == simt::Arithmetic::kHostile ? "hostile" : "nominal"});
    }
    return result;
  }();
  return list;
}

void select_schedule(std::int32_t index, std::uint64_t seed) {
  simt::set_schedule(static_cast<std::size_t>(index), seed);
}

const bool kCanCount = true;
void set_counting(bool on) { simt::set_counting(on); }

std::span<const assay_counter> counters() {
  static std::vector<std::pair<std::string, std::uint64_t>> named;  // owns the names
  static std::vector<assay_counter> list;
  named = simt::named(simt::sum_of_counters());
  list.clear();
  for (const auto& [name, value] : named) list.push_back({name.c_str(), value});
  return list;
}

}  // namespace assay::gpu::device
