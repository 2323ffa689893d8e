#include "harness/report/json_report.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <limits>
#include <type_traits>

#include "harness/io/file.h"
#include "harness/io/strict_json.h"
#include "harness/report/text.h"

namespace assay::harness {
namespace {

using Json = nlohmann::ordered_json;

template <class T, class U>
concept Is = std::is_same_v<std::remove_const_t<T>, U>;
template <class T>
concept Record = Is<T, TensorResult> || Is<T, CaseResult> || Is<T, TrustResult> || Is<T, RunResult>;

// One list of fields per record serves both directions.
void visit(auto&& f, Is<TensorResult> auto& t) {
  f("tensor", t.tensor), f("status", t.status), f("gate", t.gate), f("elements", t.elements), f("failing", t.failing);
  f("worst_at", t.worst_at), f("got", t.got), f("wanted", t.wanted), f("limit", t.limit), f("headroom", t.headroom);
  f("rms_ratio", t.rms_ratio), f("max_ratio", t.max_ratio), f("noise_dominated", t.noise_dominated);
  f("pattern", t.pattern);
}
void visit(auto&& f, Is<CaseResult> auto& c) {
  f("line", c.line), f("operation", c.operation), f("dtype", c.dtype), f("status", c.status), f("variant", c.variant);
  f("contract", c.contract), f("message", c.message), f("schedule", c.schedule), f("repro", c.repro);
  f("candidate_seconds", c.candidate_seconds), f("reference_seconds", c.reference_seconds), f("tensors", c.tensors);
  f("counters", c.counters);
}
void visit(auto&& f, Is<TrustResult> auto& t) {
  f("operation", t.operation), f("dtype", t.dtype), f("tensor", t.tensor), f("trust", t.trust), f("reason", t.reason);
  f("compared", t.compared), f("min_headroom", t.min_headroom);
}
void visit(auto&& f, Is<RunResult> auto& r) {
  f("subject", r.subject), f("target", r.target), f("candidate", r.candidate), f("seconds", r.seconds);
  f("notes", r.notes), f("cases", r.cases), f("trust", r.trust);
}

// ---- writing
Json encoded(bool value) { return value; }
Json encoded(std::int64_t value) { return value; }
Json encoded(double value) { return std::isfinite(value) ? Json(value) : Json(number_text(value)); }
Json encoded(Status value) { return std::string(name(value)); }
Json encoded(Trust value) { return std::string(name(value)); }
Json encoded(const std::string& value) {
  std::string text;  // line by line, for a message may have several
  for (std::string_view rest = value;;) {
    const std::size_t end = rest.find('\n');
    text += displayable(rest.substr(0, end));
    if (end == std::string_view::npos) return text;
    text += '\n';
    rest.remove_prefix(end + 1);
  }
}
Json encoded(const std::map<std::string, std::int64_t, std::less<>>& values) {
  Json json = Json::object();
  for (const auto& [name, value] : values) json[displayable(name)] = value;
  return json;
}
template <class T>
Json encoded(const std::vector<T>& list);
Json encoded(const Record auto& value) {
  Json json = Json::object();
  visit([&](const char* key, const auto& field) { json[key] = encoded(field); }, value);
  return json;
}
template <class T>
Json encoded(const std::vector<T>& list) {
  Json json = Json::array();
  for (const T& item : list) json.push_back(encoded(item));
  return json;
}

// ---- reading
[[noreturn]] void fail(const std::string& pointer, std::string_view what) {
  throw JsonError(fmt::format("{}: {}", pointer.empty() ? "/" : pointer, what));
}

void decode(const Json& json, const std::string& at, bool& value) {
  if (!json.is_boolean()) fail(at, "no truth value; want true or false");
  value = json.get<bool>();
}
void decode(const Json& json, const std::string& at, std::int64_t& value) {
  if (!json.is_number_integer()) fail(at, "no integer; want one");
  value = json.get<std::int64_t>();
}
void decode(const Json& json, const std::string& at, double& value) {
  if (json.is_number())
    value = json.get<double>();
  else if (json == "inf" || json == "-inf")
    value = json == "inf" ? HUGE_VAL : -HUGE_VAL;
  else if (json == "nan")
    value = std::numeric_limits<double>::quiet_NaN();
  else
    fail(at, "no number; want one, or \"nan\", \"inf\", \"-inf\"");
}
void decode(const Json& json, const std::string& at, std::string& value) {
  if (!json.is_string()) fail(at, "no text; want a string");
  value = json.get<std::string>();
}
template <class E, std::size_t N>
void decode_name(const Json& json, const std::string& at, const std::array<E, N>& values, E& value) {
  std::string known;
  for (const E candidate : values) {
    if (json == std::string(name(candidate))) {
      value = candidate;
      return;
    }
    known += fmt::format("{}{}", known.empty() ? "" : ", ", name(candidate));
  }
  fail(at, "unknown; want one of " + known);
}
void decode(const Json& json, const std::string& at, std::map<std::string, std::int64_t, std::less<>>& values) {
  if (!json.is_object()) fail(at, "no object; want one");
  for (const auto& [name, value] : json.items()) decode(value, fmt::format("{}/{}", at, name), values[name]);
}
void decode(const Json& json, const std::string& at, Status& value) {
  decode_name(json, at,
              std::array{Status::passed, Status::failed, Status::crashed, Status::timeout, Status::not_supported,
                         Status::skipped},
              value);
}
void decode(const Json& json, const std::string& at, Trust& value) {
  decode_name(json, at, std::array{Trust::trusted, Trust::untrusted, Trust::inconclusive}, value);
}
template <class T>
void decode(const Json& json, const std::string& at, std::vector<T>& list);
void decode(const Json& json, const std::string& at, Record auto& value) {
  if (!json.is_object()) fail(at, "no object; want one");
  visit(
      [&](const char* key, auto& field) {
        const auto it = json.find(key);
        if (it == json.end()) fail(at, fmt::format("no key \"{}\"; want it", key));
        decode(*it, fmt::format("{}/{}", at, key), field);
      },
      value);
}
template <class T>
void decode(const Json& json, const std::string& at, std::vector<T>& list) {
  if (!json.is_array()) fail(at, "no list; want one");
  list.reserve(json.size());
  for (std::size_t i = 0; i < json.size(); ++i) decode(json[i], fmt::format("{}/{}", at, i), list.emplace_back());
}

}  // namespace

std::string to_json(const RunResult& run) {
  const bool ok = run.exit_code() == 0;
  Json json = {{"assay_report", 1}, {"verdict", ok ? "PASSED" : "NOT PASSED"}, {"exit_code", run.exit_code()}};
  json["counts"] = Json::object();
  for (const auto& [status, count] : run.counts()) json["counts"][std::string(name(status))] = count;
  json.update(encoded(run));
  return json.dump(1) + '\n';
}

void write_json(const RunResult& run, const std::filesystem::path& file) { write_file(file, to_json(run)); }

RunResult parse_json_report(std::string_view text) {
  const Json json = parse_json(text);
  if (!json.is_object() || !json.contains("assay_report"))
    fail("", "no assay_report; want a file that assay verify --json wrote");
  if (json["assay_report"] != 1) fail("/assay_report", "unknown version; want 1, the one this program reads");
  RunResult run;
  decode(json, "", run);
  return run;
}

RunResult read_json_report(const std::filesystem::path& file) {
  try {
    return parse_json_report(read_file(file));
  } catch (const JsonError& error) {
    throw FileError(fmt::format("{}: {}", file.string(), error.what()));
  }
}

}  // namespace assay::harness
