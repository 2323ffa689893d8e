// The real program, spawned: exit codes and messages for right, wrong and hostile input.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <sstream>
#include <thread>

#include "harness/io/temporary_folder.h"

namespace assay {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

class Assay : public ::testing::Test {
 protected:
  struct Outcome {
    int exit_code = -1;  // 128 + signal if it died of one
    std::string out, err;
  };

  pid_t start(Words words) {
    words.insert(words.begin(), ASSAY_TEST_PROGRAM);
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const fs::path out = folder_ / "stdout", err = folder_ / "stderr";
    const pid_t child = ::fork();
    if (child == 0) {
      ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
      ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    return child;
  }
  Outcome finish(pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), harness::content(folder_ / "stdout"),
            harness::content(folder_ / "stderr")};
  }
  Outcome run(Words words) { return finish(start(std::move(words))); }

  // Exit code 2, nothing on stdout, and a message on stderr that says `text`: one line, unless a candidate had a say.
  void expect_refused(const Words& words, const std::string& text, int most_lines = 1) {
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_NE(outcome.err.find(text), std::string::npos) << outcome.err;
    EXPECT_LE(std::count(outcome.err.begin(), outcome.err.end(), '\n'), most_lines) << outcome.err;
    EXPECT_TRUE(outcome.err.starts_with("assay")) << outcome.err;
  }

  const harness::TemporaryFolder folder_;
  const std::string golden_ = ASSAY_TEST_GOLDEN;
};

TEST_F(Assay, HelpFitsAScreenAndEndsWithTwoExamples) {
  for (const Words& command : std::vector<Words>{{},
                                                 {"verify"},
                                                 {"list"},
                                                 {"golden"},
                                                 {"golden", "check"},
                                                 {"golden", "show"},
                                                 {"report"},
                                                 {"report", "show"},
                                                 {"report", "merge"},
                                                 {"candidate"},
                                                 {"candidate", "new"},
                                                 {"doctor"}}) {
    Words words = command;
    words.push_back("--help");
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.exit_code, 0);
    Words lines;
    std::istringstream stream(outcome.out);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    ASSERT_GE(lines.size(), 5u);
    EXPECT_LE(lines.size(), 24u) << outcome.out;
    for (const std::string& line : lines) EXPECT_LE(line.size(), 100u) << line;
    EXPECT_EQ(lines[lines.size() - 3], "Examples:") << outcome.out;
    for (std::size_t i = lines.size() - 2; i < lines.size(); ++i)
      EXPECT_TRUE(lines[i].starts_with("  assay ")) << lines[i];
  }
  EXPECT_EQ(run({"--version"}).exit_code, 0);
  EXPECT_TRUE(run({"--version"}).out.starts_with("assay 0."));
  EXPECT_EQ(run({}).exit_code, 2);
}

TEST_F(Assay, WrongWordsAreNamedWithNearMisses) {
  expect_refused({"vrify"}, "unknown argument \"vrify\"; did you mean \"verify\"?");
  expect_refused({"verify", "--teir", "quick"}, "unknown option \"--teir\"; did you mean \"--tier\"?");
  expect_refused({"verify", "--tier", "quik"}, "quik");
  expect_refused({"verify", "rmsnorm"}, "did you mean \"rms_norm\"?");
  expect_refused({"verify", "rms_norm/forward rows=1 width=x dtype=f32 fill=model seed=1"}, "width");
  expect_refused({"verify", "--jobs", "many"}, "--jobs: many; want a whole number");
  expect_refused({"verify", "--shard", "3/2"}, "--shard 3/2");
  expect_refused({"verify", "--seed", "x"}, "--seed: x; want a whole number");
  const std::string norm = "rms_norm/forward rows=7 width=64 residual=none layout=compact eps=";
  expect_refused({"verify", norm + "1 dtype=f32 fill=model seed=1"}, "eps=1 reads as a size; write eps=1.0");
  expect_refused({"golden"}, "subcommand is required");
  expect_refused({"golden", "check"}, "FILE is required");
  expect_refused({"list", "--ops", "rms_nrom"}, "did you mean \"rms_norm\"");
  expect_refused({"list", "--ops", "--cases"}, "excludes");
  expect_refused({"candidate", "new", "rms_norm.froward"}, "did you mean \"rms_norm.forward\"");
}

