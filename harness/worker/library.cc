#include "harness/worker/library.h"

#include <dlfcn.h>

#include <array>

namespace assay::harness {
namespace {

using protocol::LoadStatus;
using protocol::Stage;

LoadResult unusable(std::string text) {
  return {.status = LoadStatus::unusable, .text = std::move(text), .target = {}, .table = nullptr};
}

// The first field of the table that cannot be used; null if all can.
const char* unusable_field(const assay_candidate& c) {
  const std::array<std::pair<const char*, bool>, 13> required = {{{"name", c.name},
                                                                  {"target", c.target},
                                                                  {"supports", c.supports},
                                                                  {"contract", c.contract},
                                                                  {"variant", c.variant},
                                                                  {"workspace_bytes", c.workspace_bytes},
                                                                  {"saved_bytes", c.saved_bytes},
                                                                  {"run", c.run},
                                                                  {"allocate", c.allocate},
                                                                  {"free", c.free},
                                                                  {"upload", c.upload},
                                                                  {"download", c.download},
                                                                  {"synchronize", c.synchronize}}};
  for (const auto& [name, present] : required) {
    if (!present) return name;
  }
  if (c.schedule_count < 0 || c.schedule_count > 1024) return "schedule_count";
  if (c.schedule_count > 0 && !c.schedules) return "schedules";
  if (c.schedule_count > 0 && !c.select_schedule) return "select_schedule";
  for (std::int32_t i = 0; i < c.schedule_count; ++i) {
    if (!c.schedules[i].name || !c.schedules[i].arithmetic) return "schedules[i].name or .arithmetic";
  }
  return nullptr;
}

}  // namespace

LoadResult load_candidate(const char* path, const StageMark& stage) {
  stage.set(Stage::load);
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    return unusable(std::string("cannot be loaded: ") + dlerror() +
                    "; want a shared library (-shared -fPIC) for this machine with all its own libraries in reach");
  }
  using Entry = const assay_candidate* (*)();
  const auto entry = reinterpret_cast<Entry>(dlsym(library, ASSAY_CANDIDATE_SYMBOL));
  if (!entry) {
    return unusable("exports no symbol " ASSAY_CANDIDATE_SYMBOL
                    "; want ASSAY_CANDIDATE_EXPORT const assay_candidate* assay_candidate_v1(void), with C linkage");
  }
  const assay_candidate* table = entry();
  if (!table)
    return unusable(ASSAY_CANDIDATE_SYMBOL "() returned NULL; want a table that lives as long as the library");
  if (table->abi_version != ASSAY_CANDIDATE_ABI_VERSION) {
    return unusable("was built for candidate ABI version " + std::to_string(table->abi_version) +
                    "; this Assay speaks version " + std::to_string(ASSAY_CANDIDATE_ABI_VERSION) +
                    "; rebuild it with this Assay's assay_candidate.h");
  }
  if (table->struct_size < kSmallestTable) {
    return unusable("has a table of struct_size = " + std::to_string(table->struct_size) + " bytes; want at least " +
                    std::to_string(kSmallestTable) + ": set it to sizeof(assay_candidate)");
  }
  if (const char* field = unusable_field(*table)) {
    return unusable(std::string("has a table without a usable ") + field +
                    "; want every function and name set, and 0 .. 1024 schedules");
  }

  stage.set(Stage::target);
  std::array<char, 1024> text{};
  const int refused = table->target(text.data(), text.size());
  text.back() = '\0';
  stage.set(Stage::idle);
  if (refused) return {.status = LoadStatus::no_device, .text = text.data(), .target = {}, .table = nullptr};
  return {.status = LoadStatus::ok, .text = {}, .target = text.data(), .table = table};
}

}  // namespace assay::harness
