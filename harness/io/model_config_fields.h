// The fields of config.json by name: which member each sets, its other spellings, and those that are accepted unread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "reference/config.h"

namespace assay::harness {

template <class T>
using MemberOfConfig = T reference::NemotronV3Config::*;
using ConfigMember = std::variant<MemberOfConfig<std::int64_t>, MemberOfConfig<double>, MemberOfConfig<bool>,
                                  MemberOfConfig<std::string>>;

struct ConfigField {
  std::string_view name;
  ConfigMember member;
  // What null stands for; without it null is an error. Number members only.
  std::optional<double> null = std::nullopt;
};
std::span<const ConfigField> config_fields();  // in the order of writing

struct Spelling {
  std::string_view other, name;
};
std::span<const Spelling> other_spellings();

// Real files carry these; the model does not depend on them.
std::span<const std::string_view> unread_fields();

}  // namespace assay::harness