TEST_F(Assay, FilesThatCannotBeUsedAreNamed) {
  expect_refused({"verify", "--fixture", (folder_ / "none.json").string()}, "none.json: no such file");
  expect_refused({"golden", "check", folder_.path().string()}, "no *.json in this folder");
  expect_refused({"golden", "show", folder_.put("text.json", "hello").string()}, "text.json: /: parse error");
  expect_refused({"report", "show", folder_.put("report.json", "{}").string()}, "report.json: /: no assay_report");
  expect_refused({"report", "show", (folder_ / "none").string()}, "none: cannot read");
  expect_refused({"verify", "--json", (folder_ / "no/such/r.json").string()}, "is not there");
  expect_refused({"verify", "--require", (folder_ / "none").string()}, "none: cannot read");
  expect_refused({"verify", "--require", folder_.put("require", "rms_norm\nrmsnorm\n").string()},
                 "require:2: no case matches");
  expect_refused({"verify", "--worker", (folder_ / "none").string()}, "worker");
  expect_refused({"verify", "--worker", "/bin/true"}, "the worker /bin/true exited with code 0", 4);
}

TEST_F(Assay, CandidatesThatCannotBeUsedAreNamed) {
  expect_refused({"verify", "--candidate", "smit"}, "did you mean \"simt\"?");
  expect_refused({"verify", "--candidate", (folder_ / "none.so").string()}, "no such name or file");
  expect_refused({"verify", "--candidate", folder_.path().string()}, "is no regular file");
  expect_refused({"verify", "--candidate", folder_.put("text.so", "hello").string()}, "text.so: cannot be loaded");
  const std::string hostile = ASSAY_TEST_HOSTILE;
  for (const char* name :
       {"missing_symbol", "other_abi", "null_table", "null_function", "small_table", "crashes_in_load"}) {
    expect_refused({"verify", "--candidate", hostile + "/" + name + ".so"}, std::string(name) + ".so", 4);
  }
}

TEST_F(Assay, NoCandidateTakesTheProgramDown) {
  std::string line = run({"list", "--cases", "rms_norm/forward", "rows=7", "dtype=f32", "fill=model"}).out;
  line.resize(line.find('\n'));
  const std::set<std::string> wrong = {"aborts",         "answers_differently", "changes_inputs", "crashes",
                                       "exits",          "refuses_everything",  "returns_error",  "returns_zeros",
                                       "writes_garbage", "writes_half",         "writes_nothing", "writes_past"};
  std::size_t judged = 0;
  for (const auto& entry : fs::directory_iterator(ASSAY_TEST_HOSTILE)) {
    const std::string name = entry.path().stem().string();
    if (name.starts_with("hangs") || name == "eats_memory") continue;  // slow
    const Outcome outcome = run({"verify", line, "--candidate", entry.path().string()});
    EXPECT_TRUE(outcome.exit_code >= 0 && outcome.exit_code <= 2) << name << " " << outcome.exit_code << outcome.err;
    EXPECT_NE(outcome.out + outcome.err, "") << name;
    if (!wrong.count(name)) continue;
    EXPECT_EQ(outcome.exit_code, 1) << name << "\n" << outcome.out;
    ++judged;
  }
  EXPECT_EQ(judged, wrong.size());
}

