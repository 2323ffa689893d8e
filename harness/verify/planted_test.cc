// The planted breaks: our own kernels with one wrong line each (cuda/candidate/planted.txt). Every one must get FAILED, for the
// tensor, at the gate, with the pattern and on the schedule that the list says.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "harness/verify/run.h"

namespace assay::harness {
namespace {

struct Planted {
  std::string name, source, line, tensor, gate, pattern, schedule;
  bool gate_alone = false;  // gate 1 lets it pass on every case
};
void PrintTo(const Planted& p, std::ostream* out) { *out << p.name; }

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(' '), last = text.find_last_not_of(' ');
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

std::vector<Planted> read_planted() {
  std::ifstream file(ASSAY_TEST_PLANTED_LIST);
  std::vector<Planted> result;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::vector<std::string> fields;
    std::istringstream stream(line);
    for (std::string field; std::getline(stream, field, '|');) fields.push_back(trimmed(field));
    if (fields.size() != 7) throw std::runtime_error("planted.txt: " + line + ": want 7 fields");
    Planted p{fields[0], fields[1], fields[2], fields[3], fields[4], fields[5], fields[6]};
    p.gate_alone = p.gate.ends_with('*');
    if (p.gate_alone) p.gate.pop_back();
    result.push_back(p);
  }
  return result;
}

VerifyOptions options_for(const std::string& library, std::vector<Case> cases) {
  VerifyOptions o;
  o.candidate = library;
  o.worker = ASSAY_TEST_WORKER;
  o.cases = std::move(cases);
  o.own = true;
  return o;
}
std::string broken_library(const Planted& p) { return std::string(ASSAY_TEST_PLANTED_FOLDER) + "/libassay_break_" + p.name + ".so"; }

class PlantedBreak : public testing::TestWithParam<Planted> {};
class OneScheduleBreak : public testing::TestWithParam<Planted> {};
class GateAloneBreak : public testing::TestWithParam<Planted> {};

template <class Wanted>
std::vector<Planted> planted_where(const Wanted& wanted) {
  std::vector<Planted> all = read_planted();
  std::erase_if(all, [&](const Planted& p) { return !wanted(p); });
  return all;
}
bool is_of_one_schedule(const Planted& p) { return p.schedule != "any"; }
bool is_of_gate_alone(const Planted& p) { return p.gate_alone; }

TEST_P(PlantedBreak, IsFailedWhereTheListSays) {
  const Planted& p = GetParam();
  const RunResult r = verify(options_for(broken_library(p), {parse_case(p.line)}));
  EXPECT_NE(r.exit_code(), 0);
  const CaseResult& c = r.cases.at(0);
  ASSERT_EQ(c.status, Status::failed) << name(c.status) << ": " << c.message;
  EXPECT_TRUE(p.tensor == "-" || c.message.find(p.tensor) != std::string::npos) << c.message;
  if (p.gate == "executor") {
    EXPECT_NE(c.message.find(p.pattern), std::string::npos) << c.message;
  } else if (p.gate == "written") {
    EXPECT_NE(c.message.find("never written"), std::string::npos) << c.message;
  } else {
    const auto failed = std::find_if(c.tensors.begin(), c.tensors.end(), [&](const TensorResult& t) { return t.tensor == p.tensor && t.status == Status::failed; });
    ASSERT_NE(failed, c.tensors.end()) << c.message;
    EXPECT_EQ(failed->gate, p.gate) << c.message;
    EXPECT_TRUE(p.pattern == "-" || failed->pattern.find(p.pattern) != std::string::npos) << failed->pattern;
  }
  EXPECT_TRUE(p.schedule == "any" || c.schedule == p.schedule) << c.schedule << ": " << c.message;
}

TEST_P(OneScheduleBreak, PassesOnAllOthers) {
  const Planted& p = GetParam();
  std::vector<std::string> blind;
  for (const char* schedule : {"ascending-late", "skew-random", "descending-early", "random-late"}) {
    VerifyOptions o = options_for(broken_library(p), {parse_case(p.line)});
    o.schedule = schedule;
    if (verify(o).cases.at(0).status == Status::passed) blind.push_back(schedule);
  }
  EXPECT_EQ(blind.size(), 3u);
  EXPECT_EQ(std::count(blind.begin(), blind.end(), p.schedule), 0);
}

TEST_P(GateAloneBreak, PassesGateOneEverywhere) {
  const Planted& p = GetParam();
  std::vector<Case> exact;
  const std::string operation = parse_case(p.line).operation();
  for (const Case& c : list_cases(Tier::quick))
    if (c.operation() == operation && c.fill == "integer") exact.push_back(c);
  ASSERT_FALSE(exact.empty());
  for (const CaseResult& c : verify(options_for(broken_library(p), exact)).cases) EXPECT_EQ(c.status, Status::passed) << c.line << "\n" << c.message;
}

// The same cases pass without the break: what fails above fails because of it.
TEST(PlantedBreaks, TheUnbrokenKernelsPass) {
  std::vector<Case> cases;
  for (const Planted& p : read_planted()) cases.push_back(parse_case(p.line));
  for (const CaseResult& c : verify(options_for(ASSAY_TEST_CANDIDATE, cases)).cases) EXPECT_EQ(c.status, Status::passed) << c.line << "\n" << c.message;
}

TEST(PlantedBreaks, CoverGatesAndSchedules) {
  EXPECT_GE(read_planted().size(), 12u);
  EXPECT_GE(planted_where(is_of_gate_alone).size(), 2u);
  EXPECT_GE(planted_where(is_of_one_schedule).size(), 2u);
}

const auto kName = [](const auto& test) { return test.param.name; };
INSTANTIATE_TEST_SUITE_P(List, PlantedBreak, testing::ValuesIn(read_planted()), kName);
INSTANTIATE_TEST_SUITE_P(List, OneScheduleBreak, testing::ValuesIn(planted_where(is_of_one_schedule)), kName);
INSTANTIATE_TEST_SUITE_P(List, GateAloneBreak, testing::ValuesIn(planted_where(is_of_gate_alone)), kName);

}  // namespace
}  // namespace assay::harness