TEST_F(Assay, APassingRunWritesItsReports) {
  const std::string json = (folder_ / "r.json").string(), junit = (folder_ / "r.xml").string();
  const Outcome outcome = run({"verify", "rms_norm/forward", "dtype=f32", "rows=7", "--json", json, "--junit", junit});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.out << outcome.err;
  EXPECT_NE(outcome.out.find("\nPASSED: "), std::string::npos) << outcome.out;
  EXPECT_EQ(outcome.out.find('\x1b'), std::string::npos);
  EXPECT_TRUE(harness::content(junit).starts_with("<?xml"));
  const Outcome shown = run({"report", "show", json});
  EXPECT_EQ(shown.exit_code, 0);
  EXPECT_EQ(shown.out, outcome.out);
  expect_refused({"report", "merge", json, json}, "is in two reports");
}

TEST_F(Assay, CountsWhatACaseMoves) {
  const std::string json = (folder_ / "r.json").string();
  const Words words = {"verify", "rms_norm/forward", "dtype=f32", "rows=7", "width=16", "residual=none", "--json", json};
  ASSERT_EQ(run(words).exit_code, 0);
  EXPECT_NE(harness::content(json).find("\"counters\": {}"), std::string::npos);
  Words counted = words;
  counted.push_back("--count");
  const Outcome outcome = run(counted);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.out << outcome.err;
  // 7 rows of 16 floats and their weight are read, a row each by a warp; as many rows are written.
  const std::string text = harness::content(json);
  EXPECT_NE(text.find("\"global_read.bytes\": 896,"), std::string::npos) << text;
  EXPECT_NE(text.find("\"global_write.bytes\": 448,"), std::string::npos) << text;
  EXPECT_NE(text.find("\"longest_thread_steps\""), std::string::npos) << text;
  EXPECT_EQ(run({"report", "show", json}).exit_code, 0);
  // Counted alone it is no verdict.
  counted.back() = "--count=only";
  const Outcome alone = run(counted);
  EXPECT_EQ(alone.exit_code, 1);
  EXPECT_NE(alone.out.find("counted, not judged"), std::string::npos) << alone.out;
  EXPECT_NE(alone.out.find("1344 bytes      / 3.35e+12 a second"), std::string::npos) << alone.out;
  EXPECT_NE(harness::content(json).find("\"global_read.bytes\": 896,"), std::string::npos);
  expect_refused({"verify", "--count", "--candidate", std::string(ASSAY_TEST_HOSTILE) + "/base.so"}, "cannot count");
}

TEST_F(Assay, ShardsJoinToOneRun) {
  Words merge = {"report", "merge"};
  for (const char* part : {"1/2", "2/2"}) {
    const std::string file = (folder_ / (part[0] == '1' ? "a.json" : "b.json")).string();
    EXPECT_EQ(run({"verify", "rms_norm/forward", "rows=7", "--shard", part, "--json", file}).exit_code, 0);
    merge.push_back(file);
  }
  const Outcome whole = run({"verify", "rms_norm/forward", "rows=7"}), joined = run(merge);
  EXPECT_EQ(joined.exit_code, 0) << joined.out;
  const auto cases = [](const std::string& text) { return text.substr(0, text.find("\n\n")); };
  EXPECT_EQ(cases(joined.out), cases(whole.out));
}

TEST_F(Assay, FixturesAreShownAndChecked) {
  const std::string fixture = golden_ + "/upstream/rms_norm_0_f32.json";
  const Outcome show = run({"golden", "show", fixture});
  EXPECT_EQ(show.exit_code, 0) << show.err;
  EXPECT_NE(show.out.find("grad.weight"), std::string::npos);
  EXPECT_NE(show.out.find("upstream="), std::string::npos);
  EXPECT_EQ(run({"golden", "check", fixture}).exit_code, 0);
  EXPECT_EQ(run({"verify", "--fixture", fixture}).exit_code, 0);
  // One digit of an expected value changed, and the same file cut short.
  std::string text = harness::content(fixture);
  const auto output = text.find("\"data\":[", text.find("output.hidden_states")) + 8;
  const auto comma = text.find(',', output);
  const std::string wrong = folder_.put("wrong.json", text.replace(output, comma - output, "12.5")).string();
  for (const Words& words : {Words{"golden", "check", wrong}, Words{"verify", "--fixture", wrong}}) {
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.exit_code, 1) << outcome.out;
    EXPECT_NE(outcome.out.find("output.hidden_states"), std::string::npos) << outcome.out;
    EXPECT_NE(outcome.out.find("12.5"), std::string::npos) << outcome.out;
  }
  const std::string cut = folder_.put("cut.json", text.substr(0, text.size() / 2)).string();
  for (const Words& words : {Words{"golden", "check", cut}, Words{"verify", "--fixture", cut}}) {
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_NE(outcome.out.find("cut.json: /tensors/"), std::string::npos) << outcome.out;
  }
}

TEST_F(Assay, AnInterruptedRunKeepsWhatItHas) {
  const fs::path json = folder_ / "r.json", junit = folder_ / "r.xml";
  // Half a minute for one worker; the first line of progress comes with the first tenth.
  const pid_t child = start({"verify", "rms_norm/forward", "dtype=f32", "--seeds", "150", "--jobs", "1", "--json",
                             json.string(), "--junit", junit.string()});
  for (int i = 0; i < 600 && harness::content(folder_ / "stderr").empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  ::kill(child, SIGINT);
  const Outcome outcome = finish(child);
  EXPECT_EQ(outcome.exit_code, 130) << outcome.err;
  EXPECT_NE(outcome.out.find("interrupted after "), std::string::npos) << outcome.out;
  EXPECT_NE(harness::content(json).find("\"verdict\": \"NOT PASSED\""), std::string::npos);
  EXPECT_NE(harness::content(junit).find("</testsuites>"), std::string::npos);
  EXPECT_EQ(run({"report", "show", json.string()}).exit_code, 1);
}

TEST_F(Assay, ListsWhatVerifyTakes) {
  const Outcome cases = run({"list", "--cases", "rms_norm/forward", "rows=7", "dtype=f32"});
  EXPECT_EQ(cases.exit_code, 0);
  const std::string line = cases.out.substr(0, cases.out.find('\n'));
  EXPECT_EQ(run({"verify", line}).exit_code, 0) << line;
  EXPECT_EQ(run({"list", "--cases", line}).out, line + "\n");
  const Outcome ops = run({"list", "--ops"});
  EXPECT_NE(ops.out.find("gated_rms_norm.backward"), std::string::npos);
  EXPECT_NE(run({"list", "--presets"}).out.find("tiny"), std::string::npos);
  EXPECT_NE(run({"list"}).out.find("rms_norm.forward"), std::string::npos);
}

TEST_F(Assay, ACandidateIsWrittenOnceAndNotOverAnother) {
  const std::string mine = (folder_ / "my norm").string();
  const Outcome first = run({"candidate", "new", "rms_norm.forward", mine});
  EXPECT_EQ(first.exit_code, 0) << first.err;
  for (const char* file : {"kernel.cu", "glue.cc", "CMakeLists.txt"}) {
    const std::string text = harness::content(fs::path(mine) / file);
    EXPECT_NE(text, "") << file;
    for (const char* placeholder : {"@OP@", "@NAME@", "@ASSAY_ROOT@"})
      EXPECT_EQ(text.find(placeholder), std::string::npos) << file;
  }
  EXPECT_NE(harness::content(fs::path(mine) / "CMakeLists.txt").find("project(my_norm "), std::string::npos);
  expect_refused({"candidate", "new", "rms_norm.forward", mine}, "is there already");
}

TEST_F(Assay, TheDoctorSeesThisBuild) {
  const Outcome outcome = run({"doctor"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.out;
  EXPECT_NE(outcome.out.find("cpu:simt"), std::string::npos);
}

}  // namespace
}  // namespace assay
